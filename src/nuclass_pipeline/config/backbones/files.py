"""Files of weights: where they are, and what they hash to. Nothing is opened by a library of networks."""

import hashlib
import os
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from nuclass_pipeline.errors import UserError

WEIGHTS = Path("resources/weights")
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of a file of weights, the safer first."""
SETTINGS_FILES = ("config.json", "preprocessor_config.json")
"""Names of files beside the weights that say how the network is built, and how its images are normalized."""
TENSOR_FILES = (".safetensors", ".bin", ".pth", ".pt")
"""Endings of a file of tensors."""
BLOCKS, BLOCK_BYTES = 256, 2**14
"""What a fingerprint reads of a file: 4 MB, so that 3 GB of weights do not delay each start of Snakemake."""


def folder_problem(weights: str) -> str:
    """Return why a folder or file cannot be one of weights, by its name; nothing if it can."""
    if Path(weights).is_file():
        return "" if Path(weights).suffix in TENSOR_FILES else f"the file ends with none of {', '.join(TENSOR_FILES)}"
    return "" if find_weights(weights) else f"the folder holds neither {' nor '.join(WEIGHT_FILES)}"


def find_weights(weights: str) -> list[str]:
    """Return the files of a folder or file of weights: that with the tensors, and those beside it that the network is built by."""
    path = Path(weights)
    tensors = [weights] if path.is_file() else [str(path / name) for name in WEIGHT_FILES if (path / name).is_file()]
    return [*tensors[:1], *(str(file) for file in _settings(Path(tensors[0]).parent))] if tensors else []


def _settings(folder: Path) -> list[Path]:
    return [folder / name for name in SETTINGS_FILES if (folder / name).is_file()]


def package_files(package: str) -> list[str]:
    """Return the file of weights in an installed package, without importing it; nothing if it is not installed."""
    return list(_package_files(package))


# Kept, because a package lists all its files, and the plan of a run looks for them at every job.
@cache
def _package_files(package: str) -> tuple[str, ...]:
    try:
        found = distribution(package).files or () if package else ()
    except PackageNotFoundError:
        return ()
    return tuple(sorted(str(file.locate()) for file in found if file.suffix in TENSOR_FILES)[:1])


def weights_sha256(files: list[str]) -> str:
    """Return the SHA-256 of the tensors among the files of an encoder's weights; nothing for a network with random ones."""
    if not files:
        return ""
    with Path(files[0]).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fingerprint_weights(files: list[str]) -> str:
    """Return a short hash of the files of an encoder's weights, from their sizes and a sample of their content; nothing without files.

    `BLOCKS` blocks are read, from the start to the end of each file. A change in less than 1/256 of a file in one place can stay unseen, so
    `weights_sha256` is compared wherever features are used. All of a small file is read, such as config.json.

    Raises
    ------
    UserError
        If a file cannot be read.
    """
    if not files:
        return ""
    try:
        found = [_fingerprint(path, (state := Path(path).stat()).st_size, state.st_mtime_ns) for path in files]
    except OSError as error:
        raise UserError(files[0], "weights", f"cannot be read ({error.strerror})", "Make the files of the weights readable.") from error
    return hashlib.sha256("".join(found).encode()).hexdigest()[:16]


# Kept by size and time, because the plan of a run names the files of features for every job.
@lru_cache
def _fingerprint(path: str, size: int, modified_ns: int) -> str:
    found, last = hashlib.sha256(str(size).encode()), max(0, size - BLOCK_BYTES)
    with Path(path).open("rb", buffering=0) as stream:
        # Blocks of a small file overlap, and each place is read once.
        for start in dict.fromkeys(last * number // (BLOCKS - 1) for number in range(BLOCKS)):
            found.update(os.pread(stream.fileno(), BLOCK_BYTES, start))
    return found.hexdigest()
