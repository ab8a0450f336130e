"""Files of weights, checked before they fill the memory: nothing in them is run, and they fit the network before it is built."""

import pickle
import pickletools
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from nuclass_pipeline.config.backbones.files import weights_sha256
from nuclass_pipeline.config.backbones.registry import BACKBONES
from nuclass_pipeline.io import READ_ERRORS
from nuclass_pipeline.io.tensor_files import MAX_HEADER, TensorShapes, read_shapes, require_regular

MAX_OLD = 100_000_000
"""Most bytes of a file of the old layout of PyTorch."""
UNREADABLE = (*READ_ERRORS, pickle.UnpicklingError, zipfile.BadZipFile, NotImplementedError, ImportError)
"""What reading or using a foreign file of weights raises."""
# Fewer than torch allows with weights_only, because `bytearray` of any length is among those.
_PLAIN = re.compile(
    r"collections OrderedDict|torch \w*Storage|torch\.storage UntypedStorage|torch Size|torch device|torch\.serialization _get_layout"
    r"|torch\._utils _rebuild_(tensor_v2|parameter|device_tensor_from_cpu_tensor)|torch (float|bfloat|int|uint|bool)\d*"
)
Network = TypeVar("Network", bound=nn.Module)


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Read a file of tensors, safetensors or PyTorch's; they stay in the file until they are used.

    Raises
    ------
    ValueError
        If it is another file, or declares what it does not hold.
    """
    if file.suffix != ".safetensors":
        return as_state(_read_known(file) if _is_known(file) else read_pickle(file, lazily=True))
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    read_shapes(file)
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _is_known(file: Path) -> bool:
    """Return whether a file is of the old layout of PyTorch, and its content is that of the registry."""
    require_regular(file)
    # Not any file of that layout, because what it holds cannot be checked before it is read.
    if zipfile.is_zipfile(file) or file.stat().st_size > MAX_OLD:
        return False
    return weights_sha256([str(file)]) in {entry.sha256 for entry in BACKBONES.values() if entry.sha256}


def _read_known(file: Path) -> Any:
    return torch.load(file, map_location="cpu", weights_only=True)


def read_pickle(file: Path, *, lazily: bool = False) -> Any:
    """Read a file that `torch.save` wrote; only tensors and plain values are rebuilt.

    Parameters
    ----------
    file
        The file.
    lazily
        Leave the tensors in the file until they are used.

    Raises
    ------
    ValueError
        If it is another file, is compressed, or names anything but tensors.
    """
    require_regular(file)
    with zipfile.ZipFile(file) as records:
        entries = records.infolist()
        # torch allocates the declared size of a record, and a compressed one may declare any.
        packed = (entry for entry in entries if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > entry.compress_size)
        if first := next(packed, None):
            raise ValueError(f"its record {first.filename[:60]!r} is compressed, which torch.save never does")
        described = next((entry for entry in entries if entry.filename.endswith("/data.pkl")), None)
        if described is None or described.file_size > MAX_HEADER:
            raise ValueError("it has no record data.pkl" if described is None else f"its data.pkl has {described.file_size:,} bytes")
        _refuse_code(records.read(described))
    return torch.load(file, map_location="cpu", weights_only=True, mmap=lazily)


def _refuse_code(text: bytes) -> None:
    for opcode, argument, _ in pickletools.genops(text):
        if opcode.name in ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4") or (
            opcode.name == "GLOBAL" and not _PLAIN.fullmatch(str(argument))
        ):
            raise ValueError(f"it is a pickle with {str(argument or opcode.name)[:60]!r}, which is not a tensor, and is not run")


def as_state(content: Any) -> dict[str, Tensor]:
    """Return weights by name, if that is what `content` is.

    Raises
    ------
    ValueError
        If it is something else.
    """
    if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
        raise ValueError("it holds no tensors by name")
    for name, value in content.items():
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
            raise ValueError(f"its entry {name[:60]!r} is not a plain tensor")
    return dict(content)


def sketch(build: Callable[[], Network]) -> Network:
    """Build a network without memory for its tensors, and without a change of the random state."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return build()


def shapes_of(state: Mapping[str, Tensor]) -> TensorShapes:
    """Return the shapes of tensors by name."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def fill(build: Callable[[], Network], state: Mapping[str, Tensor]) -> Network:
    """Build a network and load all its tensors, after they have been found to fit it.

    Raises
    ------
    ValueError
        If a tensor is missing, left over, of another shape, or not a finite number everywhere.
    """
    refuse_difference(shapes_of(sketch(build).state_dict()), shapes_of(state))
    refuse_nan(state.items())
    net = build()
    net.load_state_dict(dict(state))
    return net


def refuse_difference(expected: TensorShapes, found: TensorShapes) -> None:
    """Raise a `ValueError` if the tensors of a file are not those of a network."""
    problems = {
        "missing": sorted(set(expected) - set(found)),
        "left over": sorted(set(found) - set(expected)),
        "of another shape": sorted(name for name in set(expected) & set(found) if expected[name] != found[name]),
    }
    for problem, names in problems.items():
        if names:
            first = names[0]
            shapes = f", {list(found[first])} for {list(expected[first])}" if first in expected and first in found else ""
            raise ValueError(f"{len(names)} tensors are {problem}, the first is {first[:80]}{shapes}")


def refuse_nan(tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Raise a `ValueError` if a tensor has a value that is not a finite number."""
    for name, tensor in tensors:
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all()):
            raise ValueError(f"the tensor {name[:80]} has values that are not finite numbers")
