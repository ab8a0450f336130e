"""Snakemake's records of results, as copies that move with the results.

Snakemake keeps for each file the inputs, parameters and code that made it, in `.snakemake` of the folder where it ran.
A run leaves copies of them in `.jobs.json` of its results and of each folder in them, with what identifies each file.
Loading the workflow restores the copies that are about the files on disk.
A run that starts also leaves its run file as checked, with which runs that use its slides are compared.
"""

import atexit
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, TypeAdapter

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_json, read_yaml, write_json
from nuclass_pipeline.layout import RESULTS
from nuclass_pipeline.provenance import content
from nuclass_pipeline.runtime import claim

if TYPE_CHECKING:
    from snakemake.persistence import MetadataRecord

logger = logging.getLogger(__name__)

RECORDS = ".jobs.json"
"""Name of the copies."""
STARTED = ".run.json"
"""Name of the run file of the latest start."""
MAX_HASHED_BYTES = 10**6
"""Larger files are compared by their sizes and times alone."""


class _Copy(BaseModel):
    """A record, and the size, time and content of the file that it is about."""

    size: int
    mtime_ns: int
    content: str | None
    record: dict[str, Any]


def begin(*, results: str, slides: str, logs: str, benchmarks: str, outputs: Iterable[str], run_file: dict[str, Any]) -> None:
    """Start a run: reserve its folders, and when the process ends leave copies of Snakemake's records in its results.

    Parameters
    ----------
    results, logs, benchmarks
        Folders of the run.
    slides
        Folder of its slides, which may be that of another run. Runs that only read it may work at the same time.
    outputs
        Files that the run is about to make.
    run_file
        Its run file as checked.

    Raises
    ------
    UserError
        If another process works on the run or on its slides, or a folder cannot be written.
    """
    claim(results, logs, benchmarks)
    makes_slides = any(Path(slides) in Path(path).parents for path in outputs)
    claim(slides, shared=not makes_slides)
    changed = _homes(results, slides) if makes_slides else [Path(results)]
    # Removed first, because a run that is killed would leave them out of date.
    for folder in (folder for home in changed for folder in _folders(home)):
        (folder / RECORDS).unlink(missing_ok=True)
    write_json(run_file, Path(results, STARTED))
    atexit.register(_keep_records, Path.cwd(), changed)


def read_started(results: Path) -> dict[str, Any] | None:
    """Return the run file of the latest start, as checked, or without it the one recorded with the predictions; None without either."""
    return _read_first((results / STARTED, read_json), (results / RESULTS["run_file"].path, read_yaml))


def read_recorded(results: Path) -> dict[str, Any] | None:
    """Return the run file recorded with the predictions, or without it the one of the latest start; None without either."""
    return _read_first((results / RESULTS["run_file"].path, read_yaml), (results / STARTED, read_json))


def _read_first(*files: tuple[Path, Callable[[Path], Any]]) -> dict[str, Any] | None:
    found = next((read(path) for path, read in files if path.is_file()), None)
    return found if isinstance(found, dict) else None


def _keep_records(workdir: Path, changed: Iterable[Path]) -> None:
    from snakemake.persistence.file import FilePersistence

    with suppress(UserError, OSError):  # Without the copies, results that move are compared by their times.
        records = FilePersistence(path=workdir / ".snakemake")
        for results in changed:
            _keep(records, workdir, results)


def _keep(records: Any, workdir: Path, results: Path) -> None:
    names = sorted(str(path.relative_to(workdir / results)) for path in (workdir / results).rglob("*") if path.is_file())
    known = {name: record for name in names if (record := records._read_record(f"{results}/{name}"))}
    copies = {name: _copy(workdir / results / name, record) for name, record in known.items()}
    # All of them in every folder, because a job of which a folder holds the input and not the output is compared too.
    for folder in _folders(workdir / results):
        write_json(copies, folder / RECORDS)


def _copy(path: Path, record: "MetadataRecord") -> dict[str, Any]:
    found = path.stat()
    hashed = content(path) if found.st_size <= MAX_HASHED_BYTES else None
    return _Copy(size=found.st_size, mtime_ns=found.st_mtime_ns, content=hashed, record=record.model_dump()).model_dump()


def restore_records(results: str, slides: str) -> None:
    """Restore the records of results that came from elsewhere, also of those that lie over the results of another run.

    Parameters
    ----------
    results
        Folder of the run.
    slides
        Folder of its slides; if it is that of another run, the records of that run are restored too.
    """
    for folder in _homes(results, slides):
        _restore(folder)


def _homes(results: str, slides: str) -> list[Path]:
    return list(dict.fromkeys((Path(results), Path(slides).parent)))


def _restore(results: Path) -> None:
    from snakemake.persistence import MetadataRecord
    from snakemake.persistence.file import FilePersistence

    copies: dict[str, list[_Copy]] = defaultdict(list)
    for folder in _folders(results):
        for name, copy in _read_copies(folder / RECORDS).items():
            if copy not in copies[name]:
                copies[name].append(copy)
    records = FilePersistence() if copies else None
    for name, found in copies.items():
        path = Path(results, name)
        if records and (record := _choose(path, found, records._read_record(str(path)))):
            records._write_record(str(path), MetadataRecord(**record))


def _read_copies(path: Path) -> dict[str, _Copy]:
    """Return the copies in a file; those of a damaged file are not used, because without them times decide."""
    from snakemake.persistence import MetadataRecord

    if not path.is_file():
        return {}
    try:
        copies = TypeAdapter(dict[str, _Copy]).validate_python(read_json(path))
        for copy in copies.values():
            MetadataRecord.model_validate(copy.record)
    except (UserError, OSError, ValueError):
        logger.warning("%s: file: it holds no records that can be read, so times decide which jobs run. Remove it.", path)
        return {}
    return copies


def _choose(path: Path, copies: list[_Copy], present: "MetadataRecord | None") -> dict[str, Any] | None:
    """Return the record to restore: of the copy that is most surely about the file, unless the record present is that."""
    known = present.model_dump() if present else None
    if all(copy.record == known for copy in copies):
        return None
    if not path.is_file():
        return None if known else copies[0].record
    agreement = [_agreement(path, copy) for copy in copies]
    best = [copy.record for copy, level in zip(copies, agreement, strict=True) if level and level == max(agreement)]
    return best[0] if best and known not in best else None


def _agreement(path: Path, copy: _Copy) -> int:
    """Return how surely the copy is about the file: 2 where it is, 1 where only the size is known to agree, 0 where it is not."""
    found = path.stat()
    if found.st_size != copy.size:
        return 0
    if found.st_mtime_ns == copy.mtime_ns:
        return 2
    if copy.content is None:
        return 1
    return 2 if content(path) == copy.content else 0


def _folders(results: Path) -> list[Path]:
    return [results, *(path for path in sorted(results.glob("*")) if path.is_dir())]
