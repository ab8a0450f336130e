"""Broken files of transcripts: what is wrong in the table, as Parquet and as CSV, and what is wrong with the file.

The tests of the reader take the sound transcripts from here.
"""

import gzip
import io
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nuclass_pipeline.data.xenium.transcripts import REQUIRED_TRANSCRIPT_COLUMNS
from tests.unit.data.xenium.test_mutations import COUNTS, FEATURES, IDS, assert_bundle_refused, make_bundle
from tests.unit.data.xenium.test_mutations import UNREADABLE as DAMAGES


def sound_transcripts():
    """Return the transcripts of the bundle of the mutations, shuffled, with bad reads and some outside cells."""
    rng = np.random.default_rng(2)
    cell, feature = np.nonzero(COUNTS)
    repeats = COUNTS[cell, feature]
    cell, feature, good = np.repeat(cell, repeats), np.repeat(feature, repeats), repeats.sum()
    frame = pd.DataFrame({"cell_id": np.array(IDS)[cell], "feature_name": FEATURES["name"].to_numpy()[feature], "qv": 40.0})
    bad = frame.sample(60, random_state=0).assign(qv=rng.uniform(0, 19.9, 60))
    outside = frame.sample(40, random_state=1).assign(cell_id="UNASSIGNED")
    frame = pd.concat([frame, bad, outside], ignore_index=True).assign(overlaps_nucleus=rng.integers(0, 2, good + 100))
    return frame.sample(frac=1, random_state=2, ignore_index=True)


WRITERS = {
    "transcripts.parquet": lambda frame, path: frame.to_parquet(path, index=False),
    "transcripts.csv.gz": lambda frame, path: frame.to_csv(path, index=False),
}


def bundle_with(folder, frame, file="transcripts.parquet"):
    bundle = make_bundle(folder / "outs")
    WRITERS[file](frame, bundle / file)
    return bundle


def put(name, value):
    """Return a change of one value of a column."""

    def change(frame):
        column = frame[name].astype(str if isinstance(value, str) else object if name in ("cell_id", "feature_name") else float)
        column.iloc[len(column) // 2] = value
        return frame.assign(**{name: column})

    return change


def ids(rename):
    return lambda frame: frame.assign(cell_id=[rename(value) for value in frame["cell_id"]])


MORE, NONE = "more gene transcripts than transcript_counts of cells.parquet in", "no gene transcript with qv ≥ 20 is in a cell of"
TABLES = {
    **{
        f"no {name}": (lambda f, name=name: f.drop(columns=name), name, "the column is missing; found")
        for name in REQUIRED_TRANSCRIPT_COLUMNS
    },
    **{
        f"{name} in capitals": (lambda f, name=name: f.rename(columns={name: name.upper()}), name, "is missing")
        for name in REQUIRED_TRANSCRIPT_COLUMNS
    },
    "no row": (lambda f: f.iloc[:0], "file", "has no transcript"),
    "qv is NaN": (put("qv", np.nan), "qv", ""),
    "qv is infinite": (put("qv", np.inf), "qv", "inf is not a finite number"),
    "qv is text": (put("qv", "good"), "qv", "is not a number (Failed to parse string: 'good'"),
    "qv has a decimal comma": (put("qv", "31,5"), "qv", "is not a number (Failed to parse string: '31,5'"),
    "overlap is a share": (put("overlaps_nucleus", 0.5), "overlaps_nucleus", "0.5 is neither 0 nor 1"),
    "overlap is 2": (put("overlaps_nucleus", 2), "overlaps_nucleus", "2 is neither 0 nor 1"),
    "overlap is text": (put("overlaps_nucleus", "yes"), "overlaps_nucleus", "is not a number"),
    "an empty id": (put("cell_id", None), "cell_id", "is empty in a row"),
    "a blank id": (put("cell_id", " "), "cell_id", "is empty in a row"),
    "an empty name": (put("feature_name", None), "feature_name", "is empty in a row"),
    "ids of another run": (ids(lambda value: f"z{value}"), "cell_id", NONE),
    "ids of an older release": (ids(lambda value: IDS.index(value) + 1 if value in IDS else -1), "cell_id", NONE),
    "ids of another dataset": (ids(lambda value: value.replace("-1", "-2")), "cell_id", NONE),
    "names of another panel": (lambda f: f.assign(feature_name=f["feature_name"].str.lower()), "cell_id", NONE),
    "all read badly": (lambda f: f.assign(qv=12.0), "cell_id", NONE),
    "ids turned round": (ids(dict(zip([*IDS, "UNASSIGNED"], [*IDS[::-1], "UNASSIGNED"], strict=True)).get), "cell_id", MORE),
    "every row twice": (lambda f: pd.concat([f, f]), "cell_id", f"{MORE} 12 of 12 cells"),
    "all read well": (lambda f: f.assign(qv=40.0), "cell_id", MORE),
}


@pytest.mark.parametrize("file", WRITERS)
@pytest.mark.parametrize("case", TABLES)
def test_a_broken_table(tmp_path, case, file):
    change, field, problem = TABLES[case]
    bundle = bundle_with(tmp_path, change(sound_transcripts()), file)
    assert_bundle_refused(bundle, file, field, problem)


@pytest.mark.parametrize("file", WRITERS)
@pytest.mark.parametrize("case", DAMAGES)
def test_an_unreadable_file(tmp_path, case, file):
    bundle = bundle_with(tmp_path, sound_transcripts(), file)
    DAMAGES[case](bundle / file)
    assert_bundle_refused(bundle, file, "file", "not a readable")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_real_file_that_is_cut(real_data, tmp_path, share):
    bundle = tmp_path / "outs"
    bundle.mkdir()
    for name in ("experiment.xenium", "cells.parquet", "cell_feature_matrix.h5"):
        shutil.copyfile(real_data / "xoa3.0_mouse_ileum_tiny" / name, bundle / name)
    content = (real_data / "xoa3.0_mouse_ileum_tiny/transcripts.parquet").read_bytes()
    (bundle / "transcripts.parquet").write_bytes(content[: int(share * len(content))])
    assert_bundle_refused(bundle, "transcripts.parquet", "file", "not a readable Parquet file")


def with_column(name, values):
    def damage(path):
        table = pa.Table.from_pandas(sound_transcripts(), preserve_index=False)
        pq.write_table(table.set_column(table.column_names.index(name), name, values(len(table))), path)

    return damage


def appended(name):
    def damage(path):
        table = pa.Table.from_pandas(sound_transcripts(), preserve_index=False)
        pq.write_table(table.append_column(name, table[name]), path)

    return damage


def csv(change, compress=gzip.compress):
    def damage(path):
        stream = io.StringIO()
        sound_transcripts().to_csv(stream, index=False)
        path.write_bytes(compress(change(stream.getvalue())))

    return damage


PARQUET, CSV = "transcripts.parquet", "transcripts.csv.gz"
FILES = {
    "ids are not text": (PARQUET, with_column("cell_id", lambda n: pa.array([b"\xff"] * n)), "cell_id", "is not text"),
    "spoilt text": (PARQUET, with_column("cell_id", lambda n: pa.array([b"\xff"] * n).view(pa.string())), "cell_id", "is not text"),
    "ids are lists": (PARQUET, with_column("cell_id", lambda n: pa.array([["a"]] * n)), "cell_id", "is not text"),
    "names are records": (PARQUET, with_column("feature_name", lambda n: pa.array([{"x": 1}] * n)), "feature_name", "is not text"),
    "ids without type": (PARQUET, with_column("cell_id", pa.nulls), "cell_id", "is empty in a row"),
    "ids became fractions": (PARQUET, with_column("cell_id", lambda n: pa.array(np.arange(n) + 0.0)), "cell_id", NONE),
    "qv is a list": (PARQUET, with_column("qv", lambda n: pa.array([[1.0]] * n)), "qv", "is not a number"),
    "qv is a date": (PARQUET, with_column("qv", lambda n: pa.array([1] * n, pa.timestamp("ms"))), "qv", "is not a number"),
    "qv twice": (PARQUET, appended("qv"), "qv", "the column occurs 2 times"),
    "ids twice": (PARQUET, appended("cell_id"), "cell_id", "the column occurs 2 times"),
    "ids twice in CSV": (CSV, csv(lambda text: text.replace("qv", "cell_id", 1).encode()), "qv", "the column is missing"),
    "a column twice in CSV": (CSV, csv(lambda text: text.replace("overlaps_nucleus", "qv", 1).encode()), "qv", "occurs 2 times"),
    "columns by semicolon": (CSV, csv(lambda text: text.replace(",", ";").encode()), "cell_id", "found cell_id;feature_name"),
    "no header": (CSV, csv(lambda text: text.split("\n", 1)[1].encode()), "cell_id", "the column is missing"),
    "a row too long": (CSV, csv(lambda text: text.replace("UNASSIGNED", "UNASSIGNED,7", 1).encode()), "file", "not a readable CSV"),
    "cut in a row": (CSV, csv(lambda text: text[: text.index(",40.0", 3000)].encode()), "file", "not a readable CSV"),
    "UTF-16": (CSV, csv(lambda text: text.encode("utf-16")), "file", "not a readable CSV"),
    "not compressed": (CSV, csv(str.encode, compress=bytes), "file", "not a readable CSV"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_broken_file(tmp_path, case):
    file, damage, field, problem = FILES[case]
    bundle = make_bundle(tmp_path / "outs")
    damage(bundle / file)
    assert_bundle_refused(bundle, file, field, problem)
