"""The run files of a command, read strictly: Snakemake merges them, and keeps neither their lines nor where a key comes from."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nuclass_pipeline.errors import UserError, similar
from nuclass_pipeline.io import read_yaml
from nuclass_pipeline.layout import TARGETS

COMMAND_LINE = "--config"

MADE_BY_A_RUN = {".parquet", ".h5", ".h5ad", ".ckpt", ".pdf", ".png", ".html", ".tex", ".csv", ".tsv"}
"""Endings of results and of tables, none of which is a run file."""

Sources = dict[str, Mapping[str, Any]]
"""Name of a run file, or `COMMAND_LINE`, → its keys; later ones take precedence."""


def read_run_files(paths: Iterable[Path | str], command_line: Mapping[str, Any] | None = None) -> Sources:
    """Read the run files of a command, and add the keys of its `--config`.

    Raises
    ------
    UserError
        If a file is missing, a target, or no YAML file of keys.
    """
    sources: Sources = {}
    for path in map(Path, paths):
        name = str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
        if path.suffix in MADE_BY_A_RUN and path.is_file():
            raise UserError(name, "file", "it was read as a run file", "Write a target before --configfile.")
        raw = read_yaml(name, missing=_where_else(path))
        _check_utf8(name)
        if not isinstance(raw, dict):
            found = "empty" if raw is None else f"a {'list' if isinstance(raw, list) else 'single value'}, not keys with values"
            raise UserError(name, "file", f"it is {found}", "Start from config/demo.yaml; docs/configuration.md lists all keys.")
        if template := next((key for key in raw if str(key).startswith(("__", "?"))), None):
            raise UserError(name, str(template), "templates are not supported, because they run code", "Write the values themselves.")
        sources[name] = raw
    return sources | ({COMMAND_LINE: command_line} if command_line else {})


def _check_utf8(name: str) -> None:
    # Although `read_yaml` reads more, because Snakemake reads the file too.
    try:
        Path(name).read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise UserError(name, "file", "it is not in UTF-8, and Snakemake reads nothing else", "Save it in UTF-8.") from None


def source_of(field: str, sources: Sources) -> str | None:
    """Return the last source that sets `field`, given as keys joined by points, or a section around it."""
    parts = field.split(".")
    for length in range(len(parts), 0, -1):
        for name in reversed(sources):
            if _has(sources[name], parts[:length]):
                return name
    return next(iter(reversed([name for name in sources if name != COMMAND_LINE])), None)


def _has(raw: Any, parts: list[str]) -> bool:
    return not parts or (isinstance(raw, Mapping) and parts[0] in raw and _has(raw[parts[0]], parts[1:]))


def is_set(field: str, sources: Sources) -> bool:
    """Return whether a source sets `field`."""
    return any(_has(raw, field.split(".")) for raw in sources.values())


def is_target(name: str) -> bool:
    """Return whether `name` is a target of the workflow, or a file of its results."""
    patterns = (re.sub("<name>", r"\\w+", re.sub("<number>", r"\\d+", target)) for target in TARGETS)
    return name.startswith("results/") or any(re.fullmatch(pattern, name) for pattern in patterns)


def _where_else(path: Path) -> str:
    """Return the remedy where a run file is missing."""
    name = str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    if is_target(name):
        return f"{name} is a target. Targets go before --configfile: snakemake --cores 2 {name} --configfile config/demo.yaml."
    folder = path.parent
    beside = [file.name for file in folder.iterdir() if file.suffix in {".yaml", ".yml"} and file != path] if folder.is_dir() else []
    close = similar(path.name, beside).removeprefix(", did you mean ")
    return f"Name it as it is in {folder}, such as {close.removesuffix('?')}." if close else "Check the path after --configfile."
