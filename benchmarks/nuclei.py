"""Detection of nuclei on real H&E with expert labels (NuCLS): `python benchmarks/nuclei.py [--weights cpsam_v2]`.

Truth: the points and instance masks of the ten crops of `he_nucls`, at 0.2 µm/px. A prediction is right when its centroid is matched
one to one with an expert's point within 12 px, the usual radius for 40x (2.4 µm here). IoU is the mean over the expert's masks that a
right prediction covers best. The figures of the watershed were tuned on the odd images; the even ones are held out.
The baseline is Otsu's threshold on haematoxylin and connected components. With `--weights`, Cellpose is scored as well.
The watershed is scored on the same images with half to one and a half times the optical density, too: slides differ as much.
"""

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from rich.console import Console
from rich.table import Table
from scipy.ndimage import center_of_mass, label
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from skimage.filters import threshold_otsu

from nuclass_pipeline.data.segmentation.cellpose import cellpose_nuclei
from nuclass_pipeline.data.segmentation.debris import find_debris
from nuclass_pipeline.data.segmentation.watershed import AREA_UM2, haematoxylin_od, watershed_nuclei

DATA = Path(os.environ.get("NUCLASS_TEST_DATA", Path(__file__).parents[2] / "shared/data")) / "he_nucls"
MPP = 0.2
STRENGTHS = (0.5, 0.7, 1.4)
RADIUS_PX = 12


def read_image(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pixels, expert points (N, 2) and expert masks."""
    pixels = np.asarray(Image.open(DATA / f"images/{name}.png").convert("RGB"))
    points = pd.read_csv(DATA / f"labels/{name}.csv", names=["x", "y", "label"])[["x", "y"]].to_numpy(float)
    with np.load(DATA / f"masks/{name}.npz") as file:
        return pixels, points, file["inst_map"].astype(np.int64)


def otsu_components(pixels: np.ndarray) -> np.ndarray:
    """Label the connected components above Otsu's threshold, of the size of a nucleus."""
    density = haematoxylin_od(pixels)
    labels, _ = label(density > threshold_otsu(density))
    area_um2 = np.bincount(labels.ravel()) * MPP**2
    return np.where(((area_um2 >= AREA_UM2[0]) & (area_um2 <= AREA_UM2[1]))[labels], labels, 0)


def otsu_watershed(pixels: np.ndarray) -> np.ndarray:
    """Run the watershed with Otsu's threshold of the image itself."""
    return watershed_nuclei(MPP, threshold_od=float(threshold_otsu(haematoxylin_od(pixels))))(pixels)


def stain(pixels: np.ndarray, strength: float) -> np.ndarray:
    """Multiply the optical density of an image."""
    return np.clip(256 * ((pixels + 1.0) / 256) ** strength - 1, 0, 255).astype(np.uint8)


def stained_watershed(strength: float, pixels: np.ndarray) -> np.ndarray:
    """Run the watershed on an image that is stained more or less strongly."""
    return watershed_nuclei(MPP)(stain(pixels, strength))


def watershed_without_debris(pixels: np.ndarray) -> np.ndarray:
    """Run the watershed as the pipeline does on an H&E alone: what is not a nucleus is dropped."""
    labels = watershed_nuclei(MPP)(pixels)
    return np.where(np.isin(labels, list(find_debris(pixels, labels, MPP))), 0, labels)


def score(labels: np.ndarray, points: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """Count right predictions, predictions and experts' points, and sum the IoU of the right ones that lie on an expert's mask."""
    ids = np.unique(labels[labels > 0])
    centroids = np.array(center_of_mass(labels > 0, labels, ids)).reshape(-1, 2)[:, ::-1] + 0.5
    distance = cdist(centroids, points)
    rows, columns = linear_sum_assignment(np.where(distance <= RADIUS_PX, distance, 1e6))
    right = rows[distance[rows, columns] <= RADIUS_PX]
    overlaps = [best_iou(labels == ids[row], masks) for row in right]
    return {"right": len(right), "found": len(ids), "experts": len(points), "iou": float(np.sum(overlaps)), "matched": len(overlaps)}


def best_iou(mask: np.ndarray, masks: np.ndarray) -> float:
    """Return the intersection over union with the expert's mask that shares most pixels; 0 where there is none."""
    shared = np.bincount(masks[mask])
    shared[0] = 0
    best = shared.argmax()
    return float(shared[best] / (mask | (masks == best)).sum()) if best else 0.0


def rates(counts: pd.DataFrame) -> list[str]:
    total = counts.sum()
    right, found, experts = (float(total[name]) for name in ("right", "found", "experts"))
    values = (right / found if found else 0.0, right / experts, 2 * right / (found + experts), total["iou"] / max(total["matched"], 1))
    return [f"{experts:.0f}", f"{found:.0f}", *(f"{value:.3f}" for value in values)]


def show(method: str, segment: Callable[[np.ndarray], np.ndarray], names: list[str]) -> None:
    table = Table("images", "experts", "found", "precision", "recall", "F1", "IoU", title=method)
    counts = {}
    for name in names:
        pixels, points, masks = read_image(name)
        counts[name] = score(segment(pixels), points, masks)
    frame = pd.DataFrame(counts).T
    tuned = np.array([int(name.rsplit("_", 1)[1]) % 2 == 1 for name in names])
    for name in names:
        table.add_row(name, *rates(frame.loc[[name]]))
    for half, rows in (("odd (tuned on)", frame[tuned]), ("even (held out)", frame[~tuned]), ("all", frame)):
        table.add_row(half, *rates(rows))
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="weights of Cellpose 4")
    parser.add_argument("--gpu", action="store_true")
    options = parser.parse_args()
    names = sorted((path.stem for path in (DATA / "images").glob("*.png")), key=lambda name: int(name.rsplit("_", 1)[1]))
    show("Otsu, connected components", otsu_components, names)
    show("watershed", watershed_nuclei(MPP), names)
    show("watershed, debris dropped", watershed_without_debris, names)
    show("watershed, Otsu's threshold of each image", otsu_watershed, names)
    for strength in STRENGTHS:
        show(f"watershed, stain × {strength:g}", partial(stained_watershed, strength), names)
    if options.weights:
        show("Cellpose", cellpose_nuclei(options.weights, gpu=options.gpu), names)


if __name__ == "__main__":
    main()
