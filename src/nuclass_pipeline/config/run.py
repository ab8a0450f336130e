"""The run file, read once and checked: rules see a section of it, and the slides by what is done with them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, NonNegativeInt, PositiveInt, ValidationError, field_validator, model_validator

from nuclass_pipeline.config.base import Section
from nuclass_pipeline.config.compute import Compute
from nuclass_pipeline.config.errors import explain_validation, similar
from nuclass_pipeline.config.evaluation import AttributionConfig, EvaluationConfig, SplitConfig
from nuclass_pipeline.config.expression import GO_DOWNLOADS, ClusteringConfig, DomainsConfig, ProgramsConfig
from nuclass_pipeline.config.image import SEGMENTERS, ImageConfig, RegistrationConfig, SegmentationConfig
from nuclass_pipeline.config.labeling import CELL_ANNOTATORS, LabelingConfig, ProposalsConfig
from nuclass_pipeline.config.models import GateConfig, GlobalConfig, LocalConfig
from nuclass_pipeline.config.slides import Slide, read_slides
from nuclass_pipeline.config.study import Study
from nuclass_pipeline.config.synthetic import SyntheticConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.layout import CONTEXT_PX, files

Role = Literal["train", "heldout", "predict"]


class Config(Section):
    """A whole run file."""

    run: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="name of the run: results go to results/<run>")
    seeds: tuple[NonNegativeInt, ...] = Field((0,), min_length=1, description="one set of models per seed")
    slides: str = Field("config/slides.tsv", description="slide sheet")
    labels: str = Field("config/labels.tsv", description="raw label → class")
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
    figures: dict[PositiveInt, str] = Field(default_factory=dict, description="number in the paper → figure, for the targets fig1, fig2, …")
    tables: dict[PositiveInt, str] = Field(default_factory=dict, description="number in the paper → table, for the targets tab1, tab2, …")

    @field_validator("seeds")
    @classmethod
    def _seeds_occur_once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed is listed twice; list it once")
        return seeds

    @model_validator(mode="after")
    def _buffer_covers_half_a_context(self) -> "Config":
        half_um = CONTEXT_PX * self.image.mpp / 2
        if self.split.buffer_um < half_um:
            raise ValueError(f"split.buffer_um is {self.split.buffer_um:g}, less than half a context window ({half_um:g} µm)")
        return self


class Run:
    """A checked run file together with the slides it uses.

    Attributes
    ----------
    config
        The run file.
    file
        Its name, for messages.
    slides
        Slide id → row of the slide sheet, for the slides of the study.
    """

    def __init__(self, config: Config, catalogue: Mapping[str, Slide], root: Path, file: str = "run file") -> None:
        self.config, self.file = config, file
        self._root = root
        self.slides = {name: catalogue[name] for name in config.study.slides}

    @property
    def seeds(self) -> list[int]:
        """One set of models per seed."""
        return list(self.config.seeds)

    @property
    def organs(self) -> dict[str, str]:
        """Slide → organ."""
        return {name: slide.organ for name, slide in self.slides.items()}

    @property
    def training_slides(self) -> list[str]:
        """Slides for training, validation and calibration."""
        return list(self.config.study.train)

    @property
    def heldout_slides(self) -> list[str]:
        """Slides that are scored and never trained on."""
        return list(self.config.study.heldout)

    @property
    def unscored_slides(self) -> list[str]:
        """Slides that are only classified."""
        return list(self.config.study.predict)

    @property
    def cohort_slides(self) -> list[str]:
        """Training and held-out slides."""
        return [*self.training_slides, *self.heldout_slides]

    @property
    def slides_with_xenium(self) -> list[str]:
        """Slides that have a Xenium bundle."""
        return self.slides_of("xenium", "synthetic")

    @property
    def slides_with_truth(self) -> list[str]:
        """Synthetic slides: the true class of every cell is known."""
        return self.slides_of("synthetic")

    def slides_of(self, *kinds: str) -> list[str]:
        """Return the slides of these kinds in the order of the study."""
        return [name for name, slide in self.slides.items() if slide.kind in kinds]

    def pattern(self, *kinds: str) -> str:
        """Return the wildcard constraint for the slides of these kinds, or for all; it matches nothing when there is none."""
        return "|".join(self.slides_of(*kinds) if kinds else self.slides) or "(?!)"

    @property
    def slides_with_programs(self) -> list[str]:
        """Slides whose clusters get gene programs: those with Xenium, if the run file names a library."""
        return self.slides_with_xenium if self.config.programs.library else []

    @property
    def archives(self) -> str:
        """Wildcard constraint for the slides whose bundle is an archive."""
        return "|".join(name for name, slide in self.slides.items() if slide.archived) or "(?!)"

    @property
    def downloads(self) -> str:
        """Wildcard constraint for the slides that come from a URL."""
        return "|".join(name for name, slide in self.slides.items() if slide.bundle_url) or "(?!)"

    @property
    def context_source(self) -> str:
        """What the global path reads of a slide's context: cached features of a frozen encoder, or the windows themselves."""
        context = self.config.global_.context
        return str(files.context_features.replace("{encoder}", context.name) if context.freeze else files.context_patches)

    @property
    def segmentation_gpu(self) -> int:
        """GPUs of a job that finds nuclei."""
        return self.config.compute.gpu if SEGMENTERS[self.config.segmentation.method].uses_gpu else 0

    @property
    def segmenter_module(self) -> str:
        """Module of the package that finds nuclei, for `code_version`."""
        return SEGMENTERS[self.config.segmentation.method].factory.partition(":")[0]

    @property
    def annotator_module(self) -> str:
        """Module of the package that annotates cells, for `code_version`."""
        return CELL_ANNOTATORS[self.config.labeling.annotator].partition(":")[0]

    @property
    def proposes_by_model(self) -> bool:
        """Whether a language model proposes the labels of clusters."""
        return self.config.proposals.annotator == "llm-score"

    @property
    def clustering_gpu(self) -> int:
        """GPUs of a job that clusters cells."""
        return self.config.compute.gpu if self.config.clustering.backend == "rapids" else 0

    def first_seed_predictions(self, model: str, slides: list[str]) -> list[str]:
        """Return the prediction files of a model with the first seed: the models that figures show."""
        return [files.predictions.format(model=model, seed=self.seeds[0], slide=slide) for slide in slides]

    def role(self, slide: str) -> Role:
        """Return what the study uses `slide` for."""
        return next(role for role in get_args(Role) if slide in getattr(self.config.study, role))

    def annotation(self, slide: str, suffix: Literal["tsv", "csv"]) -> str | list[str]:
        """Return the file in which a person labels `slide`'s clusters (tsv) or cells (csv), or nothing if there is none."""
        path = f"{self.config.labeling.annotation}/{slide}.{suffix}"
        return path if Path(self._root, path).is_file() else []

    def section(self, *path: str) -> dict[str, Any]:
        """Return one section, or one section of a section, as plain values for `params`."""
        section: Any = self.config
        for name in path:
            section = getattr(section, name)
        return dict(section.model_dump(mode="json"))


def load_run(raw: Mapping[str, Any], *, root: Path | str = ".", file: str = "run file") -> Run:
    """Check a run file and find its slides.

    Parameters
    ----------
    raw
        The run file as read from YAML.
    root
        Folder that relative paths start from.
    file
        Name of the run file, for messages.

    Raises
    ------
    UserError
        At the first key or value that is not allowed, and for slides missing from the sheet.
    """
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise explain_validation(error, Config, file) from None
    sheet = Path(root, config.slides)
    if sheet.is_relative_to(Path.cwd()):
        sheet = sheet.relative_to(Path.cwd())  # As a user writes it, because it is in every message about the sheet.
    catalogue = read_slides(sheet)
    for name in config.study.slides:
        if name not in catalogue:
            raise UserError(file, "study", f"slide {name!r} is not in {config.slides}{similar(name, catalogue)}", "Add a row for it.")
        if catalogue[name].kind == "synthetic" and name not in config.synthetic.seeds:
            raise UserError(
                file, f"synthetic.seeds.{name}", "the slide is synthetic and has no seed", f"Add `{name}: 1` there, or any other integer."
            )
    run = Run(config, catalogue, Path(root), file)
    _refuse_unlabelled(run, file)
    _refuse_two_annotations(run)
    # Slides may be absent where scores exist, because an archive of a run redraws its figures from metrics/ and predictions/.
    if not Path(root, "results", config.run, "metrics").is_dir():
        _require_files(run, Path(root), sheet)
        _require_gene_sets(run, Path(root), file)
    return run


def _require_files(run: Run, root: Path, sheet: Path) -> None:
    coming = [slide for slide in run.slides.values() if slide.kind == "synthetic" or slide.bundle_url]
    for slide in (slide for slide in run.slides.values() if slide not in coming):
        for field, path in (("bundle", slide.first_file), ("image", slide.image), ("alignment", slide.alignment)):
            if path and path not in {other.image for other in coming} and not Path(root, path).is_file():
                raise UserError(sheet, f"{slide.slide}, {field}", f"{path} does not exist", "Correct the path, or put the file there.")


def _refuse_unlabelled(run: Run, file: str) -> None:
    if wrong := [name for name in run.slides_of("image") if run.role(name) != "predict"]:
        remedy = "List it under study.predict."
        raise UserError(file, f"study.{run.role(wrong[0])}", f"slide {wrong[0]} is an H&E without Xenium, so it has no labels", remedy)


def _refuse_two_annotations(run: Run) -> None:
    for slide in run.slides_of("xenium", "synthetic"):
        if (edits := run.annotation(slide, "tsv")) and (provided := run.annotation(slide, "csv")):
            raise UserError(
                str(provided),
                "file",
                f"slide {slide} also has {edits}",
                "Remove one of them: edits of clusters (tsv), or labels of cells (csv).",
            )


def _require_gene_sets(run: Run, root: Path, file: str) -> None:
    for field in ("library", "ontology", "slim"):
        path = getattr(run.config.programs, field)
        if path and not Path(root, path).is_file():
            raise UserError(file, f"programs.{field}", f"{path} does not exist", f"Download it: {GO_DOWNLOADS} (CC BY 4.0).")
