import zipfile

import pandas as pd
import pytest

from nuclass_pipeline.config.loading.same_files import SAMPLE_BYTES, SAMPLES, cells_apart, same_bundle, same_file
from nuclass_pipeline.config.slides import Slide

MATRIX = bytes(range(256)) * 20_000


def bundle(folder, name, matrix=MATRIX, key="cell_feature_matrix.h5"):
    (folder / name).mkdir()
    (folder / name / key).write_bytes(matrix)
    return slide(name, folder / name)


def packed(folder, name, matrix=MATRIX, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(folder / f"{name}.zip", "w", compression) as archive:
        archive.writestr("outs/experiment.xenium", "{}")
        archive.writestr("outs/cell_feature_matrix.h5", matrix)
    return slide(name, folder / f"{name}.zip")


def slide(name, path):
    return Slide(slide=name, kind="xenium", organ="lung", bundle=str(path), image=f"{name}.tif")


OTHER = MATRIX[:-1] + b"x"


def test_bundles_are_compared_by_their_matrix_packed_or_not(tmp_path):
    one, copy, other = (bundle(tmp_path, name, matrix) for name, matrix in (("a", MATRIX), ("b", MATRIX), ("c", OTHER)))
    zipped, stored = packed(tmp_path, "d"), packed(tmp_path, "e", compression=zipfile.ZIP_STORED)
    assert same_bundle(one, copy) == same_bundle(one, zipped) == same_bundle(zipped, stored) == "bundle"
    assert same_bundle(one, other) is same_bundle(zipped, other) is same_bundle(packed(tmp_path, "f", OTHER), zipped) is None
    assert same_bundle(bundle(tmp_path, "g", key="cells.parquet"), bundle(tmp_path, "h", key="cells.parquet")) == "bundle"


def test_a_broken_or_missing_bundle_is_left_to_its_job(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04 broken")
    (tmp_path / "empty").mkdir()
    broken, empty, gone = (slide(name, tmp_path / file) for name, file in (("x", "x.zip"), ("y", "empty"), ("z", "gone")))
    assert same_bundle(broken, empty) is same_bundle(empty, gone) is same_bundle(gone, broken) is None


def test_downloads_are_compared_by_address():
    def row(name, address):
        start = f"resources/xenium/{name}"
        image = f"{start}/{name}_he_image.ome.tif"
        urls = {"bundle_url": f"https://host/{address}.zip", "image_url": f"https://host/{name}.tif"}
        return Slide(slide=name, kind="xenium", organ="lung", bundle=f"{start}/outs", image=image, **urls)

    one, two, other = row("a", "u"), row("b", "u"), row("c", "v")
    assert same_bundle(one, two) == "bundle_url"
    assert same_bundle(one, other) is None


@pytest.mark.parametrize("place", [0, 40 * SAMPLE_BYTES, 80 * SAMPLE_BYTES - 1])
def test_large_images_are_compared_in_pieces(tmp_path, place):
    size = 80 * SAMPLE_BYTES
    for name in "ab":
        with (tmp_path / name).open("wb") as stream:
            stream.truncate(size)
    assert same_file(str(tmp_path / "a"), str(tmp_path / "b"))
    with (tmp_path / "b").open("r+b") as stream:
        # In the middle of a piece, because the pieces leave gaps in a file of this size.
        stream.seek(round(place / (size - SAMPLE_BYTES) * (SAMPLES - 1)) * (size - SAMPLE_BYTES) // (SAMPLES - 1))
        stream.write(b"x")
    assert not same_file(str(tmp_path / "a"), str(tmp_path / "b"))


def write_cells(folder, left_um):
    folder.mkdir()
    xy = pd.DataFrame({"cell_id": ["a", "b"], "x_centroid": [left_um, left_um + 50.0], "y_centroid": [0.0, 50.0]})
    xy.to_parquet(folder / "cells.parquet")
    return Slide.model_construct(slide=folder.name, kind="xenium", bundle=str(folder))


@pytest.mark.parametrize(("left_um", "apart"), [(10.0, False), (50.0, False), (51.0, True), (-51.0, True)])
def test_cores_of_one_run_have_cells_apart(tmp_path, left_um, apart):
    assert cells_apart(write_cells(tmp_path / "a", 0.0), write_cells(tmp_path / "b", left_um)) is apart
    assert not cells_apart(write_cells(tmp_path / "c", 0.0), Slide.model_construct(slide="d", kind="xenium", bundle=str(tmp_path)))


def test_a_matrix_that_was_saved_again_is_found_by_the_cells(tmp_path):
    one, other = write_cells(tmp_path / "a", 0.0), write_cells(tmp_path / "b", 0.0)
    (tmp_path / "a/cell_feature_matrix.h5").write_bytes(b"1")
    (tmp_path / "b/cell_feature_matrix.h5").write_bytes(b"22")
    assert same_bundle(one, other) == "bundle"
