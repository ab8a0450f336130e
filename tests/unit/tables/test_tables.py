from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import write_table
from nuclass_pipeline.schemas import COHORT, METRICS
from nuclass_pipeline.tables import cohort, heldout
from nuclass_pipeline.tables.layout import printed
from nuclass_pipeline.tables.summary import summary_lines
from nuclass_pipeline.tables.write import write_table_files

VARIANTS = heldout.SCORES
SCORES = {"local": (0.60, 0.21), "global": (0.55, 0.30), "gate": (0.70, 0.21)}


def _heldout(path: Path, seeds: tuple[int, ...] = (0,), slides: tuple[str, ...] = ("mean", "lung-2", "pooled", "ovary-2")) -> Path:
    rows = [
        {"run": "r", "model": model, "variant": variant, "seed": seed, "slide": slide, "organ": "all", "label": label, "label_set": kind}
        | {"metric": metric, "value": value + 0.02 * seed + wrong, "ci_low": value - 0.1, "ci_high": value + 0.1, "n": 1234}
        for slide in slides
        for seed in seeds
        for model, (score, error) in SCORES.items()
        for metric, value in {"macro_f1": score, "accuracy": score + 0.1, "weighted_f1": score, "ece": error, "brier": error}.items()
        for variant in ("raw", "calibrated")
        # Rows that the table must not show.
        for label, kind, wrong in (
            ("all", "open", 0.5 * (variant != heldout.SCORES[metric])),
            ("all", "closed", 0.3),
            ("T_Cell", "open", 0.4),
        )
    ]
    write_table(pd.DataFrame(rows), path, METRICS)
    return path


def _cohort(path: Path) -> Path:
    counts = {("train", "T_Cell"): 60, ("train", "B_Cell"): 10, ("guard", "T_Cell"): 5, ("train", "Unresolved"): 20}
    whole = {("all", "T_Cell"): 70, ("all", "B_Cell"): 10, ("all", "Unresolved"): 20}
    rows = [
        {"run": "r", "slide": "z-1", "organ": "lung", "role": "train", "part": part, "label": label, "cells": cells}
        for (part, label), cells in {**counts, **whole}.items()
    ]
    rows += [
        {"run": "r", "slide": "a-2", "organ": "ovary", "role": "heldout", "part": part, "label": "T_Cell", "cells": 1500}
        for part in ("heldout", "all")
    ]
    write_table(pd.DataFrame(rows), path, COHORT)
    return path


def test_cohort_counts_and_coverage(tmp_path: Path) -> None:
    table = cohort.build(cohort=_cohort(tmp_path / "c.parquet"))
    assert list(table) == ["slide", "organ", "role", "cells", "labelled", "coverage", "classes", "train", "guard", "heldout"]
    assert table.iloc[0].tolist() == ["z-1", "lung", "train", 100, 80, 0.8, 2, 90, 5, 0]
    assert table.iloc[1].tolist() == ["a-2", "ovary", "heldout", 1500, 1500, 1.0, 1, 0, 0, 1500]


def test_a_slide_without_labels_has_coverage_zero(tmp_path: Path) -> None:
    row = {"run": "r", "slide": "a", "organ": "lung", "role": "train", "part": "all", "label": "Unresolved", "cells": 3}
    write_table(pd.DataFrame([row]), tmp_path / "c.parquet", COHORT)
    assert cohort.build(cohort=tmp_path / "c.parquet")[["labelled", "coverage", "classes"]].iloc[0].tolist() == [0, 0, 0]


def test_heldout_takes_open_scores_and_the_right_variant(tmp_path: Path) -> None:
    table = heldout.build(heldout=_heldout(tmp_path / "h.parquet"))
    assert table["slide"].tolist() == [slide for slide in ("lung-2", "ovary-2", "mean", "pooled") for _ in range(3)]
    assert table["model"].tolist() == ["local", "global", "gate"] * 4
    gate = table.set_index(["slide", "model"]).loc[("mean", "gate")]
    assert gate[["macro_f1", "macro_f1_low", "macro_f1_high", "accuracy", "ece"]].tolist() == pytest.approx([0.7, 0.6, 0.8, 0.8, 0.21])
    assert gate["cells"] == 1234


def test_heldout_averages_seeds(tmp_path: Path) -> None:
    table = heldout.build(heldout=_heldout(tmp_path / "h.parquet", seeds=(0, 1, 2))).set_index(["slide", "model"])
    assert table.loc[("pooled", "local"), "macro_f1"] == pytest.approx(0.62)


def test_files(tmp_path: Path) -> None:
    outputs = [tmp_path / "heldout.tsv", tmp_path / "heldout.tex"]
    write_table_files(name="heldout", inputs={"heldout": _heldout(tmp_path / "h.parquet")}, outputs=outputs)
    assert pd.read_csv(outputs[0], sep="\t").shape == (12, 18)
    tex = outputs[1].read_text()
    rows = [line for line in tex.splitlines() if "&" in line]
    assert rows[0] == r"slide & model & cells & macro-F1 & accuracy & weighted F1 & ECE & Brier \\"
    assert rows[3].startswith(r" & gate & 1,234 & \textbf{0.700} (0.600--0.800) & \textbf{0.800}")
    # Equal ECE as printed: both are bold.
    assert [r"\textbf{0.210}" in row for row in rows[1:4]] == [True, False, True]
    assert tex.startswith(r"\begin{tabular}{llrrrrrr}")


def test_latex_escapes(tmp_path: Path) -> None:
    write_table_files(name="cohort", inputs={"cohort": _cohort(tmp_path / "c.parquet")}, outputs=[tmp_path / "c.tex"])
    tex = (tmp_path / "c.tex").read_text()
    assert "z-1 & lung & train & 100 & 80 & 0.800 & 2 & 90 & 5 & 0" in tex
    assert "1,500" in tex


def test_summary_shows_every_model_on_every_slide(tmp_path: Path) -> None:
    console = Console(width=80, record=True, file=(tmp_path / "out").open("w"))
    console.print(summary_lines(_heldout(tmp_path / "h.parquet")))
    text = console.export_text()
    assert text.count("gate") == 4
    assert "0.700 (0.600–0.800)" in text
    assert "Brier" not in text


@pytest.mark.parametrize(
    ("value", "text"), [((0.12345,), "0.123"), ((float("nan"),), "–"), ((12345,), "12,345"), ((0.5, float("nan"), 0.6), "0.500")]
)
def test_printed(value: tuple[float, ...], text: str) -> None:
    assert printed(*value) == text


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no table 'nonsense'"):
        write_table_files(name="nonsense", inputs={}, outputs=[])
    path = _heldout(tmp_path / "h.parquet")
    frame = pd.read_parquet(path)
    write_table(frame.assign(model="baseline"), path, METRICS)
    with pytest.raises(UserError, match="no score of local, global, gate"):
        heldout.build(heldout=path)
