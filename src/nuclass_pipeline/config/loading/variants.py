"""Variants of a run: named changes of its sections, and which variant owns each file that depends on them."""

from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from nuclass_pipeline.config.run_file import Config
from nuclass_pipeline.errors import similar
from nuclass_pipeline.layout import BASE, files, for_model

if TYPE_CHECKING:
    from nuclass_pipeline.config.run import Run

_LABELS = ("labeling",)
# With the buffer, because it is as wide as the context window where the run file names none.
_SPLIT = (*_LABELS, "split", "buffer_um")
_LOCAL = (*_SPLIT, "image.local_um", "local")
_GLOBAL = (*_LOCAL, "image.context_um", "global_")
FAMILIES = {"labels": _LABELS, "split": _SPLIT, "local": _LOCAL, "global": _GLOBAL, "gate": (*_GLOBAL, "gate")}
"""Family of files → the parts of the run file that change them. Features of cells belong to `global`; predictions and scores to `gate`."""
VARIED: dict[str, tuple[str, ...] | None] = {
    "image": ("local_um", "context_um"),
    "labeling": ("annotator", "min_confidence", "seed"),
    "split": None,
    "local": None,
    "global": None,
    "gate": None,
}
"""Section that a variant may change → keys of it; all if None. All else is common to the variants of a run, as slides are."""


def find_owner(configs: Mapping[str, Config], family: str, variant: str) -> str:
    """Return the first variant whose files of a family are those of `variant`, because all that changes them is equal."""
    return next(name for name in configs if _parts(configs[name], family) == _parts(configs[variant], family))


def _parts(config: Config, family: str) -> list[Any]:
    return [attrgetter(key)(config) for key in FAMILIES[family]]


def merge(section: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section with changes, key by key; a key that is changed to nothing is left out, so that its default holds."""
    merged = dict(section)
    for key, value in changes.items():
        if isinstance(value, Mapping):
            inner = merged.get(key)
            merged[key] = merge(inner if isinstance(inner, Mapping) else {}, value)
        elif value is None:
            merged.pop(key, None)
        else:
            merged[key] = value
    return merged


def apply_variant(raw: Mapping[str, Any], variant: str) -> dict[str, Any]:
    """Return a run file, or one of several that are merged, with the changes of a variant and without the list of variants."""
    listed = raw.get("variants")
    changes = listed.get(variant) if isinstance(listed, Mapping) else None
    return merge({key: value for key, value in raw.items() if key != "variants"}, changes if isinstance(changes, Mapping) else {})


def read_configs(raw: Mapping[str, Any]) -> dict[str, Config]:
    """Return the run file of every variant of a run file that has been checked, the base first."""
    listed = raw.get("variants") or {}
    return {name: Config.model_validate(apply_variant(raw, name)) for name in (BASE, *listed)}


def check_changes(run: "Run") -> None:
    """Check that each variant has a name of its own, and changes what a variant may change."""
    for name, changes in run.config.variants.items():
        field = f"variants.{name}"
        if name == BASE or name in run.slides:
            taken = "the run file without changes" if name == BASE else "a slide"
            raise run.error(field, f"{name} is {taken}", "Use another name.")
        if not run.training_slides:
            raise run.error(field, "the study trains no model", "Remove it, or list slides under study.train and study.heldout.")
        for section, values in changes.items():
            if section not in VARIED:
                known = [info.alias or key for key, info in Config.model_fields.items()]
                problem = "a variant cannot change it" if section in known else f"unknown section{similar(section, VARIED)}"
                raise run.error(f"{field}.{section}", problem, f"Change {', '.join(VARIED)}, or make another run.")
            _check_keys(run, f"{field}.{section}", values, VARIED[section])


def _check_keys(run: "Run", field: str, values: Mapping[str, Any], allowed: tuple[str, ...] | None) -> None:
    for key in values if allowed else ():
        if allowed and key not in allowed:
            problem = f"a variant cannot change it{similar(key, allowed)}"
            raise run.error(f"{field}.{key}", problem, f"Change {', '.join(allowed)}, or make another run.")


def check_variants(run: "Run") -> None:
    """Check that each variant differs from the base and from those before it, and that its slides can be cut as it says."""
    for name in run.config.variants:
        field = f"variants.{name}"
        if (owner := run.owner("gate", name)) != name:
            same = "the run file without changes" if owner == BASE else f"variant {owner}"
            raise run.error(field, f"its models are those of {same}", "Change another key, or remove it.")
        config = run.variants[name].config
        if config.labeling != run.config.labeling and not set(run.slides_with_xenium) & set(run.cohort_slides):
            raise run.error(f"{field}.labeling", "no slide of study.train or study.heldout is labelled from its transcripts", "Remove it.")
        sides = [(each.local_um, each.context_um) for each in (config.image, run.config.image)]
        trios = [slide for slide in run.slides_of("trio") if slide in run.cohort_slides]
        if sides[0] != sides[1] and trios:
            problem = f"the windows of {trios[0]} were cut elsewhere"
            raise run.error(f"{field}.image", problem, "Remove it, or make another run.")
        # Images of a slide lie one context window apart, and a window reaches half its side beyond its cell.
        if run.slides_of("images") and sides[0][1] > 2 * sides[1][1]:
            problem = f"windows of {sides[0][1]:g} µm would show other images of the slide, which lie {sides[1][1]:g} µm apart"
            raise run.error(f"{field}.image.context_um", problem, f"Set it to {2 * sides[1][1]:g} or less, or make another run.")


class VariantFiles:
    """Files of the variants of a run: those of a variant that are no others than its owner's are its owner's.

    Attributes
    ----------
    variants
        Name → the run with the changes of the variant; the base is the run itself.
    """

    variants: "dict[str, Run]"

    def owner(self, family: str, variant: str) -> str:
        """Return the variant that makes the files of a family for `variant`."""
        return find_owner({name: run.config for name, run in self.variants.items()}, family, variant)

    def owned(self, path: str, family: str, variant: str) -> str:
        """Return a path of `files` with the owner of its family for `variant`, its other wildcards as they are."""
        return path.replace("{variant}", self.owner(family, variant))

    def checkpoint(self, model: str, variant: str) -> str:
        """Return the checkpoint of a model for `variant`, with its seed as a wildcard."""
        return self.owned(for_model(files.checkpoint, model), model, variant)

    def cell_features(self, variant: str) -> str:
        """Return the file of features that the gate of `variant` reads, with slide and seed as wildcards."""
        return self.owned(files.cell_features, "global", variant)

    def scores(self, path: str) -> list[str]:
        """Return a path of `files` for every variant; none where no slide is held out."""
        return [path.replace("{variant}", name) for name in self.variants] if self.variants[BASE].heldout_slides else []

    @property
    def further_labels(self) -> list[str]:
        """Labels of slides that variants have of their own."""
        return self._own_files("labels", self.labels_of)

    @property
    def further_splits(self) -> list[str]:
        """Splits of slides that variants have of their own."""
        return self._own_files("split", self.split_of)

    def _own_files(self, family: str, find: Callable[[str, str], str]) -> list[str]:
        base, owners = self.variants[BASE], dict.fromkeys(self.owner(family, name) for name in self.variants)
        found = [find(slide, name) for name in owners for slide in base.cohort_slides]
        return [path for path in dict.fromkeys(found) if path not in {find(slide, BASE) for slide in base.cohort_slides}]

    def labels_of(self, slide: str, variant: str) -> str:
        """Return the labels of a slide for `variant`."""
        owner = self.owner("labels", variant)
        # Labels that are not made from transcripts are those of the slide's files.
        varies = owner != BASE and slide in self.variants[BASE].slides_with_xenium
        return str(files.variant_labels.format(variant=owner, slide=slide) if varies else files.labels.format(slide=slide))

    def split_of(self, slide: str, variant: str) -> str:
        """Return the split of a slide for `variant`."""
        owner = self.owner("split", variant)
        return str(files.split.format(slide=slide) if owner == BASE else files.variant_split.format(variant=owner, slide=slide))

    def training_labels(self, wildcards: Any) -> list[str]:
        """Return the labels of the training slides for the variant of a job."""
        return [self.labels_of(slide, wildcards.variant) for slide in self.variants[BASE].training_slides]

    def training_splits(self, wildcards: Any) -> list[str]:
        """Return the splits of the training slides for the variant of a job."""
        return [self.split_of(slide, wildcards.variant) for slide in self.variants[BASE].training_slides]

    @property
    def frozen_names(self) -> str:
        """Wildcard constraint for the frozen encoders."""
        runs = self.variants.values()
        return "|".join(dict.fromkeys(run.window_encoders[field][0].name for run in runs for field in run.frozen)) or "(?!)"

    @property
    def frozen_files(self) -> list[str]:
        """Files of the features of all frozen encoders: slides that are only classified have those of the base."""
        base = self.variants[BASE]
        read = [
            (path, base.classified_slides if run is base else base.cohort_slides)
            for run in self.variants.values()
            for path in run.frozen.values()
        ]
        return list(dict.fromkeys(path.format(slide=slide) for path, slides in read for slide in slides))

    def frozen_run(self, wildcards: Any) -> "Run":
        """Return the first variant that has the frozen encoder with this name, side of the windows and key."""
        wanted = files.window_features.format(slide="{slide}", encoder=wildcards.encoder, px=wildcards.px, key=wildcards.key)
        return next(run for run in self.variants.values() if wanted in run.frozen.values())

    @property
    def further_sides(self) -> str:
        """Wildcard constraint for the sides of windows, px of `image.h5`, that variants need beside those of the run file."""
        own, *images = [run.config.image for run in self.variants.values()]
        sides = dict.fromkeys(side for image in images for side in (image.local_px, image.context_px))
        return "|".join(str(side) for side in sides if side not in (own.local_px, own.context_px)) or "(?!)"

    @property
    def variant_warnings(self) -> list[str]:
        """What to know of the variants before their scores are compared."""
        base = self.variants[BASE]
        return [text for name, run in self.variants.items() if name != BASE for text in _small_buffer(name, run, base)]


def _small_buffer(name: str, run: "Run", base: "Run") -> Iterator[str]:
    widths = [(each.config.buffer_um, each.config.image.context_um) for each in (run, base)]
    buffer_um, window_um = widths[0]
    # The same of the base is noted for the run file itself.
    if buffer_um < window_um and widths[0] != widths[1] and run.slides_in_strips:
        problem = f"split.buffer_um is {buffer_um:g} µm, less than a context window ({window_um:g} µm)"
        yield f"{name}: {problem}, so subsets may share pixels; scores on `val` are then too high, and held-out scores stay fair"


def place_changes(changes: Mapping[str, Any], placed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes of a variant with the values that its checked run file has, whose paths are those that jobs use."""
    found: dict[str, Any] = {}
    for key, value in changes.items():
        if isinstance(value, Mapping):
            found[key] = place_changes(value, placed.get(key) or {})
        else:
            found[key] = None if value is None else placed.get(key, value)
    return found
