"""The header of a rule file is its contract: what it says is read and written is what its rules read and write."""

import copy
import itertools
import random
import re

import pytest
import yaml

from tests import ROOT
from tests.workflow.loading import described, files_of, load_rules
from tests.workflow.project import Project

RULE_FILES = sorted((ROOT / "workflow/rules").glob("*.smk"))
TARGETS = {"slides", "labels", "ablation", "classification", "figures", "tables", "all"}


def expand(path: str) -> list[str]:
    """Expand `{a,b}` as a shell does, from the innermost braces; `{slide}` has no comma and stays."""
    match = re.search(r"\{((?:[^{}]|\{[^{},]*\})*,(?:[^{}]|\{[^{},]*\})*)\}", path)
    if not match:
        return [path]
    options = re.split(r",\s*", match[1])
    return list(itertools.chain.from_iterable(expand(path[: match.start()] + option.strip() + path[match.end() :]) for option in options))


def paths_in(text: str) -> list[str]:
    """Return the paths that a header names, expanded."""
    joined = re.sub(r"\s+", " ", text)
    words: list[str] = []
    depth, word = 0, ""
    for letter in f"{joined} ":
        depth += (letter == "{") - (letter == "}")
        if letter in " ,;:" and depth == 0:
            words.append(word)
            word = ""
        else:
            word += letter
    return [path for word in words if "/" in word or "." in word for path in expand(word.strip("."))]


def pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"\{\w+\}|\*", path)
    return re.compile("[^/]+".join(map(re.escape, parts)) + "$")


def short(path: str) -> str:
    # Snakemake fills in `<results>` and `<slides>` after it has called a function of the wildcards.
    return path.removeprefix("results/demo/").removeprefix("<results>/").replace("<slides>", "slides")


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    """Return the rules of two runs: the demo, and one with gene programs, a frozen context encoder and a variant."""
    demo = yaml.safe_load((ROOT / "config/demo.yaml").read_text())
    other = copy.deepcopy(demo) | {"programs": {"library": "resources/sets.gmt"}}
    other["global"]["context"]["freeze"] = True
    other["variants"] = {"concat": {"local": {"conditioning": "concat"}}, "strict": {"labeling": {"min_confidence": 0.9}}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nuclass_pipeline.config.run.FILES", ())
        return [rule for raw in (demo, other) for rule in load_rules(raw, tmp_path_factory.mktemp("rules")).values()]


@pytest.mark.parametrize("path", RULE_FILES, ids=lambda path: path.name)
def test_a_header_names_what_its_rules_write_and_read(path, rules):
    header = re.match(r'"""(.*?)INPUTS(.*?)OUTPUTS(.*?)"""', path.read_text(), re.DOTALL)
    assert header, "the header has a sentence, INPUTS and OUTPUTS"
    inputs, outputs = ([pattern(name) for name in paths_in(header[group])] for group in (2, 3))
    slides = ["demo-lung-1", "demo-lung-2", "demo-pancreas-1", "demo-pancreas-2", "demo-lung-he"]
    mine = [rule for rule in rules if str(rule.snakefile).endswith(path.name)]
    assert mine
    made = {short(name) for rule in mine for name in files_of(rule, "output", slides)}
    unnamed = sorted(name for name in made if not any(one.match(name) for one in outputs))
    assert not unnamed, f"OUTPUTS misses {unnamed}"
    empty = [one.pattern for one in outputs if not any(one.match(name) for name in made)]
    assert not empty, f"OUTPUTS names what no rule writes: {empty}"
    read = {short(name) for rule in mine for name in files_of(rule, "input", slides)} - made
    elsewhere = re.compile(r"resources/sets\.gmt|.*\.rst" + (r"|resources/.*" if "config/slides.tsv" in header[2] else ""))
    unnamed = sorted(name for name in read if not any(one.match(name) for one in [*inputs, *outputs]) and not elsewhere.fullmatch(name))
    assert not unnamed, f"INPUTS misses {unnamed}"
    inputs = [one for one in inputs if "/" in one.pattern and not one.pattern.startswith("config/")]
    idle = [one.pattern for one in inputs if not any(one.match(name) for name in read | made)]
    assert not idle, f"INPUTS names what no rule reads: {idle}"


def test_rule_files_may_come_in_any_order(tmp_path):
    """The rules and the plan are the same with the includes in three random orders."""
    raw = yaml.safe_load((ROOT / "config/demo.yaml").read_text())
    rules, jobs = [], []
    for seed in range(4):
        (tmp_path / str(seed)).mkdir()
        project = Project(tmp_path / str(seed))
        shuffle_includes(project.folder / "Snakefile", seed)
        loaded = load_rules(raw, project.folder, project.folder / "Snakefile")
        rules.append({name: plan_of(rule) for name, rule in loaded.items()})
        jobs.append(project.planned())
    assert jobs[0]["train_local"] == 1
    assert all(found == rules[0] for found in rules[1:])
    assert all(found == jobs[0] for found in jobs[1:])


def shuffle_includes(snakefile, seed):
    text = snakefile.read_text()
    listed = re.search(r"for name in \((.*?)\)\.split\(\):", text, re.DOTALL)
    names = re.sub(r'["\n ]+', " ", listed[1]).split()
    assert sorted(names) == sorted(path.stem for path in RULE_FILES)
    shuffled = random.Random(seed).sample(names, len(names)) if seed else names
    snakefile.write_text(text.replace(listed[0], f'for name in ("{" ".join(shuffled)}").split():'))


def plan_of(rule):
    files = [sorted(files_of(rule, kind, ["demo-lung-1", "demo-lung-he"])) for kind in ("input", "output")]
    return [re.sub(r"/\S*?/workflow/", "", repr(part)) for part in (*files, described(rule, ["demo-lung-1", "demo-lung-he"]))]


def test_warnings_are_collected_from_lists_of_files(rules):
    found = [rule for rule in rules if rule.name == "collect_warnings"]
    assert len(found) == 2
    assert not [name for rule in found for name, files in rule.input.items() if isinstance(files, str)]
