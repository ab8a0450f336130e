"""What every section of a run file shares: no unknown keys, no truth value for a number, and paths that any job can read."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

MAX_NAME = 64
"""Letters of the name of a run or slide; file names that contain it stay below the limit of all file systems."""
_RESERVED = re.compile(r"con|prn|aux|nul|(com|lpt)\d")
_UNFIT = (
    # Each of these has a meaning to Snakemake, to a shell or to another system, so that a job would look for another file.
    (r"[{}<>]", "a wildcard of Snakemake"),
    (r"[*?]", "a pattern, and patterns are not expanded"),
    (r"\\|^[A-Za-z]:/", "of Windows"),
    (r"\$", "a variable of a shell, and variables are not expanded"),
    (r"^\w+://", "an address, and addresses belong in the columns of URLs"),
    (r"[\x00-\x1f\x7f]", "a control character"),
    (r"[^/]{256}|^.{2048}", "longer than file systems allow"),
)


class Section(BaseModel):
    """A frozen section that refuses unknown keys; defaults are the paper's values."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_no_truth_values(cls, value: Any, info: ValidationInfo) -> Any:
        if cls.model_fields[str(info.field_name)].annotation is not bool and _has_truth_value(value):
            raise ValueError("on, off, yes, no, true and false are truth values in YAML. Write a number here, or put the word in quotes")
        return value


def _has_truth_value(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, list | tuple) and any(map(_has_truth_value, value)))


def _check_name(name: str) -> str:
    if _RESERVED.fullmatch(name):
        raise ValueError("the name is reserved by Windows, so no folder there can have it. Use another")
    return name


def tidy_path(path: str | None) -> str | None:
    """Return a path as jobs use it: `~` expanded, without blanks around it, doubled slashes and a slash at its end.

    Raises
    ------
    ValueError
        If a part of it would be read as something else than a name.
    """
    if not path or not (path := path.strip()):
        return None if path is None else ""
    for pattern, meaning in _UNFIT:
        if found := re.search(pattern, path):
            raise ValueError(f"{found[0][:20]!r} in a path is {meaning}. Write a plain path, with / between folders")
    if path.startswith("~"):
        path = os.path.expanduser(path)  # noqa: PTH111, because that of pathlib raises where there is no such user.
    if path.startswith("~"):
        raise ValueError(f"{path.partition('/')[0]!r} in a path is not a user of this machine. Write the whole path")
    return re.sub("^//", "/", str(PurePosixPath(path)))


Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
"""A seed of NumPy and torch."""
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=MAX_NAME), AfterValidator(_check_name)]
"""Name of a folder of results."""
InputPath = Annotated[str, AfterValidator(tidy_path)]
"""A file or folder that the user names."""
OptionalPath = Annotated[str | None, AfterValidator(tidy_path)]
"""The same, or nothing."""

S = TypeVar("S", bound=Section)


def place(section: S, locate: Callable[[str, str], str], within: str = "") -> S:
    """Return the section with its paths, in all its sections, where `locate` finds them: key, joined by points, and path → path."""
    changed: dict[str, Any] = {}
    for name, info in type(section).model_fields.items():
        value, key = getattr(section, name), f"{within}{info.alias or name}"
        if isinstance(value, Section):
            changed[name] = place(value, locate, f"{key}.")
        elif value and any(getattr(part, "func", None) is tidy_path for part in info.metadata):
            changed[name] = locate(key, value)
    return section.model_copy(update=changed)


def flatten(section: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the keys of nested sections, joined by points, with their values."""
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{within}{key}.")
        else:
            yield f"{within}{key}", value
