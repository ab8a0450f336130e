"""Every key of a run file reaches a rule: what changes in the file changes in some rule's params, inputs or resources."""

import copy
import re
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from nuclass_pipeline.config.run_file import Config
from nuclass_pipeline.config.slides import read_slides
from tests import ROOT
from tests.workflow.loading import described, evaluated, files_of, load_rules

NOT_PARAMS = {
    *("run", "slides", "figures", "tables", "variants"),
    *("study.train", "study.heldout", "study.predict", "study.label", "study.unknown_organ"),
}
"""Keys that decide which rules and files there are, and not how a rule works; test_dag and test_config test these."""
OTHERS: dict[str, Any] = {
    "labels": "other.tsv",
    "study.classes": ["T_Cell", "B_Cell"],
    "registration.accept_unclear": ["demo-lung-1"],
    "synthetic.seeds": {"demo-lung-1": 5, "demo-lung-2": 6, "demo-pancreas-1": 5, "demo-pancreas-2": 6},
    "split.fractions": {"train": 0.6, "gate": 0.2, "val": 0.2},
    "image.mpp": 0.2,
    "image.fill": 200,
    "split.buffer_um": 150.0,
    "gate.hidden": [128, 64],
    "segmentation.method": "cellpose",
    "clustering.backend": "rapids",
    "domains.mode": "contact",
    "domains.contact_um": 25.0,
    "programs.library": "sets.gmt",
    "programs.ontology": "go.obo",
    "programs.slim": "slim.obo",
    "proposals.annotator": "llm-score",
    "proposals.model": "model",
    "labeling.annotator": "other",
    "study.colors": {"Own": "#9b2c2d"},
    "local.backbone.name": "tiny-vit",
    "global.context.name": "tiny-vit",
    **{
        f"{encoder}.{key}": value
        for encoder in ("local.backbone", "global.context")
        for key, value in {
            **{"architecture": "resnet18", "field_px": 448, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
            **{"features.layers": [1, 2], "features.pool": "mean", "views": 4, "tile_um": 128.0},
        }.items()
    },
}
"""A valid value other than the demo's, where adding one or choosing the next allowed value does not make one."""
WITH = {
    "programs.ontology": {"library": "sets.gmt"},
    "programs.slim": {"library": "sets.gmt"},
    "proposals.annotator": {"model": "model"},
    "gate.kind": {"optim": {}, "balance_cells": 12},
    "gate.neighbor_um": {"kind": "neighbors", "optim": {}, "balance_cells": 12},
    "local.standardize": {"backbone": {"name": "tiny-resnet", "freeze": True}},
    "global.standardize": {"context": {"name": "tiny-resnet", "freeze": True}},
    **{f"{encoder}.views": {"freeze": True} for encoder in ("local.backbone", "global.context")},
    "local.backbone.tile_um": {"name": "tiny-resnet", "freeze": True},
    "global.context.tile_um": {"name": "tiny-resnet", "freeze": True},
    **{f"{encoder}.architecture": {"name": "own"} for encoder in ("local.backbone", "global.context")},
    **{
        f"{encoder}.{key}": {"name": "own", "architecture": "resnet18"}
        for encoder in ("local.backbone", "global.context")
        for key in ("field_px", "mean", "std")
    },
}
"""Further keys of the section that a value needs."""


def keys(model: type[BaseModel], prefix: str = "") -> list[tuple[str, Any]]:
    """Return the dotted keys of a configuration with their fields; `split.fractions` counts as one, since its values sum to one."""
    found = []
    for name, info in model.model_fields.items():
        key = f"{prefix}{info.alias or name}"
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel) and key != "split.fractions":
            found += keys(info.annotation, f"{key}.")
        else:
            found.append((key, info))
    return found


KEYS = dict(keys(Config))


def sections_by_rule() -> dict[str, list[str]]:
    """Return rule → the sections that it takes, by the text of the rule files."""
    text = "\n".join(path.read_text() for path in sorted((ROOT / "workflow/rules").glob("*.smk")))
    found = {}
    for rule in re.split(r"^rule ", text, flags=re.MULTILINE)[1:]:
        calls = re.findall(r"run\.section\(([^)]*)\)", rule)
        found[rule.split(":")[0]] = [".".join(re.findall(r'"(\w+)"', call)).replace("global_", "global") for call in calls]
    return found


SECTIONS = sections_by_rule()


def another(key: str, value: Any) -> Any:
    """Return a valid value of a key that differs from `value`."""
    if key in OTHERS:
        return OTHERS[key]
    allowed = get_args(KEYS[key].annotation) if get_origin(KEYS[key].annotation) is Literal else ()
    if allowed:
        return next(option for option in allowed if option != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1 if key != "compute.gpu" else 1 - value
    if isinstance(value, float):
        return value / 2 if value else 0.25
    if isinstance(value, list | tuple):
        return [*value, value[-1] + 1]
    return f"{value or ''}x"


def changed(raw: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    raw = copy.deepcopy(raw)
    *folders, last = key.split(".")
    section = raw
    for folder in folders:
        section = section.setdefault(folder, {})
    section.update(WITH.get(key, {}))
    section[last] = value
    return raw


def current(raw: dict[str, Any], key: str) -> Any:
    value: Any = Config.model_validate(raw).model_dump(mode="json", by_alias=True)
    for name in key.split("."):
        value = value[name]
    return value


def rules_of(raw: dict[str, Any], folder) -> dict[str, str]:
    """Return rule → its params and resources; `record_run` is left out, since it takes the whole run file."""
    slides = list(read_slides(ROOT / "config/slides.tsv"))[:5]
    rules = load_rules(raw, folder)
    found = {name: described(rule, slides) for name, rule in rules.items() if name != "record_run"}
    found["import_trio"] += " ".join(evaluated(value, []) for value in rules["import_trio"].input)
    found["label_cells"] += " ".join(files_of(rules["label_cells"], "input", slides))
    return found


@pytest.fixture(scope="module")
def demo():
    return yaml.safe_load((ROOT / "config/demo.yaml").read_text())


@pytest.fixture(scope="module")
def before(demo, tmp_path_factory):
    return rules_of(demo, tmp_path_factory.mktemp("before"))


@pytest.mark.parametrize("key", [key for key in KEYS if key not in NOT_PARAMS])
def test_a_key_reaches_a_rule(key, demo, before, tmp_path, monkeypatch):
    for checks in ("ALWAYS", "FILES"):  # Because the files that the values name are not there.
        monkeypatch.setattr(f"nuclass_pipeline.config.run.{checks}", ())
    monkeypatch.setitem(__import__("nuclass_pipeline.config.labeling", fromlist=["x"]).CELL_ANNOTATORS, "other", "labeling.rules:Rules")
    value = another(key, current(demo, key))
    assert value != current(demo, key)
    after = rules_of(changed(demo, key, value), tmp_path)
    reached = {name for name in before if after[name] != before[name]}
    assert reached, f"{key}: {value!r} changes no rule"
    missed = {rule for rule, sections in SECTIONS.items() if any(key.startswith(f"{section}.") for section in sections)} - reached
    assert not missed, f"{key} does not reach {missed}, which take its section"
