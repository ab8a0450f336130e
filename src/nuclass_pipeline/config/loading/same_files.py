"""Whether two slides, or two files, are the same under different names."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

import pyarrow.parquet as pq

from nuclass_pipeline.io import READ_ERRORS

if TYPE_CHECKING:
    from nuclass_pipeline.config.slides import Slide

KEY_FILES = (
    *("annotations.json", "points.csv"),
    *("cell_feature_matrix.h5", "cell_feature_matrix.tar.gz", "cell_feature_matrix.zarr.zip", "cells.parquet"),
)
"""Files that differ between any two bundles or trios, the best first."""
SAMPLES, SAMPLE_BYTES = 32, 2**20
"""Pieces that are compared of a large file, so that images of many GB are compared in a second."""


def same_bundle(one: "Slide", other: "Slide") -> str | None:
    """Return the column by which two slides are the same bundle, or None.

    Bundles are compared by address and path, then by the content of their matrices where these have the same size. Zip archives are
    compared as if unpacked; a tar archive only with other archives.
    """
    if one.bundle_url and one.bundle_url == other.bundle_url:
        return "bundle_url"
    if not one.bundle or not other.bundle:
        return None
    if same_file(one.bundle, other.bundle):
        return "bundle"
    # Any of them, because a matrix that was opened and saved differs in its bytes while its cells do not.
    if any(same_file(f"{one.bundle}/{name}", f"{other.bundle}/{name}") for name in KEY_FILES if Path(one.bundle, name).is_file()):
        return "bundle"
    with _key_file(one) as (size, first), _key_file(other) as (other_size, second):
        if first is None or second is None or size != other_size:
            return None
        pieces = range(0, size, SAMPLE_BYTES)[:SAMPLES]
        return "bundle" if all(first.read(SAMPLE_BYTES) == second.read(SAMPLE_BYTES) for _ in pieces) else None


def same_file(one: str, other: str) -> bool:
    """Return whether two paths lead to one file or folder, or to files of one content, compared in evenly spaced pieces."""
    first, second = Path(one), Path(other)
    if first.resolve() == second.resolve():
        return True
    if not (first.is_file() and second.is_file()) or (size := first.stat().st_size) != second.stat().st_size:
        return False
    last = max(0, size - SAMPLE_BYTES)
    with first.open("rb") as a, second.open("rb") as b:
        for number in range(SAMPLES):
            for stream in (a, b):
                stream.seek(number * last // (SAMPLES - 1))
            if a.read(SAMPLE_BYTES) != b.read(SAMPLE_BYTES):
                return False
    return True


def cells_apart(one: "Slide", other: "Slide") -> bool:
    """Return whether the cells of two bundles lie in boxes that do not overlap, as the cores of one run do."""
    boxes = [_box(Path(slide.bundle, "cells.parquet")) for slide in (one, other)]
    return all(boxes) and any(low > high for (low, _), (_, high) in (*zip(*boxes, strict=True), *zip(*boxes[::-1], strict=True)))


def _box(path: Path) -> list[tuple[float, float]]:
    """Return the range of x and of y from the footer of a cell table; empty where it does not say."""
    try:
        footer = pq.read_metadata(path)
        columns = [footer.schema.names.index(name) for name in ("x_centroid", "y_centroid")]
        found = [[footer.row_group(group).column(column).statistics for group in range(footer.num_row_groups)] for column in columns]
        return [(min(each.min for each in axis), max(each.max for each in axis)) for axis in found]
    except READ_ERRORS:
        return []


@contextmanager
def _key_file(slide: "Slide") -> Iterator[tuple[int, IO[bytes] | None]]:
    """Open the file that a bundle is known by, in a folder or a zip archive, with its size; None where there is none."""
    bundle = Path(slide.bundle)
    if bundle.is_dir():
        found = next((bundle / name for name in KEY_FILES if (bundle / name).is_file()), None)
        if found is None:
            yield 0, None
            return
        with found.open("rb") as stream:
            yield found.stat().st_size, stream
        return
    with _open_zip(bundle) as opened:
        yield opened


@contextmanager
def _open_zip(path: Path) -> Iterator[tuple[int, IO[bytes] | None]]:
    try:
        archive = zipfile.ZipFile(path)
        members = {PurePosixPath(info.filename).name: info for info in archive.infolist()}
        info = next((members[name] for name in KEY_FILES if name in members), None)
        stream = archive.open(info) if info else None
    except READ_ERRORS:
        # Left to the job that unpacks it, because its error says what is wrong with the archive.
        yield 0, None
        return
    with archive:
        yield info.file_size if info else 0, stream
