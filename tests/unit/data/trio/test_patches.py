"""Patches of others, read where they lie: both encodings, other pixel sizes, grey and alpha, rows that failed, files that moved."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.trio.patches import _fit
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import WindowReader, read_reasons, read_warnings
from nuclass_pipeline.train.cell_task import pixel_size, window_field
from tests.unit.data.trio.sets import CONFIG, IDS, enter, make_pixels, make_records, write_patches, write_set

ENCODINGS = ("merged", "per-key")
both = pytest.mark.parametrize("encoding", ENCODINGS)


def local_patches(slide):
    windows = WindowReader(slide / "local.h5")
    return windows.read(range(windows.cells))


@both
def test_every_patch_is_read_by_the_id_of_its_cell(tmp_path, encoding):
    """In a file whose order is another, with one more patch."""
    folder = write_set(tmp_path / "set", encoding)
    order = [3, 0, 4, 1, 2]
    ids, pixels = [*(IDS[row] for row in order), "unnamed"], make_pixels([*IDS, "unnamed"], 32)
    write_patches(folder / "patches_32x32.h5", ids, pixels[[*order, 5]], encoding)
    slide = enter(folder, tmp_path / "slide")
    np.testing.assert_array_equal(local_patches(slide), pixels[:5])
    assert WindowReader(slide / "local.h5").ids.tolist() == list(IDS)
    assert read_warnings(slide / "cells.parquet") == [
        "1 of 6 patches of patches_32x32.h5 are of cells without annotation, and are left out"
    ]


@both
@pytest.mark.parametrize("shape", [(32, 32), (32, 32, 1), (32, 32, 4)], ids=str)
def test_grey_is_replicated_and_alpha_is_dropped(tmp_path, encoding, shape):
    folder = write_set(tmp_path / "set", encoding)
    pixels = np.random.default_rng(3).integers(0, 255, (len(IDS), *shape), dtype=np.uint8)
    write_patches(folder / "patches_32x32.h5", IDS, pixels, encoding)
    found = local_patches(enter(folder, tmp_path / "slide"))
    assert found.shape == (len(IDS), 32, 32, 3)
    wanted = pixels[..., :3] if shape[2:] == (4,) else pixels.reshape(len(IDS), 32, 32, 1)
    np.testing.assert_array_equal(found, np.broadcast_to(wanted, found.shape))


@both
@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((5, 32, 32, 3), np.float32), "is float32, not uint8. Write whole numbers from 0 to 255 as uint8."),
        (np.zeros((5, 32, 32, 3), np.int64), "is int64, not uint8."),
        (
            np.zeros((5, 3, 32, 32), np.uint8),
            "its patches have shape (3, 32, 32), not (S, S, 3). Write square patches",
        ),
        (np.zeros((5, 32, 32, 2), np.uint8), "its patches have shape (32, 32, 2)"),
        (np.zeros((5, 32, 31, 3), np.uint8), "its patches have shape (32, 31, 3)"),
        (np.zeros((5, 34, 34, 3), np.uint8), "images: its patches are 34 px wide, and its name says 32. Rename it to patches_34x34.h5"),
    ],
)
def test_other_pixels_are_one_line(tmp_path, encoding, pixels, message):
    folder = write_set(tmp_path / "set", encoding)
    write_patches(folder / "patches_32x32.h5", IDS, pixels, encoding)
    with pytest.raises(UserError) as refusal:
        enter(folder, tmp_path / "slide")
    assert f"{folder / 'patches_32x32.h5'}: " in str(refusal.value) and message in str(refusal.value)
    assert not list((tmp_path / "slide").glob("*.h5"))


def test_cells_with_patches_of_two_sides_are_one_line(tmp_path):
    folder = write_set(tmp_path / "set", "per-key")
    with h5py.File(folder / "patches_32x32.h5", "a") as file:
        del file["07"]
        file["07"] = np.zeros((40, 40, 3), np.uint8)
    with pytest.raises(UserError, match=r"patches_32x32.h5: 07: is 40 px wide, and aaaa-1 is 32. Cut all patches again with one side."):
        enter(folder, tmp_path / "slide")


def fail_rows(folder, ids):
    """Write the local patches as a reader that could not cut some: rows of zeros with an empty id at the end."""
    kept, failed = [cell for cell in IDS if cell not in ids], ["", ""]
    pixels = make_pixels([*kept, *failed], 32)
    pixels[len(kept) :] = 0
    write_patches(folder / "patches_32x32.h5", [*kept, *failed], pixels, "merged")
    return pixels


def test_rows_that_failed_are_counted_if_no_cell_needs_them(tmp_path):
    folder = write_set(tmp_path / "set")
    pixels = fail_rows(folder, ())
    slide = enter(folder, tmp_path / "slide")
    assert read_warnings(slide / "cells.parquet") == [
        "2 of 7 patches of patches_32x32.h5 have no id, because they could not be cut, and are left out"
    ]
    np.testing.assert_array_equal(local_patches(slide), pixels[:5])
    assert set(read_reasons(slide / "local.h5").values()) == {""}


def test_a_row_that_failed_and_is_needed_is_one_line(tmp_path):
    folder = write_set(tmp_path / "set")
    fail_rows(folder, ("001", "07"))
    problem = "keys: no patch for 2 cells, such as 001; 2 rows have no id, because their patches could not be cut"
    with pytest.raises(UserError, match=f"{problem}. Add them, or remove the cells from annotations.json."):
        enter(folder, tmp_path / "slide")


def test_ids_that_lost_their_zeros_name_the_remedy(tmp_path):
    folder = write_set(tmp_path / "set", ids=("001", "007"))
    with h5py.File(folder / "patches_32x32.h5", "a") as file:
        del file["keys"]
        file["keys"] = np.array([1, 7])
    with pytest.raises(UserError, match=r"no patch for 2 cells, such as 001. Write the ids of the patches as text: they have lost"):
        enter(folder, tmp_path / "slide")


@both
@pytest.mark.parametrize("where", ["annotations", "attributes"])
@pytest.mark.parametrize(("mpp", "sides", "used"), [(0.5, (16, 32), (16, 32)), (0.5, (33, 64), (17, 32)), (0.2, (40, 90), (40, 80))])
def test_patches_of_another_pixel_size_show_the_same_field(tmp_path, encoding, where, mpp, sides, used):
    records = make_records(micron_per_pixel=mpp if where == "annotations" else None)
    folder = write_set(tmp_path / "set", encoding, records=records, sides=sides, mpp=mpp if where == "attributes" else None)
    slide = enter(folder, tmp_path / "slide", sides=sides)
    for name, side, px, key, um in zip(("local", "context"), sides, used, ("local_um", "context_um"), (8, 16), strict=True):
        windows = WindowReader(slide / f"{name}.h5")
        assert windows.side_px == px
        assert (pixel_size([windows.path]), window_field([windows.path], key)) == (mpp, um)
        low = (side - px) // 2
        np.testing.assert_array_equal(windows.read([1, 4]), make_pixels(IDS, side, side)[[1, 4], low : low + px, low : low + px])
    detail = "less" if mpp > 0.25 else "more"
    assert read_warnings(slide / "cells.parquet") == [
        f"the patches have a pixel size of {mpp} µm and show {detail} detail than 0.25 µm, that of the run"
    ]


def test_a_pixel_size_that_nothing_states_is_a_warning(tmp_path):
    slide = enter(write_set(tmp_path / "set", records=make_records(micron_per_pixel=None)), tmp_path / "slide")
    assert read_warnings(slide / "cells.parquet") == ["no pixel size is stated, so that of the run, 0.25 µm, is assumed"]
    assert pixel_size([slide / "local.h5"]) == 0.25


@both
@pytest.mark.parametrize("value", ["fine", [0.25, 0.25], 0.0, h5py.Empty("f4")], ids=str)
def test_a_wrong_pixel_size_of_a_patch_file_is_one_line(tmp_path, encoding, value):
    folder = write_set(tmp_path / "set", encoding, mpp=value)
    with pytest.raises(UserError, match=r"patches_32x32.h5: mpp: .*Enter µm per px, from 0.05 to 4."):
        enter(folder, tmp_path / "slide")


@both
def test_windows_narrower_than_the_field_are_one_line(tmp_path, encoding):
    folder = write_set(tmp_path / "set", encoding, records=make_records(micron_per_pixel=0.2125))
    problem = r"patches_32x32.h5: local_um: its windows are 6.8 µm wide \(32 px of 0.2125 µm\), and image.local_um is 8"
    with pytest.raises(UserError, match=f"{problem}. Cut the patches again 38 px wide."):
        enter(folder, tmp_path / "slide")
    wide = ImageConfig(mpp=0.2, local_um=12.8, context_um=51.2)
    folder = write_set(tmp_path / "wide", encoding, records=make_records(micron_per_pixel=0.2125), sides=(64, 128))
    with pytest.raises(UserError, match=r"patches_128x128.h5: context_um: .*27.2 µm wide .* Set image.context_um to 27.2, or"):
        enter(folder, tmp_path / "slide", sides=(64, 128), config=wide)


@given(st.integers(1, 2000), st.floats(0.05, 4), st.integers(16, 200), st.integers(16, 200))
def test_the_used_square_is_the_smallest_central_one_that_covers_the_field(side_px, mpp, local, further):
    config = ImageConfig(local_um=2 * local * 0.25, context_um=2 * (local + further) * 0.25)
    wanted_px = round(config.context_um / mpp)
    try:
        used_px = _fit(Path("patches.h5"), side_px, "context_um", config, mpp)
    except UserError:
        assert side_px < wanted_px
        return
    assert wanted_px <= used_px <= side_px
    assert (side_px - used_px) % 2 == 0 and used_px - wanted_px < 2


@both
def test_a_source_that_has_moved_is_one_line_and_a_link_to_it_is_followed(tmp_path, encoding):
    real = write_set(tmp_path / "real", encoding)
    (tmp_path / "link").symlink_to(real)
    slide = enter(tmp_path / "link", tmp_path / "slide")
    (tmp_path / "link").unlink()
    np.testing.assert_array_equal(local_patches(slide), make_pixels(IDS, 32, 32))
    windows = WindowReader(slide / "local.h5")
    real.rename(tmp_path / "moved")
    remedy = "Put the file back, or correct `bundle` in the slide sheet; then run again."
    for read in (lambda: WindowReader(slide / "local.h5"), lambda: windows.read([0]), lambda: windows.ids):
        with pytest.raises(UserError, match=rf"source: its patches lie in .*/real/patches_32x32.h5, which does not exist. {remedy}"):
            read()


HOSTILE = {
    "a link to another file": (lambda f: f.__setitem__("001", h5py.ExternalLink("other.h5", "x")), "001: is a link to another file"),
    "a soft link": (lambda f: f.__setitem__("001", h5py.SoftLink("/07")), "001: is a soft link"),
    "a group": (lambda f: f.create_group("001"), "001: is a group, not a patch. Keep the datasets of the cells at the top"),
    "values elsewhere": (
        lambda f: f.create_dataset("001", (32, 32, 3), "u1", external=[("secret", 0, 32 * 32 * 3)]),
        "001: keeps its values in another file",
    ),
    "virtual": (
        lambda f: f.create_virtual_dataset("001", h5py.VirtualLayout((32, 32, 3), "u1")),
        "001: is virtual, which only images of a patch file may be",
    ),
    "references": (lambda f: f.create_dataset("001", (32, 32), h5py.ref_dtype), "001: holds references"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_patch_that_reaches_out_of_its_file_is_one_line(tmp_path, kind):
    folder = write_set(tmp_path / "set", "per-key")
    change, message = HOSTILE[kind]
    with h5py.File(folder / "patches_32x32.h5", "a") as file:
        del file["001"]
        change(file)
    with pytest.raises(UserError, match=message):
        enter(folder, tmp_path / "slide")


def test_a_patch_that_changes_after_the_import_is_inspected_when_it_is_read(tmp_path):
    slide = enter(write_set(tmp_path / "set", "per-key"), tmp_path / "slide")
    windows = WindowReader(slide / "local.h5")
    windows.close()
    with h5py.File(tmp_path / "set/patches_32x32.h5", "a") as file:
        del file["001"]
        file["001"] = h5py.ExternalLink("other.h5", "x")
    assert windows.read([0]).any()
    with pytest.raises(UserError, match=r"patches_32x32.h5: 001: is a link to another file"):
        windows.read([1])


READ_ALL = """
import sys
from pathlib import Path
import numpy as np
from nuclass_pipeline.io import WindowReader

def rss_mb():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6

windows = WindowReader(Path(sys.argv[1]))
windows.read(range(8))
before = rss_mb()
for row in np.random.default_rng(0).permutation(windows.cells):
    windows.read([row])
print(windows.cells, rss_mb() - before)
"""


@pytest.mark.long
def test_4000_patches_with_names_are_read_within_50_mb(tmp_path):
    ids = [f"cell-{number:05}" for number in range(4000)]
    slide = enter(write_set(tmp_path / "set", "per-key", ids=ids), tmp_path / "slide")
    program = [sys.executable, "-c", textwrap.dedent(READ_ALL), str(slide / "context.h5")]
    done = subprocess.run(program, capture_output=True, text=True, check=True, env=os.environ)
    cells, growth_mb = done.stdout.split()
    assert int(cells) == 4000
    assert float(growth_mb) < 50


def test_the_field_of_the_run_may_be_narrower_than_the_patches(tmp_path):
    folder = write_set(tmp_path / "set", sides=(64, 128))
    slide = enter(folder, tmp_path / "slide", sides=(64, 128))
    np.testing.assert_array_equal(local_patches(slide), make_pixels(IDS, 64, 64)[:, 16:48, 16:48])
    assert read_warnings(slide / "cells.parquet") == []
    assert WindowReader(slide / "context.h5").side_px == CONFIG.context_px
