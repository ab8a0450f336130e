"""Patch datasets of others, imported as slides."""

import json

import h5py
import numpy as np
import pytest

from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.image.patches import open_patches
from nuclass_pipeline.data.image.trio import import_trio
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table, write_json
from nuclass_pipeline.schemas import CELLS, LABELS

N_CELLS = 400


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


def test_a_trio_of_our_own_comes_back_unchanged(patched_slide, tmp_path):
    folder, _, xy_px = patched_slide
    trio(folder, tmp_path / "trio")
    cells = read_table(tmp_path / "trio/cells.parquet", CELLS)
    assert cells[["x_um", "y_um"]].to_numpy() == pytest.approx(xy_px * 0.25)
    assert read_table(tmp_path / "trio/labels.parquet", LABELS)["label"].isin(["T_Cell", "Unresolved"]).all()
    with open_patches(tmp_path / "trio/local.h5", 224) as ours, open_patches(folder / "patches_224x224.h5", 224) as theirs:
        assert (ours["images"][5] == theirs["images"][5]).all()


def test_one_dataset_per_cell_with_alpha_in_another_order(patched_slide, tmp_path):
    folder, *_ = patched_slide
    with h5py.File(folder / "patches_224x224.h5") as source, h5py.File(tmp_path / "perkey.h5", "w") as file:
        for row in reversed(range(N_CELLS)):
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
        (lambda r: {}, "not a JSON object of cells"),
        (lambda r: {k: {} for k in r}, "class_id: is missing for cell aaaa0000-1"),
        (lambda r: {k: v | {"centroid_x": "left"} for k, v in r.items()}, "centroid_x: 'left' of cell aaaa0000-1 is not a number"),
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
