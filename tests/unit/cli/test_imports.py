"""`nuclass import-points` and `import-holdouts` write studies and slides and say what is next; a mistake is one line."""

import pytest

from nuclass_pipeline.config.slides import read_slides
from tests.unit.data.points.sets import make_m2c
from tests.unit.data.trio.holdouts import HOLDOUTS, write_holdouts
from tests.unit.test_cli import nuclass


def test_a_set_becomes_a_study(tmp_path):
    source = make_m2c(tmp_path / "in")
    emptied = min((source / "labels").iterdir())
    emptied.write_text("")
    done = nuclass("import-points", source, "--layout=m2c", "--folds=2", f"--out={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "warning: the files state no pixel size, so the published 0.5 µm is used; --mpp sets another",
        f"warning: 1 of 9 images have no point, such as {emptied.stem}",
        "2 slides: 9 images of 9 cases, 72 cells",
        f"next: snakemake --cores 2 --configfile {tmp_path / 'out/fold-1.yaml'}",
    ]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("m2c-1", "m2c-2", "slides.tsv", "labels.tsv", "fold-1.yaml", "fold-2.yaml")
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layout=m2c", "--mpp=0"], "error: nuclass import-points: --mpp: 0 µm is not the pixel size of a microscope."),
        (
            ["--layout=m2c", "--folds=9"],
            "error: nuclass import-points: --folds: 9 folds of 9 cases with labels; each fold needs 3. Use 2 to 3.",
        ),
        (["--layout=ocelot"], "pairs.tsv"),
        (["--layout=nucls"], "label_map.yaml"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, arguments, message):
    done = nuclass("import-points", make_m2c(tmp_path / "in"), *arguments, f"--out={tmp_path / 'out'}")
    assert done.returncode == 1 and message in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_holdouts_become_a_sheet(tmp_path):
    done = nuclass("import-holdouts", write_holdouts(tmp_path, HOLDOUTS), f"--out={tmp_path / 'slides.tsv'}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{tmp_path / 'slides.tsv'}: 3 rows added",
        "next: add to study.heldout of the run file: ovary, lung, pancreas",
    ]
    assert list(read_slides(tmp_path / "slides.tsv")) == list(HOLDOUTS)


def test_holdouts_are_added_to_a_sheet_whose_columns_are_others(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    sheet = tmp_path / "slides.tsv"
    sheet.write_text("note\torgan\tkind\tslide\timage\tbundle\nmy own\tlung\txenium\tmine\the.tif\touts\n\n")
    record = {"root": "~/lung", "mode": "xenium_exact", "tissue": " Lung"}
    done = nuclass("import-holdouts", write_holdouts(tmp_path, {"Lung_WSI": record}), f"--out={sheet}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "warning: Lung_WSI is named lung-wsi"
    assert sheet.read_text().splitlines()[1:] == [
        "my own\tlung\txenium\tmine\the.tif\touts",
        f"Lung_WSI of holdouts.json\tlung\ttrio\tlung-wsi\t\t{tmp_path / 'lung'}",
    ]
    again = nuclass("import-holdouts", tmp_path / "holdouts.json", f"--out={sheet}")
    assert again.returncode == 1 and "slides.tsv: slide: 'lung-wsi' has a row already. Remove that row" in again.stderr
    assert len(sheet.read_text().splitlines()) == 3
