"""What made a result: fingerprints of code, and the record of a run.

Snakemake sees a rule's script but not the package behind it, so every rule carries `code_version(module)` among its params.
"""

import ast
import hashlib
import json
import platform
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nuclass_pipeline import __version__
from nuclass_pipeline.io import whole_files

PACKAGE = Path(__file__).parent
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
    """Return the hash of a module's code, of what it imports from the package, and of the tables beside them, pinned or not."""
    digest = hashlib.sha256()
    modules = sorted(closure(module))
    for name in modules:
        digest.update(ast.dump(_without_docstrings(_tree(name))).encode())
    for folder in sorted({path.parent for name in modules if (path := _path(name))}):
        for table in sorted((*folder.glob("*.tsv"), *folder.glob("*.yaml"))):
            digest.update(table.read_bytes())
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
    path = _path(module)
    if path is None:
        raise ModuleNotFoundError(f"nuclass_pipeline.{module}")
    return ast.parse(path.read_text())


def _without_docstrings(tree: ast.Module) -> ast.Module:
    tree = ast.parse(ast.unparse(tree))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            body[:] = body[1:] or [ast.Pass()]
    return tree


def record_run(*, config: dict[str, Any], inputs: Sequence[Path], config_file: Path, manifest: Path) -> None:
    """Write the validated run file, and a manifest with versions, the code's commit, the machine and input hashes."""
    import yaml

    record = {
        "run": config["run"],
        "nuclass_pipeline": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "inputs": {str(path): _sha256(path) for path in inputs},
    }
    with whole_files(config_file, manifest) as (config_partial, manifest_partial):
        config_partial.write_text(yaml.safe_dump(config, sort_keys=False))
        manifest_partial.write_text(json.dumps(record, indent=1) + "\n")


def _commit() -> str | None:
    git = subprocess.run(["git", "-C", str(PACKAGE), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return git.stdout.strip() or None


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
