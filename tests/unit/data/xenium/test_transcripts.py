"""Transcripts by cell: real files, every encoding against a count by pandas, and what `read_cells` makes of them."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from nuclass_pipeline.data.xenium.cells import CellTable, read_cell_file
from nuclass_pipeline.data.xenium.columns import find_table, read_batches
from nuclass_pipeline.data.xenium.matrix import Matrix, read_matrix
from nuclass_pipeline.data.xenium.read import read_cell_table, read_cells, transcripts_of
from nuclass_pipeline.data.xenium.transcripts import count_transcripts
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_warnings
from tests.unit.data.xenium.test_mutations import COUNTS, FEATURES, IDS, make_bundle, read
from tests.unit.data.xenium.test_mutations_transcripts import WRITERS, bundle_with, sound_transcripts

CONTROLS = ("BLANK_", "NegControl", "antisense_", "UnassignedCodeword_", "DeprecatedCodeword_", "Intergenic_")
NOWHERE = ("UNASSIGNED", "-1")
PRIME = "xoa3.0_human_prime_cells_multiqc"
REAL = {
    "xoa1.0.2_mouse_brain_20um/sample1": (962, 962, 777, 776, 428),
    "xoa1.0.2_mouse_brain_20um/sample2": (777, 777, 592, 592, 226),
    "xoa1.3_human_lung_transcripts": (15000, 14738, 12919, 12694, 4584),
    "xoa1.x_human_jurkat_raji_sfe": (5260, 5251, 5260, 5248, 2818),
    f"{PRIME}/sample1": (2649, 2392, 1163, 969, 646),
    f"{PRIME}/sample2": (1000, 672, 873, 582, 266),
    f"{PRIME}/sample3": (1000, 680, 846, 547, 292),
    f"{PRIME}/sample4": (1000, 902, 885, 754, 391),
    "xoa3.0_mouse_ileum_tiny": (1985, 804, 540, 433, 114),
}
"""Rows, those in cells, those with qv ≥ 20, and of genes in cells with qv ≥ 20 all and those over the nucleus, by pandas alone."""


def as_text(values):
    return values.map(lambda value: value.decode() if isinstance(value, bytes) else str(value))


def count_by_pandas(frame, ids, genes):
    """Count row by row what the reader counts by batch: of each cell all, and those over the nucleus."""
    cell, name = as_text(frame["cell_id"]), as_text(frame["feature_name"])
    kept = (frame["qv"] >= 20) & name.isin(set(genes))
    both = [cell[kept & chosen].value_counts().reindex(ids, fill_value=0).tolist() for chosen in (True, frame["overlaps_nucleus"] == 1)]
    return both, (len(frame), int(cell.isin(set(ids)).sum()), int((frame["qv"] >= 20).sum()))


def assert_counted(folder, frame, ids, genes):
    found = count_transcripts(folder, ids, genes)
    (counted, over), totals = count_by_pandas(frame, ids, genes)
    assert found.counted.tolist() == counted
    assert found.over_nucleus.tolist() == over
    assert (found.rows, found.in_cells, found.good) == totals
    return found


@pytest.mark.parametrize("name", REAL)
def test_real_files_are_counted(real_data, name):
    folder = real_data / name
    path = find_table(folder, "transcripts")
    frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    ids = sorted(set(as_text(frame["cell_id"])) - set(NOWHERE))
    genes = sorted(gene for gene in set(as_text(frame["feature_name"])) if not gene.startswith(CONTROLS))
    if "is_gene" in frame:
        assert set(genes) == set(frame.loc[frame["is_gene"], "feature_name"])
    found = assert_counted(folder, frame, ids, genes)
    assert (found.rows, found.in_cells, found.good, found.counted.sum(), found.over_nucleus.sum()) == REAL[name]


def test_the_real_bundle_agrees_with_its_table_in_every_cell(real_data):
    bundle = real_data / "xoa3.0_mouse_ileum_tiny"
    table, matrix = read_cell_file(bundle / "cells.parquet"), read_matrix(bundle)
    found, warnings = transcripts_of(table, matrix)
    assert found.counted.tolist() == table.frame["transcript_counts"].tolist()
    assert found.by_gene.sum() == found.counted.sum() == 433
    assert not warnings


def test_a_real_sample_of_the_transcripts_is_read_with_a_warning(real_data, tmp_path):
    bundle = shutil.copytree(real_data / "xoa1.x_human_jurkat_raji_sfe", tmp_path / "outs")
    shutil.copyfile(real_data / "manifests/xoa1.0.2_mouse_brain.experiment.xenium", tmp_path / "experiment.xenium")
    bundle.chmod(0o755)
    shutil.move(tmp_path / "experiment.xenium", bundle / "experiment.xenium")
    read(bundle)
    cells = pd.read_parquet(bundle / "out/cells.parquet")
    assert cells["nucleus_transcripts"].isna().sum() == len(cells) == 526
    problem = "more gene transcripts than transcript_counts of cells.parquet in 0 of 512 cells, fewer in 526 of 526"
    controls, manifest, image, transcripts = read_warnings(bundle / "out/cells.parquet")
    assert problem in transcripts
    assert controls == "unassigned_codeword_counts differs from the controls of cell_feature_matrix.h5 in 12 of 526 cells"
    assert "lies beyond morphology_focus.ome.tif, 50 × 50 µm; 526 of 526 cells do, if its pixels are those of the manifest" in image
    assert manifest == "cells.parquet has 526 of the 162033 cells that num_cells of experiment.xenium states"


def test_csv_and_parquet_of_a_real_bundle_are_counted_alike(real_data, tmp_path):
    bundle = real_data / "xoa1.x_human_jurkat_raji_sfe"
    shutil.copyfile(bundle / "transcripts.csv.gz", tmp_path / "transcripts.csv.gz")
    ids, matrix = read_cell_table(bundle)["cell_id"], read_matrix(bundle)
    found, other = (count_transcripts(folder, ids, matrix.features["name"][:28]) for folder in (bundle, tmp_path))
    assert found.counted.tolist() == other.counted.tolist()
    assert found.over_nucleus.tolist() == other.over_nucleus.tolist()
    assert (found.rows, found.in_cells, found.good) == (other.rows, other.in_cells, other.good) == (5260, 5232, 5260)


TEXTS = {
    "string": (pa.string(), str),
    "large string": (pa.large_string(), str),
    "string view": (pa.string_view(), str),
    "binary": (pa.binary(), str.encode),
    "large binary": (pa.large_binary(), str.encode),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), str),
    "dictionary of bytes": (pa.dictionary(pa.int16(), pa.binary()), str.encode),
}
IDENTITIES = TEXTS | {"integer": (pa.int64(), int), "small integer": (pa.int32(), int)}
QVS = st.sampled_from([-0.0, 0.0, 6.674051761627197, 19.99, np.nextafter(np.float32(20), np.float32(0)).item(), 20.0, 40.0])


@st.composite
def files(draw):
    """Draw a table, how its columns are encoded, and the rows of a row group."""
    kind = draw(st.sampled_from(sorted(IDENTITIES)))
    pool = ["-1", "1", "2", "30", "4"] if "integer" in kind else ["UNASSIGNED", "aaaa-1", "aaab-1", "aaaa-2", "é-1"]
    n = draw(st.integers(1, 40))
    columns = {
        "cell_id": draw(st.lists(st.sampled_from(pool), min_size=n, max_size=n)),
        "feature_name": draw(st.lists(st.sampled_from(["A", "B", "BLANK_0001", "NegControlProbe_00001"]), min_size=n, max_size=n)),
        "qv": draw(st.lists(QVS, min_size=n, max_size=n)),
        "overlaps_nucleus": draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)),
    }
    names = draw(st.sampled_from(sorted(TEXTS)))
    qv, flag = draw(st.sampled_from([pa.float32(), pa.float64()])), draw(st.sampled_from([pa.uint8(), pa.int32(), pa.bool_()]))
    return columns, pool[1:4], (kind, names, qv, flag), draw(st.integers(1, 50))


def encode(columns, kind, names, qv, flag):
    return pa.table(
        {
            "cell_id": pa.array([IDENTITIES[kind][1](value) for value in columns["cell_id"]], type=IDENTITIES[kind][0]),
            "feature_name": pa.array([TEXTS[names][1](value) for value in columns["feature_name"]], type=TEXTS[names][0]),
            "qv": pa.array(columns["qv"], type=qv),
            "overlaps_nucleus": pa.array([bool(v) for v in columns["overlaps_nucleus"]]).cast(flag),
        }
    )


@settings(max_examples=100, deadline=None)
@given(files())
def test_every_encoding_is_counted_as_by_pandas(drawn):
    columns, ids, types, rows = drawn
    with tempfile.TemporaryDirectory() as name:
        pq.write_table(encode(columns, *types), Path(name) / "transcripts.parquet", row_group_size=rows)
        assert_counted(Path(name), pd.DataFrame(columns), ids, ["A", "B", "B", "C"])


@settings(max_examples=30, deadline=None)
@given(files(), st.sampled_from(["transcripts.csv.gz", "transcripts.csv"]))
def test_every_csv_is_counted_as_by_pandas(drawn, file):
    columns, ids, *_ = drawn
    frame = pd.DataFrame(columns)
    with tempfile.TemporaryDirectory() as name:
        frame.to_csv(Path(name) / file)
        assert_counted(Path(name), frame, ids, ["A", "B"])


@pytest.fixture(scope="module")
def many():
    rng, n = np.random.default_rng(3), 5000
    return pd.DataFrame(
        {
            "cell_id": rng.choice(["UNASSIGNED", *(f"c{i}-1" for i in range(300))], n),
            "feature_name": rng.choice([*(f"G{i}" for i in range(20)), "BLANK_1"], n),
            "qv": rng.uniform(0, 40, n).astype(np.float32),
            "overlaps_nucleus": rng.integers(0, 2, n).astype(np.uint8),
        }
    )


@pytest.mark.parametrize("batch_rows", [7, 2**18])
@pytest.mark.parametrize("rows", [13, 1000, 5000])
def test_row_groups_and_batches_do_not_matter(tmp_path, monkeypatch, many, rows, batch_rows):
    monkeypatch.setattr("nuclass_pipeline.data.xenium.columns.BATCH_ROWS", batch_rows)
    many.to_parquet(tmp_path / "transcripts.parquet", row_group_size=rows)
    found = assert_counted(tmp_path, many, [f"c{i}-1" for i in range(300)], [f"G{i}" for i in range(20)])
    assert 2300 < found.counted.sum() < 2450


def test_blocks_of_a_csv_do_not_matter(tmp_path, monkeypatch, many):
    monkeypatch.setattr("nuclass_pipeline.data.xenium.columns.BLOCK_BYTES", 2**10)
    many.to_csv(tmp_path / "transcripts.csv.gz", index=False)
    assert_counted(tmp_path, many, [f"c{i}-1" for i in range(300)], [f"G{i}" for i in range(20)])


def test_memory_does_not_grow_with_the_row_group(tmp_path, monkeypatch):
    monkeypatch.setattr("nuclass_pipeline.data.xenium.columns.BATCH_ROWS", 2**14)
    rng, held = np.random.default_rng(0), []
    for rows in (200_000, 2_000_000):
        cell = pa.DictionaryArray.from_arrays(pa.array(rng.integers(0, 5000, rows).astype(np.int32)), [f"c{i}" for i in range(5000)])
        table = pa.table({"cell_id": cell.cast(pa.string()), "feature_name": cell.cast(pa.string()), "qv": rng.uniform(0, 40, rows)})
        pq.write_table(table, tmp_path / "transcripts.parquet", row_group_size=rows)
        del table, cell
        before = pa.total_allocated_bytes()
        held.append(
            max(
                pa.total_allocated_bytes() - before
                for _ in read_batches(tmp_path / "transcripts.parquet", ("cell_id", "feature_name", "qv"))
            )
        )
    assert (tmp_path / "transcripts.parquet").stat().st_size > 16e6
    assert held[1] < 1.2 * held[0] + 1e6 < 12e6


def test_the_parquet_is_preferred_to_the_compressed_csv_and_that_to_the_other(tmp_path, many):
    assert find_table(tmp_path, "transcripts") is None
    assert count_transcripts(tmp_path, ["c1-1"], ["G1"]) is None
    found = []
    for name in ("transcripts.csv", "transcripts.csv.gz"):
        many.to_csv(tmp_path / name, index=False)
        found.append(find_table(tmp_path, "transcripts").name)
    many.to_parquet(tmp_path / "transcripts.parquet")
    assert [*found, find_table(tmp_path, "transcripts").name] == ["transcripts.csv", "transcripts.csv.gz", "transcripts.parquet"]


def test_a_folder_of_that_name_is_not_a_file(tmp_path):
    (tmp_path / "transcripts.parquet").mkdir()
    assert find_table(tmp_path, "transcripts") is None


def nuclear(frame):
    (_, over), _ = count_by_pandas(frame, IDS, FEATURES["name"][:5])
    return over


@pytest.mark.parametrize("file", WRITERS)
def test_read_cells_writes_those_over_the_nucleus(tmp_path, caplog, file):
    frame = sound_transcripts()
    bundle = bundle_with(tmp_path, frame, file)
    read(bundle)
    cells = pd.read_parquet(bundle / "out/cells.parquet")
    assert cells["nucleus_transcripts"].tolist() == nuclear(frame)
    assert 0 < cells["nucleus_transcripts"].sum() < cells["transcripts"].sum() == COUNTS[:, :5].sum()
    assert not caplog.records


def test_read_cells_writes_those_of_the_real_bundle(real_data, tmp_path):
    manifest = real_data / "xoa3.0_mouse_ileum_tiny/experiment.xenium"
    read_cells(manifest=manifest, cells=tmp_path / "cells.parquet", counts=tmp_path / "counts.h5ad")
    cells = pd.read_parquet(tmp_path / "cells.parquet")
    assert cells["nucleus_transcripts"].sum() == 114
    assert (cells["nucleus_transcripts"] <= cells["transcripts"]).all()


@pytest.mark.parametrize("frame", [None, sound_transcripts().drop(columns="overlaps_nucleus")])
def test_the_column_is_empty_where_the_overlap_is_unknown(tmp_path, caplog, frame):
    bundle = make_bundle(tmp_path / "outs") if frame is None else bundle_with(tmp_path, frame)
    read(bundle)
    assert pd.read_parquet(bundle / "out/cells.parquet")["nucleus_transcripts"].isna().all()
    assert not caplog.records


def test_a_region_of_the_transcripts_is_read_and_the_other_cells_stay_empty(tmp_path):
    frame = sound_transcripts()
    bundle = bundle_with(tmp_path, frame[frame["cell_id"].isin(IDS[:3])])
    read(bundle)
    found = pd.read_parquet(bundle / "out/cells.parquet")["nucleus_transcripts"]
    assert found[:3].tolist() == nuclear(frame)[:3]
    assert found[3:].isna().all()
    (warning,) = read_warnings(bundle / "out/cells.parquet")
    assert warning.endswith("in 0 of 3 cells, fewer in 9 of 12; nucleus_transcripts is empty there")


@pytest.mark.parametrize(("differing", "refused"), [(0, False), (2, False), (3, True)])
def test_a_hundredth_of_the_cells_may_have_more(tmp_path, differing, refused):
    ids = [f"c{i}" for i in range(200)]
    features = pd.DataFrame({"id": ["g"], "name": ["g"], "kind": "Gene Expression"})
    bundle = make_bundle(tmp_path / "outs")
    matrix = Matrix(bundle / "cell_feature_matrix.h5", sparse.csr_matrix(np.full((200, 1), 5)), np.array(ids), features)
    pd.DataFrame({"cell_id": np.repeat(ids, 5), "feature_name": "g", "qv": 40.0}).to_parquet(bundle / "transcripts.parquet")
    frame = pd.DataFrame({"cell_id": ids, "transcript_counts": np.where(np.arange(200) < differing, 4, 5)})
    table = CellTable(bundle / "cells.parquet", frame)
    problem = f"more gene transcripts than transcript_counts of cells.parquet in {differing} of 200 cells"
    if refused:
        with pytest.raises(UserError, match=problem):
            transcripts_of(table, matrix)
        return
    found, warnings = transcripts_of(table, matrix)
    assert found.counted.tolist() == [5] * 200
    assert [problem in warning for warning in warnings] == [True] * bool(differing)
