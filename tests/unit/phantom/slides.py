"""Slides of the phantom for the tests, and measurements on them."""

from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import tifffile
from scipy.sparse import csc_matrix

from nuclass_pipeline.config.synthetic import SyntheticConfig
from nuclass_pipeline.io import read_table
from nuclass_pipeline.phantom import make_slide
from nuclass_pipeline.phantom.classes import LOOKS, Look
from nuclass_pipeline.phantom.layout import Layout, draw_layout
from nuclass_pipeline.phantom.tissue import Cells, populate
from nuclass_pipeline.schemas import TRUTH

CONFIG = SyntheticConfig(cells=600)
PAIRS = (("Fibroblast", "Tumor_Associated_Fibroblast"), ("Endothelial", "Endothelial_TumorAssociated"))
CLASSES = {
    "lung": "B_Cell Endothelial Endothelial_TumorAssociated Epithelial_Airway Epithelial_Alveolar Epithelial_Malignant Fibroblast "
    "Macrophage Mast_Cell Smooth_Muscle T_Cell Tumor_Associated_Fibroblast",
    "pancreas": "Acinar B_Cell Ductal Endocrine Endothelial Endothelial_TumorAssociated Epithelial_Malignant Fibroblast Macrophage "
    "Smooth_Muscle T_Cell Tumor_Associated_Fibroblast",
}
ORGAN_PAIRS = (("Epithelial_Airway", "Acinar"), ("Mast_Cell", "Endocrine"), ("Epithelial_Alveolar", "Ductal"))
PARENCHYMA = [name for pair in ORGAN_PAIRS for name in pair]
NEIGHBORS = (
    ("lung", ("Macrophage", "T_Cell")),
    ("lung", ("Epithelial_Airway", "Mast_Cell")),
    ("pancreas", ("Macrophage", "T_Cell")),
    ("pancreas", ("Acinar", "Endocrine")),
)
DEMO = (("lung", 11), ("lung", 12), ("pancreas", 21), ("pancreas", 22))
KINDS = {name: replace(look, size=1.0) for name, look in LOOKS.items()}
"""Looks without the size of the nucleus, in which the two organs differ a little."""
UNIQUE_KINDS = list(dict.fromkeys(KINDS.values()))


@dataclass(frozen=True)
class Slide:
    organ: str
    folder: Path

    @property
    def outs(self) -> Path:
        return self.folder / "outs"

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(self.outs / f"{name}.parquet")

    @property
    def truth(self) -> pd.DataFrame:
        return read_table(self.folder / "truth.parquet", TRUTH)

    @property
    def matrix(self) -> csc_matrix:
        with h5py.File(self.outs / "cell_feature_matrix.h5") as file:
            group = file["matrix"]
            return csc_matrix((group["data"][:], group["indices"][:], group["indptr"][:]), shape=group["shape"][:])

    @property
    def he(self) -> np.ndarray:
        return tifffile.imread(self.folder / "x_he_image.ome.tif")

    @property
    def alignment(self) -> np.ndarray:
        return np.loadtxt(self.folder / "x_he_imagealignment.csv", delimiter=",")


def make(folder: Path, organ: str, seed: int, config: SyntheticConfig = CONFIG) -> Slide:
    make_slide(
        organ=organ,
        seed=seed,
        config=config,
        manifest=folder / "outs" / "experiment.xenium",
        image=folder / "x_he_image.ome.tif",
        alignment=folder / "x_he_imagealignment.csv",
        truth=folder / "truth.parquet",
    )
    return Slide(organ, folder)


def lay(organ: str, seed: int, cells: int) -> tuple[Layout, Cells]:
    """Return layout and cells as `make_slide` draws them, without images."""
    stream = np.random.default_rng([seed, sorted(CLASSES).index(organ)]).spawn(4)[0]
    layout = draw_layout(stream, organ, cells, SyntheticConfig().cells_per_mm2, SyntheticConfig().aspect)
    return layout, populate(stream, layout, cells)


def redness(slide: Slide, xy_um: np.ndarray) -> np.ndarray:
    """Return the optical density of the red channel, which haematoxylin absorbs strongly and eosin weakly."""
    x, y, _ = np.linalg.inv(slide.alignment) @ np.vstack([xy_um.T / 0.2125, np.ones(len(xy_um))])
    red = slide.he[np.round(y).astype(int), np.round(x).astype(int), 0]
    return -np.log(np.maximum(red, 1) / 245)


def nuclei(slide: Slide, names: list[str]) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Return the centres of the nuclei of some classes, the densities around each, and which of these are outside the nucleolus."""
    points = slide.table("nucleus_boundaries").groupby("cell_id")[["vertex_x", "vertex_y"]].mean()
    points = points[np.isin(slide.truth.set_index("cell_id").loc[points.index, "label"], names)]
    steps = np.stack(np.meshgrid(np.arange(-2, 2.1, 0.25), np.arange(-2, 2.1, 0.25)), -1).reshape(-1, 2)
    density = redness(slide, (points.to_numpy()[:, None] + steps).reshape(-1, 2)).reshape(len(points), -1)
    return points, density, np.hypot(*steps.T) > 1.0


def auc(score: np.ndarray, positive: np.ndarray) -> float:
    """Return the probability that a positive scores higher than a negative."""
    higher = score[positive][:, None] - score[~positive]
    return float((higher > 0).mean() + 0.5 * (higher == 0).mean())


def composition(cells: Cells, chosen: np.ndarray, reach_um: float, kinds: list[Look]) -> np.ndarray:
    """Count the cells of each look in the square around each chosen cell, without the cell itself."""
    offset = np.abs(cells.xy_um[:, None] - cells.xy_um[chosen]).max(2)
    near = (offset < reach_um) & (offset > 0)
    return np.stack([near[[KINDS[label] == kind for label in cells.label]].sum(0) for kind in kinds], 1).astype(float)


def fit_rule(features: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Return the weights of the linear rule that fits best."""
    return np.linalg.lstsq(np.c_[features, np.ones(len(features))], positive.astype(float), rcond=None)[0][:-1]
