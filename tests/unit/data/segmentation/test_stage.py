"""An H&E without Xenium: its scale, and its nuclei as cells."""

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy.spatial import KDTree

from nuclass_pipeline.config.image import ImageConfig, SegmentationConfig
from nuclass_pipeline.config.synthetic import SyntheticConfig
from nuclass_pipeline.data.alignment import read_alignment, read_registration
from nuclass_pipeline.data.image.pictures import DOT_COLOR, KEY_PX
from nuclass_pipeline.data.image.pyramid import build_image
from nuclass_pipeline.data.segmentation.stage import NUCLEI_DETAIL_UM, measure_image, segment_nuclei
from nuclass_pipeline.data.xenium.read import read_cell_table
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_json, read_table
from nuclass_pipeline.phantom import make_slide
from nuclass_pipeline.schemas import CELLS, LABELS, NUCLEI
from nuclass_pipeline.units import Micron
from tests.unit.data.segmentation.shoelace import polygon_area

PIXELS = np.full((600, 700, 3), 240, np.uint8)


def write_he(path, mpp=None):
    size = {"metadata": {"axes": "YXS", "PhysicalSizeX": mpp}} if mpp else {}
    tifffile.imwrite(path, PIXELS, photometric="rgb", tile=(256, 256), ome=mpp is not None, **size)
    return path


@pytest.mark.parametrize(("given", "claimed", "used"), [(0.2738, 0.2125, 0.2738), (0.2738, None, 0.2738), (None, 0.5, 0.5)])
def test_the_pixel_size_of_the_sheet_goes_before_that_of_the_file(tmp_path, given, claimed, used):
    measure_image(image=write_he(tmp_path / "he.ome.tif", claimed), mpp=given, registration=tmp_path / "registration.json")
    mapping, record = read_registration(tmp_path / "registration.json")
    assert mapping.mpp_he == pytest.approx(used)
    assert mapping.to_image(Micron(np.array([[10.0, 20]])), 0.25) == pytest.approx(np.array([[40, 80]]))
    assert (record["embedded_mpp"], record["height_px"], record["width_px"]) == (claimed, 600, 700)


@pytest.mark.parametrize(
    ("given", "claimed", "problem"), [(None, None, "states no pixel size"), (None, 40, "40 µm"), (27.38, 0.5, "27.38 µm")]
)
def test_a_size_that_no_microscope_has_is_one_line(tmp_path, given, claimed, problem):
    with pytest.raises(UserError, match=rf"he\.ome\.tif: mpp: .*{problem}.* column mpp of the slide sheet"):
        measure_image(image=write_he(tmp_path / "he.ome.tif", claimed), mpp=given, registration=tmp_path / "registration.json")
    assert not (tmp_path / "registration.json").exists()


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """`image.h5` of a synthetic slide, and where its nuclei are: (N, 2) in µm of the H&E."""
    folder = tmp_path_factory.mktemp("phantom")
    files = {name: folder / file for name, file in {"manifest": "outs/experiment.xenium", "image": "he.tif", "alignment": "a.csv"}.items()}
    make_slide(organ="pancreas", seed=4, config=SyntheticConfig(cells=900), truth=folder / "truth.parquet", **files)
    mapping = read_alignment(files["alignment"], 0.2125)
    measure_image(image=files["image"], mpp=mapping.mpp_he, registration=folder / "registration.json")
    build_image(he=files["image"], registration=folder / "registration.json", config=ImageConfig(), image=folder / "image.h5")
    cells = read_cell_table(folder / "outs")
    xy_um = mapping.to_he(Micron(cells[["x_centroid", "y_centroid"]].to_numpy(dtype=float))) * mapping.mpp_he
    return folder / "image.h5", xy_um


def outputs(folder):
    names = {"cells": "cells.parquet", "labels": "labels.parquet", "nuclei": "nuclei.parquet", "picture": "nuclei.png"}
    return {name: folder / file for name, file in names.items()}


def test_nuclei_take_the_place_of_cells(phantom, tmp_path):
    image, truth_um = phantom
    segment_nuclei(image=image, config=SegmentationConfig(tile_px=1024), gpu=False, **outputs(tmp_path))
    cells, labels, nuclei = (
        read_table(tmp_path / f"{schema.name}.parquet", schema, [column.name for column in schema.columns])
        for schema in (CELLS, LABELS, NUCLEI)
    )
    assert cells["cell_id"].equals(labels["cell_id"])
    assert cells["cell_id"].equals(nuclei["cell_id"])
    found_um = cells[["x_um", "y_um"]].to_numpy()
    near_um, _ = KDTree(found_um).query(truth_um)
    assert (near_um < 2.4).mean() > 0.9
    assert len(cells) < 1.15 * len(truth_um)
    assert (cells["transcripts"] == 0).all()
    assert cells["nucleus_transcripts"].isna().all()
    assert set(labels["label"]) == {"Unresolved"}
    assert set(labels["reason"]) == {"no transcripts"}
    polygons_um = [outline.reshape(-1, 2) for outline in nuclei["polygon_um"]]
    assert all((polygon[0] == polygon[-1]).all() for polygon in polygons_um)
    areas_um2 = [polygon_area(polygon) for polygon in polygons_um]
    assert areas_um2 == pytest.approx(cells["nucleus_area_um2"].to_numpy(), rel=0.1, abs=1)
    assert np.array([p.mean(axis=0) for p in polygons_um]) == pytest.approx(found_um, abs=1.5)


def test_the_picture_shows_centroids_and_outlines(phantom, tmp_path):
    image, _ = phantom
    segment_nuclei(image=image, config=SegmentationConfig(), gpu=False, **outputs(tmp_path))
    with Image.open(tmp_path / "nuclei.png") as picture:
        assert picture.size == (1200, 600 + KEY_PX)
        green = (np.asarray(picture) == DOT_COLOR).all(axis=2)
        black = (np.asarray(picture)[:600, :600] == 0).all(axis=2)
    assert green[:, :600].sum() > 900
    assert green[:, 600:].sum() > 2000
    # The square of the right panel, 2 px wide: its sides have 125 µm at the scale of the left panel.
    with h5py.File(image) as file:
        side_px = NUCLEI_DETAIL_UM * 600 / (file.attrs["mpp"] * max(file["level_0"].shape))
    assert np.ptp(np.argwhere(black), axis=0) == pytest.approx([side_px, side_px], abs=2)


def test_an_image_without_a_nucleus_is_one_line_and_leaves_nothing(tmp_path):
    measure_image(image=write_he(tmp_path / "he.ome.tif", 0.25), registration=tmp_path / "registration.json")
    build_image(he=tmp_path / "he.ome.tif", registration=tmp_path / "registration.json", config=ImageConfig(), image=tmp_path / "image.h5")
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=r"image\.h5: level_0: watershed found no nucleus\. .*segmentation\.threshold_od"):
        segment_nuclei(image=tmp_path / "image.h5", config=SegmentationConfig(), gpu=False, **outputs(tmp_path / "out"))
    assert not list((tmp_path / "out").iterdir())


def test_missing_weights_are_reported_before_any_tile_is_read(phantom, tmp_path):
    config = SegmentationConfig(method="cellpose", weights=str(tmp_path / "cpsam"))
    with pytest.raises(UserError, match=r"cpsam: weights: the file does not exist\. hf download"):
        segment_nuclei(image=phantom[0], config=config, gpu=False, **outputs(tmp_path / "out"))


def test_tiles_of_the_image_give_the_nuclei_of_the_whole(phantom, tmp_path):
    """The overlap shrinks with the tile, so that small ones still overlap."""
    image, _ = phantom
    with h5py.File(image) as file:
        assert max(file["level_0"].shape) > 1024
    tables = []
    for tile_px in (512, 4096):
        segment_nuclei(image=image, config=SegmentationConfig(tile_px=tile_px), gpu=False, **outputs(tmp_path / str(tile_px)))
        tables.append(read_table(tmp_path / f"{tile_px}/cells.parquet", CELLS))
    small, whole = tables
    assert len(small) == pytest.approx(len(whole), abs=2)
    distance_um, _ = KDTree(whole[["x_um", "y_um"]].to_numpy()).query(small[["x_um", "y_um"]].to_numpy())
    assert (distance_um < 0.3).mean() > 0.99


def test_the_registration_of_an_image_alone_has_no_verdict(tmp_path):
    measure_image(image=write_he(tmp_path / "he.ome.tif", 0.25), registration=tmp_path / "registration.json")
    assert "verdict" not in read_json(tmp_path / "registration.json")
