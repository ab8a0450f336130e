"""Images with points become one slide in which no window shows two images."""

import h5py
import numpy as np
import pytest
from PIL import Image

from nuclass_pipeline.config.evaluation import SplitConfig
from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.image.patches import extract_patches
from nuclass_pipeline.data.points.mosaic import place_images
from nuclass_pipeline.data.points.stage import import_points
from nuclass_pipeline.data.splits import split_cells
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import CELLS, LABELS, SPLIT

CONFIG = ImageConfig(mpp=0.5, local_um=32, context_um=64)
MAP = "raw\tclass\treason\n1\tTumor\t\n2\tStroma\t\n"


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    images, points = ["image,file,mpp,case"], ["image,x_px,y_px,class"]
    for number in range(6):
        pixels = rng.integers(0, 40, (200, 200, 3)) + (20 * number + 40)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{number}.png")
        images.append(f"{number},{number}.png,0.5,case-{number // 2}")
        points += [f"{number},{x},{y},{1 + x % 2}" for x, y in ((100, 100), (131, 120), (3, 4))]
    (tmp_path / "images.csv").write_text("\n".join(images))
    (tmp_path / "points.csv").write_text("\n".join([*points, "0,-1,5,1", "0,5,5,9"]))
    (tmp_path / "labels.tsv").write_text(MAP)
    return tmp_path


def run(folder, config=CONFIG):
    out = {name: folder / f"{name}.out" for name in ("image", "picture", "registration", "cells", "labels")}
    out["image"] = folder / "image.h5"
    own = ["Tumor", "Stroma"]
    tables = {"images": folder / "images.csv", "points": folder / "points.csv", "label_map": folder / "labels.tsv"}
    import_points(**tables, pictures=[], own=own, config=config, **out)
    return out


def test_images_keep_their_pixels_and_windows_their_image(folder):
    out = run(folder)
    cells, labels = read_table(out["cells"], CELLS), read_table(out["labels"], LABELS)
    assert len(cells) == 19 and (labels["label"] == "Unresolved").sum() == 1
    with h5py.File(out["image"]) as file:
        assert "1 of 20 points lie outside their image" in file.attrs["warnings"]
        assert "1 cells of '9' are Unresolved: not in the label map" in file.attrs["warnings"]
        for number, (top, left, height, width) in enumerate(file["frames"][...]):
            expected = np.asarray(Image.open(folder / f"{number}.png"))
            assert (file["level_0"][top : top + height, left : left + width] == expected).all()
    patches = {name: folder / f"{name}.h5" for name in ("local", "context")}
    extract_patches(
        slide="s", organ="lung", **{name: out[name] for name in ("image", "registration", "cells", "labels")},
        config=CONFIG, **patches, annotations=folder / "a.json",
    )  # fmt: skip
    corner = cells["cell_id"].str.endswith("-3").to_numpy()
    with h5py.File(patches["context"]) as file:
        padded = file["padded"][...]
        assert padded[corner].all() and not padded[~corner][:2].any()
        for row in range(len(cells)):
            own = int(cells["image"][row])
            seen = file["images"][row]
            inked = seen[seen.min(axis=2) < 255]
            assert inked.min() >= 20 * own + 40 and inked.max() < 20 * own + 80
    places = {name: out[name] for name in ("cells", "labels", "registration")}
    split_cells(**places, patches=patches["local"], role="train", config=SplitConfig(), image=CONFIG, split=folder / "s")
    split = read_table(folder / "s", SPLIT)
    assert set(split["subset"]) == {"train", "gate", "val"} and (split.groupby("block")["subset"].nunique() == 1).all()
    assert (split["block"] == cells["case"]).all()


def test_two_cases_are_too_few_for_three_subsets(folder):
    text = (folder / "images.csv").read_text().replace("case-2", "case-1")
    (folder / "images.csv").write_text(text)
    out = run(folder)
    extract_patches(
        slide="s", organ="lung", **{name: out[name] for name in ("image", "registration", "cells", "labels")},
        config=CONFIG, local=folder / "local.h5", context=folder / "context.h5", annotations=folder / "a.json",
    )  # fmt: skip
    files = {"cells": out["cells"], "labels": out["labels"], "patches": folder / "local.h5", "split": folder / "s"}
    with pytest.raises(UserError, match="2 cases have labelled cells, and the 3 subsets need a case each"):
        split_cells(**files, role="train", config=SplitConfig(), image=CONFIG)


@pytest.mark.parametrize(("count", "size"), [(1, (100, 90)), (7, (491, 300)), (30, (1000, 1000))])
def test_neighbours_are_a_window_apart(count, size):
    corners, (height, width) = place_images([size] * count, 512)
    assert (corners % 256 == 0).all() and (corners.max(axis=0) + size <= (height, width)).all()
    for one in range(count):
        apart = np.abs(corners[one] - np.delete(corners, one, axis=0)) >= np.array(size) + 512
        assert apart.any(axis=1).all()
