"""Exported patches hold their own pixels; copies without them are refused, wherever they are opened."""

import json
import shutil

import h5py
import numpy as np
import pytest

from nuclass_pipeline import cli
from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.image.patches import write_patches, write_reasons
from nuclass_pipeline.data.trio import export
from nuclass_pipeline.data.trio.export import export_trio
from nuclass_pipeline.data.trio.stage import import_trio
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import WindowReader, read_reasons, write_json
from nuclass_pipeline.train.cell_task import pixel_size, window_field
from nuclass_pipeline.train.dataset import read_ids
from nuclass_pipeline.train.patch_reader import CacheBudget, PatchReader
from nuclass_pipeline.units import ImagePixel

FILES = ("annotations.json", "patches_224x224.h5", "patches_1024x1024.h5")
IDS = ["a-1", "b-1", "c-1", "d-1"]
REASONS = ["", "no tissue", "", "outside the H&E"]


@pytest.fixture
def slide(tmp_path):
    """A folder as the pipeline writes it, with four cells."""
    folder = tmp_path / "slide"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (400, 500, 3), dtype=np.uint8)
    with h5py.File(folder / "image.h5", "w") as file:
        file.create_dataset("level_0", data=pixels, chunks=(256, 256, 3), compression="lzf")
    xy_px = ImagePixel(np.array([[200.0, 200], [10, 10], [490, 300], [-900, 0]]))
    for side in (224, 1024):
        write_patches(folder / f"patches_{side}x{side}.h5", folder / "image.h5", IDS, xy_px, side, ImageConfig())
    with h5py.File(folder / FILES[1], "a") as file:
        write_reasons(file, np.array(REASONS, dtype=object))
    records = {cell: {"class_id": "T_Cell", "centroid_x": x, "centroid_y": y} for cell, (x, y) in zip(IDS, xy_px.tolist(), strict=True)}
    write_json(records, folder / FILES[0])
    return folder


def enter(folder, target):
    (target / "labels.tsv").parent.mkdir(exist_ok=True)
    (target / "labels.tsv").write_text("raw\tclass\treason\n")
    outputs = {"cells": "cells.parquet", "labels": "labels.parquet", "local": FILES[1], "context": FILES[2]}
    sources = dict(zip(("annotations", "local_source", "context_source"), (folder / name for name in FILES), strict=True))
    written = {name: target / file for name, file in outputs.items()}
    import_trio(organ="lung", **sources, label_map=target / "labels.tsv", config=ImageConfig(), **written)


def test_exported_copies_come_back_pixel_by_pixel_without_the_slide(slide, tmp_path):
    seen = []
    export_trio(slide, tmp_path / "out", lambda rows, name: seen.append((name, len(rows))) or rows)
    assert seen == [(FILES[1], 4), (FILES[2], 4)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES)
    enter(tmp_path / "out", tmp_path / "in")
    pixels = {name: WindowReader(slide / name).read(range(4)) for name in FILES[1:]}
    shutil.rmtree(slide)
    for name, expected in pixels.items():
        assert expected[0].std() > 50
        for folder in ("out", "in"):
            windows = WindowReader(tmp_path / folder / name)
            assert (windows.read(range(4)) == expected).all()
            assert windows.ids.tolist() == IDS
            assert pixel_size([windows.path]) == 0.25
    assert read_reasons(tmp_path / "in" / FILES[1]) == dict(zip(IDS, REASONS, strict=True))


OPENERS = {
    "import": lambda folder: enter(folder, folder.parent / "in"),
    "training": lambda folder: PatchReader(folder / FILES[1], np.arange(2), 32, CacheBudget(0)),
    "cells of the training": lambda folder: read_ids(folder / FILES[1]),
    "pixel size": lambda folder: pixel_size([folder / FILES[1]]),
    "attribution": lambda folder: window_field([folder / FILES[1]], "local_um"),
    "split": lambda folder: read_reasons(folder / FILES[1]),
    "export": lambda folder: export_trio(folder, folder.parent / "out"),
}


@pytest.mark.parametrize("opener", OPENERS)
def test_three_files_copied_without_the_image_are_refused_wherever_they_are_opened(slide, tmp_path, opener):
    (tmp_path / "copy").mkdir()
    for name in FILES:
        shutil.copyfile(slide / name, tmp_path / "copy" / name)
    with pytest.raises(
        UserError, match=r"copy/image.h5, which does not exist\. Copy image.h5 with it, or .* `nuclass export-trio SLIDE OUT`"
    ):
        OPENERS[opener](tmp_path / "copy")
    assert not (tmp_path / "out").exists()
    # The first remedy.
    shutil.copyfile(slide / "image.h5", tmp_path / "copy/image.h5")
    OPENERS[opener](tmp_path / "copy")


def test_an_image_of_another_slide_beside_the_copies_is_refused(slide, tmp_path):
    with h5py.File(slide / "image.h5", "w") as file:
        file["level_0"] = np.zeros((400, 501, 3), np.uint8)
    with pytest.raises(UserError, match=r"shape \(400, 500, 3\), but .*image.h5 has \(400, 501, 3\)"):
        enter(slide, tmp_path / "in")


def test_nothing_is_overwritten_and_nothing_half_written(slide, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / FILES[2]).write_text("mine")
    with pytest.raises(UserError, match=r"patches_1024x1024.h5: file: it exists already"):
        export_trio(slide, tmp_path / "out")
    assert (tmp_path / "out" / FILES[2]).read_text() == "mine"
    monkeypatch.setattr(export.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1e6}))
    with pytest.raises(UserError, match=r"copies take up to 0.0 GB, and 0.0 GB are free"):
        export_trio(slide, tmp_path / "new" / "deep")
    assert not (tmp_path / "new").exists()


def test_the_command_that_the_error_names_works(slide, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["nuclass", "export-trio", str(slide), str(tmp_path / "out")])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    assert "100%" in capsys.readouterr().err
    assert json.loads((tmp_path / "out" / FILES[0]).read_text()) == json.loads((slide / FILES[0]).read_text())
    enter(tmp_path / "out", tmp_path / "in")
