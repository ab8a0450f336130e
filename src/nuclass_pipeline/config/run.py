"""The run file, read once and checked: rules see a section of it, and the slides by what is done with them."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nuclass_pipeline.config.base import place
from nuclass_pipeline.config.errors import explain_validation
from nuclass_pipeline.config.image import SEGMENTERS
from nuclass_pipeline.config.labeling import CELL_ANNOTATORS
from nuclass_pipeline.config.loading import requirements
from nuclass_pipeline.config.loading.by_hand import HandMade
from nuclass_pipeline.config.loading.checks import ALWAYS, FILES, OF_VARIANTS, note_buffer
from nuclass_pipeline.config.loading.places import locate, locate_key
from nuclass_pipeline.config.loading.run_files import Sources, read_run_files, source_of
from nuclass_pipeline.config.loading.tiles import note_tiles
from nuclass_pipeline.config.loading.variants import VariantFiles, apply_variant, check_changes, check_variants, place_changes
from nuclass_pipeline.config.loading.windows import WindowSources
from nuclass_pipeline.config.memory.jobs import JobMemory
from nuclass_pipeline.config.models import SCORED_MODELS
from nuclass_pipeline.config.run_file import Config
from nuclass_pipeline.config.slides import Slide, place_slide, read_slides
from nuclass_pipeline.errors import UserError, similar
from nuclass_pipeline.layout import BASE, files


class Run(HandMade, WindowSources, VariantFiles, JobMemory):
    """A checked run file together with the slides it uses.

    Attributes
    ----------
    config
        The run file.
    catalogue
        Slide id → row of the slide sheet.
    sources
        The run files that it was merged from.
    folder
        Where relative paths of inputs start from, if not where jobs run.
    within
        Key of the run file below which its sections lie; empty save for a variant.
    slides
        Rows of the slides of the study, with paths as jobs use them.
    """

    def __init__(self, config: Config, catalogue: Mapping[str, Slide], sources: Sources, folder: str = "", within: str = "") -> None:
        self.config, self.catalogue, self.sources, self.folder = config, catalogue, sources, folder
        self.variants, self.within = {BASE: self}, within
        if unknown := [name for name in config.study.slides if name not in catalogue]:
            problem = f"slide {unknown[0]!r} is not in {self.config.slides}{similar(unknown[0], catalogue)}"
            raise self.error(f"study.{self.role(unknown[0])}", problem, "Correct the name, or add a row for it.")
        self.slides = {name: catalogue[name] for name in config.study.slides}
        coming = self.coming
        self.slides = {
            name: place_slide(slide, lambda path: locate(path, config.slides, folder), coming) for name, slide in self.slides.items()
        }

    @property
    def coming(self) -> set[str]:
        """Paths of the slides' files that rules make or download."""
        return {path for slide in self.slides.values() for path in slide.fixed_paths.values()}

    def error(self, field: str, problem: str, remedy: str) -> UserError:
        """Return the error for a key of the run file, which names the file that sets it."""
        return UserError(source_of(field, self.sources) or "run file", f"{self.within}{field}", problem, remedy)

    @property
    def seeds(self) -> list[int]:
        """One set of models per seed."""
        return list(self.config.seeds)

    @property
    def constraints(self) -> dict[str, str]:
        """Wildcard → what it may be."""
        names = {"slide": self.pattern(), "model": "|".join(SCORED_MODELS), "variant": "|".join(self.variants)}
        return names | {"seed": r"\d+", "px": r"\d+", "key": "[0-9a-f]{8}"}

    @property
    def folders(self) -> dict[str, str]:
        """Name of a folder in the paths of `files` → the folder."""
        own = {name: f"{name}/{self.config.run}" for name in ("results", "logs", "benchmarks")}
        return own | {"slides": f"results/{self.config.slides_run}/slides"}

    @property
    def path_parts(self) -> dict[str, str]:
        """All names in `<>` in the paths of `files` → folders, and sides of the windows."""
        image = self.config.image
        return self.folders | {"local_px": str(image.local_px), "context_px": str(image.context_px)}

    @property
    def checked(self) -> dict[str, Any]:
        """The run file with its defaults, as plain values."""
        return self.config.model_dump(mode="json", by_alias=True)

    # Rules list them as inputs, because only the jobs of the plan must find what they need.
    encoder_weights = requirements.encoder_weights
    encoders = property(requirements.describe_encoders)
    segmenter_weights = property(requirements.segmenter_weights)
    clustering_needs = property(requirements.clustering_needs)

    @property
    def training_gpus(self) -> int:
        """GPUs of a job that trains a path."""
        return self.config.compute.gpu * self.config.compute.devices

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

    def clustering_threads(self, slide: str) -> int:
        """Return the cores of a job that clusters cells: the second one is of use to large slides only, and phantoms are small."""
        return 1 if self.slides[slide].kind == "synthetic" else 2

    def first_seed_predictions(self, model: str, slides: list[str]) -> list[str]:
        """Return the prediction files of a model of the base with the first seed: the models that figures show."""
        return [files.predictions.format(variant=BASE, model=model, seed=self.seeds[0], slide=slide) for slide in slides]

    @property
    def all_predictions(self) -> list[str]:
        """Prediction files of all variants, models and seeds; of slides that are only classified, those of the base's gate."""
        paths = [
            files.predictions.format(variant=BASE, model="gate", seed=seed, slide=slide)
            for seed in self.seeds
            for slide in self.unscored_slides
        ]
        scored = product(self.variants, SCORED_MODELS, self.seeds, self.cohort_slides)
        return [files.predictions.format(variant=v, model=model, seed=seed, slide=slide) for v, model, seed, slide in scored] + paths

    @property
    def source_files(self) -> list[str]:
        """Files of all slides that rules read; of a slide that is only labelled, not its H&E and alignment."""
        unread = {"image": "", "alignment": ""}
        read = [slide.model_copy(update=unread if name in self.labeled_only else {}) for name, slide in self.slides.items()]
        return [path for slide in read for path in slide.read_files(self.config.image)]

    def temperatures_for(self, slide: str) -> str | list[str]:
        """Return the file of temperatures for `slide`, or nothing for a training slide, because they are fitted on its predictions."""
        return [] if self.role(slide) == "train" else str(files.temperatures)

    def registration_of(self, slide: str) -> str | list[str]:
        """Return the file that places the cells of `slide` on its image, or nothing for a patch dataset, which has no such image."""
        return [] if self.slides[slide].kind == "trio" else str(files.registration)

    @property
    def notes(self) -> list[str]:
        """What is allowed in the run file, and should be known before the first job."""
        return [*note_buffer(self), *(note for run in self.variants.values() for note in note_tiles(run)), *self.variant_warnings]

    def section(self, *path: str) -> dict[str, Any]:
        """Return one section, or one section of a section, as plain values for `params`."""
        section: Any = self.config
        for name in path:
            section = getattr(section, name)
        return dict(section.model_dump(mode="json"))

    def registration(self, slide: str) -> dict[str, Any]:
        """Return the section `registration` for `slide`: of the accepted slides it names no other."""
        # No other, because a slide that is accepted must not register the rest again.
        section = self.section("registration")
        return section | {"accept_unclear": [name for name in section["accept_unclear"] if name == slide]}


def load_run(
    raw: Mapping[str, Any],
    *,
    root: Path | str = ".",
    file: str = "run file",
    sources: Sources | None = None,
    is_job: bool = False,
    checks: Sequence[Callable[[Run], None]] = (),
) -> Run:
    """Check a run file and find its slides.

    Parameters
    ----------
    raw
        The run file as read from YAML.
    root
        Folder of the project, which relative paths start from unless `locate` finds them beside a file that lies elsewhere.
    file
        Name of the run file, for messages.
    sources
        The run files that `raw` was merged from, for messages.
    is_job
        Whether a job of a run reads it again; then the files have been checked.
    checks
        Further checks, which only the first reader makes.

    Raises
    ------
    UserError
        At the first key or value that is not allowed, and for slides missing from the sheet.
    """
    sources = sources or {file: raw}
    folder = "" if Path(root).resolve() == Path.cwd() else str(root)
    config = _read_config(raw, sources, folder, "")
    run = Run(config, read_slides(Path(config.slides)), sources, folder)
    _add_variants(run, raw)
    scored = Path("results", config.run, "metrics").is_dir()
    for check in (*ALWAYS, *(() if scored or is_job else FILES), *(() if is_job else checks)):
        check(run)
    for check in OF_VARIANTS:
        for variant in run.config.variants:
            check(run.variants[variant])
    return run


def _read_config(raw: Mapping[str, Any], sources: Sources, folder: str, within: str) -> Config:
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        found = explain_validation(error, Config, lambda field: source_of(field, sources) or "run file")
        raise UserError(found.file, f"{within}{found.field}", found.problem, found.remedy) from None
    return place(config, lambda key, path: locate_key(key, path, sources, folder))


def _add_variants(run: Run, raw: Mapping[str, Any]) -> None:
    """Add the variants to a run: runs of the same slides, whose run files have the changes in them."""
    check_changes(run)
    for name in run.config.variants:
        sources: Sources = {source: apply_variant(values, name) for source, values in run.sources.items()}
        within = f"variants.{name}."
        config = _read_config(apply_variant(raw, name), sources, run.folder, within)
        run.variants[name] = Run(config, run.catalogue, sources, run.folder, within)
        # As jobs use them, because the recorded run file must name the weights that a variant read.
        run.config.variants[name] = place_changes(run.config.variants[name], config.model_dump(mode="json", by_alias=True))
    check_variants(run)


def load_workflow(workflow: Any, raw: Mapping[str, Any], *checks: Callable[[Run], None]) -> Run:
    """Check the run files of a Snakemake workflow, which it has merged to `raw`; paths start from the folder of its Snakefile."""
    sources = read_run_files(workflow.configfiles, workflow.config_settings.config)
    return load_run(raw, root=workflow.basedir, sources=sources, is_job=not workflow.is_main_process, checks=checks)
