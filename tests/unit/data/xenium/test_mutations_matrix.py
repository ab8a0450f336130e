"""Broken matrices: HDF5, matrix market in a tar or a folder, Zarr in a zip."""

import gzip
import json
import tarfile

import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from scipy import sparse

from tests.unit.data.xenium.test_mutations import (
    COUNTS,
    IDS,
    PLACES,
    assert_bundle_refused,
    in_zip,
    make_bundle,
    mtx_members,
    read,
    spoilt,
    without,
    write_tar,
    zarr_ids,
)

H5, TAR, FOLDER, ZARR = "cell_feature_matrix.h5", "cell_feature_matrix.tar.gz", "cell_feature_matrix", "cell_feature_matrix.zarr.zip"
FILLED = int((COUNTS > 0).sum())


def h5(change):
    """Return the damage that `change` does to the group of the HDF5 file."""

    def damage(bundle):
        with h5py.File(bundle / H5, "r+") as file:
            change(file["matrix"])

    return damage


def drop(name):
    return h5(lambda group: group.pop(name))


def swap(name, change):
    """Replace a dataset by `change`(its values)."""

    def replace(group):
        values = group[name][:]
        del group[name]
        group[name] = change(values)

    return h5(replace)


def empty_group(name):
    def replace(group):
        del group[name]
        group.create_group(name)

    return h5(replace)


def at(index, value, dtype=None):
    """Return a change of one value; by default the type of the values stays."""

    def change(values):
        values = values.astype(dtype or values.dtype)
        values[index] = value
        return values

    return change


def transposed(group):
    csc = sparse.csc_matrix(COUNTS)
    for name in ("data", "indices", "indptr"):
        del group[name]
        group[name] = getattr(csc, name)


def more(values):
    return np.append(values, values[-1:])


CONTROL = int(np.flatnonzero(sparse.csr_matrix(COUNTS).indices >= 5)[0])
"""A value that counts a control, which no column of the cell table reveals."""
DATASETS = ("data", "indices", "indptr", "shape", "barcodes", "features/id", "features/name", "features/feature_type")
H5_CASES = {
    **{f"no {name}": (drop(name), "file", name.split("/")[-1]) for name in DATASETS},
    **{f"{name} is a group": (empty_group(name), "file", "not a readable") for name in DATASETS},
    "no features": (drop("features"), "file", "not a readable"),
    "no group": (lambda bundle: h5py.File(bundle / H5, "w").close(), "file", "matrix"),
    "group is an array": (
        h5(lambda group: (group.parent.move("matrix", "old"), group.parent.update({"matrix": COUNTS}))),
        "file",
        "not a readable",
    ),
    "indptr is short": (swap("indptr", lambda v: v[:-1]), "file", "indptr"),
    "indptr is long": (swap("indptr", more), "file", "index pointer size"),
    "indptr is empty": (swap("indptr", lambda v: v[:0]), "file", "indptr"),
    "indptr starts late": (swap("indptr", at(0, 1)), "file", "index pointer should start with 0"),
    "indptr falls": (swap("indptr", at(3, 10**6)), "file", "indptr"),
    "indptr is negative": (swap("indptr", at(3, -1)), "file", "indptr"),
    "indptr ends early": (swap("indptr", at(-1, FILLED - 1)), "file", f"data has {FILLED} values"),
    "indptr ends late": (swap("indptr", at(-1, FILLED + 1)), "file", f"data has {FILLED} values"),
    "indptr is zero": (swap("indptr", lambda v: v * 0), "file", "indptr ends at [0]"),
    "an index too large": (swap("indices", at(CONTROL, 8)), "file", "indices must be < 8"),
    "an index far too large": (swap("indices", at(CONTROL, 2**40)), "file", "indices must be < 8"),
    "a negative index": (swap("indices", at(CONTROL, -1)), "file", "indices must be >= 0"),
    "an index missing": (swap("indices", lambda v: v[:-1]), "file", "same size"),
    "an index too many": (swap("indices", more), "file", "same size"),
    "a value missing": (swap("data", lambda v: v[:-1]), "file", f"data has {FILLED - 1} values"),
    "a value too many": (swap("data", more), "file", f"data has {FILLED + 1} values"),
    "no value": (swap("data", lambda v: v[:0]), "file", "data has 0 values"),
    "values in two dimensions": (swap("data", lambda v: v[:, None]), "file", "not a readable"),
    "shape turned": (swap("shape", lambda v: v[::-1]), "file", "index pointer size"),
    "shape of one cell more": (swap("shape", at(1, 13)), "file", "index pointer size"),
    "shape of one feature more": (swap("shape", at(0, 9)), "features", "8 found, but the counts have 9"),
    "shape of one feature less": (swap("shape", at(0, 7)), "file", "indices must be < 7"),
    "shape of one number": (swap("shape", lambda v: v[:1]), "file", "unpack"),
    "shape of three numbers": (swap("shape", more), "file", "unpack"),
    "shape is negative": (swap("shape", lambda v: -v), "file", "not a readable"),
    "shape is text": (swap("shape", lambda v: np.array([b"a", b"b"])), "file", "not a readable"),
    "transposed": (h5(transposed), "file", "index pointer size"),
    "a negative count": (swap("data", at(CONTROL, -1)), "counts", f"-1 is not a count; 1 of {FILLED}"),
    "a fraction": (swap("data", at(CONTROL, 0.5, float)), "counts", f"0.5 is not a count; 1 of {FILLED}"),
    "a count is NaN": (swap("data", at(CONTROL, np.nan, float)), "counts", "nan is not a count"),
    "a count is infinite": (swap("data", at(CONTROL, np.inf, float)), "counts", "inf is not a count"),
    "logarithms": (swap("data", np.log1p), "counts", f"{FILLED} of {FILLED} values are not"),
    "counts are text": (swap("data", lambda v: v.astype("S3")), "counts", "are |S3"),
    "one barcode less": (swap("barcodes", lambda v: v[:-1]), "barcodes", "11 found, but the counts have 12"),
    "one barcode more": (swap("barcodes", lambda v: np.append(v, b"z-1")), "barcodes", "13 found, but the counts have 12"),
    "no barcode": (swap("barcodes", lambda v: v[:0]), "barcodes", "0 found, but the counts have 12"),
    "a barcode twice": (swap("barcodes", at(1, IDS[0].encode())), "barcodes", f"{IDS[0]!r} occurs twice"),
    "an empty barcode": (swap("barcodes", at(1, b"")), "barcodes", f"cell {IDS[1]} of the cell table is not in it; 1 of 12"),
    "barcodes are numbers": (swap("barcodes", lambda v: np.arange(12)), "file", "not a readable"),
    "a barcode is not text": (swap("barcodes", at(1, b"\xff\xfe")), "file", "not a readable"),
    "barcodes of another run": (swap("barcodes", lambda v: np.char.add(v, b"0")), "barcodes", "12 of 12 cells are not"),
    "one feature less": (swap("features/name", lambda v: v[:-1]), "file", "same length"),
    "a nameless gene": (swap("features/name", at(2, b"")), "features", "id, name or type is empty in row 3"),
    "a feature without type": (swap("features/feature_type", at(6, b"")), "features", "id, name or type is empty in row 7"),
    "names are numbers": (swap("features/name", lambda v: np.arange(8)), "file", "not a readable"),
    "no gene": (swap("features/feature_type", lambda v: np.array([b"Protein"] * 8)), "features", "no feature of type"),
    "types in small letters": (swap("features/feature_type", np.char.lower), "features", "no feature of type"),
}


@pytest.mark.parametrize("case", H5_CASES)
def test_a_broken_h5(tmp_path, case):
    damage, field, problem = H5_CASES[case]
    bundle = make_bundle(tmp_path / "outs")
    damage(bundle)
    assert_bundle_refused(bundle, H5, field, problem)


def member(name, change):
    """Change the text in a compressed member."""
    return lambda members: members | {name: gzip.compress(change(gzip.decompress(members[name]).decode()).encode())}


def line(number, text):
    """Replace a line; the first is 0."""

    def change(old):
        lines = old.splitlines()
        lines[number] = text
        return "\n".join(lines) + "\n"

    return change


def link(name, target, kind=tarfile.SYMTYPE):
    entry = tarfile.TarInfo(f"cell_feature_matrix/{name}")
    entry.type, entry.linkname = kind, target
    return lambda members: members | {name: entry}


def shorten(name, share):
    return lambda members: members | {name: members[name][: int(share * len(members[name]))]}


def twice(members):
    return {f"old/{name}": content for name, content in members.items()} | members


MTX, FEATURES, BARCODES = mtx_members()
COUNTED = gzip.decompress(mtx_members()[MTX]).decode().splitlines()
HEADER, SIZES, FIRST = 0, next(i for i, text in enumerate(COUNTED) if text[0] != "%"), -FILLED
MTX_CASES = {
    **{f"no {name}": (lambda m, name=name: {k: v for k, v in m.items() if k != name}, "file", name) for name in mtx_members()},
    **{f"{name} is not compressed": (lambda m, name=name: m | {name: gzip.decompress(m[name])}, "file", "gzip") for name in mtx_members()},
    **{f"{name} cut at {share}": (shorten(name, share), "file", "not a readable") for name in mtx_members() for share in PLACES},
    "counts without a byte": (lambda m: m | {MTX: b""}, "file", "not a readable"),
    "counts without header": (member(MTX, lambda text: "\n".join(text.splitlines()[SIZES:])), "file", "not a readable"),
    "another header": (member(MTX, line(HEADER, "%%MatrixMarket vector coordinate integer general")), "file", "not a readable"),
    "complex counts": (member(MTX, line(HEADER, COUNTED[0].replace("integer", "complex"))), "file", "not a readable"),
    "sizes of two numbers": (member(MTX, line(SIZES, "8 12")), "file", "not a readable"),
    "sizes are text": (member(MTX, line(SIZES, "a b c")), "file", "not a readable"),
    "sizes are negative": (member(MTX, line(SIZES, f"-8 12 {FILLED}")), "file", "not a readable"),
    "one entry less": (member(MTX, lambda text: text[: text.rstrip().rindex("\n") + 1]), "file", "not a readable"),
    "one entry more": (member(MTX, lambda text: text + "1 1 1\n"), "file", "not a readable"),
    "header declares fewer entries": (member(MTX, line(SIZES, f"8 12 {FILLED - 1}")), "file", "not a readable"),
    "header declares more entries": (member(MTX, line(SIZES, f"8 12 {FILLED + 1}")), "file", "not a readable"),
    "header declares endless entries": (member(MTX, line(SIZES, f"8 12 {10**15}")), "file", "not a readable"),
    "header declares too many to count": (member(MTX, line(SIZES, f"8 12 {10**40}")), "file", "not a readable"),
    "header declares fewer features": (member(MTX, line(SIZES, f"7 12 {FILLED}")), "file", "not a readable"),
    "header declares more features": (member(MTX, line(SIZES, f"9 12 {FILLED}")), "features", "8 found, but the counts have 9"),
    "header declares more cells": (member(MTX, line(SIZES, f"8 13 {FILLED}")), "barcodes", "12 found, but the counts have 13"),
    "transposed": (member(MTX, line(SIZES, f"12 8 {FILLED}")), "file", "not a readable"),
    "rows from 0": (member(MTX, line(FIRST, "0 1 1")), "file", "not a readable"),
    "columns from 0": (member(MTX, line(FIRST, "1 0 1")), "file", "not a readable"),
    "a row too large": (member(MTX, line(FIRST, "9 1 1")), "file", "not a readable"),
    "an entry without count": (member(MTX, line(FIRST, "1 1")), "file", "not a readable"),
    "an entry is text": (member(MTX, line(FIRST, "1 1 many")), "file", "not a readable"),
    "a negative count": (member(MTX, line(-1, "8 12 -2")), "counts", "-2 is not a count"),
    "a fraction": (member(MTX, lambda text: line(-1, "8 12 0.5")(text.replace("integer", "real"))), "counts", "0.5 is not a count"),
    "a count is NaN": (member(MTX, lambda text: line(-1, "8 12 nan")(text.replace("integer", "real"))), "counts", "nan is not a count"),
    "a count twice": (
        member(MTX, lambda text: line(SIZES, f"8 12 {FILLED + 1}")(text) + text.splitlines()[-1]),
        "counts",
        f"cell {IDS[-1]} has two counts of H",
    ),
    "a count beyond a float": (member(MTX, line(-1, f"8 12 {2**24 + 1}")), "counts", f"{2**24 + 1} is not a count; 1 of"),
    "no count but zeros": (
        member(MTX, lambda text: "\n".join([*text.splitlines()[:FIRST], *(f"{i + 1} 1 0" for i in range(8))]).replace(str(FILLED), "8")),
        "counts",
        "are all zero",
    ),
    "an id twice": (member(FEATURES, line(1, "ENSG0\tB\tGene Expression")), "features", "id 'ENSG0' occurs twice"),
    "a blank line in features": (member(FEATURES, line(0, "")), "features", "is empty in row 1"),
    "features cut": (member(FEATURES, lambda text: "\n".join(text.splitlines()[:-1])), "features", "7 found"),
    "features without type": (member(FEATURES, lambda text: text.replace("\tGene Expression", "")), "features", "empty in row 1"),
    "features by comma": (member(FEATURES, lambda text: text.replace("\t", ",")), "file", "columns"),
    "features are empty": (member(FEATURES, lambda text: ""), "features", "0 found"),
    "no gene": (member(FEATURES, lambda text: text.replace("Gene Expression", "Custom")), "features", "no feature of type"),
    "a nameless gene": (member(FEATURES, line(1, "ENSG1\t\tGene Expression")), "features", "empty in row 2"),
    "one barcode less": (member(BARCODES, lambda text: "\n".join(text.split()[:-1])), "barcodes", "11 found"),
    "one barcode more": (member(BARCODES, lambda text: text + "\nz-1"), "barcodes", "13 found"),
    "barcodes are empty": (member(BARCODES, lambda text: ""), "barcodes", "0 found"),
    "a barcode twice": (member(BARCODES, line(1, IDS[0])), "barcodes", "occurs twice"),
    "barcodes with a header": (member(BARCODES, lambda text: "barcode\n" + text), "barcodes", "13 found"),
    "barcodes are not text": (lambda m: m | {BARCODES: gzip.compress(b"\xff\xfe")}, "file", "not a readable"),
    **{f"{name} is a folder": (link(name, "", tarfile.DIRTYPE), "file", "is not a file") for name in mtx_members()},
    **{f"{name} is a link to a file outside": (link(name, "../../../../etc/passwd"), "file", "not found") for name in mtx_members()},
    **{f"{name} is a link to itself": (link(name, name), "file", "not a readable") for name in mtx_members()},
    **{f"{name} is a hard link to nothing": (link(name, "nowhere", tarfile.LNKTYPE), "file", "not found") for name in mtx_members()},
    "two matrices": (twice, "file", "occurs twice in it"),
}


@pytest.mark.parametrize("case", MTX_CASES)
def test_a_broken_tar(tmp_path, case):
    change, field, problem = MTX_CASES[case]
    bundle = make_bundle(tmp_path / "outs", "cells.parquet")
    write_tar(bundle / TAR, change(mtx_members()))
    assert_bundle_refused(bundle, TAR, field, problem)


@pytest.mark.parametrize("name", mtx_members())
@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: p.unlink() or p.mkdir(), lambda p: p.write_bytes(p.read_bytes()[:-9])])
def test_a_broken_folder(tmp_path, name, damage):
    bundle = make_bundle(tmp_path / "outs", "cells.parquet")
    (bundle / FOLDER).mkdir()
    for file, content in mtx_members().items():
        (bundle / FOLDER / file).write_bytes(content)
    damage(bundle / FOLDER / name)
    assert_bundle_refused(bundle, FOLDER, "file", "not a readable")


def test_names_that_leave_the_tar_write_nothing(tmp_path):
    bundle = make_bundle(tmp_path / "outs", "cells.parquet")
    write_tar(bundle / TAR, {f"../../../{name}": content for name, content in mtx_members().items()})
    read(bundle)
    assert pd.read_parquet(bundle / "out/cells.parquet")["transcripts"].sum() == COUNTS[:, :5].sum()
    assert sorted(path.name for path in tmp_path.rglob("*.gz")) == [TAR]


def attribute(name, change):
    def edit(path, content):
        if not path.endswith("cell_features/zarr.json"):
            return content
        record = json.loads(content)
        change(record["attributes"], name)
        return json.dumps(record).encode()

    return in_zip(edit)


NAMES = ("feature_ids", "feature_keys", "feature_types")
ARRAYS = ("data", "indices", "indptr", "cell_id")
ZARR_CASES = {
    **{f"no {name}": (without(f"cell_features/{name}/"), "file", name) for name in ARRAYS},
    **{f"no chunk of {name}": (without(f"{name}/c"), "file", f"{name} has 0 of 1 chunks") for name in ARRAYS},
    **{f"chunk of {name} spoilt": (spoilt(f"{name}/c"), "file", "not a readable") for name in ARRAYS},
    **{f"metadata of {name} spoilt": (spoilt(f"{name}/zarr.json"), "file", "not a readable") for name in ARRAYS},
    **{f"no attribute {name}": (attribute(name, dict.pop), "file", name) for name in NAMES},
    **{f"{name} is null": (attribute(name, lambda a, n: a.update({n: None})), "file", "not a readable") for name in NAMES[1:]},
    "feature_ids is null": (attribute("feature_ids", lambda a, n: a.update({n: None})), "features", "is empty in row 1"),
    **{f"{name} is short": (attribute(name, lambda a, n: a[n].pop()), "file", "not a readable") for name in NAMES},
    "no group": (without("cell_features"), "file", "cell_features"),
    "a name is null": (attribute("feature_keys", lambda a, n: a[n].__setitem__(2, None)), "features", "empty in row 3"),
    "a name is empty": (attribute("feature_keys", lambda a, n: a[n].__setitem__(2, "")), "features", "empty in row 3"),
    "a type is null": (attribute("feature_types", lambda a, n: a[n].__setitem__(2, None)), "features", "empty in row 3"),
    "no gene": (attribute("feature_types", lambda a, n: a.update({n: ["protein"] * 8})), "features", "no feature of type"),
    "types are numbers": (attribute("feature_types", lambda a, n: a.update({n: [1] * 8})), "file", "not a readable"),
}


def twice_in_a_feature(path):
    """Count the first cell of the first feature twice."""
    csr = sparse.csr_matrix(COUNTS.T)
    csr.indices[1] = csr.indices[0]
    attributes = {"feature_ids": list("abcdefgh"), "feature_keys": list("ABCDEFGH"), "feature_types": ["gene"] * 8}
    with zarr.storage.ZipStore(path, mode="w") as store:
        group = zarr.create_group(store).create_group("cell_features", attributes=attributes)
        for name in ("data", "indices", "indptr"):
            group.create_array(name, data=getattr(csr, name).astype(np.uint32))
        group.create_array("cell_id", data=zarr_ids(IDS))


ZARR_CASES["a count twice"] = (twice_in_a_feature, "counts", f"cell {IDS[0]} has two counts of A")


@pytest.mark.parametrize("case", ZARR_CASES)
def test_a_broken_zarr(tmp_path, case):
    damage, field, problem = ZARR_CASES[case]
    bundle = make_bundle(tmp_path / "outs", "cells.parquet", ZARR)
    damage(bundle / ZARR)
    assert_bundle_refused(bundle, ZARR, field, problem)


def test_no_matrix(tmp_path):
    bundle = make_bundle(tmp_path / "outs", "cells.parquet")
    assert_bundle_refused(bundle, "", H5, "none of")
    (bundle / FOLDER).write_bytes(b"no folder")
    assert_bundle_refused(bundle, FOLDER, "file", "not a readable")
