"""Files that are either whole or absent, and readers that answer in one line."""

from nuclass_pipeline.io.hdf5 import damaged_h5, open_h5
from nuclass_pipeline.io.json_files import read_json, write_json
from nuclass_pipeline.io.paths import READ_ERRORS, first_line, require
from nuclass_pipeline.io.tables import read_parquet, read_table, write_table
from nuclass_pipeline.io.warnings_kept import read_warnings
from nuclass_pipeline.io.writing import whole_file, whole_files

__all__ = [
    "READ_ERRORS",
    "damaged_h5",
    "first_line",
    "open_h5",
    "read_json",
    "read_parquet",
    "read_table",
    "read_warnings",
    "require",
    "whole_file",
    "whole_files",
    "write_json",
    "write_table",
]
