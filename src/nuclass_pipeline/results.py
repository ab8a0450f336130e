"""A finished run, read from Python: its tables and its models."""

from collections.abc import Mapping
from functools import cached_property, reduce
from os import PathLike
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING

import pandas as pd
from pydantic import ValidationError

from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.config.loading.variants import FAMILIES, find_owner, read_configs
from nuclass_pipeline.config.models import MODELS
from nuclass_pipeline.config.run_file import Config
from nuclass_pipeline.errors import UserError, similar
from nuclass_pipeline.io import WindowReader, read_table, require
from nuclass_pipeline.layout import BASE, RESULTS
from nuclass_pipeline.records import read_started
from nuclass_pipeline.schemas import CELLS, LABELS, METRICS, PREDICTIONS, VARIANTS, WARNINGS

if TYPE_CHECKING:
    from nuclass_pipeline.evaluate.classifier import CellClassifier


_FAMILY_OF = {"cell_features": "global", "variant_labels": "labels", "variant_split": "split"}
"""Result → family of files; checkpoints and histories are of the family of their model, all others of `gate`."""
_OF_SLIDES = {"variant_labels": "labels", "variant_split": "split"}
"""Result of a variant → the same of the slide itself, which variants share that do not change it."""


class Results:
    """The results folder of a run.

    Parameters
    ----------
    folder
        Such as `results/demo`.

    Raises
    ------
    UserError
        If it is not the results folder of a run.
    """

    def __init__(self, folder: Path | str) -> None:
        remedy = "Name the folder of a run, such as results/demo."
        if not isinstance(folder, str | PathLike):
            raise UserError("open_run", "folder", f"{folder!r} is not a path", remedy)
        self.folder = Path(folder)
        # Any of the three, because an archived run may hold only its predictions and metrics.
        if not any((self.folder / name).is_dir() for name in ("slides", "predictions", "metrics")):
            raise UserError(self.folder, "folder", "it holds no run", remedy)

    def __repr__(self) -> str:
        return f"Results({str(self.folder)!r})"

    @property
    def slides(self) -> list[str]:
        """Slides of the run, sorted."""
        folders = {path.name for path in self.folder.glob("slides/*") if path.is_dir()}
        return sorted(folders | {path.stem for path in self.folder.glob("predictions/*/*/seed-*/[!.]*.parquet")})

    def path(self, name: str, **wildcards: object) -> Path:
        """Return the path of a result by its name in docs/outputs.md, such as `path("labels", slide="demo-lung-1")`.

        Without `variant` it is that of the run file as written; with it, the file that the variant uses, which may be that of another.

        Raises
        ------
        UserError
            If there is no result of this name, its wildcards are not those given, or it has not been computed.
        """
        if name not in RESULTS:
            raise UserError(self.folder, "name", f"there is no result {name!r}", f"Use one of {', '.join(RESULTS)}.")
        needed = [field for _, field, _, _ in Formatter().parse(RESULTS[name].path) if field]
        names, needed = needed, [field for field in needed if field != "variant" or field in wildcards]
        if set(wildcards) != set(needed):
            problem = f"{name} needs {', '.join(needed) or 'nothing else'}; found {', '.join(wildcards) or 'nothing'}"
            call = ", ".join([f'"{name}"', *(f"{field}=…" for field in needed)])
            raise UserError(self.folder, "name", problem, f"Use path({call}).")
        if "variant" in names:
            wildcards["variant"] = self._owner(name, wildcards)
            if name in _OF_SLIDES and wildcards["variant"] == BASE:
                return self.path(_OF_SLIDES[name], slide=wildcards["slide"])
        folder = self._slides_home if RESULTS[name].is_shared else self.folder
        remedy = self._remedy(needed) if folder.is_dir() else f"Put the results of run {folder.name} beside it, which hold its slides."
        sides = {"<local_px>": self._image.local_px, "<context_px>": self._image.context_px}
        path = RESULTS[name].path.format(**wildcards)
        return require(folder / reduce(lambda text, side: text.replace(side, str(sides[side])), sides, path), remedy)

    def _owner(self, name: str, wildcards: Mapping[str, object]) -> str:
        """Return the variant in whose folder a result lies."""
        variant = str(wildcards.get("variant", BASE))
        # An archive without a run file has the predictions and metrics of each variant in a folder of its name.
        if variant == BASE or read_started(self.folder) is None:
            return variant
        configs = self._configs
        if variant not in configs:
            raise UserError(
                self.folder, "variant", f"there is no variant {variant!r}{similar(variant, configs)}", f"Use {', '.join(configs)}."
            )
        model = str(wildcards["model"]) if name in ("checkpoint", "history") else _FAMILY_OF.get(name, "gate")
        return find_owner(configs, model, variant) if model in FAMILIES else variant

    @cached_property
    def _configs(self) -> dict[str, Config]:
        """Run file of each variant."""
        try:
            return read_configs(read_started(self.folder) or {})
        except ValidationError:
            problem = "this version of the program cannot read the run file with which it was started"
            raise UserError(self.folder, "run file", problem, "Start the run again.") from None

    @cached_property
    def _image(self) -> ImageConfig:
        """Sides of the windows in the run file; those of the paper where an archived run holds none."""
        section = (read_started(self.folder) or {}).get("image") or {}
        return ImageConfig(**{name: section[name] for name in ("mpp", "local_um", "context_um") if name in section})

    @cached_property
    def _slides_home(self) -> Path:
        """Folder of the run in which the slides lie: beside this one if its run file has `slides_from`."""
        other = (read_started(self.folder) or {}).get("slides_from")
        return self.folder.absolute().parent / str(other) if other else self.folder

    def _remedy(self, wildcards: list[str]) -> str:
        if "slide" in wildcards and self.slides:
            return f"Run the workflow, or name another of its slides: {', '.join(self.slides)}."
        return f"Run the workflow, or choose another {' or '.join(wildcards)}." if wildcards else "Run the workflow."

    def cells(self, slide: str) -> pd.DataFrame:
        """Return the cells of a slide."""
        return read_table(self.path("cells", slide=slide), CELLS)

    def labels(self, slide: str) -> pd.DataFrame:
        """Return the label of each cell of a slide, with its evidence."""
        return read_table(self.path("labels", slide=slide), LABELS)

    def patches(self, slide: str, side_px: int | None = None) -> WindowReader:
        """Return the local crops of a slide, or its windows of `side_px`: cells `ids`, and pixels by `read(rows)`."""
        own = {None: "local_patches", self._image.local_px: "local_patches", self._image.context_px: "context_patches"}
        # Those of variants otherwise, and an error where there are none.
        path = self.path(own[side_px], slide=slide) if side_px in own else self.path("further_patches", slide=slide, px=side_px)
        return WindowReader(path)

    def predictions(self, slide: str, model: str = "gate", seed: int = 0, variant: str = BASE) -> pd.DataFrame:
        """Return the predictions of a model for the cells of a slide.

        Its columns are `predicted`, `gate_weight` and `p_<class>` (raw), and save for training slides `confidence` and `c_<class>`,
        which are calibrated.
        """
        return read_table(self.path("predictions", variant=variant, model=model, seed=seed, slide=slide), PREDICTIONS)

    def warnings(self) -> pd.DataFrame:
        """Return what to know before the results are used: one row per warning, with its slide and result."""
        return read_table(self.path("warnings"), WARNINGS)

    def scores(self, variant: str = BASE) -> pd.DataFrame:
        """Return the scores on the held-out slides, one row per score."""
        return read_table(self.path("heldout_metrics", variant=variant), METRICS)

    def variants(self) -> pd.DataFrame:
        """Return the scores of every variant, and its differences from the base: one row per variant, slide, model and score."""
        return read_table(self.path("variant_metrics"), VARIANTS)

    def classifier(self, seed: int = 0, device: str = "cpu", variant: str = BASE) -> "CellClassifier":
        """Load the trained models of a seed; their `classify` takes images."""
        from nuclass_pipeline.evaluate.classifier import load_classifier

        owners: dict[str, str] = {model: self._owner("checkpoint", {"variant": variant, "model": model}) for model in MODELS}
        return load_classifier(self.folder / "models", seed, device, owners)


def open_run(folder: Path | str) -> Results:
    """Open the results folder of a run, such as `results/demo`."""
    return Results(folder)
