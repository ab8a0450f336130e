"""Training curves: loss and validation macro-F1 of each model, with the epoch whose weights are used."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from nuclass_pipeline.figures.style import FAINT, INK, MODEL_COLORS, RC
from nuclass_pipeline.io import read_parquet

_SIZE_IN = (3.6, 3.4)
_COLUMNS = ["epoch", "train_loss", "val_loss", "val_macro_f1"]


def read_histories(histories: Sequence[Path]) -> pd.DataFrame:
    """Return every validation of every training.

    Parameters
    ----------
    histories
        Files `models/{model}/seed-{seed}/history.parquet`.

    Returns
    -------
    DataFrame
        Columns model, seed, those of the files, `passed` (epochs at the end of the validation, from 1) and `chosen` (its weights are used).
    """
    frames = [_read_history(Path(path)) for path in histories]
    return pd.concat(frames, ignore_index=True)


def _read_history(path: Path) -> pd.DataFrame:
    frame = read_parquet(path, _COLUMNS)
    within = frame.groupby("epoch")["epoch"]
    passed = frame["epoch"] + (within.cumcount() + 1) / within.transform("size")
    # The first of equal scores, because training keeps the weights until a validation is better.
    chosen = frame.index == frame["val_macro_f1"].idxmax() if frame["val_macro_f1"].notna().any() else False
    return frame.assign(model=path.parent.parent.name, seed=path.parent.name.removeprefix("seed-"), passed=passed, chosen=chosen)


def list_choices(histories: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the chosen validation of each model and seed, with the epochs that were run."""
    epochs = histories.groupby(["model", "seed"], sort=False)["passed"].max()
    rows: Any = histories[histories["chosen"]].to_dict("records")
    return [{**row, "epochs": epochs[row["model"], row["seed"]]} for row in rows]


def draw_curves(rows: pd.DataFrame, model: str) -> bytes:
    """Draw the validations of one model as SVG: losses above, macro-F1 below, one line per seed."""
    # With outlines of letters, because the reader's machine need not have the font.
    with mpl.rc_context({**RC, "svg.fonttype": "path", "svg.hashsalt": model}):
        stream = io.BytesIO()
        plot_curves(rows, model).savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def plot_curves(rows: pd.DataFrame, model: str) -> Figure:
    """Return the figure that `draw_curves` saves."""
    figure = Figure(figsize=_SIZE_IN, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    color = MODEL_COLORS.get(model, INK)
    for number, (_, seed) in enumerate(rows.groupby("seed", sort=False)):
        names = ["training", "validation"] if number == 0 else [None, None]
        above.plot(seed["passed"], seed["train_loss"], color=color, linestyle=":", label=names[0])
        above.plot(seed["passed"], seed["val_loss"], color=color, label=names[1])
        below.plot(seed["passed"], seed["val_macro_f1"], color=color)
        chosen = seed[seed["chosen"]]
        below.plot(chosen["passed"], chosen["val_macro_f1"], "o", color=color, markersize=4)
        for axes in (above, below):
            for passed in chosen["passed"]:
                axes.axvline(passed, color=FAINT, zorder=0)
    above.set(ylabel="loss")
    above.set_title(model, loc="left")
    # Above the panel, because curves may pass anywhere inside it.
    above.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)
    below.set(xlabel="epoch", ylabel="validation macro-F1")
    below.xaxis.get_major_locator().set_params(integer=True)
    return figure
