"""`image.h5`: its pixel size, its levels and its chunks."""

import logging

import numpy as np
import pytest
import tifffile
from PIL import Image

from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.image.pyramid import build_image
from nuclass_pipeline.data.image.windows import open_image
from nuclass_pipeline.data.segmentation.stage import measure_image
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import write_json


def smooth_noise(height, width, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def write_tiff(path, pixels, **options):
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        writer.write(pixels, photometric="rgb", tile=(256, 256), **options)
    return path


def write_registration(path, mpp_he):
    write_json({"matrix": np.diag([mpp_he / 0.2125, mpp_he / 0.2125, 1]).tolist(), "xenium_mpp": 0.2125, "residual_um": 0.0}, path)
    return path


def test_image_has_the_target_pixel_size_and_a_mean_pyramid(tmp_path):
    pixels = np.full((800, 1200, 3), 240, dtype=np.uint8)
    pixels[300:340, 500:580] = (100, 60, 140)
    config = ImageConfig()
    build_image(
        he=write_tiff(tmp_path / "he.tif", pixels),
        registration=write_registration(tmp_path / "registration.json", 0.5),
        config=config,
        image=tmp_path / "image.h5",
    )
    with open_image(tmp_path / "image.h5") as file:
        level = file["level_0"][...]
        assert level.shape == (1600, 2400, 3)
        assert (level[620:660, 1020:1140] == (100, 60, 140)).all()
        assert (level[:580] == 240).all()
        two = level.reshape(800, 2, 1200, 2, 3).mean(axis=(1, 3))
        assert np.abs(file["level_1"][...] - two).max() <= 0.5
        assert file["level_1"].attrs["mpp"] == 0.5


@pytest.mark.parametrize(("height", "width"), [(1, 900), (700, 1300), (513, 257), (1537, 30), (1281, 1025)])
def test_every_level_holds_the_means_of_the_finer_one(tmp_path, height, width):
    """Also where sides are odd, lower than a chunk, or a single pixel."""
    path = write_tiff(tmp_path / "he.tif", np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))
    registration = write_registration(tmp_path / "registration.json", 0.25)
    build_image(he=path, registration=registration, config=ImageConfig(), image=tmp_path / "image.h5", threads=3)
    with open_image(tmp_path / "image.h5") as file:
        assert (file["level_0"][...] == tifffile.imread(path)).all()
        levels = sum(name.startswith("level_") for name in file)
        assert max(file[f"level_{levels - 1}"].shape) <= 512 < max(file[f"level_{levels - 2}"].shape)
        for number in range(1, levels):
            finer, level = file[f"level_{number - 1}"][...].astype(int), file[f"level_{number}"][...]
            sides = zip(level.shape[:2], finer.shape[:2], strict=True)
            rows, columns = (np.minimum(np.arange(2 * side), full - 1) for side, full in sides)
            total = finer[np.ix_(rows, columns)].reshape(level.shape[0], 2, level.shape[1], 2, 3).sum(axis=(1, 3))
            assert (level == (total + 2) // 4).all()
            assert file[f"level_{number}"].attrs["mpp"] == 0.25 * 2**number


def test_rows_are_not_all_of_the_progress_because_the_tissue_follows(tmp_path, caplog):
    path = write_tiff(tmp_path / "he.tif", smooth_noise(600, 300))
    registration = write_registration(tmp_path / "registration.json", 0.25)
    with caplog.at_level(logging.INFO):
        build_image(he=path, registration=registration, config=ImageConfig(), image=tmp_path / "image.h5")
    assert [line for line in caplog.messages if line.startswith("progress")] == [
        "progress 0.00 %: 0 of 600 rows of pixels",
        "progress 80.00 %: 600 of 600 rows of pixels",
        "progress 80.00 %: finding the tissue",
    ]


def test_chunks_that_do_not_shrink_are_stored_as_they_are(tmp_path):
    """Noise does not shrink, glass does; both come back."""
    pixels = np.random.default_rng(0).integers(0, 256, (512, 256, 3), dtype=np.uint8)
    pixels[256:] = 243
    registration = write_registration(tmp_path / "registration.json", 0.25)
    path = write_tiff(tmp_path / "he.tif", pixels)
    build_image(he=path, registration=registration, config=ImageConfig(), image=tmp_path / "image.h5")
    with open_image(tmp_path / "image.h5") as file:
        chunks = [file["level_0"].id.get_chunk_info(number) for number in range(2)]
        assert [chunk.filter_mask for chunk in chunks] == [1, 0]
        assert chunks[0].size == 256 * 256 * 3
        assert chunks[1].size < 10_000
        assert (file["level_0"][...] == pixels).all()


def test_a_truncated_image_is_one_line_and_leaves_nothing(tmp_path):
    path = write_tiff(tmp_path / "he.tif", smooth_noise(2000, 2000), compression="jpeg")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    registration = write_registration(tmp_path / "registration.json", 0.25)
    with pytest.raises(UserError, match=r"he\.tif"):
        build_image(he=path, registration=registration, config=ImageConfig(), image=tmp_path / "image.h5")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["he.tif", "registration.json"]


@pytest.mark.parametrize("mpp", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("axis", [0, 1])
def test_pixels_that_are_not_square_give_the_image_of_square_ones(tmp_path, axis, mpp):
    """The mean of two rows, or of two columns, is one stored pixel; without resampling the images differ in size."""
    square = smooth_noise(900, 1300)
    shape = (450, 2, 1300, 3) if axis == 0 else (900, 650, 2, 3)
    oblong = square.reshape(shape).mean(axis=1 + axis).round().astype(np.uint8)
    sides = {"PhysicalSizeX": 0.25 * (1 + axis), "PhysicalSizeY": 0.25 * (2 - axis)}
    levels = []
    for name, pixels, claim in (("square", square, {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}), ("oblong", oblong, sides)):
        path = tmp_path / f"{name}.ome.tif"
        tifffile.imwrite(path, pixels, photometric="rgb", tile=(256, 256), ome=True, metadata={"axes": "YXS", **claim})
        measure_image(image=path, registration=tmp_path / f"{name}.json")
        build_image(he=path, registration=tmp_path / f"{name}.json", config=ImageConfig(mpp=mpp), image=tmp_path / f"{name}.h5")
        with open_image(tmp_path / f"{name}.h5") as file:
            levels.append(file["level_0"][...].astype(int))
    assert levels[0].shape == levels[1].shape == (round(900 * 0.25 / mpp), round(1300 * 0.25 / mpp), 3)
    difference = np.abs(levels[0] - levels[1])
    assert difference.mean() < 1.2
    assert np.quantile(difference, 0.99) < 8
    # A shift of one row would differ by far more.
    assert np.abs(levels[0][1:] - levels[1][:-1]).mean() > 2 * difference.mean()
