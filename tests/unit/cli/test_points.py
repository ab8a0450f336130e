"""`nuclass import-points` writes a study and says the next command; a mistake is one line."""

import pytest

from tests.unit.data.points.sets import make_m2c
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
