import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nuclass_pipeline.data.image.resample import Axis, keys_cubic, resample
from nuclass_pipeline.data.image.slide import HeImage


def smooth_noise(height, width, seed=0):
    """Grey levels from 60 to 195, which the overshoot of a cubic does not clip."""
    coarse = np.random.default_rng(seed).integers(60, 196, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))


def write_tiff(path, pixels, **options):
    tifffile.imwrite(path, pixels, **{"photometric": "rgb", "tile": (128, 128), **options})
    return path


def resampled(path, scale, band_px, threads=1):
    with HeImage(path) as he:
        return list(resample(he, scale, band_px, threads))


def pillow(pixels, scale):
    """Resample from the same edge at the same scale, which is not that of the rounded sides."""
    height, width = (round(side * scale) for side in pixels.shape[:2])
    source = Image.fromarray(np.pad(pixels, ((0, 9), (0, 9), (0, 0)), mode="edge"))
    return np.asarray(source.resize((width, height), Image.Resampling.BICUBIC, box=(0, 0, width / scale, height / scale)))


@pytest.mark.parametrize("scale", [0.2738 / 0.25, 0.1369 / 0.25, 1, 0.5, 0.11, 2.3])
def test_it_is_the_bicubic_of_pillow(tmp_path, scale):
    pixels = smooth_noise(300, 2100)
    found = np.concatenate(resampled(write_tiff(tmp_path / "he.tif", pixels), scale, 256)).astype(int)
    expected = pillow(pixels, scale)
    assert found.shape == expected.shape
    inner = np.s_[: -int(2 * scale + 3), : -int(2 * scale + 3)]
    assert np.abs(found - expected)[inner].max() <= 1
    assert np.abs(found - expected).mean() < 0.25


def test_an_image_at_its_own_scale_stays_as_it_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (300, 200, 3), dtype=np.uint8)
    assert (np.concatenate(resampled(write_tiff(tmp_path / "he.tif", pixels), 1, 100)) == pixels).all()


@pytest.mark.parametrize("scale", [0.2738 / 0.25, 0.37])
def test_bands_and_threads_change_no_pixel(tmp_path, scale):
    path = write_tiff(tmp_path / "he.tif", smooth_noise(700, int(2100 / scale)))
    whole = np.concatenate(resampled(path, scale, 5000))
    for band_px, threads in ((256, 1), (100, 3), (1, 2)):
        bands = resampled(path, scale, band_px, threads)
        assert {len(band) for band in bands[:-1]} == {band_px}
        assert (np.concatenate(bands) == whole).all()


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 2000),
    scale=st.floats(0.15, 3),
    band_px=st.sampled_from([1, 37, 256, 1000]),
    strip_px=st.sampled_from([1, 37, 240, 700]),
)
def test_bands_change_no_pixel_whatever_scale_and_strips(tmp_path_factory, height, scale, band_px, strip_px):
    path = tmp_path_factory.mktemp("he") / "he.tif"
    write_tiff(path, smooth_noise(height, 16), tile=None, rowsperstrip=strip_px)
    (whole,) = resampled(path, scale, 10_000)
    assert (np.concatenate(resampled(path, scale, band_px)) == whole).all()


LAYOUTS = {
    "tiles": {"tile": (128, 128)},
    "tiles of jpeg": {"tile": (128, 128), "compression": "jpeg", "compressionargs": {"level": 100}},
    **{codec: {"compression": codec} for codec in ("lzw", "zlib", "zstd", "jpeg2000")},
    "BigTIFF": {"bigtiff": True},
    "strips": {"tile": None, "rowsperstrip": 37},
    "rows": {"tile": None, "rowsperstrip": 1},
    "one strip": {"tile": None},
    "planes": {"planarconfig": "separate"},
    "channels in an OME-TIFF": {"photometric": "minisblack", "ome": True, "metadata": {"axes": "CYX"}},
    "with alpha": {"extrasamples": ["unassalpha"]},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_bands_hold_every_row_once_whatever_the_layout(tmp_path, layout):
    pixels = smooth_noise(300, 250)
    data = pixels
    if layout in ("planes", "channels in an OME-TIFF"):
        data = np.moveaxis(pixels, -1, 0).copy()
    elif layout == "with alpha":
        data = np.dstack([pixels, np.full((300, 250), 255, np.uint8)])
    path = write_tiff(tmp_path / "he.tif", data, **LAYOUTS[layout])
    with HeImage(path) as he:
        for threads in (1, 3):
            bands = np.concatenate([band for _, band in he.bands(0, threads)])
            assert bands.shape == pixels.shape
            assert np.abs(bands.astype(int) - he.read(0, 0, 0, 300, 250)).max() == 0
        if layout != "tiles of jpeg":
            assert (bands == pixels).all()


def test_bands_give_the_svs(real_data):
    with HeImage(real_data / "he_openslide_cmu1/CMU-1-Small-Region.svs") as he:
        tops, bands = zip(*he.bands(0, threads=2), strict=True)
        assert tops == (0, 720, 1440, 2160, 2880)
        assert (np.concatenate(bands) == he.read(0, 0, 0, 2967, 2220)).all()


@pytest.mark.parametrize("overlap_px", [1, 100, 900])
@pytest.mark.parametrize("options", [{}, {"tile": None, "rowsperstrip": 1}, {"planarconfig": "separate"}])
def test_bands_begin_with_the_rows_before_them(tmp_path, overlap_px, options):
    pixels = smooth_noise(1500, 50)
    path = write_tiff(tmp_path / "he.tif", np.moveaxis(pixels, -1, 0).copy() if "planarconfig" in options else pixels, **options)
    with HeImage(path) as he:
        found = list(he.bands(0, 2, overlap_px))
    assert [top for top, _ in found] == [0, 512 - min(512, overlap_px), 1024 - overlap_px]
    for top, band in found:
        assert (band == pixels[top : top + len(band)]).all()
    assert [top + len(band) for top, band in found] == [512, 1024, 1500]


def test_the_pyramid_is_read_at_the_level_that_suffices(tmp_path):
    """The second level is black, so that what comes from it is."""
    with tifffile.TiffWriter(tmp_path / "he.tif") as writer:
        options = {"photometric": "rgb", "tile": (64, 64)}
        writer.write(smooth_noise(256, 256), subifds=1, **options)
        writer.write(np.zeros((128, 128, 3), np.uint8), subfiletype=1, **options)
    levels = {scale: np.concatenate(resampled(tmp_path / "he.tif", scale, 64)).mean() > 0 for scale in (1.1, 0.51, 0.5, 0.2)}
    assert levels == {1.1: True, 0.51: True, 0.5: False, 0.2: False}


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 5), (40, 2)])
@pytest.mark.parametrize("scale", [1.5, 0.4])
def test_a_plain_color_stays_however_small_the_image(tmp_path, shape, scale):
    pixels = np.full((*shape, 3), (7, 100, 250), dtype=np.uint8)
    bands = resampled(write_tiff(tmp_path / "he.tif", pixels, tile=None), scale, 16)
    assert (np.concatenate(bands) == (7, 100, 250)).all()


@settings(max_examples=100, deadline=None)
@given(pixels=st.integers(1, 400), step=st.floats(0.05, 30))
def test_weights_sum_to_one_and_balance_at_the_middle_of_the_pixel(pixels, step):
    source_px = int(np.ceil(pixels * step)) + 1
    axis = Axis.of(pixels, source_px, step)
    assert axis.weights.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert (axis.start >= 0).all()
    position = axis.start[:, None] + np.arange(axis.taps)
    assert not axis.weights[position >= source_px].any()
    center = (np.arange(pixels) + 0.5) * step
    inner = (center > 3 * max(1, step)) & (center < source_px - 3 * max(1, step))
    assert ((position + 0.5) * axis.weights).sum(axis=1)[inner] == pytest.approx(center[inner], abs=0.05 * max(1, step))


def test_the_kernel_interpolates():
    assert keys_cubic(np.array([0.0, 1, 2, 3, -1])).tolist() == [1, 0, 0, 0, 0]
    assert keys_cubic(np.array([0.5, 1.5])).tolist() == [0.5625, -0.0625]


@pytest.mark.parametrize("ends", ["left out", "added"])
def test_an_odd_row_or_column_at_the_end_does_not_stretch_a_level(tmp_path, ends):
    """A dark square keeps its place, whichever level it is read from."""
    pixels = np.full((1003, 1501, 3), 240, np.uint8)
    pixels[960:984, 1440:1464] = 40
    even = pixels[:1002, :1500] if ends == "left out" else np.pad(pixels, ((0, 1), (0, 1), (0, 0)), mode="edge")
    half = even.reshape(len(even) // 2, 2, -1, 2, 3).mean(axis=(1, 3)).astype(np.uint8)
    with tifffile.TiffWriter(tmp_path / "he.tif") as writer:
        options = {"photometric": "rgb", "tile": (256, 256)}
        writer.write(pixels, subifds=1, **options)
        writer.write(half, subfiletype=1, **options)
    with HeImage(tmp_path / "he.tif") as he:
        assert he.downsample(1) == (2, 2)
    found = 240.0 - np.concatenate(resampled(tmp_path / "he.tif", 0.25, 64))[..., 0]
    rows, columns = (np.arange(side) + 0.5 for side in found.shape)
    middle = (found.sum(axis=1) @ rows / found.sum(), found.sum(axis=0) @ columns / found.sum())
    assert middle == pytest.approx((972 / 4, 1452 / 4), abs=0.02)
