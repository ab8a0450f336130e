"""Pictures as part of the page: full figures, small previews, and the training curves."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from nuclass_pipeline.io import require

MAX_PNG_BYTES = 100_000
"""A larger PNG is stored as WebP, at the same size in pixels."""
_WEBP_QUALITY = 90
# The format holds no larger picture.
MAX_WEBP_PX = 16_383
PREVIEW_PX = 480


def embed_picture(path: Path) -> str:
    """Return a picture for the attribute `src`: with all its pixels, since the page is read without the file."""
    data = require(path).read_bytes()
    if len(data) <= MAX_PNG_BYTES:
        return _uri(data, "png")
    with Image.open(io.BytesIO(data)) as picture:
        return _uri(data, "png") if max(picture.size) > MAX_WEBP_PX else _uri(_as_webp(picture), "webp")


def embed_preview(path: Path) -> str:
    """Return a small copy of a picture for the attribute `src`."""
    with Image.open(require(path)) as picture:
        small = picture.convert("RGB")
        small.thumbnail((PREVIEW_PX, PREVIEW_PX))
        return _uri(_as_webp(small), "webp")


def _as_webp(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.convert("RGB").save(stream, "WEBP", quality=_WEBP_QUALITY, method=2)
    return stream.getvalue()


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def embed_svg(drawings: Sequence[bytes]) -> list[str]:
    """Return SVG drawings for the attribute `src`."""
    # As images and not as parts of the page, because the names of their parts would occur twice.
    return [_uri(drawing, "svg+xml") for drawing in drawings]
