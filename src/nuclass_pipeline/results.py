"""A finished run, read from Python: its tables and its models."""

from functools import cached_property, reduce
from os import PathLike
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING

import pandas as pd

from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import WindowReader, read_table, require
from nuclass_pipeline.layout import RESULTS
from nuclass_pipeline.records import read_started
from nuclass_pipeline.schemas import CELLS, LABELS, METRICS, PREDICTIONS, WARNINGS

if TYPE_CHECKING:
    from nuclass_pipeline.evaluate.classifier import CellClassifier


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
        return sorted(folders | {path.stem for path in self.folder.glob("predictions/*/seed-*/[!.]*.parquet")})

    def path(self, name: str, **wildcards: object) -> Path:
        """Return the path of a result by its name in docs/outputs.md, such as `path("labels", slide="demo-lung-1")`.

        Raises
        ------
        UserError
            If there is no result of this name, its wildcards are not those given, or it has not been computed.
        """
        if name not in RESULTS:
            raise UserError(self.folder, "name", f"there is no result {name!r}", f"Use one of {', '.join(RESULTS)}.")
        needed = [field for _, field, _, _ in Formatter().parse(RESULTS[name].path) if field]
        if set(wildcards) != set(needed):
            problem = f"{name} needs {', '.join(needed) or 'nothing else'}; found {', '.join(wildcards) or 'nothing'}"
            call = ", ".join([f'"{name}"', *(f"{field}=…" for field in needed)])
            raise UserError(self.folder, "name", problem, f"Use path({call}).")
        folder = self._slides_home if RESULTS[name].is_shared else self.folder
        remedy = self._remedy(needed) if folder.is_dir() else f"Put the results of run {folder.name} beside it, which hold its slides."
        sides = {"<local_px>": self._image.local_px, "<context_px>": self._image.context_px}
        path = RESULTS[name].path.format(**wildcards)
        return require(folder / reduce(lambda text, side: text.replace(side, str(sides[side])), sides, path), remedy)

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
        """Return the local crops of a slide, or its context windows if `side_px` is their side: cells `ids`, and pixels by `read(rows)`."""
        name = "local_patches" if side_px in (None, self._image.local_px) else "context_patches"
        return WindowReader(self.path(name, slide=slide))

    def predictions(self, slide: str, model: str = "gate", seed: int = 0) -> pd.DataFrame:
        """Return the predictions of a model for the cells of a slide.

        Its columns are `predicted`, `gate_weight` and `p_<class>` (raw), and save for training slides `confidence` and `c_<class>`,
        which are calibrated.
        """
        return read_table(self.path("predictions", model=model, seed=seed, slide=slide), PREDICTIONS)

    def warnings(self) -> pd.DataFrame:
        """Return what to know before the results are used: one row per warning, with its slide and result."""
        return read_table(self.path("warnings"), WARNINGS)

    def scores(self) -> pd.DataFrame:
        """Return the scores on the held-out slides, one row per score."""
        return read_table(self.path("heldout_metrics"), METRICS)

    def classifier(self, seed: int = 0, device: str = "cpu") -> "CellClassifier":
        """Load the trained models of a seed; their `classify` takes images."""
        from nuclass_pipeline.evaluate.classifier import load_classifier

        return load_classifier(self.folder / "models", seed, device)


def open_run(folder: Path | str) -> Results:
    """Open the results folder of a run, such as `results/demo`."""
    return Results(folder)
