"""Virtual and real windows around cells, and the annotations beside them."""

import json
import logging

import h5py
import numpy as np
import pytest

from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.image.patches import extract_patches, write_patches
from nuclass_pipeline.data.image.windows import cut_window
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import open_patches
from nuclass_pipeline.units import ImagePixel

N_CELLS = 400


@pytest.mark.parametrize("side", [224, 1024])
def test_virtual_windows_equal_windows_cut_from_the_image(patched_slide, side):
    folder, pixels, xy_px = patched_slide
    with h5py.File(folder / f"patches_{side}x{side}.h5") as file:
        assert file["images"].shape == (N_CELLS, side, side, 3)
        for row in np.random.default_rng(1).choice(N_CELLS, 100, replace=False):
            window, padded = cut_window(pixels, *xy_px[row], side, 255)
            assert (file["images"][int(row)] == window).all()
            assert file["padded"][row] == padded


def test_a_context_window_costs_less_than_500_bytes(patched_slide):
    folder, *_ = patched_slide
    assert (folder / "patches_1024x1024.h5").stat().st_size / N_CELLS <= 500


def test_materialized_patches_have_the_same_pixels(patched_slide, tmp_path):
    folder, _, xy_px = patched_slide
    ids = [f"c{i}" for i in range(20)]
    write_patches(tmp_path / "real.h5", folder / "image.h5", ids, ImagePixel(xy_px[:20]), 224, ImageConfig(materialize=True))
    with h5py.File(tmp_path / "real.h5") as real, h5py.File(folder / "patches_224x224.h5") as virtual:
        assert not real["images"].is_virtual
        assert (real["images"][...] == virtual["images"][:20]).all()


@pytest.mark.parametrize(("copied", "half"), [(False, "50.00"), (True, "4.57")])
def test_the_progress_of_both_files_is_one(patched_slide, tmp_path, monkeypatch, caplog, copied, half):
    folder, *_ = patched_slide
    # Without the windows themselves, because copies of all take a minute.
    monkeypatch.setattr("nuclass_pipeline.data.image.patches.cut_square", lambda level, left, top, side_px, fill: np.uint8(0))
    inputs = {"image": folder / "image.h5", **{name: folder / f"{name}.parquet" for name in ("cells", "labels")}}
    outputs = {name: tmp_path / name for name in ("local", "context", "annotations")}
    shared = {"slide": "s", "organ": "lung", "registration": folder / "registration.json", "config": ImageConfig(materialize=copied)}
    with caplog.at_level(logging.INFO):
        extract_patches(**inputs, **outputs, **shared)
    lines = [line for line in caplog.messages if line.startswith("progress")]
    assert lines[0] == "progress 0.00 %: 0 of 400 windows of 224 px"
    assert f"progress {half} %: 400 of 400 windows of 224 px" in lines
    assert f"progress {half} %: 0 of 400 windows of 1024 px" in lines
    assert lines[-1] == "progress 100.00 %: 400 of 400 windows of 1024 px"
    shares = [float(line.split()[1]) for line in lines]
    assert shares == sorted(shares)


def test_annotations_follow_the_reference_schema(patched_slide):
    folder, _, xy_px = patched_slide
    record = json.loads((folder / "annotations.json").read_text())["aaaa0007-1"]
    assert record["centroid_x"] == pytest.approx(xy_px[7, 0])
    assert record["micron_per_pixel"] == 0.25
    assert record["tissue_type"] == "lung"
    assert record["class_id"] in {"T_Cell", "Unresolved"}


@pytest.mark.parametrize(
    ("damage", "message"), [("cut", "not a readable HDF5"), ("keys", "keys: the dataset is missing"), ("side", "not \\(N, 224")]
)
def test_a_wrong_patch_file_is_one_line(patched_slide, tmp_path, damage, message):
    path = tmp_path / "p.h5"
    if damage == "cut":
        path.write_bytes((patched_slide[0] / "patches_224x224.h5").read_bytes()[:3000])
    else:
        with h5py.File(path, "w") as file:
            file["images"] = np.zeros((2, 224, 224, 3) if damage == "keys" else (2, 100, 100, 3), np.uint8)
            if damage == "side":
                file["keys"] = ["a", "b"]
    with pytest.raises(UserError, match=message), open_patches(path, 224):
        pass
