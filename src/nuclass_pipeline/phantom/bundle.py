"""Tables of a Xenium bundle, in the columns and types of XOA 3."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csc_matrix

from nuclass_pipeline.arrays import Booleans, Floats, Integers
from nuclass_pipeline.io import whole_file
from nuclass_pipeline.phantom.layout import Layout
from nuclass_pipeline.phantom.shapes import Shapes, areas_um2, centroids_um, polygons_um
from nuclass_pipeline.phantom.tissue import Cells
from nuclass_pipeline.phantom.transcripts import Transcripts

# Much smaller than a slide, because readers must join several fields of view.
_FOV_UM = 400.0
_SEGMENTATION = "Segmented by nucleus expansion of 5.0µm"
_CONTROLS = (
    ("NegControlProbe_{:05d}", 20, "Negative Control Probe", "negative_control_probe", "control_probe_counts"),
    ("NegControlCodeword_{:04d}", 41, "Negative Control Codeword", "negative_control_codeword", "control_codeword_counts"),
    ("UnassignedCodeword_{:04d}", 60, "Unassigned Codeword", "unassigned_codeword", "unassigned_codeword_counts"),
    ("DeprecatedCodeword_{:04d}", 4, "Deprecated Codeword", "deprecated_codeword", "deprecated_codeword_counts"),
)
_COUNT_COLUMNS = (
    "transcript_counts",
    "control_probe_counts",
    "genomic_control_counts",
    "control_codeword_counts",
    "unassigned_codeword_counts",
    "deprecated_codeword_counts",
)


def read_features(panel: list[dict[str, str]]) -> pd.DataFrame:
    """Return the rows of the matrix: the genes of `panel`, then the control features.

    Parameters
    ----------
    panel
        Rows of `panel.tsv` in feature order.

    Returns
    -------
    DataFrame
        Columns id, name, feature_type, category, counter (the feature's column in the cell table) and codeword.
    """
    rows = [(gene["ensembl_id"], gene["gene"], "Gene Expression", gene["category"], "transcript_counts") for gene in panel]
    for pattern, n, kind, category, counter in _CONTROLS:
        rows += [(pattern.format(number), pattern.format(number), kind, category, counter) for number in range(1, n + 1)]
    features = pd.DataFrame(rows, columns=["id", "name", "feature_type", "category", "counter"])
    # Shuffled, because codewords of real panels do not follow the order of the genes; seeded, because the panel is the same on all slides.
    return features.assign(codeword=np.random.default_rng(0).permutation(len(features)))


def draw_ids(rng: np.random.Generator, n: int) -> NDArray[np.str_]:
    """Draw `n` cell ids in ascending order: 8 hexadecimal digits written as a to p, and the suffix of the data set."""
    # More than needed, because equal draws collapse in `unique`.
    numbers = np.unique(rng.integers(0, 2**32, 2 * n + 10))
    chosen = np.sort(rng.permutation(numbers)[:n])
    letters = str.maketrans("0123456789abcdef", "abcdefghijklmnop")
    return np.array([f"{number:08x}".translate(letters) + "-1" for number in chosen])


@dataclass(frozen=True)
class Bundle:
    """Everything that the files of a bundle are written from.

    Attributes
    ----------
    ids
        (cells,) ids, ascending.
    cells
        Cells in the order of `ids`.
    shapes
        Outlines in the same order.
    nucleated
        (cells,) whether the nucleus was detected.
    transcripts
        All transcripts of the slide.
    features
        Table of `read_features`; its rows are the rows of the matrix.
    layout
        Geometry of the slide.
    """

    ids: NDArray[np.str_]
    cells: Cells
    shapes: Shapes
    nucleated: Booleans
    transcripts: Transcripts
    features: pd.DataFrame
    layout: Layout

    @property
    def matrix(self) -> csc_matrix:
        """Counts, (features, cells), of the transcripts that are assigned and well read."""
        counted = self.transcripts.counted
        entries = (np.ones(int(counted.sum()), dtype=np.int32), (self.transcripts.feature[counted], self.transcripts.cell[counted]))
        matrix = csc_matrix(entries, shape=(len(self.features), len(self.ids)), dtype=np.int32)
        matrix.sum_duplicates()
        return matrix


def cell_table(bundle: Bundle) -> pd.DataFrame:
    """Return the table `cells.parquet`; lengths in µm."""
    matrix, counter = bundle.matrix, bundle.features["counter"].to_numpy()
    center = centroids_um(bundle.cells.xy_um, bundle.shapes.cell_um)
    table = pd.DataFrame({"cell_id": bundle.ids, "x_centroid": center[:, 0], "y_centroid": center[:, 1]})
    for name in _COUNT_COLUMNS:
        table[name] = np.asarray(matrix[np.flatnonzero(counter == name)].sum(0)).ravel().astype(np.int64)
    table["total_counts"] = np.asarray(matrix.sum(0)).ravel().astype(np.int64)
    table["cell_area"] = areas_um2(bundle.shapes.cell_um)
    table["nucleus_area"] = np.where(bundle.nucleated, areas_um2(bundle.shapes.nucleus_um), np.nan)
    table["nucleus_count"] = bundle.nucleated.astype(np.int64)
    table["segmentation_method"] = _SEGMENTATION
    return table


def transcript_table(bundle: Bundle) -> pd.DataFrame:
    """Return the table `transcripts.parquet`, ordered by field of view."""
    column, row = (bundle.transcripts.xyz_um[:, :2] // _FOV_UM).astype(np.int64).T
    fov = row * 1000 + column
    order = np.argsort(fov, kind="stable")
    drawn, fov = bundle.transcripts.take(order), fov[order]
    names = np.array([f"{chr(65 + code // 1000)}{code % 1000 + 1}" for code in np.unique(fov)])
    fov_index = np.unique(fov, return_inverse=True)[1]
    features = bundle.features.iloc[drawn.feature]
    return pd.DataFrame(
        {
            # Bit 48 is set and the field of view counted from bit 32, because ids of XOA 3 bundles are built so.
            "transcript_id": (np.uint64(1) << np.uint64(48))
            + (fov_index.astype(np.uint64) << np.uint64(32))
            + np.arange(len(fov), dtype=np.uint64),
            "cell_id": np.append(bundle.ids, "UNASSIGNED")[drawn.cell],
            "overlaps_nucleus": drawn.in_nucleus.astype(np.uint8),
            "feature_name": features["name"].to_numpy(),
            "x_location": drawn.xyz_um[:, 0],
            "y_location": drawn.xyz_um[:, 1],
            "z_location": drawn.xyz_um[:, 2],
            "qv": drawn.qv,
            "fov_name": names[fov_index],
            "nucleus_distance": drawn.nucleus_distance_um,
            "codeword_index": features["codeword"].to_numpy(dtype=np.int32),
            "codeword_category": features["category"].to_numpy(),
            "is_gene": (features["feature_type"] == "Gene Expression").to_numpy(),
        }
    )


def boundary_table(bundle: Bundle, radii_um: Floats, rows: Integers) -> pd.DataFrame:
    """Return the polygons of `rows`: cell_id, vertex_x, vertex_y (µm) and label_id, which starts at 1."""
    polygons = polygons_um(bundle.cells.xy_um[rows], radii_um[rows]).astype(np.float32)
    n = polygons.shape[1]
    return pd.DataFrame(
        {
            "cell_id": np.repeat(bundle.ids[rows], n),
            "vertex_x": polygons[..., 0].ravel(),
            "vertex_y": polygons[..., 1].ravel(),
            "label_id": np.repeat(rows + 1, n).astype(np.int64),
        }
    )


def write_tables(bundle: Bundle, folder: Path) -> None:
    """Write the four Parquet tables of a bundle: cells, transcripts, and the boundaries of cells and nuclei."""
    every = np.arange(len(bundle.ids))
    tables = {
        "cells": cell_table(bundle),
        "transcripts": transcript_table(bundle),
        "cell_boundaries": boundary_table(bundle, bundle.shapes.cell_um, every),
        "nucleus_boundaries": boundary_table(bundle, bundle.shapes.nucleus_um, every[bundle.nucleated]),
    }
    for name, table in tables.items():
        with whole_file(folder / f"{name}.parquet") as partial:
            table.to_parquet(partial, index=False, compression="zstd")


def write_matrix(bundle: Bundle, path: Path) -> None:
    """Write `cell_feature_matrix.h5`: counts by cell, barcodes and features as byte strings."""
    matrix = bundle.matrix
    arrays: dict[str, Any] = {
        "barcodes": bundle.ids.astype("S10"),
        "data": matrix.data.astype(np.int32),
        "indices": matrix.indices.astype(np.int64),
        "indptr": matrix.indptr.astype(np.int64),
        "shape": np.array(matrix.shape, dtype=np.int32),
        "features/feature_type": bundle.features["feature_type"].to_numpy().astype("S"),
        "features/genome": np.full(len(bundle.features), b"Unknown"),
        "features/id": bundle.features["id"].to_numpy().astype("S"),
        "features/name": bundle.features["name"].to_numpy().astype("S"),
    }
    with whole_file(path) as partial, h5py.File(partial, "w") as file:
        file.attrs["filetype"] = "matrix"
        file.attrs["library_ids"] = np.array([b"0000000_0000000"])
        file.attrs["original_gem_groups"] = np.array([1])
        file.attrs["version"] = np.int64(2)
        for name, values in arrays.items():
            file.create_dataset(f"matrix/{name}", data=values, compression="gzip", track_times=False)
        file.create_dataset("matrix/features/_all_tag_keys", data=np.array([b"genome"]), track_times=False)
