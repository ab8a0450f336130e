"""The workflow as Snakemake loads it, in this process: its rules with their files, params and resources, without planning jobs."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from snakemake.api import SnakemakeApi
from snakemake.rules import Rule
from snakemake.settings.types import ConfigSettings, OutputSettings, Quietness, ResourceSettings

from tests import ROOT


def load_rules(raw: dict[str, Any], folder: Path, snakefile: Path = ROOT / "Snakefile") -> dict[str, Rule]:
    """Return the rules of a run file, given as read from YAML; `folder` is the working directory."""
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(raw))
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=2),
            config_settings=ConfigSettings(configfiles=[path]),
            snakefile=snakefile,
            workdir=folder,
        )
        return {rule.name: rule for rule in workflow._workflow.rules}


def slides_of(rule: Rule, slides: list[str]) -> list[str]:
    """Return the slides that the rule's wildcard constraint lets through."""
    constraint = rule.wildcard_constraints.get("slide", ".*")
    return [slide for slide in slides if re.fullmatch(constraint, slide)]


def evaluated(value: Any, slides: list[str]) -> str:
    """Return a value of a rule as text; a function of the wildcards is called for every slide."""
    value = getattr(value, "_evaluator", None) or getattr(value, "_value", value)
    if not callable(value):
        return repr(value)
    return " ".join(repr(call(value, slide)) for slide in slides)


def described(rule: Rule, slides: list[str]) -> str:
    """Return params, resources and threads of a rule as text, without the versions of its code and of its inputs."""
    allowed = slides_of(rule, slides)
    params = [(name, value) for name, value in rule.params.items() if name not in {"code", "content"}]
    values = [*params, *((name, value) for name, value in rule.resources.items() if name not in {"tmpdir", "mem_mb"})]
    return " ".join(f"{name}={evaluated(value, allowed)}" for name, value in values)


def files_of(rule: Rule, kind: str, slides: list[str]) -> list[str]:
    """Return the inputs or outputs of a rule, without constraints of wildcards; functions are called for every slide."""
    files: list[str] = []
    for file in getattr(rule, kind):
        found = [name for slide in slides_of(rule, slides) for name in as_list(call(file, slide))] if callable(file) else [file]
        # Inputs start from the project, because the rules are loaded with another working directory.
        files += [strip_constraints(str(name)).removeprefix(f"{ROOT}/") for name in found]
    return files


def call(function: Any, slide: str) -> Any:
    try:
        return function(SimpleNamespace(slide=slide, seed=0, variant="base"))
    # Of a rule with wildcards of an encoder, which only the run knows.
    except AttributeError:
        return []


def as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def strip_constraints(path: str) -> str:
    """Turn `{slide,a|b}` into `{slide}`."""
    return "".join(part.split(",")[0] + "}" if position else part for position, part in _braces(path))


def _braces(path: str) -> list[tuple[int, str]]:
    parts: list[tuple[int, str]] = []
    for number, piece in enumerate(path.split("{")):
        inside, _, after = piece.partition("}") if number else ("", "", piece)
        parts += [(1, "{" + inside), (0, after)] if number else [(0, after)]
    return parts
