"""Warnings that travel with the file they are about: in a Parquet footer, a JSON entry, or an HDF5 attribute."""

import json
from pathlib import Path

import pyarrow.parquet as pq

from nuclass_pipeline.io.hdf5.reading import open_h5
from nuclass_pipeline.io.json_files import read_json
from nuclass_pipeline.io.paths import require
from nuclass_pipeline.io.tables import WARNINGS_KEY


def read_warnings(path: Path | str) -> list[str]:
    """Return the warnings that were written with a table, a JSON file (entry `warnings`) or an HDF5 file (attribute `warnings`)."""
    path = require(path)
    if path.suffix == ".json":
        found = read_json(path).get("warnings", [])
    elif path.suffix == ".parquet":
        found = json.loads((pq.read_metadata(path).metadata or {}).get(WARNINGS_KEY, b"[]"))
    else:
        with open_h5(path) as file:
            found = json.loads(file.attrs.get("warnings", "[]"))
    return [str(warning) for warning in found]
