"""Patch datasets of both encodings through Snakemake, from relative paths to a trained gate."""

import json
import subprocess

import h5py
import numpy as np
import pytest
import yaml

from nuclass_pipeline.io import WindowReader, read_table, read_warnings
from nuclass_pipeline.schemas import CELLS, LABELS, PREDICTIONS
from tests.unit.data.trio.sets import write_patches

CELLS_EACH = 240
GATE = "results/trios/predictions/base/gate/seed-0/c.parquet"
BRIEF = {"max_epochs": 2, "warmup_steps": 2, "batch_size": 32}
RUN = {
    "run": "trios",
    "slides": "slides.tsv",
    "compute": {"gpu": 0, "threads": 1, "precision": "32-true", "workers": 0, "cache_gb": 1},
    "study": {"train": ["a", "b"], "heldout": ["c"]},
    "image": {"local_um": 8, "context_um": 16},
    "split": {"buffer_um": 8},
    "local": {"backbone": {"name": "tiny-resnet", "image_px": 32}, "optim": BRIEF},
    "global": {"context": {"name": "tiny-resnet", "image_px": 32}, "optim": BRIEF},
    "gate": {"optim": {"max_epochs": 2}},
}


def write_cells(folder, encoding, seed, *, mpp=0.25, sides=(32, 64), **fields):
    """Write cells on a square of 1 mm, whose class is the brightness of their patches."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    ids, kind = [f"{number:03}" for number in range(CELLS_EACH)], rng.integers(2, size=CELLS_EACH)
    for side in sides:
        pixels = rng.integers(0, 120, (CELLS_EACH, side, side, 3)) + 100 * kind[:, None, None, None]
        write_patches(folder / f"patches_{side}x{side}.h5", ids, pixels.astype(np.uint8), encoding)
    places = rng.uniform(0, 1000, (CELLS_EACH, 2)) / mpp
    records = {
        cell: {"cell_type": ("T_Cell", "Macrophage")[number], "centroid_x": x, "centroid_y": y, "micron_per_pixel": mpp, **fields}
        for cell, number, (x, y) in zip(ids, kind.tolist(), places.tolist(), strict=True)
    }
    (folder / "annotations.json").write_text(json.dumps(records))


@pytest.fixture
def study(project, tmp_path_factory):
    """A study beside the project: a folder with its sheet, and its patch datasets, one of them behind a link."""
    folder = tmp_path_factory.mktemp("study")
    write_cells(folder / "sets/a/train", "per-key", 0, tissue_type="Human Lung Cancer FFPE")
    write_cells(folder / "sets/a/test", "merged", 1, tissue_type="Human Lung Cancer FFPE")
    write_cells(folder / "far/c", "per-key", 2, mpp=0.5, sides=(17, 40))
    (folder / "near").symlink_to(folder / "far")
    bundles = {"a": "sets/a/train", "b": "./sets/a/test/", "c": "near/c"}
    (folder / "slides.tsv").write_text(
        "slide\tkind\torgan\tbundle\n" + "".join(f"{name}\ttrio\tlung\t{path}\n" for name, path in bundles.items())
    )
    (folder / "run.yaml").write_text(yaml.safe_dump(RUN))
    return folder


def run(project, study, work, *arguments):
    command = project.command("-s", str(project.folder / "Snakefile"), "--configfile", str(study / "run.yaml"), "--directory", str(work))
    return subprocess.run([*command, *arguments], cwd=study, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_both_encodings_reach_a_trained_gate(project, study, tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    done = run(project, study, work, GATE)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    table = read_table(work / GATE, PREDICTIONS)
    assert table["cell_id"].tolist() == [f"{number:03}" for number in range(CELLS_EACH)]
    slides = work / "results/trios/slides"
    for name in "abc":
        # The class is the brightness, so each cell has its own patches.
        is_bright = read_table(slides / name / "labels.parquet", LABELS)["label"] == "Macrophage"
        for side in (32, 64):
            windows = WindowReader(slides / name / f"patches_{side}x{side}.h5")
            assert ((windows.read(range(CELLS_EACH)).mean(axis=(1, 2, 3)) > 110) == is_bright).all()
    assert read_table(slides / "c/cells.parquet", CELLS)[["x_um", "y_um"]].to_numpy().max() <= 1000
    assert read_warnings(slides / "a/cells.parquet") == ["no record has class_id, so the classes are those of cell_type"]
    assert "the patches have a pixel size of 0.5 µm and show less detail than 0.25 µm, that of the run" in read_warnings(
        slides / "c/cells.parquet"
    )
    with h5py.File(slides / "c/patches_32x32.h5") as file:
        assert {name: file.attrs[name] for name in ("mpp", "side_px", "field_um")} == {"mpp": 0.5, "side_px": 17, "field_um": 8}
    (study / "far").rename(study / "moved")
    again = run(project, study, work, GATE, "--forcerun", "embed_cells")
    assert again.returncode != 0
    assert "c, bundle: " in again.stdout + again.stderr and "does not exist" in again.stdout + again.stderr


@pytest.mark.long
def test_contradictions_end_the_import_in_one_line(project, study, tmp_path_factory):
    sheet = study / "slides.tsv"
    sheet.write_text(sheet.read_text().replace("a\ttrio\tlung", "a\ttrio\tcolon"))
    work = tmp_path_factory.mktemp("work")
    done = run(project, study, work, "results/trios/slides/a/cells.parquet")
    assert done.returncode != 0
    line = "tissue_type: 'human lung cancer ffpe' of 240 cells is of the lung, and the slide sheet says colon. Set the organ of the slide"
    assert line in (work / "logs/trios/import_trio/a.log").read_text()
    assert not (work / "results/trios/slides/a/cells.parquet").exists()
