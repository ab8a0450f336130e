"""Patch datasets of others, imported as slides."""

import json

import h5py
import numpy as np
import pytest

from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.trio.stage import import_trio
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import WindowReader, open_patches, read_reasons, read_table, write_json
from nuclass_pipeline.schemas import CELLS, LABELS

N_CELLS = 400


def trio(folder, target, **changes):
    target.mkdir(exist_ok=True)
    names = {"annotations": "annotations.json", "local_source": "patches_224x224.h5", "context_source": "patches_1024x1024.h5"}
    sources = {key: folder / name for key, name in names.items()} | changes
    label_map = target / "labels.tsv"
    label_map.write_text("raw\tclass\treason\nT Cells\tT_Cell\t\nMyeloid\t\tlineage, not a class\n")
    outputs = {name: target / f"{name}.parquet" for name in ("cells", "labels")} | {
        name: target / f"patches_{side}x{side}.h5" for name, side in (("local", 224), ("context", 1024))
    }
    import_trio(organ="lung", **sources, label_map=label_map, config=ImageConfig(), **outputs)


def test_a_trio_of_our_own_comes_back_unchanged(patched_slide, tmp_path):
    folder, _, xy_px = patched_slide
    trio(folder, tmp_path / "trio")
    cells = read_table(tmp_path / "trio/cells.parquet", CELLS)
    assert cells[["x_um", "y_um"]].to_numpy() == pytest.approx(xy_px * 0.25)
    assert read_table(tmp_path / "trio/labels.parquet", LABELS)["label"].isin(["T_Cell", "Unresolved"]).all()
    ours = WindowReader(tmp_path / "trio/patches_224x224.h5")
    with open_patches(folder / "patches_224x224.h5", 224) as theirs:
        assert (ours.read([5])[0] == theirs["images"][5]).all()


def test_one_dataset_per_cell_with_alpha_in_another_order(patched_slide, tmp_path):
    folder, *_ = patched_slide
    (tmp_path / "perkey").mkdir()
    path = tmp_path / "perkey/patches_224x224.h5"
    with h5py.File(folder / "patches_224x224.h5") as source, h5py.File(path, "w") as file:
        for row in reversed(range(N_CELLS)):
            pixels = np.dstack([source["images"][row], np.zeros((224, 224), np.uint8)]) if row < 3 else source["images"][row]
            file.create_dataset(source["keys"].asstr()[row], data=pixels, compression="lzf")
    trio(folder, tmp_path / "trio", local_source=path)
    ours = WindowReader(tmp_path / "trio/patches_224x224.h5")
    with open_patches(folder / "patches_224x224.h5", 224) as theirs:
        for row in (0, 2, 77):
            assert (ours.read([row])[0] == theirs["images"][row]).all()


def rewrite(folder, target, change):
    records = json.loads((folder / "annotations.json").read_text())
    write_json(change(records), target)
    return target


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: {}, "not a JSON object of cells"),
        (lambda r: {k: {} for k in r}, "class_id: is missing for cell aaaa0000-1"),
        (
            lambda r: {k: v | {"centroid_x": "left"} for k, v in r.items()},
            "centroid_x: 'left' of cell aaaa0000-1 is not a number of pixels",
        ),
        (lambda r: r | {"new-1": r["aaaa0000-1"]}, "no patch for 1 cells, such as new-1"),
    ],
)
def test_a_wrong_annotation_is_one_line(patched_slide, tmp_path, change, message):
    with pytest.raises(UserError) as refusal:
        trio(patched_slide[0], tmp_path / "trio", annotations=rewrite(patched_slide[0], tmp_path / "a.json", change))
    assert message in str(refusal.value)
    assert not list((tmp_path / "trio").glob("*.parquet"))


def test_raw_labels_pass_through_the_label_map(patched_slide, tmp_path):
    change = rewrite(
        patched_slide[0],
        tmp_path / "a.json",
        lambda r: {k: v | {"class_id": raw} for (k, v), raw in zip(r.items(), ["T Cells", "Myeloid", "Odd"] * 200, strict=False)},
    )
    trio(patched_slide[0], tmp_path / "trio", annotations=change)
    labels = read_table(tmp_path / "trio/labels.parquet", LABELS)["label"]
    assert labels[:3].tolist() == ["T_Cell", "Unresolved", "Unresolved"]


def small(folder, keys):
    """Write a patch dataset of three cells by other programs, whose second local patch is white."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    write_json({str(i): {"class_id": "T_Cell", "centroid_x": 10, "centroid_y": "20.5"} for i in range(3)}, folder / "annotations.json")
    for size in (224, 1024):
        with h5py.File(folder / f"patches_{size}x{size}.h5", "w") as file:
            file.create_dataset("keys", **keys)
            images = rng.integers(0, 255, (3, size, size, 3), dtype=np.uint8)
            images[1] = 255
            file.create_dataset("images", data=images, compression="lzf", chunks=(1, size, size, 3))
    return folder


TEXT = h5py.string_dtype()


@pytest.mark.parametrize(
    "keys",
    [
        {"data": ["0", "1", "2"], "dtype": TEXT},
        {"data": np.array([["0"], ["1"], ["2"]], dtype=object), "dtype": TEXT},
        {"data": np.array(["0", "1", "2"], "S1")},
        {"data": np.array([["0"], ["1"], ["2"]], "S5")},
        {"data": [0, 1, 2]},
        {"data": np.array([[0], [1], [2]], np.uint16)},
    ],
    ids=["text", "text (N, 1)", "bytes", "bytes (N, 1)", "integers", "integers (N, 1)"],
)
def test_ids_of_every_kind_are_read_and_blank_patches_have_a_reason(tmp_path, keys):
    folder = small(tmp_path / "theirs", keys)
    trio(folder, tmp_path / "trio")
    assert read_reasons(tmp_path / "trio/patches_224x224.h5") == {"0": "", "1": "no tissue", "2": ""}
    ours = WindowReader(tmp_path / "trio/patches_224x224.h5")
    with h5py.File(folder / "patches_224x224.h5") as theirs:
        assert (ours.read([2, 0, 1]) == theirs["images"][...][[2, 0, 1]]).all()
    assert ours.ids.tolist() == ["0", "1", "2"]
    assert read_table(tmp_path / "trio/cells.parquet", CELLS)["y_um"].tolist() == [5.125] * 3


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"data": ["0", "1", "1"], "dtype": TEXT}, "keys: '1' occurs twice. Keep one patch of each cell."),
        ({"data": [0.0, 1.0, 2.0]}, "keys: are float64, neither text nor whole numbers"),
        ({"data": [True, False, True]}, "keys: are bool, neither"),
        ({"shape": (3,), "dtype": h5py.vlen_dtype(np.int32)}, "keys: are object, neither"),
        ({"shape": (3,), "dtype": [("id", "S1")]}, "keys: are [('id', 'S1')], neither"),
        ({"data": np.array([["0", "1", "2"]], "S1")}, "keys: has shape (1, 3), not (N,)"),
        ({"data": "012"}, "keys: has shape (), not (N,)"),
        ({"data": h5py.Empty("S1")}, "keys: has shape None, not (N,)"),
        ({"data": np.array([b"\xe9", b"1", b"2"], "S1")}, "not a readable patch file ('utf-8' codec can't decode"),
        ({"data": ["0", "1"], "dtype": TEXT}, "images: holds 3 patches, and keys names 2 cells"),
        ({"shape": (0,), "dtype": TEXT}, "images: holds 3 patches, and keys names 0 cells"),
    ],
)
def test_other_ids_are_one_line(tmp_path, keys, message):
    with pytest.raises(UserError) as refusal:
        trio(small(tmp_path / "theirs", keys), tmp_path / "trio")
    assert message in str(refusal.value)
    assert not list((tmp_path / "trio").glob("*.h5"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300, True, None, [3], "", "left"])
def test_a_centroid_that_is_no_place_is_one_line(tmp_path, value):
    folder = small(tmp_path / "theirs", {"data": [0, 1, 2]})
    record = {"class_id": "T_Cell", "centroid_x": 1, "centroid_y": value}
    (folder / "annotations.json").write_text(json.dumps({"0": record}))
    with pytest.raises(UserError, match=r"centroid_y: .* of cell 0 is not a number of pixels"):
        trio(folder, tmp_path / "trio")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("images", np.zeros((3, 224, 224, 3), np.float32), "images: is float32, not uint8. Write whole numbers from 0 to 255 as uint8."),
        ("images", np.zeros((3, 3, 224, 224), np.uint8), "images: its patches have shape (3, 224, 224), not (S, S, 3)"),
        ("images", np.zeros((3, 224, 225), np.uint8), "images: its patches have shape (224, 225), not (S, S, 3)"),
        ("images", h5py.Empty(np.uint8), "images: the dataset is missing"),
        ("images", None, "images: the dataset is missing"),
        ("keys", None, "keys: has shape None"),
        ("reason", [1, 2, 3], "not a readable patch file"),
        ("reason", ["", ""], "not a readable patch file"),
        ("reason", None, "not a readable patch file"),
    ],
)
def test_datasets_of_another_kind_are_one_line(tmp_path, name, data, message):
    folder = small(tmp_path / "theirs", {"data": [0, 1, 2]})
    with h5py.File(folder / "patches_224x224.h5", "a") as file:
        if name in file:
            del file[name]
        file.create_group(name) if data is None else file.create_dataset(name, data=data)
    with pytest.raises(UserError) as refusal:
        trio(folder, tmp_path / "trio")
    assert message in str(refusal.value)


def test_one_cell_is_read_and_a_percent_sign_in_a_path_too(tmp_path):
    folder = small(tmp_path / "100%b", {"data": [0, 1, 2]})
    records = json.loads((folder / "annotations.json").read_text())
    write_json({"2": records["2"]}, folder / "annotations.json")
    trio(folder, tmp_path / "trio")
    with h5py.File(folder / "patches_224x224.h5") as theirs:
        assert (WindowReader(tmp_path / "trio/patches_224x224.h5").read([0])[0] == theirs["images"][2]).all()


def test_windows_into_a_file_elsewhere_are_not_imported(tmp_path):
    theirs = small(tmp_path / "theirs", {"data": [0, 1, 2]})
    folder = small(tmp_path / "linked", {"data": [0, 1, 2]})
    layout = h5py.VirtualLayout((3, 224, 224, 3), np.uint8)
    layout[:] = h5py.VirtualSource(str(theirs / "patches_224x224.h5"), "images", (3, 224, 224, 3), np.uint8)
    with h5py.File(folder / "patches_224x224.h5", "w", libver="v110") as file:
        file.create_virtual_dataset("images", layout)
        file["keys"] = [0, 1, 2]
    with pytest.raises(UserError, match=r"linked/patches_224x224.h5: images: its windows point into .*not into the image.h5 beside it"):
        trio(folder, tmp_path / "trio")
