"""The run file, read once and checked: the only configuration science code sees is a section of it."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, ValidationError, model_validator

from nuclass_pipeline.config.base import Section
from nuclass_pipeline.config.compute import Compute
from nuclass_pipeline.config.domains import DomainsConfig
from nuclass_pipeline.config.models import GateConfig, GlobalConfig, LocalConfig
from nuclass_pipeline.config.programs import GO_DOWNLOADS, ProgramsConfig
from nuclass_pipeline.config.slides import Slide, read_slides
from nuclass_pipeline.config.study import (
    ClusteringConfig,
    EvaluationConfig,
    ImageConfig,
    LabelingConfig,
    RegistrationConfig,
    SegmentationConfig,
    SplitConfig,
    Study,
)
from nuclass_pipeline.config.synthetic import SyntheticConfig
from nuclass_pipeline.errors import UserError

Role = Literal["train", "heldout", "predict"]


class Config(Section):
    """A whole run file."""

    run: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="name of the run: results go to results/<run>")
    seeds: tuple[int, ...] = Field((0,), min_length=1, description="one set of models per seed")
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
    labeling: LabelingConfig = LabelingConfig()
    programs: ProgramsConfig = ProgramsConfig()
    split: SplitConfig = SplitConfig()
    local: LocalConfig = LocalConfig()
    global_: GlobalConfig = Field(GlobalConfig(), alias="global")
    gate: GateConfig = GateConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    figures: dict[int, str] = Field(default_factory=dict, description="number in the paper → figure, for the targets fig1, fig2, …")
    tables: dict[int, str] = Field(default_factory=dict, description="number in the paper → table, for the targets tab1, tab2, …")

    @model_validator(mode="after")
    def _guard_covers_half_a_context(self) -> "Config":
        half_um = self.image.context_px * self.image.mpp / 2
        if self.split.guard_um < half_um:
            raise ValueError(f"split.guard_um is {self.split.guard_um:g}, less than half a context window ({half_um:g} µm)")
        return self


class Run:
    """A checked run file together with the slides it uses."""

    def __init__(self, config: Config, catalogue: Mapping[str, Slide], root: Path) -> None:
        self.config = config
        self._root = root
        self.slides = {name: catalogue[name] for name in config.study.slides}

    def slides_of(self, *kinds: str, role: Role | None = None) -> list[str]:
        """Return the slides of these kinds (all kinds when none is named) in the order of the study."""
        names = getattr(self.config.study, role) if role else self.slides
        return [name for name in names if not kinds or self.slides[name].kind in kinds]

    def pattern(self, *kinds: str) -> str:
        """Return the wildcard constraint for the slides of these kinds; it matches nothing when there is none."""
        return "|".join(self.slides_of(*kinds)) or "(?!)"

    @property
    def archives(self) -> str:
        """Return the wildcard constraint for the slides whose bundle is an archive."""
        return "|".join(name for name, slide in self.slides.items() if slide.archived) or "(?!)"

    @property
    def downloads(self) -> str:
        """Return the wildcard constraint for the slides that come from a URL."""
        return "|".join(name for name, slide in self.slides.items() if slide.bundle_url) or "(?!)"

    @property
    def context_file(self) -> str:
        """Return what the global path reads of a slide's context: cached features of a frozen encoder, or the windows themselves."""
        context = self.config.global_.context
        name = f"features/{context.name}.{self.config.image.context_px}.h5" if context.freeze else "patches_1024x1024.h5"
        return f"<results>/slides/{{slide}}/{name}"

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


def load(raw: Mapping[str, Any], *, root: Path | str = ".", file: str = "run file") -> Run:
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
        raise _explain(error, file) from None
    sheet = Path(root, config.slides)
    catalogue = read_slides(sheet)
    for name in config.study.slides:
        if name not in catalogue:
            raise UserError(file, "study", f"slide {name!r} is not in {config.slides}{_similar(name, catalogue)}", "Add a row for it.")
        if catalogue[name].kind == "synthetic" and name not in config.synthetic.seeds:
            raise UserError(file, f"synthetic.seeds.{name}", "the slide is synthetic and has no seed", "Give it one.")
    run = Run(config, catalogue, Path(root))
    _refuse_unlabelled(run, file)
    _refuse_two_annotations(run)
    # A run that has scores may be an archive, which redraws its figures without any slide.
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
        raise UserError(file, f"study.{run.role(wrong[0])}", f"slide {wrong[0]} is an H&E alone, which has no labels", remedy)


def _refuse_two_annotations(run: Run) -> None:
    for slide in run.slides_of("xenium", "synthetic"):
        if (edits := run.annotation(slide, "tsv")) and (provided := run.annotation(slide, "csv")):
            raise UserError(str(provided), "file", f"slide {slide} also has {edits}", "Keep one: edits of clusters, or labels of cells.")


def _require_gene_sets(run: Run, root: Path, file: str) -> None:
    for field in ("library", "ontology", "slim"):
        path = getattr(run.config.programs, field)
        if path and not Path(root, path).is_file():
            raise UserError(file, f"programs.{field}", f"{path} does not exist", f"Download it: {GO_DOWNLOADS} (CC BY 4.0).")


def _explain(error: ValidationError, file: str) -> UserError:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "run file"
    if first["type"] == "extra_forbidden":
        allowed = _keys_beside(first["loc"])
        return UserError(file, field, f"unknown key{_similar(str(first['loc'][-1]), allowed)}", f"Allowed here: {', '.join(allowed)}.")
    if first["type"] == "missing":
        return UserError(file, field, "the key is missing", "Add it; docs/configuration.md lists all keys.")
    value = "" if isinstance(first["input"], dict) else f"{first['input']!r}: "
    return UserError(file, field, value + first["msg"].removeprefix("Value error, "), "See docs/configuration.md.")


def _keys_beside(loc: tuple[int | str, ...]) -> list[str]:
    model: Any = Config
    for part in loc[:-1]:
        fields = {info.alias or name: info for name, info in model.model_fields.items()}
        model = fields[str(part)].annotation
    return [info.alias or name for name, info in model.model_fields.items()]


def _similar(name: str, names: Any) -> str:
    close = difflib.get_close_matches(name, [str(n) for n in names], n=1)
    return f", did you mean {close[0]!r}?" if close else ""
