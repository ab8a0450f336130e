"""Why jobs run, in a person's words."""

import ast
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

NEW, AGAIN = "new", "made again"
Values = Mapping[str, Any]
MAX_KINDS = 2
"""Most kinds of files that a reason names."""


def explain_reason(
    reason: Any, outputs: Collection[str], made_before: bool, params: Values, config: Values, code: str = "", forced: bool = True
) -> str:
    """Return why a job runs, such as `new` or `labels.parquet is newer`; empty for a target, which makes no file.

    Parameters
    ----------
    reason
        Snakemake's reasons for the job.
    outputs
        Files that the job makes.
    made_before
        Whether an earlier run has made any of them.
    params
        Name → value of the rule's params.
    config
        The run file with its defaults, which gives the keys in `params` their sections.
    code
        Modules of the package that the rule runs, if they are known.
    forced
        Whether the command forces jobs; Snakemake itself forces those that another run left unfinished.
    """
    if not outputs:
        return ""
    if reason.incomplete_output or (reason.forced and not forced):
        return "unfinished when the last run ended"
    if reason.forced:
        return "forced by the command"
    if not made_before and reason.missing_output:
        return NEW
    found = [*_files(reason.missing_output, "missing"), *_files(reason.updated_input - reason.updated_input_run, "newer")]
    if reason.params_changed:
        found += _param_changes(reason.params_changed, params, config, code)
    found += [words for flag, words in OTHERS.items() if getattr(reason, flag)]
    return "; ".join(found or _files(reason.updated_input_run, AGAIN)) or "requested"


OTHERS = {
    "code_changed": "its script changed",
    "input_changed": "it reads other files than before",
    "software_stack_changed": "its software environment changed",
    "unfinished_queue_input": "its inputs are not complete",
}


def _files(paths: Iterable[str], state: str) -> list[str]:
    """Return the files in words: one or two kinds with their numbers, or the first and how many others."""
    kinds: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(map(Path, set(paths))):
        kinds[_kind(path)].append(path)
    named = sorted((_name(kind, files), len(files)) for kind, files in kinds.items())
    if not named:
        return []
    total = sum(count for _, count in named)
    shown = [name for name, _ in named] if len(named) <= MAX_KINDS else [named[0][0], f"{total - named[0][1]} other files"]
    return [f"{' and '.join(shown)} {'is' if total == 1 else 'are'} {state}"]


def _kind(path: Path) -> str:
    """Return the pattern of a result, such as `slides/*/labels.parquet`, or the name of another file without that of its folder."""
    from nuclass_pipeline.layout import RESULTS

    inside = "/".join(path.parts[2:])
    for result in RESULTS.values():
        pattern = re.sub(r"\{\w+\}", "*", result.path)
        wanted = re.sub(r"<\w+>", r"\\d+", re.escape(pattern).replace(r"\*", "[^/]+"))
        if path.parts[0] == "results" and re.fullmatch(wanted, inside):
            return pattern if "<" not in pattern else pattern.replace(pattern.rpartition("/")[2], path.name)
    # Of a slide's own file, such as lung-1/lung-1_he.tif, because all slides share the rest of the name.
    folders = [part for part in path.parts[:-1] if re.match(rf"{re.escape(part)}\b|{re.escape(part)}_", path.name)]
    return path.name.replace(folders[-1], "*") if folders else path.name


def _name(kind: str, files: Sequence[Path]) -> str:
    """Return the name of one file, or the pattern of several with their number."""
    parts = [file.parts[-1 - kind.count("/") :] for file in files]
    if len(files) == 1:
        # With its folders where the name is that of a slide or a figure alone.
        return kind if "/" not in kind else "/".join(parts[0]) if "/*." in kind else files[0].name
    shown = "/".join(same[0] if len(set(same)) == 1 else star for same, star in zip(zip(*parts, strict=True), kind.split("/"), strict=True))
    what = "slides" if kind.startswith("slides/*/") and kind.count("*") == 1 else "files"
    return f"{shown} ({len(files)} {what})"


def _param_changes(change: Any, params: Values, config: Values, code: str) -> Iterator[str]:
    before = [_value(text) for text in change.only_old]
    now = {name: value for name, value in params.items() if repr(value) in change.only_new}
    named = [words for name, value in now.items() for words in _describe(name, value, before, config, code)]
    yield from dict.fromkeys(named or ["its parameters changed"])


def _describe(name: str, value: Any, before: list[Any], config: Values, code: str) -> Iterator[str]:
    if name == "code":
        # Also of what they import, because the version of a module counts all of it.
        yield (
            f"code of {code} or of what {'they import' if ',' in code else 'it imports'} changed"
            if code
            else "its code or what it imports changed"
        )
    elif name == "content":
        yield "a table that it reads changed"
    elif isinstance(value, Mapping) and (old := _closest(value, before)) is not None:
        section = "".join(f"{key.rstrip('_')}." for key in _section(config, value))
        yield from (f"`{section}{key}` changed{values}" for key, values in _differences(old, value))
    else:
        yield f"`{name}` changed"


def _closest(value: Values, before: Iterable[Any]) -> Values | None:
    """Return the old value with most keys of the new one."""
    sections = [old for old in before if isinstance(old, Mapping) and old.keys() & value.keys()]
    return max(sections, key=lambda old: len(old.keys() & value.keys()), default=None)


def _sections(config: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Values]]:
    if isinstance(config, Mapping):
        yield path, config
        for key, child in config.items():
            yield from _sections(child, (*path, str(key)))


def _section(config: Values, value: Values) -> tuple[str, ...]:
    """Return the path of the section that holds the keys: the one with the same values, or else with the fewest other keys."""
    fits = [(child != value, len(child), path) for path, child in _sections(config) if child.keys() >= value.keys()]
    return min(fits)[2] if fits else ()


def _differences(old: Values, new: Values, above: str = "") -> Iterator[tuple[str, str]]:
    for key in dict.fromkeys([*new, *old]):
        one, other = old.get(key), new.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from _differences(one, other, f"{above}{key}.")
        elif one != other:
            short = not isinstance(one, Mapping | list) and not isinstance(other, Mapping | list) and key in old and key in new
            yield f"{above}{key}", f" ({one} → {other})" if short else ""


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def code_modules(rule: str, source: str) -> str:
    """Return the modules that a rule names in `code_version`, if its file spells them out.

    Parameters
    ----------
    rule
        Name of the rule.
    source
        Text of the file that holds it.
    """
    found = re.search(rf"^\s*rule {rule}:\n(.*?)(?=^\s*rule |\Z)", source, re.MULTILINE | re.DOTALL)
    call = re.search(r"code_version\(([^()]*)\)", found[1]) if found else None
    return ", ".join(re.findall(r'(?<!f)"([\w.]+)"', call[1])) if call else ""
