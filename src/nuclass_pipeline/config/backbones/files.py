"""Files of weights: where they are, and what they hash to. Nothing is opened by a library of networks."""

import hashlib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

WEIGHTS = Path("resources/weights")
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of a file of weights, the safer first."""
TENSOR_FILES = (".safetensors", ".bin", ".pth", ".pt")
"""Endings of a file of tensors."""


def folder_problem(weights: str) -> str:
    """Return why a folder or file cannot be one of weights, by its name; nothing if it can."""
    if Path(weights).is_file():
        return "" if Path(weights).suffix in TENSOR_FILES else f"the file ends with none of {', '.join(TENSOR_FILES)}"
    return "" if find_weights(weights) else f"the folder holds neither {' nor '.join(WEIGHT_FILES)}"


def find_weights(weights: str) -> list[str]:
    """Return the files of a folder of weights: that with the tensors, and its config.json. A file is returned alone."""
    path = Path(weights)
    if path.is_file():
        return [weights]
    tensors = [str(path / name) for name in WEIGHT_FILES if (path / name).is_file()]
    return [*tensors[:1], *(str(path / name) for name in ("config.json",) if (path / name).is_file())] if tensors else []


def package_files(package: str) -> list[str]:
    """Return the file of weights in an installed package, without importing it; nothing if it is not installed."""
    try:
        found = distribution(package).files or () if package else ()
    except PackageNotFoundError:
        return []
    return sorted(str(file.locate()) for file in found if file.suffix in TENSOR_FILES)[:1]


def weights_sha256(files: list[str]) -> str:
    """Return the SHA-256 of the tensors among the files of an encoder's weights; nothing for a network with random ones."""
    if not files:
        return ""
    with Path(files[0]).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
