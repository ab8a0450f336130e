"""The table of variants: the mean of the slides, or the only slide, one row per model and variant."""

from pathlib import Path

import pandas as pd
import pytest

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import write_table
from nuclass_pipeline.schemas import VARIANTS
from nuclass_pipeline.tables import variants
from nuclass_pipeline.tables.layout import lay_out


def row(variant: str, slide: str, model: str, metric: str, value: float, difference: float | None) -> dict[str, object]:
    ends = {"value_low": value - 0.01, "value_high": value + 0.01}
    ends |= {f"difference_{end}": None if difference is None else difference + shift for end, shift in (("low", -0.02), ("high", 0.02))}
    place = {"run": "r", "variant": variant, "slide": slide, "model": model, "metric": metric, "n_cells": 7}
    return {**place, "value": value, "difference": difference, **ends}


def written(path: Path, slides: tuple[str, ...]) -> Path:
    rows = [
        row(variant, slide, model, metric, 0.5 + 0.1 * change, change * 0.1 if variant != "base" else None)
        for variant, change in (("base", 0), ("new", 1))
        for slide in slides
        for model in ("local", "gate")
        for metric in ("macro_f1", "accuracy", "ece")
    ]
    write_table(pd.DataFrame(rows).astype({"difference": float, "difference_low": float, "difference_high": float}), path, VARIANTS)
    return path


@pytest.mark.parametrize("slides", [("a",), ("a", "b", "mean")])
def test_a_row_has_scores_and_changes(tmp_path: Path, slides: tuple[str, ...]) -> None:
    table = variants.build(variants=written(tmp_path / "v.parquet", slides))
    assert list(zip(table["model"], table["variant"], strict=True)) == [
        ("local", "base"),
        ("local", "new"),
        ("gate", "base"),
        ("gate", "new"),
    ]
    text = lay_out(table, lambda cell, best: f"{cell}!" if best else cell, variants.BEST, variants.GROUPED_BY)
    assert text.iloc[0].to_dict() == {
        "model": "local",
        "variant": "base",
        "macro-F1": "0.500 (0.490–0.510)",
        "Δ macro-F1": "–",
        "accuracy": "0.500 (0.490–0.510)",
        "Δ accuracy": "–",
        "ECE": "0.500 (0.490–0.510)!",
        "Δ ECE": "–",
    }
    assert text.loc[1, ["macro-F1", "Δ macro-F1"]].tolist() == ["0.600 (0.590–0.610)!", "0.100 (0.080–0.120)"]


def test_an_empty_table_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "v.parquet", ("a",))
    write_table(pd.read_parquet(tmp_path / "v.parquet").iloc[:0], tmp_path / "v.parquet", VARIANTS)
    with pytest.raises(UserError, match="the table has no score"):
        variants.build(variants=tmp_path / "v.parquet")
