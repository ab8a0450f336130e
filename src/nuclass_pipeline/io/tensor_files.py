"""Folders and files of weights, looked at before a library opens them."""

import json
import struct
from math import prod
from pathlib import Path
from typing import Any

MAX_HEADER = 10_000_000
"""Most bytes of the list of tensors in a file; that of a network with 2,000 tensors has 300,000."""
_ADAPTER = "adapter_config.json"
_INDEX = "model.safetensors.index.json"

TensorShapes = dict[str, tuple[int, ...]]


def read_shapes(file: Path) -> TensorShapes:
    """Read the names and shapes of the tensors in a safetensors file.

    Raises
    ------
    ValueError
        If it is another file.
    """
    require_regular(file)
    with file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(MAX_HEADER, file.stat().st_size):
            raise ValueError(f"{file.name} is not a safetensors file: its header declares {length:,} bytes")
        header = json.loads(stream.read(length))
    shapes = {name: tuple(map(int, entry["shape"])) for name, entry in header.items() if name != "__metadata__"}
    # At least a byte for each value, because a smaller type than that is not used for weights.
    if sum(prod(shape) for shape in shapes.values()) > file.stat().st_size or any(size < 0 for shape in shapes.values() for size in shape):
        raise ValueError(f"{file.name} declares more values than it holds")
    return shapes


def require_regular(file: Path) -> None:
    """Raise a `ValueError` unless `file` is a regular file."""
    # Before it is opened, because opening a pipe waits for a writer for ever.
    if not file.is_file():
        raise ValueError(f"{file.name} is a folder, a pipe or a device" if file.exists() else f"{file.name} does not exist")


def read_small_json(file: Path, max_bytes: int) -> dict[str, Any]:
    """Read a JSON file of keys with values.

    Raises
    ------
    ValueError
        If it is another file, or larger than `max_bytes`.
    """
    require_regular(file)
    if file.stat().st_size > max_bytes:
        raise ValueError(f"{file.name} has more than {max_bytes:,} bytes")
    try:
        described = json.loads(file.read_text())
    except RecursionError as error:
        raise ValueError(f"{file.name} is nested too deeply") from error
    if not isinstance(described, dict):
        raise ValueError(f"{file.name} has no keys with values")
    return described


def check_model_folder(folder: Path) -> None:
    """Raise a `ValueError` if a folder of a model leads elsewhere: by a pipe, an adapter of another model, or a path in its index."""
    for file in folder.iterdir():
        if not file.is_dir():
            require_regular(file)
    # Loaded without being mentioned, and it names a model of the hub.
    if (folder / _ADAPTER).exists():
        raise ValueError(f"{_ADAPTER} names another model")
    if (folder / _INDEX).exists():
        parts = read_small_json(folder / _INDEX, MAX_HEADER).get("weight_map")
        if not isinstance(parts, dict) or any(not isinstance(part, str) or Path(part).name != part for part in parts.values()):
            raise ValueError(f"{_INDEX} names files of another folder")
