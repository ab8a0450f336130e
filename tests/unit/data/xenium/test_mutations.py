"""Broken bundles: a small sound one that every mutation starts from, and mutations of its manifest and of the real bundle.

Other tests take the bundle, its writers and `assert_refused` from here.
"""

import gzip
import io
import json
import os
import shutil
import tarfile
import zipfile

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import zarr
from scipy import sparse

from nuclass_pipeline.data.xenium.matrix import KINDS
from nuclass_pipeline.data.xenium.read import read_cells
from nuclass_pipeline.errors import UserError

IDS = [f"aaaaaaa{letter}-1" for letter in "abcdefghijkl"]
FEATURES = pd.DataFrame(
    {"id": [f"ENSG{i}" for i in range(8)], "name": list("ABCDEFGH"), "kind": [*["Gene Expression"] * 5, *list(KINDS.values())[1:4]]}
)
COUNTS = np.random.default_rng(0).poisson(2, (len(IDS), len(FEATURES)))
PLACES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Where a file is cut, as a share of its length."""


def sound_table():
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "cell_id": IDS,
            "x_centroid": rng.uniform(0, 400, len(IDS)),
            "y_centroid": rng.uniform(0, 400, len(IDS)),
            "transcript_counts": COUNTS[:, :5].sum(axis=1),
            "control_probe_counts": COUNTS[:, 5],
            "genomic_control_counts": 0,
            "control_codeword_counts": COUNTS[:, 6],
            "unassigned_codeword_counts": COUNTS[:, 7],
            "deprecated_codeword_counts": 0,
            "cell_area": rng.uniform(20, 90, len(IDS)),
            "nucleus_area": rng.uniform(5, 20, len(IDS)),
            "nucleus_count": 1,
        }
    )


SOUND = sound_table()


def zarr_ids(ids):
    """Return the two numbers of each id, of which the first is its position in `IDS`."""
    return np.array([[IDS.index(name), 1] for name in ids], dtype=np.uint32)


def write_cells_zarr(path, table=SOUND):
    names = [name for name in ("x_centroid", "y_centroid", "cell_area", "nucleus_area", "nucleus_count") if name in table]
    renamed = {"x_centroid": "cell_centroid_x", "y_centroid": "cell_centroid_y"}
    with zarr.storage.ZipStore(path, mode="w") as store:
        group = zarr.create_group(store)
        group.create_array("cell_id", data=zarr_ids(table["cell_id"]))
        attributes = {"column_names": [renamed.get(name, name) for name in names]}
        group.create_array("cell_summary", data=table[names].to_numpy(dtype=np.float64), attributes=attributes)


def write_h5(path, counts=COUNTS, ids=IDS):
    csr = sparse.csr_matrix(counts)
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group.update({"data": csr.data, "indices": csr.indices.astype(np.int64), "indptr": csr.indptr.astype(np.int64)})
        group.update({"shape": counts.shape[::-1], "barcodes": np.array(ids, dtype=bytes)})
        for key, column in (("id", "id"), ("name", "name"), ("feature_type", "kind")):
            group[f"features/{key}"] = FEATURES[column].to_numpy(dtype=bytes)


def mtx_members(counts=COUNTS, ids=IDS):
    stream = io.BytesIO()
    scipy.io.mmwrite(stream, sparse.coo_matrix(counts.T), field="integer")
    texts = {
        "matrix.mtx.gz": stream.getvalue(),
        "features.tsv.gz": FEATURES.to_csv(sep="\t", header=False, index=False).encode(),
        "barcodes.tsv.gz": "\n".join(ids).encode(),
    }
    return {name: gzip.compress(content) for name, content in texts.items()}


def write_tar(path, members):
    """Write `members`, name → bytes or a prepared entry without content."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            entry = tarfile.TarInfo(f"cell_feature_matrix/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def write_matrix_zarr(path, counts=COUNTS, ids=IDS):
    csr = sparse.csr_matrix(counts.T)
    kinds = {kind: name for name, kind in KINDS.items()}
    attributes = {
        "feature_ids": list(FEATURES["id"]),
        "feature_keys": list(FEATURES["name"]),
        "feature_types": list(FEATURES["kind"].map(kinds)),
    }
    with zarr.storage.ZipStore(path, mode="w") as store:
        group = zarr.create_group(store).create_group("cell_features", attributes=attributes)
        for name in ("data", "indices", "indptr"):
            group.create_array(name, data=getattr(csr, name).astype(np.uint32))
        group.create_array("cell_id", data=zarr_ids(ids))


WRITERS = {
    "cells.parquet": lambda path, table=SOUND: table.to_parquet(path),
    "cells.csv.gz": lambda path, table=SOUND: table.to_csv(path, index=False),
    "cells.csv": lambda path, table=SOUND: table.to_csv(path, index=False),
    "cells.zarr.zip": write_cells_zarr,
    "cell_feature_matrix.h5": write_h5,
    "cell_feature_matrix.tar.gz": lambda path, *matrix: write_tar(path, mtx_members(*matrix)),
    "cell_feature_matrix.zarr.zip": write_matrix_zarr,
}
"""File → what writes it: a table of cells, or counts (cells, features) and ids."""


def make_bundle(folder, *files):
    """Write a sound bundle with `files`, else Parquet and HDF5."""
    folder.mkdir()
    (folder / "experiment.xenium").write_text(json.dumps({"pixel_size": 0.2125}))
    for name in files or ("cells.parquet", "cell_feature_matrix.h5"):
        WRITERS[name](folder / name)
    return folder


def read(bundle):
    read_cells(manifest=bundle / "experiment.xenium", cells=bundle / "out/cells.parquet", counts=bundle / "out/counts.h5ad")


def assert_refused(act, path, field, problem, out):
    """Run `act`; it must name `path`, `field` and `problem` in one line, and leave nothing in the folder `out`."""
    with pytest.raises(UserError) as refusal:
        act()
    error = refusal.value
    assert (error.file, error.field) == (str(path), field)
    assert problem in error.problem
    assert error.remedy
    assert str(error).startswith(f"{path}: {field}: ")
    assert len(str(error).splitlines()) == 1
    assert not list(out.glob("**/*"))


def assert_bundle_refused(bundle, file, field, problem):
    assert_refused(lambda: read(bundle), bundle / file, field, problem, bundle / "out")


def in_zip(change):
    """Rewrite the members of a zip by `change`(name, content), which returns None for a member to leave out."""

    def damage(path):
        with zipfile.ZipFile(path) as archive:
            members = {name: change(name, archive.read(name)) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                if content is not None:
                    archive.writestr(name, content)

    return damage


def without(part):
    return in_zip(lambda name, content: None if part in name else content)


def spoilt(part):
    return in_zip(lambda name, content: bytes(len(content)) if part in name else content)


def cut(path, share):
    """Keep a share of a file, or all but its last byte."""
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))] if share < 1 else content[:-1])


@pytest.mark.parametrize("matrix", [name for name in WRITERS if "matrix" in name])
@pytest.mark.parametrize("cells", [name for name in WRITERS if "matrix" not in name])
def test_the_bundle_is_sound_in_every_encoding(tmp_path, cells, matrix):
    bundle = make_bundle(tmp_path / "outs", cells, matrix)
    read(bundle)
    found, counts = pd.read_parquet(bundle / "out/cells.parquet"), anndata.read_h5ad(bundle / "out/counts.h5ad")
    assert found["cell_id"].tolist() == counts.obs_names.tolist() == IDS
    assert (counts.X.toarray() == COUNTS[:, :5]).all()
    assert found["transcripts"].tolist() == COUNTS[:, :5].sum(axis=1).tolist()
    assert found["controls"].tolist() == COUNTS[:, 5:].sum(axis=1).tolist()


def size(text):
    return f'{{"pixel_size": {text}}}'.encode()


MANIFESTS = {
    "empty": (b"", "file", "not valid JSON"),
    "cut": (b'{"pixel_size": 0.21', "file", "not valid JSON"),
    "not JSON": (b"pixel_size = 0.2125", "file", "not valid JSON"),
    "a page of a web server": (b"<html>404</html>", "file", "not valid JSON"),
    "binary": (bytes(range(128, 256)), "file", "not valid JSON"),
    "UTF-16": (size("0.2125").decode().encode("utf-16"), "file", "not valid JSON"),
    "compressed": (gzip.compress(size("0.2125")), "file", "not valid JSON"),
    "nested lists": (b"[" * 200_000, "file", "not valid JSON"),
    "nested objects": (b'{"a":' * 200_000, "file", "not valid JSON"),
    "endless number": (size("1" * 5000), "file", "not valid JSON"),
    "list": (b"[0.2125]", "pixel_size", "found None"),
    "number": (b"0.2125", "pixel_size", "found None"),
    "null": (b"null", "pixel_size", "found None"),
    "no pixel size": (b"{}", "pixel_size", "found None"),
    "other case": (b'{"Pixel_Size": 0.2125}', "pixel_size", "found None"),
    "nested pixel size": (b'{"run": {"pixel_size": 0.2125}}', "pixel_size", "found None"),
    "is null": (size("null"), "pixel_size", "found None"),
    "is zero": (size("0"), "pixel_size", "found 0"),
    "is negative": (size("-0.2125"), "pixel_size", "found -0.2125"),
    "is NaN": (size("NaN"), "pixel_size", "found nan"),
    "is infinite": (size("1e999"), "pixel_size", "found inf"),
    "is text": (size('"0.2125"'), "pixel_size", "found '0.2125'"),
    "is true": (size("true"), "pixel_size", "found True"),
    "is a list": (size("[0.2125]"), "pixel_size", "found [0.2125]"),
    "in nanometres": (size("212.5"), "pixel_size", "found 212.5"),
    "in millimetres": (size("0.0002125"), "pixel_size", "found 0.0002125"),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_broken_manifest(tmp_path, case):
    content, field, problem = MANIFESTS[case]
    bundle = make_bundle(tmp_path / "outs")
    (bundle / "experiment.xenium").write_bytes(content)
    assert_bundle_refused(bundle, "experiment.xenium", field, problem)


@pytest.mark.parametrize(
    ("replace", "problem"), [(lambda path: None, "does not exist"), (lambda path: path.mkdir(), "a folder"), (os.mkfifo, "a pipe")]
)
def test_no_manifest(tmp_path, replace, problem):
    bundle = make_bundle(tmp_path / "outs")
    (bundle / "experiment.xenium").unlink()
    replace(bundle / "experiment.xenium")
    assert_bundle_refused(bundle, "experiment.xenium", "file", problem)


UNREADABLE = {
    **{f"cut at {share}": lambda path, share=share: cut(path, share) for share in PLACES[:-1]},
    "no byte": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a page of a web server": lambda path: path.write_bytes(b"<html>\n<body>404, not found</body>\n</html>"),
    "the last byte missing": lambda path: cut(path, 1),
}


# Harmless, because a tar ends with padding.
HARMLESS = ("cell_feature_matrix.tar.gz", "the last byte missing")
UNREADABLE_FILES = [(name, case) for name in WRITERS for case in UNREADABLE if name != "cells.csv" and (name, case) != HARMLESS]


@pytest.mark.parametrize(("name", "case"), UNREADABLE_FILES)
def test_an_unreadable_file(tmp_path, name, case):
    bundle = make_bundle(tmp_path / "outs", name, "cells.parquet" if "matrix" in name else "cell_feature_matrix.h5")
    UNREADABLE[case](bundle / name)
    assert_bundle_refused(bundle, name, "file", "not a readable")


REAL = ("experiment.xenium", *(name for name in WRITERS if name != "cells.csv"))


@pytest.mark.parametrize("share", PLACES[:-1])
@pytest.mark.parametrize("name", REAL)
def test_a_real_file_that_is_cut(real_data, tmp_path, name, share):
    bundle = tmp_path / "outs"
    bundle.mkdir()
    for file in {"experiment.xenium", name, *(["cells.parquet"] if "matrix" in name else ["cell_feature_matrix.h5"])}:
        shutil.copyfile(real_data / "xoa3.0_mouse_ileum_tiny" / file, bundle / file)
    if name == "experiment.xenium":
        shutil.copyfile(real_data / "xoa3.0_mouse_ileum_tiny/cells.parquet", bundle / "cells.parquet")
    cut(bundle / name, share)
    assert_bundle_refused(bundle, name, "file", "not valid JSON" if name == "experiment.xenium" else "not a readable")
