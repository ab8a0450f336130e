"""TIFF files written tag by tag, so that their tags can lie."""

import struct
import zlib

import imagecodecs
import numpy as np

SHORT, LONG = 3, 4


def write_tags(path, tags, data=b"", next_ifd=0):
    """Write a TIFF of one directory: `data` lies from byte 8, tags are (number, type, values)."""
    start = 8 + len(data) + len(data) % 2
    entries, values = b"", b""
    after = start + 2 + 12 * len(tags) + 4
    for number, kind, numbers in sorted(tags):
        raw = struct.pack(f"<{len(numbers)}{'H' if kind == SHORT else 'I'}", *numbers)
        inline = raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack("<I", after + len(values))
        values += b"" if len(raw) <= 4 else raw
        entries += struct.pack("<HHI", number, kind, len(numbers)) + inline
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", next_ifd or 0)
    path.write_bytes(b"II*\0" + struct.pack("<I", start) + data.ljust(start - 8, b"\0") + directory + values)


def rgb_tags(width, height, tile=(256, 256), compression=1, samples=3, photometric=2, offsets=(8,), counts=(0,), extra=()):
    """Return the tags of a tiled RGB image, which may lie."""
    replaced = {number for number, *_ in extra}
    tags = [
        (256, LONG, (width,)),
        (257, LONG, (height,)),
        (258, SHORT, (8,) * min(samples, 8)),
        (259, SHORT, (compression,)),
        (262, SHORT, (photometric,)),
        (277, SHORT, (samples,)),
        (284, SHORT, (1,)),
        (322, LONG, (tile[1],)),
        (323, LONG, (tile[0],)),
        (324, LONG, offsets),
        (325, LONG, counts),
    ]
    return [tag for tag in tags if tag[0] not in replaced] + list(extra)


def one_tile(path, data, compression, tile=(256, 256), **options):
    """Write an image of one tile of which `data` is the encoded content."""
    tags = rgb_tags(tile[1], tile[0], tile, compression, offsets=(8,), counts=(len(data),), **options)
    write_tags(path, tags, data)


def sparse(path, side, tiles=1):
    """Write an image of side² px of which no more than one tile is there."""
    count = (-(-side // 256)) ** 2
    tile = zlib.compress(np.full((256, 256, 3), 200, np.uint8).tobytes()) if tiles else b""
    offsets, counts = [8] * tiles + [0] * (count - tiles), [len(tile)] * tiles + [0] * (count - tiles)
    write_tags(path, rgb_tags(side, side, compression=8, offsets=offsets, counts=counts), tile)


def strips(path, width, height, data=b"", rows=None, compression=1):
    """Write an image of one strip."""
    drop = {322, 323, 324, 325}
    tags = [tag for tag in rgb_tags(width, height, compression=compression) if tag[0] not in drop]
    tags += [(273, LONG, (8,)), (278, LONG, (rows or height,)), (279, LONG, (len(data),))]
    write_tags(path, tags, data)


def loop(path, length=1):
    """Write directories of which the last names the first as the next."""
    one_tile(path, zlib.compress(bytes(256 * 256 * 3)), 8)
    content = bytearray(path.read_bytes())
    start = struct.unpack("<I", content[4:8])[0]
    first = start
    for _ in range(length - 1):
        place = start + 2 + 12 * struct.unpack("<H", content[start : start + 2])[0]
        size = place + 4 - start
        content += bytes(len(content) % 2)
        content[place : place + 4] = struct.pack("<I", len(content))
        content += content[start : start + size]
        start = len(content) - size
    place = start + 2 + 12 * struct.unpack("<H", content[start : start + 2])[0]
    content[place : place + 4] = struct.pack("<I", first)
    path.write_bytes(bytes(content))


def chain(path, length):
    """Write so many directories in a row, the last without a next."""
    loop(path, length)
    content = bytearray(path.read_bytes())
    content[-4:] = bytes(4)
    path.write_bytes(bytes(content))


def jpeg(height, width, value=200):
    """Encode a plain picture as JPEG."""
    return bytes(imagecodecs.jpeg_encode(np.full((height, width, 3), value, np.uint8), level=75))


def zlib_bomb(megabytes):
    """Compress so many megabytes of zeros."""
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(megabytes)) + packer.flush()


HOSTILE = {
    "a million² px": lambda p: write_tags(p, rgb_tags(10**6, 10**6)),
    "the largest sides": lambda p: write_tags(p, rgb_tags(2**32 - 1, 2**32 - 1)),
    "a side of zero": lambda p: write_tags(p, rgb_tags(0, 256)),
    "no side": lambda p: write_tags(p, rgb_tags(0, 0)),
    "sparse, 200,000² px": lambda p: sparse(p, 200_000),
    "sparse, 100,000² px": lambda p: sparse(p, 100_000),
    "sparse, no tile at all": lambda p: sparse(p, 60_000, tiles=0),
    "one strip of 60,000² px": lambda p: strips(p, 60_000, 60_000, b"x" * 1000, compression=8),
    "a strip of a million rows": lambda p: strips(p, 256, 10**6, zlib_bomb(2), compression=8),
    "a tile of 65,536² px": lambda p: one_tile(p, zlib_bomb(4), 8, (65_536, 65_536)),
    "a tile without width": lambda p: one_tile(p, b"x" * 100, 1, (0, 256)),
    "a Deflate tile that grows": lambda p: one_tile(p, zlib_bomb(60), 8),
    "a tile of a megabyte": lambda p: one_tile(p, b"x" * 10**6, 8),
    "a Zstandard tile that grows": lambda p: one_tile(p, bytes(imagecodecs.zstd_encode(bytes(100 * 2**20))), 50000),
    "a PackBits tile that grows": lambda p: one_tile(p, b"\x81\0" * 200_000, 32773),
    "a JPEG tile of 4,000² px": lambda p: one_tile(p, jpeg(4000, 4000), 7),
    "a smaller JPEG tile": lambda p: one_tile(p, jpeg(64, 64), 7),
    "a Deflate tile that is too small": lambda p: one_tile(p, zlib.compress(bytes(1000)), 8),
    "a JPEG tile that is none": lambda p: one_tile(p, b"no JPEG at all" * 9, 7),
    "a broken JPEG tile": lambda p: one_tile(p, jpeg(256, 256)[:300] + b"\xff" * 300, 7),
    "a JPEG 2000 tile of another size": lambda p: one_tile(
        p, bytes(imagecodecs.jpeg2k_encode(np.zeros((4096, 4096, 3), np.uint8), codecformat="J2K")), 34712
    ),
    "65,535 samples": lambda p: write_tags(p, rgb_tags(256, 256, samples=65_535)),
    "no samples": lambda p: write_tags(p, rgb_tags(256, 256, samples=0)),
    "an unknown compression": lambda p: one_tile(p, b"x" * 100, 9999),
    "a fax": lambda p: one_tile(p, b"x" * 100, 3),
    "an unknown photometric": lambda p: one_tile(p, zlib.compress(bytes(256 * 256 * 3)), 8, photometric=777),
    "tiles that lie behind the end": lambda p: write_tags(p, rgb_tags(256, 256, offsets=(10**9,), counts=(1000,))),
    "fewer tiles than its size": lambda p: write_tags(p, rgb_tags(2560, 2560, offsets=(8,), counts=(196_608,)), bytes(196_608)),
    "no offsets": lambda p: write_tags(p, [tag for tag in rgb_tags(256, 256) if tag[0] not in (324, 325)]),
    "a directory that names itself": loop,
    "directories in a loop": lambda p: loop(p, 200),
    "100,000 directories": lambda p: chain(p, 100_000),
    "a count beyond the file": lambda p: write_tags(p, rgb_tags(256, 256, extra=[(324, LONG, tuple(range(70_000)))])),
    "cut in its tags": lambda p: (write_tags(p, rgb_tags(256, 256)), p.write_bytes(p.read_bytes()[:90])),
    "only a header": lambda p: p.write_bytes(b"II*\0\x08\0\0\0"),
    "a BigTIFF header only": lambda p: p.write_bytes(b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0"),
    "stored turned": lambda p: one_tile(p, zlib.compress(bytes(256 * 256 * 3)), 8, extra=[(274, SHORT, (6,))]),
    "YCbCr without JPEG": lambda p: one_tile(p, zlib.compress(bytes(256 * 256 * 3)), 8, photometric=6),
}
"""What is wrong with a file → function that writes it."""
