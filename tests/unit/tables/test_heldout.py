from pathlib import Path

import pandas as pd
import pytest

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import write_table
from nuclass_pipeline.schemas import METRICS
from nuclass_pipeline.tables import heldout
from tests.unit.tables import fakes


def test_heldout_takes_open_scores_and_the_right_variant(tmp_path: Path) -> None:
    table = heldout.build(heldout=fakes.write_heldout(tmp_path / "h.parquet"))
    assert table["slide"].tolist() == [slide for slide in ("lung-2", "ovary-2", "mean", "pooled") for _ in range(3)]
    assert table["model"].tolist() == ["local", "global", "gate"] * 4
    gate = table.set_index(["slide", "model"]).loc[("mean", "gate")]
    assert gate[["macro_f1", "macro_f1_low", "macro_f1_high", "accuracy", "ece"]].tolist() == pytest.approx([0.7, 0.6, 0.8, 0.8, 0.21])
    assert gate["cells"] == 1234
    assert gate["ece_raw"] == pytest.approx(0.26)
    assert table["unseen_cells"].tolist() == [count for count in (83, 2, 85, 85) for _ in range(3)]


def test_heldout_averages_seeds(tmp_path: Path) -> None:
    table = heldout.build(heldout=fakes.write_heldout(tmp_path / "h.parquet", seeds=(0, 1, 2))).set_index(["slide", "model"])
    assert table.loc[("pooled", "local"), "macro_f1"] == pytest.approx(0.62)


def test_metrics_without_the_models_name_the_file(tmp_path: Path) -> None:
    path = fakes.write_heldout(tmp_path / "h.parquet")
    frame = pd.read_parquet(path)
    write_table(frame.assign(model="baseline"), path, METRICS)
    with pytest.raises(UserError, match=r"h\.parquet: model: no score of local, global, gate; found baseline"):
        heldout.build(heldout=path)
