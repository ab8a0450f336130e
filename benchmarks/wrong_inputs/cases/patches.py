"""Patch datasets, result files and caches in HDF5, through the jobs that read them."""
# ruff: noqa: E501 -- a case is a row of a table.

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.wrong_inputs.case import CANARY, Case, Step, both, command, cut, fifo, link, nothing, remove, replace, rows_of, stage, write
from benchmarks.wrong_inputs.cases.bundles import MATRIX, READ, h5, put
from benchmarks.wrong_inputs.phantoms import ROOT

LOCAL, CONTEXT, NOTES = "trio/patches_224x224.h5", "trio/patches_1024x1024.h5", "trio/annotations.json"
SECRET = "../outside/secret.txt"


def _config(module: str, name: str, /, **values: Any) -> Any:
    import importlib

    return getattr(importlib.import_module(f"nuclass_pipeline.config.{module}"), name)(**values)


IMPORT = stage(
    "data.trio.stage:import_trio",
    organ="lung",
    annotations=Path(NOTES),
    local_source=Path(LOCAL),
    context_source=Path(CONTEXT),
    label_map=ROOT / "config/labels.tsv",
    config=lambda: _config("image", "ImageConfig"),
    cells=Path("out/cells.parquet"),
    labels=Path("out/labels.parquet"),
    local=Path("out/patches_224x224.h5"),
    context=Path("out/patches_1024x1024.h5"),
)
EMBED = stage(
    "train.features.cells:embed_cells",
    cells=Path("imported/cells.parquet"),
    patches=Path("imported/patches_224x224.h5"),
    contexts=Path("imported/patches_1024x1024.h5"),
    labels=Path("imported/labels.parquet"),
    split=Path("imported/split.parquet"),
    organ="lung",
    local=Path("local.ckpt"),
    global_=Path("global.ckpt"),
    compute=lambda: _config("compute", "Compute", precision="32-true"),
    device="cpu",
    features=Path("out/cells.h5"),
)
PREDICT = stage(
    "evaluate.predict:predict_slide",
    features=Path("cells.h5"),
    checkpoint=Path("gate.ckpt"),
    cells=Path("imported/cells.parquet"),
    labels=Path("imported/labels.parquet"),
    split=Path("imported/split.parquet"),
    patches=Path("imported/patches_1024x1024.h5"),
    local=Path("out/local.parquet"),
    global_=Path("out/global.parquet"),
    gate=Path("out/gate.parquet"),
    seed=0,
)
SPLIT = stage(
    "data.splits:split_cells",
    cells=Path("imported/cells.parquet"),
    labels=Path("imported/labels.parquet"),
    patches=Path("imported/patches_224x224.h5"),
    role="train",
    config=lambda: _config("evaluation", "SplitConfig"),
    image=lambda: _config("image", "ImageConfig"),
    split=Path("out/split.parquet"),
)


def _split_imported() -> None:
    from nuclass_pipeline.data.splits import split_cells

    made = Path("made")
    files = {"cells": made / "cells.parquet", "labels": made / "labels.parquet", "patches": made / "patches_224x224.h5"}
    config = {"config": _config("evaluation", "SplitConfig"), "image": _config("image", "ImageConfig")}
    split_cells(**files, role="heldout", **config, split=Path("out/split.parquet"))


def import_and_split() -> None:
    """Import the patches, then split their cells, as two jobs."""
    from nuclass_pipeline.runtime import job

    IMPORT()
    Path("out").rename("made")
    with job("job.log", 1):
        _split_imported()


def notes(change: Callable[[dict[str, Any]], Any]) -> Step:
    """Return the step that changes the annotations."""

    def run() -> None:
        content = json.loads(Path(NOTES).read_text())
        Path(NOTES).write_text(json.dumps(change(content), allow_nan=True))

    return run


def first(**values: Any) -> Step:
    """Return the step that sets fields of the first annotation; None removes one."""

    def change(content: dict[str, Any]) -> dict[str, Any]:
        name = next(iter(content))
        content[name] = {key: value for key, value in (content[name] | values).items() if value is not None}
        return content

    return notes(change)


def external(path: str, name: str, shape: tuple[int, ...], source: str = SECRET) -> Step:
    """Return the step that lets a dataset show the bytes of another file."""

    def change(file: Any) -> None:
        del file[name]
        file.create_dataset(name, shape, "u1", external=[(source, 0, int(np.prod(shape)))])

    return h5(change, path)


def external_link(path: str, name: str, source: str = "../../outside/secret.h5") -> Step:
    """Return the step that puts an external link in place of a dataset."""
    import h5py

    def change(file: Any) -> None:
        del file[name]
        file[name] = h5py.ExternalLink(source, "/x")

    return both(_secret_h5, h5(change, path))


def _secret_h5() -> None:
    import h5py

    with h5py.File("elsewhere.h5", "w") as file:
        file["x"] = np.full((12, 224, 224, 3), 77, np.uint8)
        file["names"] = [CANARY] * 594


def virtual(path: str, name: str, source: str = "../elsewhere.h5") -> Step:
    """Return the step that lets a dataset be a window of a file elsewhere."""
    import h5py

    def change(file: Any) -> None:
        shape = file[name].shape
        layout = h5py.VirtualLayout(shape, "u1")
        layout[...] = h5py.VirtualSource(source, "x", shape)
        del file[name]
        file.create_virtual_dataset(name, layout, fillvalue=255)

    return both(_secret_h5, h5(change, path))


def _per_cell(path: str) -> None:
    import h5py

    with h5py.File(path, "r+") as file:
        images, keys = file["images"][:], [key.decode() for key in file["keys"][:]]
        del file["images"], file["keys"]
        for key, pixels in zip(keys, images, strict=True):
            file[key] = pixels


OTHER_ORDER = ["T_Cell", "Macrophage", "Fibroblast"]


def _other_order(file: Any) -> None:
    file.attrs["classes"] = OTHER_ORDER
    file.attrs["meta"] = json.dumps(json.loads(file.attrs["meta"]) | {"classes": OTHER_ORDER})


def _imported() -> None:
    labels = rows_of("out/labels.parquet")
    assert len(labels) == 12, len(labels)
    assert sorted(labels["label"].unique()) == ["Fibroblast", "Macrophage", "T_Cell"], sorted(labels["label"].unique())


def _coarse() -> None:
    import h5py

    with h5py.File("out/patches_224x224.h5") as file:
        assert (file.attrs["mpp"], file.attrs["side_px"]) == (0.5, 112), dict(file.attrs)


def _case(name: str, wrong: str, make: Step, says: str = "", door: Step = IMPORT, **named: Any) -> Case:
    needs = {IMPORT: ("trio",), EMBED: ("trio", "models"), PREDICT: ("trio", "models"), SPLIT: ("trio",)}.get(door, ("trio",))
    return Case("patches", name, wrong, make, door, says=says, needs=named.pop("needs", needs), cpu_s=named.pop("cpu_s", 10), **named)


def _keys(change: Callable[[Any], Any], path: str = LOCAL) -> Step:
    return h5(lambda file: put(file, "keys", change(file["keys"][:])), path)


SMALL = ("small",)
CASES = [
    _case("right", "nothing", nothing, expects="accepted", check=_imported),
    _case("right: embed", "nothing", nothing, "", EMBED, expects="accepted"),
    _case("right: predict", "nothing", nothing, "", PREDICT, expects="accepted or warned"),
    _case("keys (N, 1)", "a column", _keys(lambda k: k[:, None]), "keys", expects="accepted or refused", check=None),
    _case("keys fixed bytes", "S32", _keys(lambda k: k.astype("S32")), expects="accepted", check=_imported),
    _case("keys of numbers", "integers, and integers as ids", both(
        notes(lambda c: {str(n): v for n, v in enumerate(c.values())}), _keys(lambda k: np.arange(len(k))), _keys(lambda k: np.arange(len(k)), CONTEXT)),
        "keys", expects="accepted or refused"),
    _case("one dataset per cell", "the other documented layout", both(lambda: _per_cell(LOCAL), lambda: _per_cell(CONTEXT)), expects="accepted", check=_imported),
    _case("keys shuffled", "another order in the second file", h5(lambda f: (put(f, "keys", f["keys"][:][::-1]), put(f, "images", f["images"][:][::-1])), CONTEXT),
          expects="accepted", check=_imported),
    _case("key twice", "two patches of one cell", _keys(lambda k: np.array([k[1], *k[1:]], object)), "keys"),
    _case("keys short", "11 keys of 12 patches", _keys(lambda k: k[:-1]), "keys|images"),
    _case("keys missing", "no keys", h5(lambda f: f.__delitem__("keys"), LOCAL), "patches_224"),
    _case("cells without patches", "12 cells, 3 patches", h5(lambda f: (put(f, "keys", f["keys"][:3]), put(f, "images", f["images"][:3])), LOCAL), "patches"),
    _case("wrong side", "patches of 256 px", h5(lambda f: put(f, "images", np.zeros((12, 256, 256, 3), np.uint8)), LOCAL), "images|224"),
    _case("files exchanged", "224 and 1024 exchanged", lambda: (Path(LOCAL).rename("x"), Path(CONTEXT).rename(LOCAL), Path("x").rename(CONTEXT)), "images|224|1024"),
    _case("channels first", "(N, 3, 224, 224)", h5(lambda f: put(f, "images", np.moveaxis(f["images"][:], 3, 1)), LOCAL), "images"),
    _case("float patches", "0 to 1", h5(lambda f: put(f, "images", (f["images"][:] / 255).astype(np.float32)), LOCAL), "images"),
    _case("blank patches", "two local patches are white", h5(lambda f: f["images"].__setitem__(slice(0, 2), 255), LOCAL), "2 .*(tissue|image|white)", import_and_split, expects="warned"),
    _case("all patches blank", "all local patches are white", h5(lambda f: f["images"].__setitem__(..., 255), LOCAL), "tissue|image|white", import_and_split, expects="refused or warned"),
    _case("copied without image.h5", "virtual windows of a missing file", virtual(LOCAL, "images", "image.h5"), "image.h5|patches_224"),
    _case("virtual source elsewhere", "windows of ../elsewhere.h5", virtual(LOCAL, "images"), "patches_224"),
    _case("virtual source absolute", "windows of /etc/hostname", virtual(LOCAL, "images", "/etc/hostname"), "patches_224"),
    _case("external storage", "pixels are the bytes of a text", external(LOCAL, "images", (12, 224, 224, 3)), "patches_224"),
    _case("external storage of keys", "ids are the bytes of a text", external(LOCAL, "keys", (12,)), "patches_224"),
    _case("external link", "a link to another file", external_link(LOCAL, "images", "../elsewhere.h5"), "patches_224"),
    _case("soft link loop", "keys → keys", h5(lambda f: (f.__delitem__("keys"), f.__setitem__("keys", __import__("h5py").SoftLink("/keys"))), LOCAL), "patches_224"),
    _case("filter unknown", "a plugin that is not there", h5(lambda f: (f.__delitem__("images"), f.create_dataset("images", (12, 224, 224, 3), "u1",
          chunks=(1, 224, 224, 3), compression=32001, allow_unknown_filter=True)), LOCAL), "patches_224", expects="refused or warned"),
    _case("huge shape", "10¹² patches of fill value", h5(lambda f: (f.__delitem__("images"), f.create_dataset("images", (10**12, 224, 224, 3), "u1", chunks=(1, 224, 224, 3))), LOCAL),
          "patches_224"),
    _case("huge chunk", "a chunk of 3 GB", h5(lambda f: (f.__delitem__("images"), f.create_dataset("images", (12, 224, 224, 3), "u1", maxshape=(None, None, None, 3),
          chunks=(20000, 224, 224, 3), compression="gzip")), LOCAL), "patches_224"),
    _case("cut", "first half", cut(LOCAL, 0.5), "patches_224"),
    _case("fifo", "a FIFO", fifo(LOCAL), "patches_224"),
    _case("link to a device", "/dev/zero", link(LOCAL, "/dev/zero"), "patches_224"),
    _case("zarr", "a folder", both(remove(LOCAL), write(LOCAL + "/.zgroup", "{}")), "patches_224"),
    _case("annotations list", "a list of records", notes(lambda c: [{"cell_id": k} | v for k, v in c.items()]), "annotations.json"),
    _case("annotations empty", "{}", write(NOTES, "{}"), "annotations.json"),
    _case("annotations cut", "download broke off", cut(NOTES, 0.5), "annotations.json"),
    _case("annotations fifo", "a FIFO", fifo(NOTES), "annotations.json"),
    _case("annotations deep", "100,000 brackets", write(NOTES, '{"a":' * 100_000), "annotations.json"),
    _case("annotations twice", "a cell twice in the JSON", replace(NOTES, '{"cell000-1"', '{"cell001-1": {"class_id": "T_Cell", "centroid_x": 1, "centroid_y": 2}, "cell000-1"'),
          "annotations.json", expects="refused or warned"),
    _case("class alias", "cell_type in place of class_id", notes(lambda c: {k: {("cell_type" if f == "class_id" else f): x for f, x in v.items()} for k, v in c.items()}),
          "cell_type", expects="warned", check=_imported),
    _case("no pixel size", "no micron_per_pixel", notes(lambda c: {k: v | {"micron_per_pixel": None} for k, v in c.items()}), "pixel size", expects="warned", check=_imported),
    _case("two pixel sizes", "one cell at 0.5 µm", first(micron_per_pixel=0.5), "micron_per_pixel"),
    _case("pixel sizes contradict", "0.5 µm in a patch file", h5(lambda f: f.attrs.__setitem__("mpp", 0.5), CONTEXT), "mpp"),
    _case("coarser pixels", "all at 0.5 µm", notes(lambda c: {k: v | {"micron_per_pixel": 0.5} for k, v in c.items()}), "0.5 µm", expects="warned", check=_coarse),
    _case("finer pixels", "all at 0.2125 µm, so the field is too small", notes(lambda c: {k: v | {"micron_per_pixel": 0.2125} for k, v in c.items()}), "local_um"),
    _case("pixel size in nm", "250", notes(lambda c: {k: v | {"micron_per_pixel": 250} for k, v in c.items()}), "micron_per_pixel"),
    _case("tissue of another organ", "Human Colon Cancer FFPE on a lung sheet", notes(lambda c: {k: v | {"tissue_type": "Human Colon Cancer FFPE"} for k, v in c.items()}), "tissue_type"),
    _case("tissue unknown", "FFPE", notes(lambda c: {k: v | {"tissue_type": "FFPE"} for k, v in c.items()}), "ffpe", expects="warned"),
    _case("rows that failed", "two rows of zeros without ids, of cells that are not annotated", both(notes(lambda c: dict(list(c.items())[:10])), *(
          h5(lambda f: (f["images"].__setitem__(slice(10, 12), np.zeros((2, *f["images"].shape[1:]), "u1")), put(f, "keys", np.array([*f["keys"][:10], b"", b""], object))), path) for path in (LOCAL, CONTEXT))),
          "2 of 12 patches", expects="warned"),
    _case("needed rows that failed", "two rows of zeros without ids", _keys(lambda k: np.array([*k[:10], b"", b""], object)), "no patch for 2 cells"),
    _case("grey patches", "(N, 224, 224)", h5(lambda f: put(f, "images", f["images"][:][..., 0]), LOCAL), expects="accepted", check=_imported),
    _case("one dataset per cell: external link", "a link to another file", both(lambda: _per_cell(LOCAL), external_link(LOCAL, "cell000-1")), "cell000-1"),
    _case("one dataset per cell: group", "a group in place of a patch", both(lambda: _per_cell(LOCAL), h5(lambda f: (f.__delitem__("cell000-1"), f.create_group("cell000-1")), LOCAL)), "cell000-1"),
    _case("one dataset per cell: two sides", "one patch of 256 px", both(lambda: _per_cell(LOCAL), h5(lambda f: put(f, "cell001-1", np.zeros((256, 256, 3), np.uint8)), LOCAL)), "cell001-1"),
    _case("centroid nan", "NaN", first(centroid_x=float("nan")), "centroid_x"),
    _case("centroid text", "'12,5'", first(centroid_x="12,5"), "centroid_x"),
    _case("centroid null", "no value", first(centroid_y=None), "centroid_y"),
    _case("class missing", "no class_id", first(class_id=None), "class_id"),
    _case("class number", "7", first(class_id=7), "class_id|7", expects="refused or warned"),
    _case("class unknown", "not in the label map", first(class_id="Schwann"), "Schwann", expects="warned"),
    _case("no class known", "all unknown", notes(lambda c: {k: v | {"class_id": "Foo"} for k, v in c.items()}), "Foo|class", expects="warned or refused"),
    _case("centroids in µm", "all centroids within 60 px", notes(lambda c: {k: v | {"centroid_x": n * 5.0, "centroid_y": n * 2.0} for n, (k, v) in enumerate(c.items())}),
          "centroid", expects="refused or warned or accepted"),
    _case("embed: cell missing in the context", "11 of 12", h5(lambda f: (put(f, "keys", f["keys"][:-1]), put(f, "images", f["images"][:-1])), "imported/patches_1024x1024.h5"),
          "patches_1024", EMBED, expects="refused or warned"),
    _case("embed: external pixels", "context shows the bytes of a text", external("imported/patches_1024x1024.h5", "images", (12, 1024, 1024, 3)), "patches_1024", EMBED),
    _case("predict: features of other cells", "ids changed", h5(lambda f: put(f, "cell_id", [f"x{n}" for n in range(12)]), "cells.h5"), "cells.h5", PREDICT),
    _case("predict: features not finite", "NaN", h5(lambda f: f["local_p"].__setitem__(0, np.nan), "cells.h5"), "cells.h5", PREDICT),
    _case("predict: probabilities above one", "× 3", h5(lambda f: f["local_p"].__setitem__(..., f["local_p"][:] * 3), "cells.h5"), "cells.h5", PREDICT),
    _case("predict: features of another model", "other sizes", h5(lambda f: put(f, "local_feature", np.zeros((12, 7), np.float16)), "cells.h5"), "cells.h5|gate", PREDICT),
    _case("predict: classes in another order", "features of a training with the classes in another order", h5(_other_order, "cells.h5"), "cells.h5|class", PREDICT),
    _case("predict: classes contradict", "attribute classes is not that of meta", h5(lambda f: f.attrs.__setitem__("classes", OTHER_ORDER), "cells.h5"),
          "cells.h5|class", PREDICT),
    _case("predict: features cut", "half", cut("cells.h5", 0.5), "cells.h5", PREDICT),
    _case("predict: external features", "an external link", external_link("cells.h5", "local_feature", "elsewhere.h5"), "cells.h5", PREDICT),
    _case("matrix external link", "barcodes of another file", external_link(MATRIX, "matrix/features/name", "../elsewhere.h5"), "cell_feature_matrix", READ, needs=SMALL),
    _case("matrix external storage", "counts are the bytes of a text", external(MATRIX, "matrix/data", (21772,)), "cell_feature_matrix", READ, needs=SMALL),
    _case("matrix huge attribute", "barcodes of 10⁹ fill values", h5(lambda f: (f["matrix"].__delitem__("barcodes"), f["matrix"].create_dataset(
          "barcodes", (10**9,), "S10", chunks=(1000,), compression="gzip")), MATRIX), "cell_feature_matrix", READ, needs=SMALL),
    _case("export: slide without image", "virtual patches without image.h5", both(virtual("imported/patches_224x224.h5", "images", "image.h5"),
          lambda: Path(NOTES).rename("imported/annotations.json")), "image.h5|patches_224", command("export-trio", "imported", "out/copy")),
    _case("split: labels of other cells", "another slide's labels", lambda: rows_of("imported/labels.parquet").assign(
          cell_id=lambda t: "x" + t.cell_id).to_parquet("imported/labels.parquet"), "labels.parquet|cells", SPLIT),
    _case("split: all unresolved", "no labelled cell", lambda: _unresolved(), "label|class", SPLIT, expects="refused or warned"),
]  # fmt: skip


def _unresolved() -> None:
    rows_of("imported/labels.parquet").assign(label="Unresolved", confidence=0.0, reason="weak support").to_parquet(
        "imported/labels.parquet"
    )
