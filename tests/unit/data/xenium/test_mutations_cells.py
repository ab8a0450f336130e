"""Broken cell tables: what is wrong in the table, in each of its encodings, and what is wrong with the file."""

import gzip
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

from nuclass_pipeline.data.xenium.cells import MAY_BE_EMPTY, NUMBERS, REQUIRED_CELL_COLUMNS
from nuclass_pipeline.data.xenium.matrix import COUNTERS
from tests.unit.data.xenium.test_mutations import IDS, assert_bundle_refused, in_zip, make_bundle, sound_table, spoilt, without

ROW = 4
FOREIGN = "of the cell table is not in it"


def put(name, value):
    """Return a change of one value of a column."""

    def change(frame):
        column = frame[name].astype(str if isinstance(value, str) else object if name == "cell_id" else float)
        column.iloc[ROW] = value
        return frame.assign(**{name: column})

    return change


def call(name, other):
    return lambda frame: frame.rename(columns={name: other})


def ids(values):
    return lambda frame: frame.assign(cell_id=values)


def found(value):
    return f"{value!r} for cell {IDS[ROW]} is"


TABLES = {
    **{f"no {name}": (lambda f, name=name: f.drop(columns=name), name, "the column is missing") for name in REQUIRED_CELL_COLUMNS},
    **{f"{name} in capitals": (call(name, name.upper()), name, "the column is missing") for name in REQUIRED_CELL_COLUMNS},
    **{f"{name} in plural": (call(name, f"{name}s"), name, "the column is missing") for name in REQUIRED_CELL_COLUMNS},
    **{f"{name} with blanks": (call(name, f" {name}"), name, "the column is missing") for name in REQUIRED_CELL_COLUMNS},
    **{f"{name} is empty": (put(name, np.nan), name, found("nan")) for name in NUMBERS if name not in MAY_BE_EMPTY},
    **{f"{name} is infinite": (put(name, np.inf), name, found("inf")) for name in NUMBERS},
    **{f"{name} is text": (put(name, "many"), name, found("many")) for name in NUMBERS},
    **{f"{name} has a decimal comma": (put(name, "1,5"), name, found("1,5")) for name in NUMBERS},
    **{f"{name} is negative": (put(name, -3.0), name, found("-3.0") + " negative") for name in (*COUNTERS, *MAY_BE_EMPTY)},
    **{f"{name} is a fraction": (put(name, 1.5), name, found("1.5") + " not a count") for name in COUNTERS},
    **{f"{name} is huge": (put(name, 2.0**63), name, "is not a count") for name in COUNTERS},
    "no cell": (lambda f: f.iloc[:0], "cell_id", "the table has no cell"),
    "no column": (lambda f: f[["nucleus_count"]], "cell_id", "found nucleus_count"),
    "an id twice": (put("cell_id", IDS[0]), "cell_id", f"{IDS[0]!r} occurs twice"),
    "every row twice": (lambda f: pd.concat([f, f]), "cell_id", f"{IDS[0]!r} occurs twice"),
    "one id for all": (ids(IDS[0]), "cell_id", "occurs twice"),
    "an empty id": (put("cell_id", None), "cell_id", "is empty in row 5"),
    "an id without text": (put("cell_id", ""), "cell_id", "is empty in row 5"),
    "no id": (ids(None), "cell_id", "is empty in row 1"),
    "ids with blanks": (ids([f"{name} " for name in IDS]), "cell_id", "'aaaaaaaa-1 ' in row 1 begins or ends with a blank"),
    "counts of another run": (lambda f: f.assign(transcript_counts=f["transcript_counts"] + 1), "transcript_counts", "in 12 of 12 cells"),
    "counts turned round": (lambda f: f.assign(transcript_counts=f["transcript_counts"].to_numpy()[::-1]), "transcript_counts", "of 12"),
    "ids turned round": (ids(IDS[::-1]), "transcript_counts", "of 12 cells"),
    "ids one row off": (lambda f: f.iloc[1:].assign(cell_id=IDS[:-1]), "transcript_counts", "of 11 cells"),
}
OTHER_RUNS = {
    "other ids": ([f"z{i}-1" for i in range(12)], f"cell z0-1 {FOREIGN}; 12 of 12"),
    "ids of an older release": (range(1, 13), f"cell 1 {FOREIGN}; 12 of 12"),
    "integers and text mixed": (["1", "2", *IDS[2:]], f"cell 1 {FOREIGN}; 2 of 12"),
    "ids became numbers": (np.arange(12) + 0.0, f"cell 0.0 {FOREIGN}; 12 of 12"),
    "ids of another dataset": ([name.replace("-1", "-2") for name in IDS], f"cell aaaaaaaa-2 {FOREIGN}; 12 of 12"),
    "ids without dataset": ([name.removesuffix("-1") for name in IDS], f"cell aaaaaaaa {FOREIGN}; 12 of 12"),
    "ids in capitals": ([name.upper() for name in IDS], f"cell AAAAAAAA-1 {FOREIGN}; 12 of 12"),
    "one foreign cell": (["z-1", *IDS[1:]], f"cell z-1 {FOREIGN}; 1 of 12"),
}
TEXTS = {"cells.parquet": pd.DataFrame.to_parquet, "cells.csv.gz": pd.DataFrame.to_csv}


@pytest.mark.parametrize("file", TEXTS)
@pytest.mark.parametrize("case", TABLES)
def test_a_broken_table(tmp_path, case, file):
    change, field, problem = TABLES[case]
    bundle = make_bundle(tmp_path / "outs")
    (bundle / "cells.parquet").unlink()
    TEXTS[file](change(sound_table()), bundle / file, index=False)
    assert_bundle_refused(bundle, file, field, problem)


@pytest.mark.parametrize("file", TEXTS)
@pytest.mark.parametrize("case", OTHER_RUNS)
def test_cells_of_another_run(tmp_path, case, file):
    values, problem = OTHER_RUNS[case]
    bundle = make_bundle(tmp_path / "outs")
    (bundle / "cells.parquet").unlink()
    TEXTS[file](sound_table().assign(cell_id=values), bundle / file, index=False)
    assert_bundle_refused(bundle, "cell_feature_matrix.h5", "barcodes", problem)


def columns(change):
    """Rewrite the Parquet table by pyarrow, which can hold what pandas cannot."""

    def damage(path):
        pq.write_table(change(pa.Table.from_pandas(sound_table())), path)

    return damage


def with_column(name, values):
    return columns(lambda table: table.set_column(table.column_names.index(name), name, values))


def csv(change, **options):
    return lambda path: path.write_bytes(change(sound_table().to_csv(index=False, **options)))


UNREADABLE = {
    ("compressed", "cells.parquet"): lambda path: path.write_bytes(gzip.compress(path.read_bytes())),
    ("metadata are not JSON", "cells.parquet"): columns(lambda table: table.replace_schema_metadata({"pandas": "{"})),
    ("not compressed", "cells.csv.gz"): csv(str.encode),
    ("UTF-16", "cells.csv"): csv(lambda text: text.encode("utf-16")),
    ("a byte that is not text", "cells.csv"): csv(lambda text: text.encode().replace(b"aaaab", b"\xff\xfe")),
    ("no byte", "cells.csv"): csv(lambda text: b""),
    ("a row too long", "cells.csv"): csv(lambda text: text.replace(IDS[5], IDS[5] + ",7").encode()),
    ("open quote", "cells.csv"): csv(lambda text: text.replace(IDS[3], '"' + IDS[3]).encode()),
}


@pytest.mark.parametrize(("case", "file"), UNREADABLE)
def test_an_unreadable_file(tmp_path, case, file):
    bundle = make_bundle(tmp_path / "outs", file, "cell_feature_matrix.h5")
    UNREADABLE[case, file](bundle / file)
    assert_bundle_refused(bundle, file, "file", "not a readable")


FILES = {
    "columns by semicolon": ("cells.csv", csv(str.encode, sep=";"), "cell_id", "found cell_id;x_centroid"),
    "columns by tab": ("cells.csv", csv(str.encode, sep="\t"), "cell_id", "the column is missing"),
    "columns by blank": ("cells.csv", csv(str.encode, sep=" "), "cell_id", "the column is missing"),
    "no header": ("cells.csv", csv(str.encode, header=False), "cell_id", f"found {IDS[0]}"),
    "a title above": ("cells.csv", csv(lambda text: b"Cells of run 7\n" + text.encode()), "cell_id", "found Cells of run 7"),
    "a column twice in CSV": ("cells.csv", csv(lambda text: text.replace("cell_area", "x_centroid", 1).encode()), "x_centroid", "2 times"),
    "ids twice in CSV": ("cells.csv", csv(lambda text: text.replace("cell_area", "cell_id", 1).encode()), "cell_id", "2 times"),
    "cut in a row": ("cells.csv", csv(lambda text: text[: text.index(IDS[7]) + 15].encode()), "y_centroid", "'nan' for cell"),
    "a column twice": ("cells.parquet", columns(lambda t: t.append_column("y_centroid", t["x_centroid"])), "y_centroid", "2 times"),
    "ids twice": ("cells.parquet", columns(lambda t: t.append_column("cell_id", t["cell_id"])), "cell_id", "2 times"),
    "ids are not text": ("cells.parquet", with_column("cell_id", pa.array([b"\xff%d" % i for i in range(12)])), "cell_id", "is not text"),
    "centroids are lists": ("cells.parquet", with_column("x_centroid", pa.array([[1.0]] * 12)), "x_centroid", "is not a finite number"),
    "centroids are records": (
        "cells.parquet",
        with_column("x_centroid", pa.array([{"x": 1.0}] * 12)),
        "x_centroid",
        "is not a finite number",
    ),
    "counts below zero wrapped": (
        "cells.parquet",
        with_column("control_probe_counts", pa.array([2**64 - 1] * 12, type=pa.uint64())),
        "control_probe_counts",
        "is not a count",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_a_broken_file(tmp_path, case):
    file, damage, field, problem = FILES[case]
    bundle = make_bundle(tmp_path / "outs", file, "cell_feature_matrix.h5")
    damage(bundle / file)
    assert_bundle_refused(bundle, file, field, problem)


@pytest.mark.parametrize("file", ["cells.parquet", "cells.csv.gz", "cells.csv", "cells.zarr.zip"])
@pytest.mark.parametrize("replace", [lambda path: None, lambda path: path.symlink_to("nowhere")])
def test_no_table(tmp_path, file, replace):
    bundle = make_bundle(tmp_path / "outs", file, "cell_feature_matrix.h5")
    (bundle / file).unlink()
    replace(bundle / file)
    assert_bundle_refused(bundle, "", "cells.parquet", "neither it nor cells.csv.gz is there")


@pytest.mark.parametrize("file", ["cells.parquet", "cells.csv.gz", "cells.csv", "cells.zarr.zip"])
@pytest.mark.parametrize(("replace", "found"), [(Path.mkdir, "a folder"), (os.mkfifo, "a pipe or a device")])
def test_a_table_that_is_no_file(tmp_path, file, replace, found):
    bundle = make_bundle(tmp_path / "outs", file, "cell_feature_matrix.h5")
    (bundle / file).unlink()
    replace(bundle / file)
    assert_bundle_refused(bundle, file, "file", f"it is {found}, not a regular file")


def text(old, new):
    return in_zip(lambda name, content: content.replace(old.encode(), new.encode()) if name.endswith(".json") else content)


def summary(column, value):
    """Put `value` into a column of the Zarr's summary."""

    def damage(path):
        with zarr.storage.ZipStore(path, mode="r") as store:
            group = zarr.open_group(store, mode="r")
            values, names = np.asarray(group["cell_summary"]), list(group["cell_summary"].attrs["column_names"])
        values[ROW, names.index(column)] = value
        with zarr.storage.ZipStore(path, mode="w") as store:
            group = zarr.create_group(store)
            group.create_array("cell_id", data=np.array([[i, 1] for i in range(12)], dtype=np.uint32))
            group.create_array("cell_summary", data=values, attributes={"column_names": names})

    return damage


ZARRS = {
    "no cell_id": (without("cell_id/"), "file", "cell_id"),
    "no cell_summary": (without("cell_summary/"), "file", "cell_summary"),
    "no root": (in_zip(lambda name, content: None if name == "zarr.json" else content), "file", "group"),
    "chunk of cell_id missing": (without("cell_id/c"), "file", "cell_id has 0 of 1 chunks"),
    "chunk of cell_summary missing": (without("cell_summary/c"), "file", "cell_summary has 0 of 1 chunks"),
    "chunk of cell_id spoilt": (spoilt("cell_id/c"), "file", "not a readable"),
    "chunk of cell_summary spoilt": (spoilt("cell_summary/c"), "file", "not a readable"),
    "metadata cut": (
        in_zip(lambda name, content: content[:40] if name.endswith("cell_id/zarr.json") else content),
        "file",
        "not a readable",
    ),
    "no names": (text("column_names", "names"), "file", "column_names"),
    "names are one text": (text('"column_names": [', '"column_names": "x", "more": ['), "file", "Shape of passed values"),
    "no x": (text("cell_centroid_x", "x"), "x_centroid", "the column is missing"),
    "no y": (text("cell_centroid_y", "y"), "y_centroid", "the column is missing"),
    "x twice": (text("cell_centroid_y", "cell_centroid_x"), "y_centroid", "the column is missing"),
    "area twice": (text("nucleus_area", "cell_area"), "cell_area", "2 times"),
    **{
        f"{name} is {value}": (summary(name, value), field, found(str(value)))
        for name, field in (("cell_centroid_x", "x_centroid"), ("cell_centroid_y", "y_centroid"))
        for value in (np.nan, np.inf, -np.inf)
    },
    **{f"{name} is infinite": (summary(name, np.inf), name, found("inf")) for name in MAY_BE_EMPTY},
    **{f"{name} is negative": (summary(name, -3.0), name, "is negative") for name in MAY_BE_EMPTY},
}


@pytest.mark.parametrize("case", ZARRS)
def test_a_broken_zarr(tmp_path, case):
    damage, field, problem = ZARRS[case]
    bundle = make_bundle(tmp_path / "outs", "cells.zarr.zip", "cell_feature_matrix.h5")
    damage(bundle / "cells.zarr.zip")
    assert_bundle_refused(bundle, "cells.zarr.zip", field, problem)
