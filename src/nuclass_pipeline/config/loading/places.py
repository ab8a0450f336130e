"""Where the relative paths of run files and slide sheets start from."""

import os
from pathlib import Path, PurePosixPath

from nuclass_pipeline.config.loading.run_files import Sources, is_set, source_of


def locate(path: str, file: str, project: str) -> str:
    """Return where a path leads that a run file or slide sheet gives.

    A relative path starts from the folder of the file that gives it, if that file lies outside the project. If nothing lies there, and
    always for a file of the project, it starts from the project.

    Parameters
    ----------
    path
        As it is given.
    file
        The run file or slide sheet.
    project
        Folder of the Snakefile; empty if jobs run there.
    """
    in_project, home = PurePosixPath(project, path), _whole(file).parent
    # Also as the path is written, because a link in the project may lead out of it.
    is_inside = home.is_relative_to(_whole(project)) or home.resolve().is_relative_to(Path(project).resolve())
    if is_inside or not Path(file).is_file():
        return str(in_project)
    # The project second, because a copy of config/demo.yaml that is moved elsewhere still names its sheet and tables.
    if not (home / path).exists() and Path(in_project).exists():
        return str(in_project)
    return path if home.resolve() == Path.cwd() else str(home / path)


def _whole(path: str) -> Path:
    return Path(os.path.normpath(Path(path).absolute()))


def locate_key(field: str, path: str, sources: Sources, project: str) -> str:
    """Return where the path under a key of the run file leads; a default, or a key of `--config`, starts from the project.

    Parameters
    ----------
    field
        Keys joined by points.
    path, project
        As for `locate`.
    sources
        The run files that may set the key.
    """
    given = source_of(field, sources) if is_set(field, sources) else None
    return locate(path, given or "", project)
