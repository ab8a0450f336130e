"""Writers of small files in the layouts of other programs; all hold the same cells."""

import gzip

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.io
from scipy import sparse

CELLS = ["aaaa-1", "bbbb-1", "cccc-1"]
GENES = ["CD3E", "MS4A1", "EPCAM", "DCN"]
IDS = ["ENSG00000198851", "ENSG00000156738", "ENSG00000119888", "ENSG00000011465"]
COUNTS = np.array([[3, 0, 1, 0], [0, 2, 0, 0], [1, 1, 0, 5]])
PLACES = np.array([[1.0, 2.0], [11.0, 2.0], [1.0, 22.5]])


def annotated(x=COUNTS, **parts):
    parts = {"obs": pd.DataFrame(index=CELLS), "var": pd.DataFrame(index=GENES), "obsm": {"spatial": PLACES}} | parts
    return ad.AnnData(sparse.csr_matrix(np.asarray(x, np.float32)), **parts)


def write_mtx(folder, ending=".gz", features="features.tsv"):
    """A 10x matrix as Cell Ranger 3 (gzipped) or 2 (`genes.tsv`, plain) writes it, with a control."""
    folder.mkdir()
    counts = np.column_stack([COUNTS, [1, 0, 2]])
    rows = [(*pair, "Gene Expression") for pair in zip(IDS, GENES, strict=True)]
    rows += [("NegControlProbe_1", "NegControlProbe_1", "Negative Control Probe")]
    width = 3 if features == "features.tsv" else 2
    texts = {
        features: "".join("\t".join(row[:width]) + "\n" for row in rows),
        "barcodes.tsv": "".join(f"{cell}\n" for cell in CELLS),
    }
    scipy.io.mmwrite(folder / "matrix.mtx", sparse.csc_matrix(counts.T), field="integer")
    if ending:
        (folder / "matrix.mtx.gz").write_bytes(gzip.compress((folder / "matrix.mtx").read_bytes()))
        (folder / "matrix.mtx").unlink()
    for name, text in texts.items():
        (folder / f"{name}{ending}").write_bytes(gzip.compress(text.encode()) if ending else text.encode())
    return folder


def write_h5(path):
    """A 10x matrix as HDF5, as Cell Ranger 3 writes it."""
    stored = sparse.csr_matrix(COUNTS)
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        for name, value in (("data", stored.data), ("indices", stored.indices), ("indptr", stored.indptr), ("shape", COUNTS.T.shape)):
            group[name] = value
        group["barcodes"] = np.array(CELLS, "S")
        texts = {"id": IDS, "name": GENES, "feature_type": ["Gene Expression"] * 4, "genome": ["GRCh38"] * 4}
        for name, values in texts.items():
            group[f"features/{name}"] = np.array(values, "S")
    return path


def write_cells(path, x="x_centroid", y="y_centroid", identity="cell_id", separator=","):
    frame = pd.DataFrame({identity: CELLS, x: PLACES[:, 0], y: PLACES[:, 1], "cell_area": [50.0, 60.0, 70.0]})
    frame[::-1].to_csv(path, index=False, sep=separator)
    return path


COSMX_IDS = ["1_1", "2_1", "1_2"]
"""<cell_ID>_<fov> of the three cells."""


def write_cosmx(folder, ending="", further=()):
    """The flat files of a CosMx run, with a row of transcripts outside of cells, two kinds of controls and a cell without metadata."""
    folder.mkdir()
    head = pd.DataFrame({"fov": [1, 1, 1, 2, 2], "cell_ID": [0, 1, 2, 1, 9]})
    for name in further:
        head[name] = [f"c_1_{fov}_{cell}" for fov, cell in zip(head["fov"], head["cell_ID"], strict=True)]
    counts = pd.DataFrame(np.vstack([[9, 9, 9, 9], COUNTS, [1, 1, 1, 1]]), columns=GENES)
    controls = pd.DataFrame({"NegPrb1": [5, 1, 0, 0, 0], "SystemControl10": [5, 0, 2, 0, 0]})
    head.join(counts).join(controls).to_csv(folder / f"Run1_exprMat_file.csv{ending}", index=False)
    px = PLACES / 0.12028
    cells = {"fov": [2, 1, 1], "cell_ID": [1, 2, 1], "Area": [1000, 2000, 3000], "AspectRatio": [1.0, 1.1, 1.2]}
    places = {"CenterX_global_px": px[::-1, 0], "CenterY_global_px": px[::-1, 1]}
    pd.DataFrame(cells | places).to_csv(folder / f"Run1_metadata_file.csv{ending}", index=False)
    return folder


def write_merscope(folder):
    """The tables of a MERSCOPE run: ids of 19 digits, a blank, and metadata in another order."""
    folder.mkdir()
    ids = [f"123456789012345678{i}" for i in range(3)]
    counts = pd.DataFrame(COUNTS, columns=GENES).assign(**{"Blank-1": [0, 3, 0]})
    counts.insert(0, "cell", ids)
    counts.to_csv(folder / "cell_by_gene.csv", index=False)
    cells = pd.DataFrame({"fov": 0, "volume": 500.5, "center_x": PLACES[:, 0], "center_y": PLACES[:, 1]}, index=ids)
    cells[::-1].to_csv(folder / "cell_metadata.csv")
    return folder, ids
