"""Xenium bundles, through `nuclass check` and the job that reads cells."""
# ruff: noqa: E501 -- a case is a row of a table.

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.wrong_inputs.case import Case, Step, both, command, cut, fifo, link, nothing, remove, rows_of, stage, write

READ = stage(
    "data.xenium.read:read_cells", manifest=Path("outs/experiment.xenium"), cells=Path("out/cells.parquet"), counts=Path("out/counts.h5ad")
)
CHECK = command("check", "outs")
CELLS, TRANSCRIPTS, MATRIX = "outs/cells.parquet", "outs/transcripts.parquet", "outs/cell_feature_matrix.h5"


def table(path: str, change: Callable[[Any], Any]) -> Step:
    """Return the step that changes a table of the bundle."""

    def run() -> None:
        change(rows_of(path)).to_parquet(path, index=False)

    return run


def cells(**changes: Any) -> Step:
    """Return the step that sets columns of the cell table, each from the whole table."""
    return table(CELLS, lambda frame: frame.assign(**{name: new(frame) if callable(new) else new for name, new in changes.items()}))


def value(column: str, row: int, new: object, path: str = CELLS) -> Step:
    """Return the step that sets one value of a table."""

    def change(frame: Any) -> Any:
        values = frame[column].astype(object)
        values.iloc[row] = new
        frame[column] = values.map(str) if isinstance(new, str) else values if new is None else values.infer_objects()
        return frame

    return table(path, change)


def manifest(**changes: Any) -> Step:
    """Return the step that sets keys of experiment.xenium; None removes a key."""

    def run() -> None:
        path = Path("outs/experiment.xenium")
        content = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))

    return run


def h5(change: Callable[[Any], None], path: str = MATRIX) -> Step:
    """Return the step that changes an HDF5 file."""

    def run() -> None:
        import h5py

        with h5py.File(path, "r+") as file:
            change(file)

    return run


def put(file: Any, name: str, values: Any) -> None:
    """Put other values in place of a dataset."""
    del file[name]
    file[name] = values


def as_csv(suffix: str = ".csv", keep: bool = False, **options: Any) -> Step:
    """Return the step that writes the cell table as CSV."""

    def run() -> None:
        rows_of(CELLS).to_csv(f"outs/cells{suffix}", index=False, **options)
        if not keep:
            Path(CELLS).unlink()

    return run


def gene(number: int, name: str) -> Step:
    """Return the step that renames a gene in the matrix, and in nothing else."""

    def change(file: Any) -> None:
        names = file["matrix/features/name"][:].astype("S40")
        names[number] = name.encode()
        put(file, "matrix/features/name", names)

    return h5(change)


def genes(change: Callable[[list[str]], list[str]], *fields: str) -> Step:
    """Return the step that changes all names or ids of features."""

    def run(file: Any) -> None:
        for field in fields or ("name",):
            names = [name.decode() for name in file[f"matrix/features/{field}"][:]]
            put(file, f"matrix/features/{field}", np.array(change(names), "S60"))

    return h5(run)


def _genes_in_table(expected: str) -> None:
    import anndata

    found = anndata.read_h5ad("out/counts.h5ad").var_names
    assert expected in found, f"no gene {expected} among {list(found[:5])} …"


def _cells_in_table(count: int) -> Callable[[], None]:
    def check() -> None:
        found = len(rows_of("out/cells.parquet"))
        assert found == count, f"{found} cells, not {count}"

    return check


def _case(name: str, wrong: str, make: Step, says: str = "cells", door: Step = READ, **named: Any) -> Case:
    return Case("bundles", name, wrong, make, door, says=says, **named)


def _kept() -> None:
    from nuclass_pipeline.io import read_warnings

    assert read_warnings("out/cells.parquet"), "the warning is not kept in cells.parquet"


OPEN = "outs/cells.parquet"
CASES = [
    _case("right", "nothing", nothing, "", expects="accepted", check=_cells_in_table(300)),
    _case("right: check", "nothing", nothing, "", CHECK, expects="accepted"),
    _case("csv", "cells.csv as 1.x wrote it", as_csv(), "", expects="accepted", check=_cells_in_table(300)),
    _case("csv with bom and blank line", "Excel's CSV in UTF-8", as_csv(encoding="utf-8-sig"), "", expects="accepted"),
    _case("csv with semicolons", "German Excel", as_csv(sep=";", decimal=","), "cells.csv", expects="refused or accepted"),
    _case("csv.gz that is no gzip", "renamed", as_csv(".csv.gz", compression=None), "cells.csv.gz"),
    _case("csv.gz cut", "download broke off", both(as_csv(".csv.gz"), cut("outs/cells.csv.gz", 0.6)), "cells.csv.gz"),
    _case("two cell tables that disagree", "cells.csv of another run beside cells.parquet",
          both(as_csv(keep=True), table(CELLS, lambda t: t.assign(x_centroid=t.x_centroid + 40))), "cells.csv|cells.parquet"),
    _case("two cell tables of other length", "cells.csv has half of the rows",
          both(as_csv(keep=True), table(CELLS, lambda t: t.iloc[:150])), "cells"),
    _case("centroids in pixels", "x and y / 0.2125", cells(x_centroid=lambda t: t.x_centroid / 0.2125, y_centroid=lambda t: t.y_centroid / 0.2125)),
    _case("centroids in mm", "x and y / 1000", cells(x_centroid=lambda t: t.x_centroid / 1e3, y_centroid=lambda t: t.y_centroid / 1e3)),
    _case("centroids in nm", "× 1000", cells(x_centroid=lambda t: t.x_centroid * 1e3, y_centroid=lambda t: t.y_centroid * 1e3)),
    _case("centroids negative", "origin in the middle", cells(x_centroid=lambda t: t.x_centroid - 250, y_centroid=lambda t: t.y_centroid - 150)),
    _case("centroids equal", "all at one place", cells(x_centroid=100.0, y_centroid=100.0)),
    _case("x and y exchanged", "columns exchanged", cells(x_centroid=lambda t: t.y_centroid, y_centroid=lambda t: t.x_centroid)),
    _case("x and y exchanged: check", "columns exchanged", cells(x_centroid=lambda t: t.y_centroid, y_centroid=lambda t: t.x_centroid),
          door=CHECK),
    _case("x mirrored", "max − x", cells(x_centroid=lambda t: t.x_centroid.max() + t.x_centroid.min() - t.x_centroid)),
    _case("y shuffled", "sorted in a spreadsheet, one column alone", cells(y_centroid=lambda t: np.sort(t.y_centroid))),
    _case("ids shuffled", "cell_id sorted, nothing else", cells(cell_id=lambda t: t.cell_id.to_numpy()[::-1])),
    _case("one centroid far", "10¹² µm", value("x_centroid", 5, 1e12)),
    _case("one centroid 29,000 µm", "plausible alone, not with the rest", value("x_centroid", 5, 29000.0)),
    _case("nan centroid", "one NaN", value("x_centroid", 3, float("nan")), "x_centroid"),
    _case("infinite centroid", "inf", value("y_centroid", 3, float("inf")), "y_centroid"),
    _case("date centroid", "2024-01-05", value("x_centroid", 3, "2024-01-05"), "x_centroid"),
    _case("dates in all", "timestamps", cells(x_centroid=lambda t: np.array(["2024-01-05"] * len(t), "datetime64[us]")), "x_centroid"),
    _case("boolean centroid", "True", cells(x_centroid=lambda t: t.x_centroid > 100), "x_centroid"),
    _case("decimal comma centroid", "98,8", cells(x_centroid=lambda t: t.x_centroid.map(lambda x: f"{x:.3f}".replace(".", ","))), "x_centroid"),
    _case("area 10^300", "float overflow", cells(cell_area=1e300), "cell_area"),
    _case("area negative", "-5", cells(cell_area=lambda t: -t.cell_area), "cell_area"),
    _case("areas in px", "÷ 0.2125²", cells(cell_area=lambda t: t.cell_area / 0.2125**2), "cell_area", expects="refused or warned"),
    _case("nucleus larger than cell", "columns exchanged", cells(cell_area=lambda t: t.nucleus_area, nucleus_area=lambda t: t.cell_area),
          "area", expects="refused or warned"),
    _case("missing column", "no y_centroid", table(CELLS, lambda t: t.drop(columns="y_centroid")), "y_centroid"),
    _case("no cells", "0 rows", table(CELLS, lambda t: t.iloc[:0])),
    _case("id twice", "a row twice", table(CELLS, lambda t: t.iloc[[0, *range(len(t) - 1)]]), "cell_id"),
    _case("id empty", "None", value("cell_id", 4, None), "cell_id"),
    _case("id with blank", "'aadojeja-1 '", value("cell_id", 0, "aadojeja-1 "), "cell_id"),
    _case("id with newline", "a line break in a name", value("cell_id", 0, "a\nb"), "cell_id"),
    _case("ids by number", "1..N beside a matrix of names", cells(cell_id=lambda t: np.arange(len(t))), "cell_id|cells"),
    _case("most cells missing", "table of the first 60 cells", table(CELLS, lambda t: t.iloc[:60])),
    _case("two fifths missing", "180 of 300 cells", table(CELLS, lambda t: t.iloc[:180]), "", expects="warned or refused", check=None),
    _case("cells beyond the matrix", "5 cells that the matrix lacks",
          table(CELLS, lambda t: t.assign(cell_id=[*(f"zz{n}-1" for n in range(5)), *t.cell_id[5:]])), "cell"),
    _case("num_cells contradicts", "num_cells 5000", manifest(num_cells=5000), "num_cells|5000 cells", expects="refused or warned"),
    _case("num_cells text", "'many'", manifest(num_cells="many"), "num_cells", expects="refused or warned or accepted"),
    _case("counts contradict", "transcript_counts of another run", cells(transcript_counts=lambda t: t.transcript_counts.to_numpy()[::-1]),
          "transcript_counts"),
    _case("counts contradict: check", "the same", cells(transcript_counts=lambda t: t.transcript_counts.to_numpy()[::-1]),
          "transcript_counts", CHECK),
    _case("counts negative", "-1", value("transcript_counts", 2, -1), "transcript_counts"),
    _case("parquet that is csv", "renamed", both(as_csv(), lambda: Path("outs/cells.csv").rename(CELLS)), OPEN),
    _case("parquet cut", "first half", cut(CELLS, 0.5), OPEN),
    _case("parquet empty", "0 bytes", write(CELLS, b""), OPEN),
    _case("parquet fifo", "a FIFO", fifo(CELLS), "cells.parquet", cpu_s=10),
    _case("parquet folder", "a Spark folder", both(remove(CELLS), write(CELLS + "/part-0.parquet", b"PAR1")), "cells.parquet"),
    _case("parquet link outside", "a link to nothing", link(CELLS, "../../nowhere"), "cells"),
    _case("no cell table", "removed", remove(CELLS), "cells"),
    _case("no matrix", "removed", remove(MATRIX), "cell_feature_matrix"),
    _case("no manifest", "removed", remove("outs/experiment.xenium"), "experiment.xenium"),
    _case("manifest cut", "half of the JSON", cut("outs/experiment.xenium", 0.5), "experiment.xenium"),
    _case("manifest list", "a list", write("outs/experiment.xenium", "[1]"), "experiment.xenium"),
    _case("manifest fifo", "a FIFO", fifo("outs/experiment.xenium"), "experiment.xenium", cpu_s=10),
    _case("manifest deep", "100,000 brackets", write("outs/experiment.xenium", "[" * 100_000), "experiment.xenium", cpu_s=10),
    _case("pixel size missing", "no pixel_size", manifest(pixel_size=None), "pixel_size"),
    _case("pixel size zero", "0", manifest(pixel_size=0), "pixel_size"),
    _case("pixel size nm", "212.5", manifest(pixel_size=212.5), "pixel_size"),
    _case("pixel size text", "'0.2125 um'", manifest(pixel_size="0.2125 um"), "pixel_size"),
    _case("manifest path outside", "images.morphology_focus_filepath ../../outside/secret.txt",
          manifest(images={"morphology_focus_filepath": "../../outside/secret.txt"}), "experiment.xenium|images", expects="refused or accepted"),
    _case("transcripts of another run", "other ids", table(TRANSCRIPTS, lambda t: t.assign(cell_id="zzz" + t.cell_id)), "transcripts"),
    _case("transcripts twice", "each row twice", table(TRANSCRIPTS, lambda t: t.loc[t.index.repeat(2)]), "transcripts"),
    _case("transcripts in part", "every fourth", table(TRANSCRIPTS, lambda t: t.iloc[::4]), "transcripts", expects="warned", check=_kept),
    _case("transcripts in pixels", "x / 0.2125", table(TRANSCRIPTS, lambda t: t.assign(x_location=t.x_location / 0.2125, y_location=t.y_location / 0.2125)),
          "transcripts|cells", expects="refused or warned"),
    _case("transcripts without qv", "column removed", table(TRANSCRIPTS, lambda t: t.drop(columns="qv")), "qv"),
    _case("transcripts cut", "first half", cut(TRANSCRIPTS, 0.5), "transcripts"),
    _case("transcripts missing", "optional", remove(TRANSCRIPTS), "", expects="accepted or warned"),
    _case("outlines of another run", "moved by 200 µm",
          table("outs/cell_boundaries.parquet", lambda t: t.assign(vertex_x=t.vertex_x + 200)), "boundaries|cells"),
    _case("outlines without a column", "no vertex_y", table("outs/cell_boundaries.parquet", lambda t: t.drop(columns="vertex_y")), "vertex_y"),
    _case("gene formula", "a gene =cmd|calc", gene(0, "=cmd|calc"), "", expects="accepted or refused or warned"),
    _case("gene html", "<script>", gene(0, "<script>alert(1)</script>"), "", expects="accepted or refused or warned"),
    _case("gene blank", "''", gene(0, ""), "name|feature"),
    _case("gene twice", "two genes of one name", genes(lambda n: [n[1], *n[1:]]), "gene|name", expects="warned or refused", check=_kept),
    _case("genes by id", "names are Ensembl ids", h5(lambda f: put(f, "matrix/features/name", f["matrix/features/id"][:])), "", expects="accepted or warned",
          check=lambda: _genes_in_table("ABCC11")),
    _case("mouse genes", "Actb-like names", genes(lambda n: [x.capitalize() for x in n]), "", expects="accepted or warned"),
    _case("gene date", "MARCH1 became 1-Mar in Excel", gene(0, "1-Mar"), "", expects="accepted or warned or refused"),
    _case("no genes", "all features are controls", h5(lambda f: put(f, "matrix/features/feature_type", np.array([b"Negative Control Probe"] * 594))), "gene"),
    _case("matrix negative", "a count of −3", h5(lambda f: f["matrix/data"].__setitem__(0, -3)), "cell_feature_matrix"),
    _case("matrix fractions", "normalised counts", h5(lambda f: put(f, "matrix/data", f["matrix/data"][:] * 0.37)), "cell_feature_matrix"),
    _case("matrix nan", "NaN counts", h5(lambda f: put(f, "matrix/data", np.where(f["matrix/data"][:] > 3, np.nan, 1.0))), "cell_feature_matrix"),
    _case("matrix index outside", "feature 99999", h5(lambda f: f["matrix/indices"].__setitem__(3, 99999)), "cell_feature_matrix"),
    _case("matrix index twice", "the same feature twice in a cell",
          h5(lambda f: f["matrix/indices"].__setitem__(1, f["matrix/indices"][0])), "cell_feature_matrix"),
    _case("matrix indptr falls", "pointers not rising", h5(lambda f: f["matrix/indptr"].__setitem__(5, 2**40)), "cell_feature_matrix"),
    _case("matrix shape huge", "shape says 2³¹ cells", h5(lambda f: f["matrix/shape"].__setitem__(1, 2**31 - 1)), "cell_feature_matrix", cpu_s=10),
    _case("matrix without barcodes", "removed", h5(lambda f: f["matrix"].__delitem__("barcodes")), "barcodes"),
    _case("matrix cut", "download broke off", cut(MATRIX, 0.7), "cell_feature_matrix"),
    _case("matrix is html", "a login page", write(MATRIX, "<!DOCTYPE html><html>sign in</html>"), "cell_feature_matrix"),
    _case("panel cut", "gene_panel.json cut", cut("outs/gene_panel.json", 0.5), "gene_panel", expects="refused or warned or accepted"),
    _case("no dapi", "morphology removed", remove("outs/morphology_focus"), "", expects="accepted or warned"),
    _case("dapi of another slide", "64 px wide, and states no pixel size, so it is only told",
          both(lambda: __import__("tifffile").imwrite("outs/morphology_focus/morphology_focus_0000.ome.tif", np.zeros((64, 64), np.uint16))),
          "morphology", expects="refused or warned"),
]  # fmt: skip
