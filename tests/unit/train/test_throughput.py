"""Speed, memory and scores of a training are written where its log is, and change no result."""

import importlib.util
import logging
import re
from pathlib import Path

import pandas as pd
import pytest
import torch

from nuclass_pipeline.train.loop.throughput import open_curves
from tests.unit.train.test_stages import assert_same_weights, run_local
from tests.unit.train.toys import local_config, local_optim, write_slide

CONFIG = local_config(optim=local_optim(max_epochs=2, batch_size=32), augment=True)


def test_each_start_of_a_training_writes_curves_of_its_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    slides = [write_slide(tmp_path / "slide", 120, 1)]
    silent = run_local(slides, tmp_path / "silent", config=CONFIG)
    for _ in range(2):
        with caplog.at_level(logging.INFO):
            shown = run_local(slides, tmp_path / "shown", config=CONFIG, curves=tmp_path / "logs")
        assert_same_weights(silent, shown)
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["start-1", "start-2"]
    (tmp_path / "logs/start-1").rename(tmp_path / "removed")
    assert open_curves(tmp_path / "logs")[0].log_dir == str(tmp_path / "logs/start-3")
    curves = pd.read_csv(tmp_path / "logs/start-2/metrics.csv")
    history = pd.read_parquet(shown.with_name("history.parquet"))
    assert curves["val_macro_f1"].dropna().tolist() == pytest.approx(history["val_macro_f1"].tolist(), abs=1e-6)
    assert curves["cells_per_s"].dropna().gt(0).sum() == 2
    # Of the whole process: more than torch takes when it is imported, and no more than a machine has.
    assert curves["peak_gb"].dropna().between(0.1, 64).all()
    assert re.search(r"epoch 2: [\d,]+ cells/s, peak_gb \d+\.\d", caplog.text)
    assert not list(tmp_path.glob("silent/*csv"))


def test_cells_per_second_are_those_of_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes on by one second at each look: 58 cells in two batches are 29 a second, whatever the validation takes."""
    clock = iter(range(1000))
    monkeypatch.setattr("nuclass_pipeline.train.loop.throughput.time.perf_counter", lambda: float(next(clock)))
    slides = [write_slide(tmp_path / "slide", 120, 1)]
    run_local(slides, tmp_path / "out", config=CONFIG, curves=tmp_path / "logs")
    curves = pd.read_csv(tmp_path / "logs/start-1/metrics.csv")
    trained = pd.read_parquet(slides[0]["labels"]).merge(pd.read_parquet(slides[0]["split"]), on="cell_id")
    cells = ((trained["subset"] == "train") & (trained["label"] != "Unresolved")).sum()
    assert cells == 58
    assert curves["cells_per_s"].dropna().tolist() == [29, 29]


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="needs the extra tensorboard")
def test_tensorboard_reads_the_curves(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    slides = [write_slide(tmp_path / "slide", 120, 1)]
    run_local(slides, tmp_path / "out", config=CONFIG, curves=tmp_path / "logs")
    found = EventAccumulator(str(tmp_path / "logs/start-1")).Reload()
    history = pd.read_parquet(tmp_path / "out/history.parquet")
    assert [event.value for event in found.Scalars("val_macro_f1")] == pytest.approx(history["val_macro_f1"].tolist())
    assert len(found.Scalars("cells_per_s")) == 2
    assert torch.tensor([event.value for event in found.Scalars("peak_gb")]).min() > 0.1
