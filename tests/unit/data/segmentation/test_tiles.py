import logging
from itertools import count

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy.ndimage import label
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from nuclass_pipeline.data.segmentation.tiles import _solid, outline, segment_image, tile_grid
from nuclass_pipeline.data.segmentation.watershed import watershed_nuclei
from tests.unit.data.segmentation.shoelace import polygon_area

MPP = 0.25
HAEMATOXYLIN = np.array([0.65, 0.70, 0.29])
EOSIN = np.array([0.07, 0.99, 0.11])


def paint(centers_um, radii_um, side_um, mpp=MPP, eosin=0.15):
    """Discs of haematoxylin on eosin by the law of Beer and Lambert; the middle of the image's first pixel lies at half a pixel."""
    axis = (np.arange(round(side_um / mpp)) + 0.5) * mpp
    inside = np.zeros((len(axis), len(axis)), dtype=bool)
    for (x, y), radius in zip(centers_um, np.broadcast_to(radii_um, len(centers_um)), strict=True):
        inside |= (axis[None] - x) ** 2 + (axis[:, None] - y) ** 2 <= radius**2
    density = inside[..., None] * 0.8 * HAEMATOXYLIN + eosin * EOSIN
    noise = np.random.default_rng(0).normal(0, 2, (*inside.shape, 3))
    return np.clip(245 * 10**-density + noise, 0, 255).astype(np.uint8)


def scattered(number, side_um, apart_um, seed=0):
    """Centres, µm, no two nearer than `apart_um`, and none within it of the edge."""
    rng, kept = np.random.default_rng(seed), []
    while len(kept) < number:
        place = rng.uniform(apart_um, side_um - apart_um, 2)
        if all(np.hypot(*(place - other)) >= apart_um for other in kept):
            kept.append(place)
    return np.array(kept)


def segment(pixels, segmenter=None, mpp=MPP, **tiling):
    return segment_image(lambda rows, columns: pixels[rows, columns], pixels.shape[:2], segmenter or watershed_nuclei(mpp), mpp, **tiling)


def matches(nuclei, points, radius):
    distance = cdist(np.asarray(nuclei[["x_px", "y_px"]]), points)
    rows, columns = linear_sum_assignment(np.where(distance <= radius, distance, 1e6))
    return int((distance[rows, columns] <= radius).sum())


def assert_same(tiled, whole):
    assert len(tiled) == len(whole)
    assert matches(tiled, whole[["x_px", "y_px"]].to_numpy(), radius=1) == len(whole)
    assert tiled["area_um2"].sum() == pytest.approx(whole["area_um2"].sum(), rel=0.01)


@pytest.mark.parametrize("mpp", [0.2, 0.25, 0.5])
def test_isolated_discs_are_all_found_at_their_place_with_their_area(mpp):
    centers = scattered(60, 150, 13)
    radii = np.random.default_rng(1).uniform(2.5, 5, 60)
    nuclei = segment(paint(centers, radii, 150, mpp), mpp=mpp)
    assert len(nuclei) == 60
    assert np.diff(nuclei["y_px"]).min() > -3
    nearest = cdist(nuclei[["x_px", "y_px"]].to_numpy() * mpp, centers)
    assert nearest.min(axis=1).max() < 0.15
    truth = np.pi * radii[nearest.argmin(axis=1)] ** 2
    assert nuclei["area_um2"].to_numpy() == pytest.approx(truth, rel=0.1)


def test_touching_pairs_are_split():
    middles = scattered(12, 150, 25)
    turns = np.random.default_rng(2).uniform(0, np.pi, 12)
    half = 3.2 * np.column_stack([np.cos(turns), np.sin(turns)])
    pixels = paint(np.concatenate([middles - half, middles + half]), 3.5, 150)
    assert label(pixels[..., 0] < 130)[1] == 12
    nuclei = segment(pixels)
    assert len(nuclei) == 24
    assert matches(nuclei, np.concatenate([middles - half, middles + half]) / MPP, radius=2) == 24


@pytest.mark.parametrize("eosin", [0, 0.15, 0.6])
def test_tissue_without_nuclei_gives_an_empty_table_with_all_columns(eosin):
    nuclei = segment(paint([], [], 100, eosin=eosin))
    assert list(nuclei) == ["cell_id", "x_px", "y_px", "area_um2", "polygon", "reason"]
    assert len(nuclei) == 0
    assert nuclei["x_px"].dtype == np.float64


def test_specks_and_blots_are_not_nuclei():
    nuclei = segment(paint([(20, 20), (60, 60), (100, 100)], [0.9, 4, 9], 120))
    assert nuclei[["x_px", "y_px"]].to_numpy() == pytest.approx(np.array([[240, 240]]), abs=0.5)


@pytest.mark.parametrize("tile_px", [300, 353, 411])
def test_tiles_that_cut_nuclei_find_what_the_whole_image_holds(tile_px):
    centers = scattered(400, 240, 7.4)
    pixels = paint(centers, np.random.default_rng(3).uniform(2.5, 4, 400), 240)
    step = tile_px - 200
    seams = np.arange(step, 960, step) * MPP
    assert (np.abs(centers[:, :1] - seams).min(axis=1) < 2.5).sum() > 20
    whole = segment(pixels, tile_px=4096)
    assert len(whole) == 400
    tiled = segment(pixels, tile_px=tile_px, overlap_px=200)
    assert_same(tiled, whole)
    assert tiled["cell_id"].is_unique


def test_real_clumps_are_the_same_in_tiles_and_whole(real_data):
    folder = real_data / "he_nucls/images"
    crops = [np.asarray(Image.open(folder / f"train_{i}.png").convert("RGB")) for i in (2, 6, 8, 5)]
    pixels = np.concatenate([np.concatenate(crops[:2], axis=1), np.concatenate(crops[2:], axis=1)])
    whole = segment(pixels, mpp=0.2, tile_px=4096)
    assert len(whole) > 150
    assert_same(segment(pixels, mpp=0.2, tile_px=391, overlap_px=280), whole)


@pytest.mark.parametrize(("fickle", "x_um", "axis"), [(0, 25.25, 0), (0, 25.25, 1), (1, 24.75, 0), (1, 24.75, 1)])
def test_a_nucleus_that_one_tile_sees_whole_and_the_next_in_halves_is_kept_whole(fickle, x_um, axis):
    """The seam lies at 25 µm; halves side by side have their centroids in the cores of both tiles."""
    pixels = paint([(x_um, 12)], 4, 50)[:96]
    segmenter, tiles = watershed_nuclei(MPP), count()

    def halving(tile):
        labels = segmenter(tile)
        if next(tiles) == fickle:
            places = np.argwhere(labels)
            second = places[places[:, axis] > places[:, axis].mean()]
            labels[tuple(second.T)] = 2
        return labels

    nuclei = segment(pixels, halving, tile_px=160, overlap_px=60)
    assert nuclei[["x_px", "y_px"]].to_numpy() == pytest.approx(np.array([[x_um / MPP, 48]]), abs=1)
    assert nuclei["area_um2"].to_numpy() == pytest.approx([np.pi * 16], rel=0.1)


@pytest.mark.parametrize("shifts", [(1, -1), (-1, 1)])
def test_a_nucleus_that_each_tile_places_beyond_or_short_of_the_seam_is_neither_lost_nor_doubled(shifts):
    pixels = paint([(25, 12)], 4, 50)[:96]
    segmenter, tiles = watershed_nuclei(MPP), iter(shifts)
    nuclei = segment(pixels, lambda tile: np.roll(segmenter(tile), next(tiles), 1), tile_px=160, overlap_px=60)
    assert len(nuclei) == 1
    assert nuclei["x_px"][0] == pytest.approx(100, abs=1.5)


def test_memory_is_bounded_by_a_tile_and_empty_tiles_are_skipped(tmp_path, caplog):
    pixels = np.full((700, 900, 3), 240, np.uint8)
    pixels[:200, :200] = paint([(25, 25)], 4, 50)
    seen, segmenter = [], watershed_nuclei(MPP)
    read = []

    def spy(tile):
        seen.append(tile.shape)
        return segmenter(tile)

    with h5py.File(tmp_path / "image.h5", "w") as file:
        level = file.create_dataset("level_0", data=pixels, chunks=(64, 64, 3))

        def read_tile(rows, columns):
            read.append((rows.stop - rows.start, columns.stop - columns.start))
            return level[rows, columns]

        with caplog.at_level(logging.INFO):
            nuclei = segment_image(read_tile, (700, 900), spy, MPP, tile_px=256, overlap_px=64)
    assert len(nuclei) == 1
    assert np.max(read) == 256
    assert len(read) == 4 * 5
    assert len(seen) == 4
    assert "progress 100.00 %: 20 of 20 tiles" in caplog.text


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 400), st.integers(1, 300), st.integers(2, 120), st.floats(0, 0.99))
def test_every_pixel_lies_in_one_core_and_every_tile_holds_its_core(height, width, tile_px, share):
    overlap_px = int(tile_px * share)
    owners = np.zeros((height, width), dtype=int)
    for tile in tile_grid((height, width), tile_px, overlap_px):
        top, left, bottom, right = tile.core
        owners[top:bottom, left:right] += 1
        assert tile.read[0] <= top < bottom <= tile.read[2] <= height
        assert tile.read[1] <= left < right <= tile.read[3] <= width
        assert max(tile.read[2] - tile.read[0], tile.read[3] - tile.read[1]) <= tile_px
    assert (owners == 1).all()


def test_tiles_that_overlap_wholly_are_refused():
    with pytest.raises(ValueError, match="tiles of 64 px cannot overlap by 64 px"):
        segment(np.zeros((80, 80, 3), np.uint8), tile_px=64, overlap_px=64)


@settings(max_examples=60, deadline=None)
@given(arrays(bool, (9, 11), elements=st.booleans()).filter(np.any), st.integers(4, 8))
def test_an_outline_holds_the_area_of_its_mask(coarse, zoom):
    mask = _solid(np.kron(coarse, np.ones((zoom, zoom), dtype=bool)))
    polygon = outline(mask)
    assert (polygon[0] == polygon[-1]).all()
    assert polygon_area(polygon) == pytest.approx(mask.sum(), rel=0.04)
    assert polygon.min() >= 0
    assert polygon[:, 0].max() <= mask.shape[1]
    rows, columns = np.nonzero(mask)
    assert (polygon.min(axis=0) == (columns.min(), rows.min())).all()
    assert (polygon.max(axis=0) == (columns.max() + 1, rows.max() + 1)).all()


def test_polygons_lie_where_the_centroids_are():
    nuclei = segment(paint(scattered(30, 120, 12), 3.5, 120), tile_px=250, overlap_px=160)
    for nucleus in nuclei.itertuples():
        assert nucleus.polygon.mean(axis=0) == pytest.approx((nucleus.x_px, nucleus.y_px), abs=0.6)
        assert polygon_area(nucleus.polygon) * MPP**2 == pytest.approx(nucleus.area_um2, rel=0.02)


def test_f1_on_real_crops(real_data):
    right = found = experts = 0
    for path in sorted((real_data / "he_nucls/images").glob("*.png")):
        points = pd.read_csv(real_data / f"he_nucls/labels/{path.stem}.csv", names=["x", "y", "label"])[["x", "y"]].to_numpy(float)
        nuclei = segment(np.asarray(Image.open(path).convert("RGB")), mpp=0.2)
        right, found, experts = right + matches(nuclei, points, radius=12), found + len(nuclei), experts + len(points)
    assert experts == 398
    assert 2 * right / (found + experts) > 0.77
