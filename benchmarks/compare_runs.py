"""Compare two results folders: the content of every table, model and feature file, whatever its bytes.

    python benchmarks/compare_runs.py old/results/demo results/demo --renamed part=subset

Prints one line per file that differs or exists on one side only, and a count; exit code 1 if anything differs.
"""

import argparse
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import torch

SORTED_BY_VALUE = {"cohort.parquet"}  # Its rows are in the order of their values, which may have been renamed.
NOT_COMPARED = {"manifest.json", "config.yaml"}  # They name the commit and the configuration keys.


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument(
        "--renamed", action="append", default=[], metavar="OLD=NEW", help="name or value of the old run, as the new one has it"
    )
    options = parser.parse_args()
    renamed = dict(pair.split("=", 1) for pair in options.renamed)
    old, new = digest_run(options.old, renamed), digest_run(options.new, {})
    for path in sorted({*old, *new}):
        if old.get(path) != new.get(path):
            print(f"{'only old' if path not in new else 'only new' if path not in old else 'differs'}: {path}")
    equal = sum(old[path] == new.get(path) for path in old)
    print(f"{equal} of {len({*old, *new})} files equal")
    raise SystemExit(equal != len({*old, *new}))


def digest_run(folder: Path, renamed: dict[str, str]) -> dict[str, str]:
    """Return relative path → SHA-256 of the content, of every file that this script can read."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in READERS and path.name not in NOT_COMPARED:
            name = str(path.relative_to(folder))
            digest = hashlib.sha256()
            for part in sorted(READERS[path.suffix](path, renamed)):
                digest.update(part)
            digests[rename(name, renamed)] = digest.hexdigest()
    return digests


def rename(text: str, renamed: dict[str, str]) -> str:
    """Replace whole words of `text`."""
    for old, new in renamed.items():
        text = re.sub(rf"(?<![\w-]){re.escape(old)}(?![\w-])", new, text)
    return text


def read_table(path: Path, renamed: dict[str, str]) -> Iterator[bytes]:
    frame = pd.read_parquet(path).map(lambda value: renamed.get(value, value) if isinstance(value, str) else value)
    if path.name in SORTED_BY_VALUE:
        frame = frame.sort_values(sorted(frame.columns, key=lambda name: rename(str(name), renamed)), ignore_index=True)
    for name, column in frame.items():
        values = column.map(lambda value: value.tobytes() if isinstance(value, np.ndarray) else value)
        content = repr(values.tolist()).encode() if values.dtype == object else values.to_numpy().tobytes()
        yield rename(str(name), renamed).encode() + str(values.dtype).encode() + content


def read_text(path: Path, renamed: dict[str, str]) -> Iterator[bytes]:
    yield rename(path.read_text(), renamed).encode()


def read_json(path: Path, renamed: dict[str, str]) -> Iterator[bytes]:
    yield json.dumps(json.loads(rename(path.read_text(), renamed)), sort_keys=True).encode()


def read_hdf5(path: Path, renamed: dict[str, str]) -> Iterator[bytes]:
    parts: list[bytes] = []

    def add(name: str, node: Any) -> None:
        attributes = {key: value for key, value in node.attrs.items() if key != "meta"}  # Metadata of models is compared in the models.
        parts.append(rename(f"{name} {sorted((key, str(value)) for key, value in attributes.items())}", renamed).encode())
        if isinstance(node, h5py.Dataset) and not node.is_virtual:
            values = np.asarray(node[()])
            parts.append(name.encode() + (repr(values.tolist()).encode() if values.dtype == object else values.tobytes()))
        elif isinstance(node, h5py.Dataset):
            parts.append(name.encode() + b"".join(node[row].tobytes() for row in range(0, len(node), 97)))

    with h5py.File(path) as file:
        file.visititems(add)
    yield from parts


def read_checkpoint(path: Path, renamed: dict[str, str]) -> Iterator[bytes]:
    saved = torch.load(path, map_location="cpu", weights_only=True)
    for name, value in saved.items():
        if isinstance(value, dict) and any(isinstance(tensor, torch.Tensor) for tensor in value.values()):
            yield from (key.encode() + tensor.numpy().tobytes() for key, tensor in value.items())
        elif name not in {"meta", "metadata"}:
            yield repr((name, value)).encode()


READERS = {
    ".parquet": read_table,
    ".tsv": read_text,
    ".json": read_json,
    ".h5": read_hdf5,
    ".h5ad": read_hdf5,
    ".ckpt": read_checkpoint,
}

if __name__ == "__main__":
    main()
