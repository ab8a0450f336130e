"""Time and memory of a large slide, from the bundle to its clusters.

    python benchmarks/scale.py [--cells 500000] [--genes 400] [--transcripts 60000000]

The bundle has the columns and types of release 3.0. Its cells are of 12 planted types on a grid, with negative binomial counts, and it
holds about `transcripts` transcripts, of which 12 % are read badly and 5 % lie in no cell. Each stage runs in a process of its own.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import sparse
from sklearn.metrics import adjusted_rand_score
from stage import measure

from nuclass_pipeline.config.expression import ClusteringConfig
from nuclass_pipeline.data.xenium.matrix import COUNTERS
from nuclass_pipeline.data.xenium.read import read_cells
from nuclass_pipeline.data.xenium.transcripts import count_transcripts
from nuclass_pipeline.expression.clustering import cluster_cells
from nuclass_pipeline.io import write_json
from nuclass_pipeline.phantom.bundle import draw_ids

TYPES, DISPERSION, BAD, OUTSIDE, OVER_NUCLEUS = 12, 2.0, 0.12, 0.05, 0.4
PITCH_UM, SPREAD_UM, GROUP_ROWS, MAX_GB = 12.0, 3.0, 1_000_000, 8.0
SCHEMA = pa.schema(
    [
        ("transcript_id", pa.uint64()),
        ("cell_id", pa.string()),
        ("overlaps_nucleus", pa.uint8()),
        ("feature_name", pa.string()),
        ("x_location", pa.float32()),
        ("y_location", pa.float32()),
        ("z_location", pa.float32()),
        ("qv", pa.float32()),
        ("fov_name", pa.string()),
        ("nucleus_distance", pa.float32()),
        ("codeword_index", pa.int32()),
        ("codeword_category", pa.string()),
        ("is_gene", pa.bool_()),
    ]
)


def write_bundle(folder: Path, cells: int, genes: int, transcripts: int) -> None:
    """Write the bundle and `types.npy`, the planted type of each cell, group of rows by group of rows."""
    rng = np.random.default_rng(0)
    ids, kind = draw_ids(rng, cells), rng.integers(0, TYPES, cells)
    side = int(np.ceil(np.sqrt(cells)))
    xy_um = PITCH_UM * (1 + np.column_stack([np.arange(cells) % side, np.arange(cells) // side]))
    rates = rng.lognormal(0, 1, genes) * np.where(rng.random((TYPES, genes)) < 0.1, 4, 1)
    rates *= transcripts / cells * (1 - BAD) * (1 - OUTSIDE) / rates.sum(axis=1, keepdims=True)
    groups = np.array_split(np.arange(cells), max(1, round(transcripts / GROUP_ROWS)))
    counts, rows = [], 0
    with pq.ParquetWriter(folder / "transcripts.parquet", SCHEMA) as file:
        for number, members in enumerate(groups):
            drawn = rng.poisson(rng.gamma(DISPERSION, rates[kind[members]] / DISPERSION)).astype(np.int32)
            counts.append(sparse.csr_matrix(drawn))
            table = transcript_table(rng, drawn, members, ids, xy_um, rows)
            file.write_table(table, row_group_size=len(table))
            rows += len(table)
            if number % 10 == 9 or number == len(groups) - 1:
                print(f"{number + 1} of {len(groups)} row groups, {rows:,} transcripts", flush=True)
    write_cells(folder, sparse.vstack(counts, format="csr"), ids, xy_um)
    np.save(folder / "types.npy", kind)


def transcript_table(
    rng: np.random.Generator, drawn: np.ndarray, members: np.ndarray, ids: np.ndarray, xy_um: np.ndarray, first: int
) -> pa.Table:
    """Give the transcripts that `drawn` counts in the cells `members`, and among them bad ones and such that lie in no cell."""
    row, gene = np.nonzero(drawn)
    repeats = drawn[row, gene]
    row, gene, good = np.repeat(row, repeats), np.repeat(gene, repeats), int(repeats.sum())
    outside = rng.binomial(round(good / (1 - OUTSIDE)), OUTSIDE)
    bad = round((good + outside) * BAD / (1 - BAD))
    row = np.concatenate([row, np.full(outside, -1), rng.integers(-1, len(members), bad)])
    gene = np.concatenate([gene, rng.integers(0, drawn.shape[1], outside + bad)])
    is_bad = np.arange(len(row)) >= good + outside
    order = rng.permutation(len(row))
    row, gene, is_bad = row[order], gene[order], is_bad[order]
    inside = row >= 0
    place = xy_um[members[row]] + rng.normal(0, SPREAD_UM, (len(row), 2))
    # In float32, 19.99… could become 20.
    qv = np.where(is_bad, rng.uniform(0, 19.9, len(row)), np.minimum(rng.uniform(20, 60, len(row)), 40)).astype(np.float32)
    over = inside & (rng.random(len(row)) < OVER_NUCLEUS)
    columns = {
        "transcript_id": np.arange(first, first + len(row), dtype=np.uint64) + np.uint64(2**48),
        "cell_id": texts(np.append(ids[members], "UNASSIGNED"), np.where(inside, row, len(members))),
        "overlaps_nucleus": over.astype(np.uint8),
        "feature_name": texts(gene_names(drawn.shape[1]), gene),
        "x_location": place[:, 0].astype(np.float32),
        "y_location": place[:, 1].astype(np.float32),
        "z_location": rng.normal(17, 3, len(row)).astype(np.float32),
        "qv": qv,
        "fov_name": texts(np.array(["A1"]), np.zeros(len(row))),
        "nucleus_distance": np.where(over, 0, rng.exponential(2, len(row))).astype(np.float32),
        "codeword_index": gene.astype(np.int32),
        "codeword_category": texts(np.array(["predesigned_gene"]), np.zeros(len(row))),
        "is_gene": np.ones(len(row), dtype=bool),
    }
    return pa.table(columns, schema=SCHEMA)


def texts(values: np.ndarray, positions: np.ndarray) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(positions.astype(np.int32)), pa.array(values.tolist())).cast(pa.string())


def gene_names(genes: int) -> np.ndarray:
    return np.array([f"GENE{gene}" for gene in range(genes)])


def write_cells(folder: Path, counts: sparse.csr_matrix, ids: np.ndarray, xy_um: np.ndarray) -> None:
    cells, genes = counts.shape
    table = pd.DataFrame({"cell_id": ids, "x_centroid": xy_um[:, 0], "y_centroid": xy_um[:, 1]}).assign(**dict.fromkeys(COUNTERS, 0))
    table["transcript_counts"] = table["total_counts"] = np.asarray(counts.sum(axis=1)).ravel().astype(np.int64)
    table.assign(cell_area=80.0, nucleus_area=30.0, nucleus_count=1, segmentation_method="Segmented by nucleus expansion").to_parquet(
        folder / "cells.parquet"
    )
    with h5py.File(folder / "cell_feature_matrix.h5", "w") as file:
        for name, values in {
            "barcodes": ids.astype("S"),
            "data": counts.data,
            "indices": counts.indices.astype(np.int64),
            "indptr": counts.indptr.astype(np.int64),
            "shape": np.array([genes, cells], np.int32),
            "features/id": gene_names(genes).astype("S"),
            "features/name": gene_names(genes).astype("S"),
            "features/feature_type": np.full(genes, b"Gene Expression"),
        }.items():
            file.create_dataset(f"matrix/{name}", data=values, compression="gzip", compression_opts=1)
    manifest = {"pixel_size": 0.2125, "analysis_sw_version": "xenium-3.0.0.0", "num_cells": cells}
    write_json(manifest, folder / "experiment.xenium")


def count(folder: Path) -> None:
    """Run the reader of transcripts alone; it must find what was written."""
    table = pd.read_parquet(folder / "cells.parquet", columns=["cell_id", "transcript_counts"])
    with h5py.File(folder / "cell_feature_matrix.h5") as file:
        genes = file["matrix/features/name"].asstr()[:]
    start = time.perf_counter()
    found = count_transcripts(folder, table["cell_id"], genes)
    seconds = time.perf_counter() - start
    if found is None or (found.counted != table["transcript_counts"]).any():
        raise SystemExit("the transcripts were not counted as they were written")
    shares = f"{found.in_cells / found.rows:.3f} of them in cells, {found.good / found.rows:.3f} with qv ≥ 20"
    print(f"{found.rows:,} transcripts, {shares}: {found.rows / seconds / 1e6:.1f} million a second", flush=True)


def read(folder: Path) -> None:
    read_cells(manifest=folder / "experiment.xenium", cells=folder / "read.parquet", counts=folder / "counts.h5ad")


def cluster(folder: Path) -> None:
    paths = {"counts": folder / "counts.h5ad", "clusters": folder / "clusters.parquet", "stability": folder / "clustering.json"}
    cluster_cells(config=ClusteringConfig(), **paths)


def sizes(folder: Path) -> Iterator[str]:
    for name in ("transcripts.parquet", "cell_feature_matrix.h5", "cells.parquet"):
        yield f"{name} {(folder / name).stat().st_size / 1e6:,.0f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("cells", 500_000), ("genes", 400), ("transcripts", 60_000_000)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measure(write_bundle, folder, options.cells, options.genes, options.transcripts)
        print(f"{options.cells:,} cells, {options.genes} genes: {', '.join(sizes(folder))}", flush=True)
        measure(count, folder)
        total_gb = measure(read, folder).peak_gb + measure(cluster, folder).peak_gb
        verdict = "below" if total_gb < MAX_GB else "NOT below"
        print(f"peaks of read and cluster together {total_gb:.2f} GB, {verdict} {MAX_GB:g} GB")
        found = pd.read_parquet(folder / "clusters.parquet", columns=["cluster"])["cluster"]
        agreement = adjusted_rand_score(np.load(folder / "types.npy")[found.notna()], found.dropna())
    print(f"{found.nunique()} clusters; agreement with the {TYPES} planted types (adjusted Rand index): {agreement:.3f}")


if __name__ == "__main__":
    main()
