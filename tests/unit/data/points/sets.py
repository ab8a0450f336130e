"""Small data sets in the public layouts, made for tests."""

import json

import numpy as np
from PIL import Image


def picture(path, side=96, value=120, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(-30, 30, (side, side, 3))
    Image.fromarray((value + noise).astype(np.uint8)).save(path)


def make_m2c(folder, cases=9, end=".txt"):
    for number in range(cases):
        name = f"TCGA-A1-{number:04d}-01Z-00-DX1_0_0"
        picture(folder / f"images/{name}.png", seed=number)
        (folder / "labels").mkdir(exist_ok=True)
        rows = [f"{10 + 8 * cell} {20 + 7 * cell} {1 + cell % 3}" for cell in range(9)]
        (folder / f"labels/{name}{end}").write_text("\n".join(rows))
    return folder


def make_ocelot(folder, cases=6):
    """Cell patches of 128 px at 0.2 µm inside tissue patches of 128 px at 0.8 µm, as they are published; places in px of 0.25 µm."""
    pairs = {}
    for number in range(cases):
        name = f"{number:03d}"
        picture(folder / f"images/train/cell/{name}.jpg", 128, seed=number)
        picture(folder / f"images/train/tissue/{name}.jpg", 128, seed=50 + number)
        labels = folder / f"annotations/train/cell/{name}.csv"
        labels.parent.mkdir(parents=True, exist_ok=True)
        # One without a cell, because the data set has such pairs.
        labels.write_text("" if number == 0 else "30,40,1\n64,64,2\n")
        tissue = {"x_start": 1000, "y_start": 2000, "x_end": 1000 + 410, "y_end": 2000 + 410, "resized_mpp_x": 0.8}
        cell = {"x_start": 1000 + 205, "y_start": 2000, "x_end": 1000 + 307, "y_end": 2000 + 102, "resized_mpp_x": 0.2}
        about = {"organ": ("kidney", "bladder")[number % 2], "subset": "train", "slide_name": f"TCGA-A1-{number:04d}-01Z"}
        pairs[name] = {"cell": cell, "tissue": tissue, **about}
    (folder / "metadata.json").write_text(json.dumps({"sample_pairs": pairs}))
    return folder


def make_nucls(folder, images=6):
    for number in range(images):
        picture(folder / f"images/train_{number}.png", 64, seed=number)
        (folder / "labels").mkdir(exist_ok=True)
        (folder / f"labels/train_{number}.csv").write_text("5,12,0\n40,30,1\n")
    (folder / "label_map.yaml").write_text('0: "tumor_any"\n1: "sTIL"\n')
    return folder


def make_table(folder, rows=None, header="image,x_px,y_px,class,case,mpp", images=6):
    for number in range(images):
        picture(folder / f"in/{number}.png", 64, seed=number)
    made = [f"in/{n}.png,{x},{x + 3},{kind},case-{n},0.5" for n in range(images) for x, kind in ((10, "T Cell"), (30, "blue thing"))]
    table = folder / "points.csv"
    table.write_text("\n".join([header, *(rows or made)]))
    return table
