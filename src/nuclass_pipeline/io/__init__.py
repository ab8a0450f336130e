"""Files that are either whole or absent, and readers that answer in one line."""

from nuclass_pipeline.errors import first_line
from nuclass_pipeline.io.hdf5.blocks import USUAL_BYTES, BlockCache, cut_square, overlap
from nuclass_pipeline.io.hdf5.named import NamedPatches, has_named_patches, stated_mpp
from nuclass_pipeline.io.hdf5.patch_files import (
    IDS_DIGEST,
    ORIGIN,
    check_patch,
    digest_ids,
    open_patches,
    open_window_file,
    read_keys,
    read_reasons,
)
from nuclass_pipeline.io.hdf5.reading import damaged_h5, open_h5, read_id_index, read_texts
from nuclass_pipeline.io.hdf5.windows import WindowReader, side_of
from nuclass_pipeline.io.json_files import read_json, write_json, write_json_object
from nuclass_pipeline.io.paths import COLUMN_MARK, READ_ERRORS, file_state, require, require_file, split_column
from nuclass_pipeline.io.spreadsheet import quote_formula, quote_row, quote_table, unquote_formula
from nuclass_pipeline.io.tables import TableWriter, find_rows, read_compact, read_parquet, read_table, write_table
from nuclass_pipeline.io.text import TextTable, read_fields, read_header, read_rows, read_text
from nuclass_pipeline.io.warnings_kept import read_warnings
from nuclass_pipeline.io.writing import whole_file, whole_files
from nuclass_pipeline.io.yaml_files import read_yaml

__all__ = [
    "COLUMN_MARK",
    "IDS_DIGEST",
    "ORIGIN",
    "READ_ERRORS",
    "USUAL_BYTES",
    "BlockCache",
    "NamedPatches",
    "TableWriter",
    "TextTable",
    "WindowReader",
    "check_patch",
    "cut_square",
    "damaged_h5",
    "digest_ids",
    "file_state",
    "find_rows",
    "first_line",
    "has_named_patches",
    "open_h5",
    "open_patches",
    "open_window_file",
    "overlap",
    "quote_formula",
    "quote_row",
    "quote_table",
    "read_compact",
    "read_fields",
    "read_header",
    "read_id_index",
    "read_json",
    "read_keys",
    "read_parquet",
    "read_reasons",
    "read_rows",
    "read_table",
    "read_text",
    "read_texts",
    "read_warnings",
    "read_yaml",
    "require",
    "require_file",
    "side_of",
    "split_column",
    "stated_mpp",
    "unquote_formula",
    "whole_file",
    "whole_files",
    "write_json",
    "write_json_object",
    "write_table",
]
