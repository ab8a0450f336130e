"""The run file: its keys, from top to bottom."""

from typing import Any

from pydantic import Field, PositiveInt, field_validator

from nuclass_pipeline.config.base import InputPath, Name, Section, Seed
from nuclass_pipeline.config.compute import Compute
from nuclass_pipeline.config.evaluation import AttributionConfig, EvaluationConfig, SplitConfig
from nuclass_pipeline.config.expression import ClusteringConfig, DomainsConfig, ProgramsConfig
from nuclass_pipeline.config.image import ImageConfig, RegistrationConfig, SegmentationConfig
from nuclass_pipeline.config.labeling import LabelingConfig, ProposalsConfig
from nuclass_pipeline.config.models import GateConfig, GlobalConfig, LocalConfig
from nuclass_pipeline.config.study import Study
from nuclass_pipeline.config.synthetic import SyntheticConfig


class Config(Section):
    """A whole run file."""

    run: Name = Field(description="name of the run: results go to results/<run>")
    seeds: tuple[Seed, ...] = Field((0,), min_length=1, max_length=100, description="one set of models per seed")
    slides: InputPath = Field("config/slides.tsv", description="slide sheet")
    slides_from: Name | None = Field(None, description="another run whose slide products this run uses; empty for its own")
    labels: InputPath = Field("config/labels.tsv", description="raw label → class")
    compute: Compute = Compute()
    study: Study
    synthetic: SyntheticConfig = SyntheticConfig()
    image: ImageConfig = ImageConfig()
    registration: RegistrationConfig = RegistrationConfig()
    segmentation: SegmentationConfig = SegmentationConfig()
    clustering: ClusteringConfig = ClusteringConfig()
    domains: DomainsConfig = DomainsConfig()
    programs: ProgramsConfig = ProgramsConfig()
    labeling: LabelingConfig = LabelingConfig()
    proposals: ProposalsConfig = ProposalsConfig()
    split: SplitConfig = SplitConfig()
    local: LocalConfig = LocalConfig()
    global_: GlobalConfig = Field(GlobalConfig(), alias="global")
    gate: GateConfig = GateConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    attribution: AttributionConfig = AttributionConfig()
    variants: dict[Name, dict[str, dict[str, Any]]] = Field(
        default_factory=dict,
        description="name → sections with changed keys: further models in the same run, compared with those of the file",
    )
    figures: dict[PositiveInt, str] = Field(default_factory=dict, description="number in the paper → figure, for the targets fig1, fig2, …")
    tables: dict[PositiveInt, str] = Field(default_factory=dict, description="number in the paper → table, for the targets tab1, tab2, …")

    @property
    def slides_run(self) -> str:
        """The run in whose results the slides lie: this one, or the one under `slides_from`."""
        return self.slides_from or self.run

    @property
    def buffer_um(self) -> float:
        """Smallest distance between cells of different subsets, µm: a whole context window where the run file names none."""
        return self.image.context_um if self.split.buffer_um is None else self.split.buffer_um

    @property
    def table_files(self) -> list[str]:
        """Tables made by hand that the run reads: slide sheet, labels, markers."""
        return [self.slides, self.labels, self.labeling.markers]

    @field_validator("seeds")
    @classmethod
    def _seeds_occur_once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if repeated := [seed for seed in seeds if seeds.count(seed) > 1]:
            raise ValueError(f"seed {repeated[0]} is listed twice. List it once")
        return seeds
