"""Pixel sizes that files claim, in every unit and place."""

import numpy as np
import pytest
import tifffile

from nuclass_pipeline.data.image.slide import HeImage
from nuclass_pipeline.data.segmentation.stage import measure_image
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_json

PIXELS = np.random.default_rng(0).integers(60, 250, (40, 50, 3), dtype=np.uint8)


def write_ome(path, size, unit=None, size_y=None, resolution=None):
    claims = {"axes": "YXS", "PhysicalSizeX": size, "PhysicalSizeY": size if size_y is None else size_y}
    claims |= {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit} if unit else {}
    tags = {"resolution": resolution, "resolutionunit": "CENTIMETER"} if resolution else {}
    tifffile.imwrite(path, PIXELS, photometric="rgb", ome=True, metadata=claims, **tags)
    return path


UNITS = {None: 0.25, "µm": 0.25, "nm": 250, "mm": 0.00025, "cm": 0.000025, "m": 2.5e-7, "in": 0.25 / 25_400, "Å": 2500}


@pytest.mark.parametrize("unit", UNITS)
def test_units_are_converted(tmp_path, unit):
    with HeImage(write_ome(tmp_path / "he.ome.tif", UNITS[unit], unit)) as he:
        assert he.embedded_mpp == pytest.approx(0.25)
        assert he.notes == []


@pytest.mark.parametrize("unit", ["pixel", "reference frame"])
def test_a_unit_that_is_no_length_is_no_claim(tmp_path, unit):
    path = write_ome(tmp_path / "he.ome.tif", 1.0, unit)
    with HeImage(path) as he:
        assert he.embedded_mpp is None
    with pytest.raises(UserError, match="states no pixel size"):
        measure_image(image=path, registration=tmp_path / "registration.json")


TAGS = {"CENTIMETER": (40_000, 0.25), "INCH": (101_600, 0.25)}


@pytest.mark.parametrize("unit", TAGS)
def test_resolution_tags_are_converted(tmp_path, unit):
    per_unit, mpp = TAGS[unit]
    tifffile.imwrite(tmp_path / "he.tif", PIXELS, photometric="rgb", resolution=(per_unit, per_unit), resolutionunit=unit)
    with HeImage(tmp_path / "he.tif") as he:
        assert he.embedded_mpp == pytest.approx(mpp)


@pytest.mark.parametrize("dpi", [1, 72, 96, 300, 600])
def test_the_resolution_of_a_screen_or_printer_is_no_claim(tmp_path, dpi):
    tifffile.imwrite(tmp_path / "he.tif", PIXELS, photometric="rgb", resolution=(dpi, dpi), resolutionunit="INCH")
    with HeImage(tmp_path / "he.tif") as he:
        assert he.embedded_mpp is None
        assert he.notes == []


PROBLEMS = {
    "x and y differ beyond reason": (lambda path: write_ome(path, 0.25, size_y=250), "is 0.25 × 250 µm, too oblong for a slide"),
    "two places differ": (lambda path: write_ome(path, 0.25, resolution=(20_000, 20_000)), "contradict each other: 0.25, 0.5 µm"),
    "they differ in y": (lambda path: write_ome(path, 0.25, resolution=(40_000, 20_000)), "contradict each other: 0.25, 0.5 µm"),
    "not a number": (lambda path: write_ome(path, "NaN"), "is nan, not a positive number"),
    "zero": (lambda path: write_ome(path, 0.0), "is 0.0, not a positive number"),
    "text": (lambda path: write_ome(path, "0,25"), "cannot be read"),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_a_wrong_claim_stops_only_where_it_is_needed(tmp_path, case, caplog):
    write, problem = PROBLEMS[case]
    write(tmp_path / "he.ome.tif")
    with pytest.raises(UserError, match=rf"he\.ome\.tif: mpp: its pixel size.*{problem}.*column mpp of the slide sheet"):
        measure_image(image=tmp_path / "he.ome.tif", registration=tmp_path / "registration.json")
    measure_image(image=tmp_path / "he.ome.tif", mpp=0.25, registration=tmp_path / "registration.json")
    assert read_json(tmp_path / "registration.json")["embedded_mpp"] is None
    assert problem in caplog.text
    with HeImage(tmp_path / "he.ome.tif") as he:
        assert problem in he.notes[0]


OBLONG = {
    "OME": lambda path: write_ome(path, 0.25, size_y=0.5),
    "OME in nm": lambda path: write_ome(path, 250, "nm", size_y=500),
    "tags": lambda path: tifffile.imwrite(path, PIXELS, photometric="rgb", resolution=(40_000, 20_000), resolutionunit="CENTIMETER"),
    "both": lambda path: write_ome(path, 0.25, size_y=0.5, resolution=(40_000, 20_000)),
}


@pytest.mark.parametrize("place", OBLONG)
def test_pixels_that_are_not_square_have_two_sides(tmp_path, place):
    OBLONG[place](tmp_path / "he.ome.tif")
    with HeImage(tmp_path / "he.ome.tif") as he:
        assert he.embedded_aspect == pytest.approx(2)
        assert he.embedded_mpp == pytest.approx(np.sqrt(0.125))
        use = "taken as square ones, because the given size or alignment is used"
        assert he.notes == [f"its pixels are 0.25 × 0.5 µm by the file, and are {use}"]
        assert he.squared(2.0).notes == ["its pixels are 0.25 × 0.5 µm by the file, and are resampled to square ones"]
    measure_image(image=tmp_path / "he.ome.tif", registration=tmp_path / "registration.json")
    assert read_json(tmp_path / "registration.json")["sides_um"] == pytest.approx([0.25, 0.5])


@pytest.mark.parametrize("size_y", [0.25, 0.2501, 0.2524, 0.2476])
def test_sides_that_differ_by_less_than_1_percent_are_equal(tmp_path, size_y):
    measure_image(image=write_ome(tmp_path / "he.ome.tif", 0.25, size_y=size_y), registration=tmp_path / "registration.json")
    record = read_json(tmp_path / "registration.json")
    assert (record["matrix"], record["xenium_mpp"], record["sides_um"]) == (np.eye(3).tolist(), 0.25, [0.25, 0.25])


def test_the_size_of_the_sheet_holds_for_both_sides(tmp_path):
    measure_image(image=write_ome(tmp_path / "he.ome.tif", 0.25, size_y=0.5), mpp=0.3, registration=tmp_path / "registration.json")
    assert read_json(tmp_path / "registration.json")["sides_um"] == [0.3, 0.3]
