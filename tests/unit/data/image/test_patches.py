import json

import h5py
import numpy as np
import pandas as pd
import pytest

from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.image.patches import extract_patches, open_patches, write_patches
from nuclass_pipeline.data.image.trio import import_trio
from nuclass_pipeline.data.image.windows import cut_window
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table, write_json, write_table
from nuclass_pipeline.schemas import CELLS, LABELS
from nuclass_pipeline.units import ImagePixel

HEIGHT, WIDTH, CELLS_N = 1500, 2600, 400


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    """A slide whose H&E is mirrored and turned against the Xenium image: folder, pixels, cell positions in the image."""
    folder = tmp_path_factory.mktemp("slide")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    with h5py.File(folder / "image.h5", "w") as file:
        file.create_dataset("level_0", data=pixels, chunks=(256, 256, 3), compression="lzf")
        file.attrs.update(mpp=0.25, fill=255)
    xy_px = rng.uniform((-40, -40), (WIDTH + 40, HEIGHT + 40), (CELLS_N, 2))
    matrix = np.array([[0, 1.3, 90.0], [1.3, 0, -40.0], [0, 0, 1]])
    write_json({"matrix": matrix.tolist(), "xenium_mpp": 0.2125, "residual_um": 0.0}, folder / "registration.json")
    he_px = xy_px * 0.25 / (0.2125 * 1.3)
    xy_um = 0.2125 * (he_px @ matrix[:2, :2].T + matrix[:2, 2])
    ids = [f"aaaa{i:04d}-1" for i in range(CELLS_N)]
    table = pd.DataFrame({"cell_id": ids, "x_um": xy_um[:, 0], "y_um": xy_um[:, 1], "transcripts": 100, "controls": 0})
    write_table(table.assign(cell_area_um2=80.0, nucleus_area_um2=30.0, nucleus_transcripts=30.0), folder / "cells.parquet", CELLS)
    empty = dict.fromkeys(["cluster", "candidate", "lineage", "reason", "source"])
    empty |= dict.fromkeys(["lineage_confidence", "support", "margin", "purity"], np.nan)
    labels = pd.DataFrame({"cell_id": ids, "label": rng.choice(["T_Cell", "Unresolved"], CELLS_N), "confidence": 0.9}).assign(**empty)
    write_table(labels, folder / "labels.parquet", LABELS)
    extract_patches(
        slide="s",
        organ="lung",
        image=folder / "image.h5",
        registration=folder / "registration.json",
        cells=folder / "cells.parquet",
        labels=folder / "labels.parquet",
        config=ImageConfig(),
        local=folder / "patches_224x224.h5",
        context=folder / "patches_1024x1024.h5",
        annotations=folder / "annotations.json",
    )
    return folder, pixels, xy_px


@pytest.mark.parametrize("side", [224, 1024])
def test_virtual_windows_equal_windows_cut_from_the_image(slide, side):
    folder, pixels, xy_px = slide
    with h5py.File(folder / f"patches_{side}x{side}.h5") as file:
        assert file["images"].shape == (CELLS_N, side, side, 3)
        for row in np.random.default_rng(1).choice(CELLS_N, 100, replace=False):
            window, padded = cut_window(pixels, *xy_px[row], side, 255)
            assert (file["images"][int(row)] == window).all()
            assert file["padded"][row] == padded


def test_a_context_window_costs_less_than_500_bytes(slide):
    folder, *_ = slide
    assert (folder / "patches_1024x1024.h5").stat().st_size / CELLS_N <= 500


def test_materialized_patches_have_the_same_pixels(slide, tmp_path):
    folder, _, xy_px = slide
    ids = [f"c{i}" for i in range(20)]
    write_patches(tmp_path / "real.h5", folder / "image.h5", ids, ImagePixel(xy_px[:20]), 224, ImageConfig(materialize=True))
    with h5py.File(tmp_path / "real.h5") as real, h5py.File(folder / "patches_224x224.h5") as virtual:
        assert not real["images"].is_virtual
        assert (real["images"][...] == virtual["images"][:20]).all()


def test_annotations_follow_the_reference_schema(slide):
    folder, _, xy_px = slide
    record = json.loads((folder / "annotations.json").read_text())["aaaa0007-1"]
    assert record["centroid_x"] == pytest.approx(xy_px[7, 0])
    assert record["micron_per_pixel"] == 0.25
    assert record["tissue_type"] == "lung"
    assert record["class_id"] in {"T_Cell", "Unresolved"}


def trio(folder, target, **changes):
    target.mkdir(exist_ok=True)
    names = {"annotations": "annotations.json", "local_source": "patches_224x224.h5", "context_source": "patches_1024x1024.h5"}
    sources = {key: folder / name for key, name in names.items()} | changes
    label_map = target / "labels.tsv"
    label_map.write_text("raw\tclass\treason\nT Cells\tT_Cell\t\nMyeloid\t\tlineage, not a class\n")
    outputs = {name: target / f"{name}.parquet" for name in ("cells", "labels")} | {
        name: target / f"{name}.h5" for name in ("local", "context")
    }
    import_trio(**sources, label_map=label_map, config=ImageConfig(), **outputs)


def test_a_trio_of_our_own_comes_back_unchanged(slide, tmp_path):
    folder, _, xy_px = slide
    trio(folder, tmp_path / "trio")
    cells = read_table(tmp_path / "trio/cells.parquet", CELLS)
    assert cells[["x_um", "y_um"]].to_numpy() == pytest.approx(xy_px * 0.25)
    assert read_table(tmp_path / "trio/labels.parquet", LABELS)["label"].isin(["T_Cell", "Unresolved"]).all()
    with open_patches(tmp_path / "trio/local.h5", 224) as ours, open_patches(folder / "patches_224x224.h5", 224) as theirs:
        assert (ours["images"][5] == theirs["images"][5]).all()


def test_one_dataset_per_cell_with_alpha_in_another_order(slide, tmp_path):
    folder, *_ = slide
    with h5py.File(folder / "patches_224x224.h5") as source, h5py.File(tmp_path / "perkey.h5", "w") as file:
        for row in reversed(range(CELLS_N)):
            pixels = np.dstack([source["images"][row], np.zeros((224, 224), np.uint8)]) if row < 3 else source["images"][row]
            file.create_dataset(source["keys"].asstr()[row], data=pixels, compression="lzf")
    trio(folder, tmp_path / "trio", local_source=tmp_path / "perkey.h5")
    with open_patches(tmp_path / "trio/local.h5", 224) as ours, open_patches(folder / "patches_224x224.h5", 224) as theirs:
        for row in (0, 2, 77):
            assert (ours["images"][row] == theirs["images"][row]).all()


def rewrite(folder, target, change):
    records = json.loads((folder / "annotations.json").read_text())
    write_json(change(records), target)
    return target


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: {}, "no JSON object of cells"),
        (lambda r: {k: {} for k in r}, "class_id: is missing for cell aaaa0000-1"),
        (lambda r: {k: v | {"centroid_x": "left"} for k, v in r.items()}, "centroid_x: is no number"),
        (lambda r: r | {"new-1": r["aaaa0000-1"]}, "no patch for 1 cells, such as new-1"),
    ],
)
def test_a_wrong_annotation_is_one_line(slide, tmp_path, change, message):
    with pytest.raises(UserError) as refusal:
        trio(slide[0], tmp_path / "trio", annotations=rewrite(slide[0], tmp_path / "a.json", change))
    assert message in str(refusal.value)
    assert not list((tmp_path / "trio").glob("*.parquet"))


def test_raw_labels_pass_through_the_label_map(slide, tmp_path):
    change = rewrite(
        slide[0],
        tmp_path / "a.json",
        lambda r: {k: v | {"class_id": raw} for (k, v), raw in zip(r.items(), ["T Cells", "Myeloid", "Odd"] * 200, strict=False)},
    )
    trio(slide[0], tmp_path / "trio", annotations=change)
    labels = read_table(tmp_path / "trio/labels.parquet", LABELS)["label"]
    assert labels[:3].tolist() == ["T_Cell", "Unresolved", "Unresolved"]


@pytest.mark.parametrize(
    ("damage", "message"), [("cut", "not a readable HDF5"), ("keys", "keys: the dataset is missing"), ("side", "not \\(N, 224")]
)
def test_a_wrong_patch_file_is_one_line(slide, tmp_path, damage, message):
    path = tmp_path / "p.h5"
    if damage == "cut":
        path.write_bytes((slide[0] / "patches_224x224.h5").read_bytes()[:3000])
    else:
        with h5py.File(path, "w") as file:
            file["images"] = np.zeros((2, 224, 224, 3) if damage == "keys" else (2, 100, 100, 3), np.uint8)
            if damage == "side":
                file["keys"] = ["a", "b"]
    with pytest.raises(UserError, match=message), open_patches(path, 224):
        pass
