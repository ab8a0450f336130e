"""What must hold for a run before its first job: one function per rule, listed at the end."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from nuclass_pipeline.config.backbones.section import views_differ
from nuclass_pipeline.config.expression import GO_DOWNLOADS
from nuclass_pipeline.config.loading.by_hand import check_annotation
from nuclass_pipeline.config.loading.points import check_point_images
from nuclass_pipeline.config.loading.requirements import check_language_model
from nuclass_pipeline.config.loading.run_files import is_set, source_of
from nuclass_pipeline.config.loading.same_files import cells_apart, same_bundle, same_file
from nuclass_pipeline.config.loading.sharing import check_slides_from
from nuclass_pipeline.config.loading.tiles import check_tiles
from nuclass_pipeline.config.loading.trios import annotations_below, check_trio_slides, check_trios
from nuclass_pipeline.errors import UserError, similar
from nuclass_pipeline.layout import BASE
from nuclass_pipeline.vocabulary import read_label_map

if TYPE_CHECKING:
    from nuclass_pipeline.config.run import Run


def check_seeds(run: "Run") -> None:
    """Check that each synthetic slide has a seed of its own, and that no seed is for an unknown slide."""
    seeds = run.config.synthetic.seeds
    if unknown := [name for name in seeds if name not in run.catalogue]:
        field = f"synthetic.seeds.{unknown[0]}"
        problem = f"no such slide in {run.config.slides}{similar(unknown[0], run.catalogue)}"
        raise run.error(field, problem, "Correct the name, or remove the line.")
    names = run.slides_of("synthetic")
    for name in names:
        if name not in seeds:
            problem = "the slide is synthetic and has no seed"
            raise run.error(f"synthetic.seeds.{name}", problem, f"Add `{name}: 1` there, or any other integer.")
    for one, other in combinations(names, 2):
        if (seeds[one], run.organs[one]) == (seeds[other], run.organs[other]):
            problem = f"slide {one} has the same seed and organ, so both slides would be the same cells"
            raise run.error(f"synthetic.seeds.{other}", problem, "Use another seed for one of them.")


def check_buffer(run: "Run") -> None:
    """Check that no context window shows cells of another subset; that it shares pixels with another is noted by `note_buffer`."""
    half_um, buffer_um = run.config.image.context_um / 2, run.config.split.buffer_um
    if buffer_um is not None and buffer_um < half_um:
        problem = f"{buffer_um:g} is less than half a context window ({half_um:g} µm)"
        raise run.error("split.buffer_um", problem, f"Remove the key for a whole window, or set it to {half_um:g} or more.")


def note_buffer(run: "Run") -> list[str]:
    """Return a note if the buffer lets context windows of different subsets share pixels."""
    context_um, buffer_um = run.config.image.context_um, run.config.split.buffer_um
    if buffer_um is None or buffer_um >= context_um or not run.slides_in_strips:
        return []
    file = source_of("split.buffer_um", run.sources) or "run file"
    why = f"{buffer_um:g} is less than a context window ({context_um:g} µm), so subsets may share pixels; the report says how many cells do"
    return [f"{file}: split.buffer_um: {why}. Remove the key for a whole window."]


def check_frozen(run: "Run") -> None:
    """Check that the run file does not set, for a path whose encoders are frozen, what only images or a trained encoder have."""
    frozen = {"local": run.config.local.backbone.freeze, "global": run.config.local.backbone.freeze and run.config.global_.context.freeze}
    for path, section in (("local", run.config.local), ("global", run.config.global_)):
        for name, off in (("augment", "false"), ("stain_jitter", "0"), ("freeze_backbone_epochs", "0")):
            value = getattr(section, name)
            # Only where it is set, because the defaults are those of trained encoders.
            if frozen[path] and value and is_set(f"{path}.{name}", run.sources):
                problem = f"is {str(value).lower()}, and {_WITHOUT_EFFECT[name]}"
                raise run.error(f"{path}.{name}", problem, f"Set it to {off}, or local.backbone.freeze to false.")
    local, context = run.config.local.backbone.views, run.config.global_.context.views
    if views_differ(local, context):
        problem = f"is {context}, and {local} in local.backbone, whose windows turn with those of the context"
        raise run.error("global.context.views", problem, f"Set it to {local} or 1.")


def check_devices(run: "Run") -> None:
    """Check that the devices of a training can share each batch equally."""
    devices = run.config.compute.devices
    for path, optim in (("local", run.config.local.optim), ("global", run.config.global_.optim)):
        if optim.batch_size % devices:
            problem = f"is {optim.batch_size}, which {devices} devices (compute.devices) cannot share equally"
            remedy = f"Set it to {devices * -(-optim.batch_size // devices)}, or compute.devices to a divisor of it."
            raise run.error(f"{path}.optim.batch_size", problem, remedy)


_FEATURES_ONLY = "the features of the frozen encoder are computed before the training"
_WITHOUT_EFFECT = {
    "augment": _FEATURES_ONLY,
    "stain_jitter": _FEATURES_ONLY,
    "freeze_backbone_epochs": "local.backbone.freeze keeps the encoder frozen in all epochs",
}


def check_labels(run: "Run") -> None:
    """Check that slides without labels are only classified, and that those to be labelled have transcripts."""
    if wrong := [name for name in run.slides_of("image") if run.role(name) != "predict"]:
        problem = f"slide {wrong[0]} is an H&E without Xenium, so it has no labels"
        raise run.error(f"study.{run.role(wrong[0])}", problem, "List it under study.predict.")
    if brought := [name for name in run.slides_of("trio", "images") if run.role(name) == "label"]:
        problem = f"slide {brought[0]} is of kind {run.slides[brought[0]].kind}: it has labels, and no transcripts to label it from"
        raise run.error("study.label", problem, "List it under study.train, study.heldout or study.predict.")


def check_images(run: "Run") -> None:
    """Check that each slide that is more than labelled has an H&E."""
    for name in run.slides_of("xenium"):
        if not run.slides[name].image and (role := run.role(name)) != "label":
            problem = f"it is empty, and study.{role} needs the H&E of the slide"
            raise UserError(run.config.slides, f"{name}, image", problem, "Fill in image, or list the slide under study.label.")


def check_organs(run: "Run") -> None:
    """Check that each organ is trained on, or that the models learn an unknown one: the embedding of any other keeps its random start."""
    trained = {run.organs[name] for name in run.training_slides}
    # Variants classify no slide that is not scored.
    for name in [*run.heldout_slides, *([] if run.within else run.unscored_slides)]:
        if (organ := run.organs[name]) not in trained:
            field = f"study.{run.role(name)}"
            problem = f"slide {name} is of {organ}, and no slide of study.train is, so the models do not learn that organ"
            if run.config.study.unknown_organ == "refuse":
                raise run.error(field, problem, f"Add a slide of {organ} to study.train, or remove {name} from {field}.")
            if not run.config.local.learns_unknown_organ:
                remedy = "Set it above 0, such as 0.1, or study.unknown_organ to refuse."
                raise run.error("local.organ_dropout", f"is 0, and {problem}, nor an unknown one", remedy)


def check_accepted(run: "Run") -> None:
    """Check that each slide whose unclear registration is accepted is registered in this study."""
    for name in run.config.registration.accept_unclear:
        if name not in run.slides_with_xenium:
            problem = f"{name!r} is not a slide of the study with Xenium{similar(name, run.slides_with_xenium)}"
            raise run.error("registration.accept_unclear", problem, "Correct the name, or remove it.")


def check_shared_files(run: "Run") -> None:
    """Check that no two slides of training and test are one, and no alignment is used for two images."""
    for one, other in combinations([run.slides[name] for name in run.cohort_slides], 2):
        place = f"{one.slide} and {other.slide}"
        if what := same_bundle(one, other):
            remedy = "Keep one of them, because scores on cells that were trained on are too high."
            raise UserError(run.config.slides, f"{place}, {what}", "both slides are the same bundle", remedy)
        one_image = bool(one.image and other.image) and same_file(one.image, other.image)
        if one.alignment and Path(one.alignment).resolve() == Path(other.alignment).resolve() and not one_image:
            problem = f"{one.alignment} cannot align two images"
            raise UserError(run.config.slides, f"{place}, alignment", problem, "Name for each slide the alignment of its own H&E.")
        # By content, because a copy of an alignment places the image as the original does.
        aligned = bool(one.alignment and other.alignment)
        one_place = same_file(one.alignment, other.alignment) if aligned else one.alignment == other.alignment
        if one_image and one_place and not cells_apart(one, other):
            problem = "both slides have the same H&E in the same place"
            raise UserError(run.config.slides, f"{place}, image", problem, "Name for each slide its own H&E, or its own alignment with it.")


def check_slide_files(run: "Run") -> None:
    """Check that the files of one's own slides are there."""
    for slide in run.slides.values():
        for column, path in slide.own_files.items():
            if path not in run.coming and (problem := missing(path)):
                place = f"{slide.slide}, {column}"
                if column == "bundle" and Path(slide.bundle).is_file() and not slide.archived:
                    raise UserError(run.config.slides, place, f"{slide.bundle} is a file", "Name the folder that holds experiment.xenium.")
                remedy = "Correct the path, or put the file there."
                if column == "bundle" and slide.kind == "trio":
                    problem, remedy = annotations_below(slide.bundle) or (problem, remedy)
                raise UserError(run.config.slides, place, problem, remedy)


def check_tables(run: "Run") -> None:
    """Check that the tables of labels, markers and gene sets are there, and that the label map can be read."""
    config = run.config
    for field, path in (("labels", config.labels), ("labeling.markers", config.labeling.markers)):
        if problem := missing(path):
            raise run.error(field, problem, "Correct the path, or remove the key for the shipped table.")
    read_label_map(config.labels, config.study.colors)
    for field in ("library", "ontology", "slim"):
        path = getattr(config.programs, field)
        if path and (problem := missing(path)):
            raise run.error(f"programs.{field}", problem, f"Download it: {GO_DOWNLOADS} (CC BY 4.0).")


def missing(path: str) -> str | None:
    """Return why a path is not a file that can be read, or None."""
    file = Path(path)
    if file.is_file():
        return None
    if file.exists():
        return f"{path} is {'a folder' if file.is_dir() else 'a pipe or device'}, not a file"
    beside = [found.name for found in file.parent.iterdir()] if file.parent.is_dir() else []
    return f"{path} does not exist{similar(file.name, beside)}"


def check_layout(run: "Run") -> None:
    """Check that the results are not those of a version without variants, whose models would all be trained again."""
    models = Path("results", run.config.run, "models")
    if (models / "local").is_dir() and not (models / BASE).is_dir():
        problem = f"{models.parent} was made by a version whose models lie elsewhere, so all would be trained again"
        raise run.error("run", problem, "Use another name for the run, or remove models, predictions and metrics there to train again.")


ALWAYS: tuple[Callable[["Run"], None], ...] = (
    check_seeds,
    check_buffer,
    check_frozen,
    check_devices,
    check_tiles,
    check_labels,
    check_images,
    check_organs,
    check_accepted,
    check_annotation,
    check_shared_files,
    check_slides_from,
    check_layout,
)
OF_VARIANTS: tuple[Callable[["Run"], None], ...] = (check_frozen, check_devices, check_tiles, check_organs)
"""Checks of each variant. Its buffer may be too small, which is a warning, because what the buffer does is then the question."""
FILES: tuple[Callable[["Run"], None], ...] = (
    check_slide_files,
    check_trios,
    check_trio_slides,
    check_point_images,
    check_tables,
    check_language_model,
)
"""Checks of files, left out where scores exist: an archive of a run redraws its figures from metrics/ and predictions/."""
