import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from nuclass_pipeline.io import read_table, write_json, write_table
from nuclass_pipeline.knowledge.markers import Marker, write_markers
from nuclass_pipeline.schemas import CELLS, LABELS, QUALITY, SPLIT, empty_labels
from nuclass_pipeline.summary.quality import count_reasons, summarize_quality

IDS = ["a", "b", "c", "d"]


def write_slide(folder, xenium=True):
    folder.mkdir(parents=True)
    frame = pd.DataFrame({"cell_id": IDS, "x_um": 1.0, "y_um": 2.0, "cell_area_um2": 9.0, "nucleus_area_um2": [1.0, np.nan, 3.0, 0.0]})
    write_table(frame.assign(transcripts=[0, 10, 20, 31], nucleus_transcripts=0.0, controls=0), folder / "cells.parquet", CELLS)
    labels = empty_labels(IDS, "poor quality")
    if xenium:
        labels.loc[1:2, ["label", "reason", "confidence"]] = ["T_Cell", None, 0.9]
        labels.loc[3, "reason"] = "weak support"
        counts = sparse.csr_matrix(np.array([[0, 0, 0], [10, 0, 0], [10, 10, 0], [20, 10, 1]], dtype=np.float32))
        genes = pd.DataFrame(index=pd.Index(["CD3D", "MS4A1", "GAPDH"], name="name"))
        ad.AnnData(counts, obs=pd.DataFrame(index=IDS), var=genes).write_h5ad(folder / "counts.h5ad")
    write_table(labels, folder / "labels.parquet", LABELS)
    split = pd.DataFrame({"cell_id": IDS, "subset": ["excluded", "train", "buffer", "excluded"], "block": "0-0"})
    write_table(split.assign(reason=["no tissue", None, None, "outside the H&E"]), folder / "split.parquet", SPLIT)
    record = {"matrix": np.eye(3).tolist(), "xenium_mpp": 0.25, "residual_um": 0.0}
    fit = {"verdict": "unclear", "accepted": True, "correlation": 0.1, "correlation_best": 0.5, "correlation_chance": 0.06}
    write_json(record | (fit | {"shift_um": [3.0, -4.0], "cells_inside": 0.75} if xenium else {}), folder / "registration.json")
    with h5py.File(folder / "image.h5", "w") as file:
        file.attrs["tissue_share"] = 0.375


@pytest.fixture
def summarize(tmp_path):
    """A function that summarizes slides, without the files of some kinds."""
    write_slide(tmp_path / "slides/one")
    write_slide(tmp_path / "slides/two", xenium=False)
    markers = [Marker(name, gene, 1.0, frozenset({"lung"}), "x") for name, gene in (("T_Cell", "CD3D"), ("B_Cell", "MS4A1"))]
    write_markers([*markers, Marker("Macrophage", "CD68", 1.0, frozenset({"lung"}), "x")], tmp_path / "markers.tsv")

    def call(*absent, slides=("one", "two")):
        kinds = {"cells": "cells.parquet", "labels": "labels.parquet", "splits": "split.parquet", "counts": "counts.h5ad"}
        kinds |= {"registrations": "registration.json", "images": "image.h5"}
        paths = {kind: [tmp_path / "slides" / slide / name for slide in slides] for kind, name in kinds.items()}
        found = {kind: [path for path in listed if path.is_file() and kind not in absent] for kind, listed in paths.items()}
        about = {slide: {"organ": "lung", "role": "train", "kind": "xenium"} for slide in slides}
        summarize_quality(**found, knowledge=tmp_path / "markers.tsv", slides=about, quality=tmp_path / "quality.parquet")
        return read_table(tmp_path / "quality.parquet", QUALITY).set_index("slide")

    return call


def test_a_slide_with_xenium_has_every_number(summarize):
    row = summarize().loc["one"]
    assert row[["cells", "labelled", "nuclei", "excluded"]].tolist() == [4, 2, 2, 2]
    assert row[["transcripts_median", "genes_median", "panel_genes", "tissue_share"]].tolist() == [15.0, 1.5, 3, 0.375]
    assert row["cell_types_seen"] == 2
    assert row["cell_types"] > 10
    assert row["unresolved"] == "poor quality 1; weak support 1"
    assert set(row["exclusions"].split("; ")) == {"no tissue 1", "outside the H&E 1"}
    assert row[["verdict", "correlation", "correlation_chance", "shift_um", "cells_inside"]].tolist() == ["accepted", 0.5, 0.06, 5.0, 0.75]


def test_an_image_without_xenium_has_no_transcripts_and_no_verdict(summarize):
    row = summarize().loc["two"]
    assert row[["transcripts_median", "genes_median", "panel_genes", "verdict", "correlation"]].isna().all()
    assert (row["labelled"], row["unresolved"], row["tissue_share"]) == (0, "poor quality 4", 0.375)


def test_slides_that_are_only_labelled_have_no_split_and_no_image(summarize):
    table = summarize("splits", "registrations", "images", slides=("one",))
    row = table.loc["one"]
    assert row[["excluded", "tissue_share", "verdict", "correlation"]].isna().all()
    assert (row["exclusions"], row["labelled"], row["panel_genes"]) == ("", 2, 3)


def test_large_counts_of_reasons_are_printed_like_other_numbers():
    assert count_reasons(pd.Series(["weak support", *["no transcripts"] * 2755])) == "no transcripts 2,755; weak support 1"
