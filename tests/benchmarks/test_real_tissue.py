"""The benchmark on real tissue: scores by hand, folds that share what does not depend on them, and the whole of it on a small set."""

import os
import subprocess

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from benchmarks.real_tissue import __main__ as benchmark
from benchmarks.real_tissue.costs import seconds
from benchmarks.real_tissue.folds import import_folds, share_slides
from benchmarks.real_tissue.probes import MAJORITY, PROBES, SlideCells, histograms, predict_simply
from benchmarks.real_tissue.scores import GATE, GLOBAL, LOCAL, MEAN, ORACLE, Heldout, compare
from benchmarks.real_tissue.tables import EMPTY, cost_rows, score_rows, write_markdown
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.evaluate.bootstrap import draw_weights
from tests.unit.data.points.sets import make_m2c, make_ocelot
from tests.workflow.project import Project

CASES, CELLS = 6, 120


def heldout(seed=0, **right):
    """Cells of two classes, of which each method is right in the given share."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, CELLS)
    predicted = {name: np.where(rng.random(CELLS) < share, truth, 1 - truth) for name, share in right.items()}
    return Heldout(np.repeat([f"case-{n}" for n in range(CASES)], CELLS // CASES), truth, predicted, np.zeros(CELLS, bool))


def two_paths(seed=0):
    return heldout(seed, **{LOCAL: 0.7, GLOBAL: 0.6, GATE: 0.8})


def test_scores_are_those_of_all_cells_together():
    one = two_paths()
    found = compare([one], 2, 500).set_index("method")
    for name, predicted in one.predicted.items():
        assert found.loc[name, "macro_f1"] == pytest.approx(f1_score(one.truth, predicted, average="macro"))
        assert found.loc[name, "accuracy"] == pytest.approx((predicted == one.truth).mean())
    assert found.loc[GATE, "difference"] == pytest.approx(found.loc[GATE, "macro_f1"] - found.loc[LOCAL, "macro_f1"])
    assert np.isnan(found.loc[[LOCAL, ORACLE], "difference"]).all() and np.isnan(found.loc[ORACLE, "macro_f1"])
    either = (one.predicted[LOCAL] == one.truth) | (one.predicted[GLOBAL] == one.truth)
    assert found.loc[ORACLE, "accuracy"] == pytest.approx(either.mean())


def test_intervals_resample_cases_and_are_paired():
    one, times = two_paths(), 500
    found = compare([one], 2, times).set_index("method")
    gains = []
    for weights in draw_weights(CASES, times, [0])[1:]:
        # Each case as often as it was drawn.
        rows = np.concatenate([np.tile(np.flatnonzero(one.case == f"case-{n}"), int(w)) for n, w in enumerate(weights)])
        gate, local = (f1_score(one.truth[rows], one.predicted[name][rows], average="macro") for name in (GATE, LOCAL))
        gains.append(gate - local)
    low, high = np.quantile(gains, [0.025, 0.975])
    assert found.loc[GATE, ["difference_low", "difference_high"]].tolist() == pytest.approx([low, high])


def test_several_divisions_are_averaged_in_each_resample():
    divisions = [two_paths(seed) for seed in range(3)]
    alone = [compare([one], 2, 500).set_index("method") for one in divisions]
    found = compare(divisions, 2, 500).set_index("method")
    for column in ("macro_f1", "accuracy"):
        expected = np.mean([frame.loc[GATE, column] for frame in alone])
        assert found.loc[GATE, column] == pytest.approx(expected)
    widths = [frame.loc[GATE, "macro_f1_high"] - frame.loc[GATE, "macro_f1_low"] for frame in alone]
    assert found.loc[GATE, "macro_f1_high"] - found.loc[GATE, "macro_f1_low"] < max(widths)


def test_a_histogram_counts_each_colour_in_eight_bins():
    crop = np.zeros((1, 4, 4, 3), np.uint8)
    crop[0, :2, :, 0], crop[0, :, :, 1], crop[0, 0, 0, 2] = 255, 32, 31
    found = histograms(crop).reshape(3, 8)
    assert found[0].tolist() == [8, 0, 0, 0, 0, 0, 0, 8]
    assert found[1].tolist() == [0, 16, 0, 0, 0, 0, 0, 0]
    assert found[2].tolist() == [16, 0, 0, 0, 0, 0, 0, 0]


def test_probes_read_only_the_chosen_cells_of_the_training_slides():
    rng = np.random.default_rng(0)
    truth = np.repeat(["a", "b"], 50).astype(object)
    signal = np.where(truth == "a", -2.0, 2.0)[:, None].astype(np.float32)
    noise = rng.normal(size=(100, 1)).astype(np.float32)
    features = {"local": signal + noise, "context": noise, "histogram": noise}
    ids = np.array([str(n) for n in range(100)], dtype=object)
    slide = SlideCells(ids, ids, truth, features)
    wrong = SlideCells(ids, ids, truth[::-1], features)
    everything, nothing, few_b = np.ones(100, bool), np.zeros(100, bool), np.arange(100) < 60
    found = predict_simply([slide, wrong], [everything, nothing], slide)
    assert (found["linear probe, local features"] == truth).mean() > 0.95
    assert (found["linear probe, both"] == truth).mean() > 0.95
    assert (found["linear probe, context features"] == truth).mean() < 0.65
    assert list(found) == [MAJORITY, *PROBES]
    assert set(predict_simply([slide], [few_b], slide)[MAJORITY]) == {"a"}


def test_slides_are_linked_without_what_depends_on_the_fold(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    shared = ("s-1/image.h5", "s-1/features/net.64.0123abcd.h5", "s-2/patches_64x64.h5")
    for name in (*shared, "s-1/split.parquet", "s-1/features/cells.base.seed-0.h5", ".jobs.json"):
        (one / name).parent.mkdir(parents=True, exist_ok=True)
        (one / name).write_text(name)
        os.utime(one / name, (1, 1))
    assert share_slides(one, other) == 3 and share_slides(one, other) == 0
    assert sorted(str(path.relative_to(other)) for path in other.rglob("*") if path.is_file()) == sorted(shared)
    assert {path.stat().st_mtime for path in other.rglob("*.h5")} == {1}
    (one / "s-1/image.h5").unlink()
    (one / "s-1/image.h5").write_text("made again")
    assert share_slides(one, other) == 1 and (other / "s-1/image.h5").read_text() == "made again"


@pytest.fixture
def source(tmp_path):
    return make_m2c(tmp_path / "source")


@pytest.mark.long
def test_an_import_keeps_the_times_of_what_is_as_before(source, tmp_path):
    folds = import_folds(source, "m2c", tmp_path / "work", 3, 0)
    assert [fold.heldout for fold in folds] == ["m2c-1", "m2c-2", "m2c-3"]
    study = tmp_path / "work/study"
    before = {path: path.stat().st_mtime_ns for path in study.rglob("*") if path.is_file()}
    labels = sorted((source / "labels").iterdir())[0]
    # A place and no class, because folds depend on the classes.
    labels.write_text(labels.read_text().replace("10 20 ", "11 20 ", 1))
    import_folds(source, "m2c", tmp_path / "work", 3, 0)
    changed = [path for path, time in before.items() if path.stat().st_mtime_ns != time]
    assert [path.name for path in changed] == ["points.csv"]
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["study"]


@pytest.mark.long
def test_an_import_that_fails_leaves_the_study(source, tmp_path, capfd):
    import_folds(source, "m2c", tmp_path / "work", 3, 0)
    with pytest.raises(SystemExit):
        import_folds(source, "m2c", tmp_path / "work", 5, 0)
    assert "error: nuclass import-points: --folds: 5 folds of 9 cases" in capfd.readouterr().err
    assert len(list((tmp_path / "work/study").glob("fold-*.yaml"))) == 3


@pytest.mark.long
def test_the_second_fold_makes_no_slide_and_no_feature_again(source, tmp_path):
    first, second, _ = import_folds(source, "m2c", tmp_path / "work", 3, 0)
    for slide in first.run.slides:
        names = ("image.h5", "tissue.png", "registration.json", "cells.parquet", "labels.parquet", "annotations.json")
        sides = first.run.config.image.local_px, first.run.config.image.context_px
        crops = [first.file(f"<slides>/{{slide}}/patches_{px}x{px}.h5", slide=slide) for px in sides]
        folder = first.slides / slide
        (folder / "features").mkdir(parents=True)
        # In this order, because times decide.
        for path in (*(folder / name for name in names), *crops, *first.features(slide).values()):
            path.touch()
    share_slides(first.slides, second.slides)
    done = subprocess.run(second.command("2", "--dry-run"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    jobs = set(Project.jobs_in(done.stdout))
    assert {"split_cells", "train_local", "train_global", "train_gate", "predict_slide"} < jobs
    assert not {"import_points", "extract_patches", "embed_windows"} & jobs


def test_a_trained_encoder_is_refused(source, tmp_path):
    fold = import_folds(source, "m2c", tmp_path / "work", 3, 0)[0]
    text = fold.run_file.read_text()
    fold.run_file.write_text(text.replace("freeze: true", "freeze: false", 1).replace("  standardize: true\n", "", 1))
    with pytest.raises(UserError, match=r"local\.backbone\.freeze: it is false, and folds share frozen features\. Set it to true"):
        fold.features("m2c-1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--m2c, --ocelot: no folder is given. Name one or both: make bench-real BRCA=… OCELOT=…"),
        (("--m2c", "absent"), "error: absent: file: it does not exist. Name the folder of m2c."),
        (("--m2c", "ocelot"), "error: ocelot/images: images: no image"),
        (("--ocelot", "m2c"), "error: m2c/pairs.tsv: file: it does not exist"),
        (("--m2c", "m2c", "--draws", "10"), "error: bench-real: --draws: 10 resamples are too few. Use 500 or more."),
    ],
)
def test_a_wrong_folder_is_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    make_m2c(tmp_path / "m2c")
    make_ocelot(tmp_path / "ocelot")
    (tmp_path / "ocelot/images").rename(tmp_path / "ocelot/pictures")
    (tmp_path / "ocelot/images").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["real_tissue", *arguments])
    with pytest.raises(SystemExit):
        benchmark.main()
    printed = capsys.readouterr().err
    assert message.replace("no image", "no file ends with") in printed and printed.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_the_seconds_of_a_job(tmp_path):
    path = tmp_path / "seed-0.tsv"
    path.write_text("s\th:m:s\n12.5\t0:00:12\n")
    assert seconds(path) == 12.5
    with pytest.raises(UserError, match="it is missing"):
        seconds(tmp_path / "seed-1.tsv")


def test_tables_as_text(tmp_path):
    rows = score_rows(compare([two_paths()], 2, 500))
    local, oracle = rows[0], rows[-1]
    assert local[0] == LOCAL and local[3] == EMPTY and oracle[1] == EMPTY
    assert rows[2][3][0] in "+-" and rows[2][3].count("[") == 1
    costs = pd.DataFrame({"quantity": ["a", "b"], "unit": ["s", "%"], "value": [1234.4, 9.96]})
    assert cost_rows(costs) == [("a", "1,234", "s"), ("b", "10.0", "%")]
    write_markdown(tmp_path / "out.md", [("title", [("x", "y")], ("one", "two"))])
    assert (tmp_path / "out.md").read_text().splitlines() == ["**title**", "", "| one | two |", "| --- | --- |", "| x | y |", ""]


@pytest.mark.slow
def test_a_small_set_from_end_to_end(source, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("sys.argv", ["real_tissue", "--m2c", str(source), "--folds", "3", "--work", str(tmp_path / "work"), "--cores", "2"])
    benchmark.main()
    found = pd.read_csv(tmp_path / "work/m2c.tsv", sep="\t")
    assert found["method"].tolist() == [MAJORITY, *PROBES, LOCAL, GLOBAL, MEAN, GATE, ORACLE]
    assert found["accuracy"].between(0, 1).all()
    costs = pd.read_csv(tmp_path / "work/m2c-cost.tsv", sep="\t")
    assert costs["value"].gt(0).all() and costs["value"][0] == 100
    assert [path.name for path in sorted((tmp_path / "work/m2c-seed-0/benchmarks").glob("*/embed_windows"))] == ["embed_windows"]
    assert "81 cells, 9 cases, 3 folds by case" in capfd.readouterr().out
