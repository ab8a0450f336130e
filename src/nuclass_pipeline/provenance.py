"""What made a result: fingerprints of code, and the record of a run.

Snakemake sees a rule's script but not the package behind it, so every rule carries `code_version(module)` among its params.
"""

import ast
import hashlib
import json
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nuclass_pipeline import __version__
from nuclass_pipeline.io import file_state, whole_files

PACKAGE = Path(__file__).parent
UNCOMMITTED = "The code had changes that no commit holds, so the commit in the manifest is not the code that made the results."
FILE_KEYS = {"weights", "model", "library", "ontology", "slim"}
"""Keys of a run file that name files or folders to read, beside its tables."""
MAX_HASHED_MB = 64
"""Largest file whose content is hashed at the start of a run, MB."""
LIBRARIES = ("torch", "timm", "lightning", "scanpy", "anndata", "numpy", "h5py", "snakemake")


def code_version(*modules: str) -> str:
    """Return the version of each module: its pinned `STAGE_VERSION`, or else a hash of its code and of what it imports from the package.

    Comments and docstrings do not count. A stage whose rerun costs GPU days pins its version.
    """
    return " ".join(_version(module) for module in modules)


@cache
def _version(module: str) -> str:
    for node in _tree(module).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "STAGE_VERSION":
            return f"v{ast.literal_eval(node.value)}"
    return code_hash(module)


def code_hash(module: str) -> str:
    """Return the hash of a module's code, of what it imports from the package, and of all other files beside them, pinned or not."""
    digest = hashlib.sha256()
    modules = sorted(closure(module))
    for name in modules:
        digest.update(_code(name))
    for folder in sorted({path.parent for name in modules if (path := _path(name))}):
        # Hidden files do not count, because editors and file managers write them.
        for file in sorted(path for path in folder.glob("[!.]*") if path.is_file() and path.suffix not in {".py", ".pyc"}):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def closure(module: str) -> set[str]:
    """Return `module` and the modules of the package that it imports, directly or indirectly."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in seen and _path(name):
            seen.add(name)
            waiting += _imports(name)
    return seen


@cache
def _imports(module: str) -> list[str]:
    names: list[str] = []
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE.name:
            root = ".".join((node.module or "").split(".")[1:])
            names += [root, *(f"{root}.{alias.name}".strip(".") for alias in node.names)]
    return [name for name in names if name]


def _path(module: str) -> Path | None:
    base = PACKAGE.joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


@cache
def _tree(module: str) -> ast.Module:
    """Return the syntax tree of a module without its docstrings."""
    path = _path(module)
    if path is None:
        raise ModuleNotFoundError(f"nuclass_pipeline.{module}")
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            body[:] = body[1:] or [ast.Pass()]
    return tree


@cache
def _code(module: str) -> bytes:
    return ast.dump(_tree(module)).encode()


def content(*paths: Path | str | Sequence[Path | str]) -> str:
    """Return a hash of what the files hold, for `params`: a file that is put in place of another may be older than it.

    Of a file above `MAX_HASHED_MB`, the hash is of its size and time.
    """
    digest = hashlib.sha256()
    for path in paths:
        for file in [path] if isinstance(path, str | Path) else path:
            digest.update(_state_or_bytes(Path(file)) if Path(file).is_file() else b"")
    return digest.hexdigest()[:12]


def _state_or_bytes(file: Path) -> bytes:
    # Because Snakemake hashes it again at every start, and an AnnData file takes gigabytes.
    return file.read_bytes() if file.stat().st_size <= MAX_HASHED_MB * 10**6 else file_state(file).encode()


def record_run(
    *,
    tables: Sequence[Path],
    annotations: Sequence[Path],
    sources: Sequence[Path],
    predictions: Sequence[Path],
    config: dict[str, Any],
    config_file: Path,
    manifest: Path,
    encoders: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write the validated run file, and a manifest with versions, the code's commit, the machine, and hashes of all that was read.

    Parameters
    ----------
    tables
        Slide sheet, labels and markers.
    annotations
        Edits of clusters and labels of cells.
    sources
        The slides' files.
    predictions
        What the run makes. They are not read; the record is as late as they are, so that it has the commit that made them.
    config
        The run file with its defaults. Weights and gene sets that it names are hashed too.
    config_file, manifest
        Where to write.
    encoders
        Use, name, licence, source and files of each image encoder. The hash of its weights is recorded beside them.
    """
    import yaml

    commit, dirty = _commit()
    inputs = [*tables, *annotations, *sources, *_named_files(config)]
    record = {
        "run": config["run"],
        "recorded": datetime.now(UTC).isoformat(timespec="minutes"),
        "nuclass_pipeline": __version__,
        "commit": commit,
        "dirty": dirty,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "inputs": {str(path): _sha256(path) for path in dict.fromkeys(inputs)},
        "encoders": [dict(encoder) | {"sha256": [_sha256(Path(file)) for file in encoder["files"][:1]]} for encoder in encoders],
        "warnings": [UNCOMMITTED] if dirty else [],
    }
    with whole_files(config_file, manifest) as (config_partial, manifest_partial):
        config_partial.write_text(yaml.safe_dump(config, sort_keys=False))
        manifest_partial.write_text(json.dumps(record, indent=1) + "\n")


def _named_files(section: Mapping[str, Any]) -> Iterator[Path]:
    """Yield the weights and gene sets that a run file names, of a folder every file."""
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from _named_files(value)
        elif key in FILE_KEYS and value and Path(value).exists():
            yield from sorted(path for path in (Path(value), *Path(value).rglob("*")) if path.is_file())


def describe_version() -> str:
    """Return the version of the package, and where git holds its code the commit, and whether the code differs from it."""
    commit, dirty = _commit()
    return f"{__version__}{f', commit {commit[:12]}' if commit else ''}{', with changes that no commit holds' if dirty else ''}"


def _commit() -> tuple[str | None, bool]:
    """Return the commit of the code, and whether the code differs from it; the configuration does not count, since it is hashed itself."""
    # Not of any repository around it, because an installed package may lie in an environment within another project.
    if not _git("ls-files"):
        return None, False
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--", ":/src", ":/workflow", ":/Snakefile")
    return commit or None, bool(changes)


def _git(*words: str) -> str:
    try:
        git = subprocess.run(["git", "-C", str(PACKAGE), *words], capture_output=True, text=True, check=False)
    except FileNotFoundError:  # A machine without git.
        return ""
    return git.stdout.strip()


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
