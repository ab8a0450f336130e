"""YAML files, read more strictly than YAML is: no key twice, no number that changes, no aliases that grow."""

import re
from pathlib import Path
from typing import Any, Unpack

import yaml

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io.text import TextOptions, read_text

MAX_YAML_MB = 1
MAX_VALUES = 100_000
"""Values of a YAML file with every alias written out."""
# YAML 1.1 reads 010 as 8, and 1:30 as 90.
_ODD_NUMBER = re.compile(r"[-+]?(0[0-9_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)")
_MERGE = "tag:yaml.org,2002:merge"


def read_yaml(path: Path | str, **options: Unpack[TextOptions]) -> Any:
    """Read a YAML file of plain values; an empty one is None.

    Raises
    ------
    UserError
        If the file is missing or is not text or YAML, at a key that occurs twice, and at a number that YAML would change.
    """
    strict: TextOptions = {"max_mb": MAX_YAML_MB, "save": "Save it as plain text in UTF-8.", **options}
    text = read_text(path, **strict)
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, path, {})
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise UserError(path, f"line {line}", f"not valid YAML ({error.problem or error.context})", _remedy(text, line)) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise UserError(path, "file", f"not valid YAML ({' '.join(str(error).split())})", "Correct it.") from None
    except RecursionError:
        raise UserError(path, "file", "its values are nested too deeply", "Write the nested values out in fewer levels.") from None
    finally:
        loader.dispose()


def _remedy(text: str, line: int) -> str:
    near = "\n".join(text.split("\n")[max(0, line - 2) : line])
    if "\t" in near:
        return "Use spaces instead of tabs."
    if re.search(r"[\u2018-\u201f\u00a0]", near):
        return "Replace typographic quotes and blanks by plain ones."
    return "Check indentation, brackets and quotes there; text that contains `: ` or ` #` needs quotes."


def _count(node: yaml.Node, path: Path | str, counts: dict[int, int]) -> int:
    """Return the number of values in `node` with aliases written out, after checking its keys and numbers."""
    if id(node) in counts:
        if not counts[id(node)]:
            raise _refusal(path, node, "a value contains itself through an alias", "Write it out without the alias.")
        return counts[id(node)]
    # 0 until it is known, because a node that is met again before then contains itself.
    counts[id(node)] = 0
    if isinstance(node, yaml.MappingNode):
        _check_keys(node, path)
    elif isinstance(node, yaml.ScalarNode):
        _check_number(node, path)
    total = 1 + sum(_count(child, path, counts) for child in _children(node))
    if total > MAX_VALUES:
        raise _refusal(path, node, f"aliases repeat it to more than {MAX_VALUES:,} values", "Write the values out without aliases.")
    counts[id(node)] = total
    return total


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _check_keys(node: yaml.MappingNode, path: Path | str) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise UserError(path, f"line {line}", "a key is a list or a section", "Write a word before the colon.")
        if key.value in lines and key.tag != _MERGE:
            problem = f"the key occurs twice, in line {lines[key.value]} and in line {line}, and YAML would keep the last"
            raise UserError(path, key.value, problem, "Remove one of them.")
        lines[key.value] = line


def _check_number(node: yaml.ScalarNode, path: Path | str) -> None:
    if node.style is None and node.tag.endswith((":int", ":float")) and _ODD_NUMBER.fullmatch(node.value):
        raise _refusal(path, node, f"YAML reads {node.value} as another number", "Write it without leading zeros or colons, or in quotes.")


def _refusal(path: Path | str, node: yaml.Node, problem: str, remedy: str) -> UserError:
    return UserError(path, f"line {node.start_mark.line + 1}", problem, remedy)
