"""Rules of the house, checked by reading the source."""

import ast
import re

import pytest

from tests import ROOT

PACKAGE = ROOT / "src/nuclass_pipeline"
MODULES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = sorted((ROOT / "workflow/scripts").glob("*.py"))
RULE_FILES = sorted((ROOT / "workflow/rules").glob("*.smk"))
BASE = {"", "errors", "arrays", "layout", "units", "vocabulary", "table_schema", "schemas", "io", "runtime", "provenance"}
MAY_IMPORT = {
    "errors": set(),
    "units": set(),
    "arrays": set(),
    "layout": set(),
    "table_schema": {"errors"},
    "schemas": {"table_schema", "vocabulary"},
    "vocabulary": {"errors", "io"},
    "io": {"errors", "table_schema"},
    "runtime": {"errors"},
    "provenance": {"", "io"},
    "records": {"errors", "io", "layout", "runtime", "provenance"},
    "config": {"errors", "io", "layout", "vocabulary", "records"},
    "phantom": BASE | {"config"},
    "data.alignment_file": BASE,
    "data.alignment": BASE | {"data.alignment_file"},
    "data.cases": BASE,
    "data.strips": BASE | {"config"},
    "data.shared_pixels": BASE | {"config", "data.alignment"},
    "data.splits": BASE | {"config", "data.cases", "data.strips", "data.shared_pixels"},
    "data.xenium": BASE | {"data.alignment_file", "data.alignment", "data.image"},
    "data.tables": BASE | {"data.xenium"},
    "data.image": BASE | {"config", "data.alignment"},
    "data.trio": BASE | {"config", "data.image"},
    "data.points": BASE | {"config", "data.alignment", "data.cases", "data.image"},
    "data.segmentation": BASE | {"config", "data.alignment", "data.image"},
    "data.registration": BASE | {"config", "data.alignment", "data.xenium", "data.image", "data.segmentation"},
    "data.check": BASE | {"config", "data.alignment", "data.xenium", "data.image", "data.registration"},
    "knowledge": BASE | {"config"},
    "expression": BASE | {"config"},
    "labeling": BASE | {"config", "knowledge", "expression", "data.tables"},
    "proposals": BASE | {"config", "knowledge", "expression"},
    "models": BASE | {"config"},
    "train": BASE | {"config", "models"},
    "evaluate": BASE | {"config", "models", "train"},
    "export": BASE | {"expression", "knowledge"},
    "summary": BASE | {"config", "data.alignment", "data.image", "evaluate", "knowledge"},
    "figures": {"errors", "arrays", "units", "layout", "config", "io", "schemas", "table_schema", "vocabulary"},
    "tables": {"errors", "arrays", "layout", "config", "io", "schemas", "table_schema", "vocabulary"},
    "report": {"errors", "io", "schemas", "vocabulary", "figures", "tables"},
    "results": BASE | {"config", "evaluate", "records"},
    "annotate": BASE | {"cli", "data.tables", "export"},
    "generated_docs": {"config", "layout", "models", "provenance", "schemas", "vocabulary"},
}
"""Room → the rooms it may import besides itself; no arrow points up."""
TARGETS = {"ablation", "classification", "figures", "labels", "tables", "slides"}
LIGHT = {"nuclass_pipeline", "pydantic", "numpy", "pandas", "pyarrow", "yaml"}
DRAWING = {"matplotlib", "numpy", "pandas", "PIL", "nuclass_pipeline"}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def room(name):
    """Return the room of a module, given without the package's name: the top folder, or the folder or module below `data`."""
    return ".".join(name.split(".")[: 2 if name.startswith("data.") else 1])


def layer(path):
    return room(".".join(path.relative_to(PACKAGE).with_suffix("").parts))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    if layer(path) in {"__init__", "cli", "data.__init__"}:
        return
    for name in imports(path):
        if name.split(".")[0] == "nuclass_pipeline":
            target = room(name.removeprefix("nuclass_pipeline").removeprefix("."))
            assert target in MAY_IMPORT[layer(path)] | {layer(path)}, f"{path} imports {name}"


@pytest.mark.parametrize("path", [p for p in MODULES if layer(p) in {"figures", "tables"}], ids=lambda p: p.stem)
def test_figures_and_tables_only_draw(path):
    third_party = {name.split(".")[0] for name in imports(path)} - set(__import__("sys").stdlib_module_names)
    assert third_party <= DRAWING | {"rich"}


def test_the_snakefile_imports_only_light_modules():
    for path in [
        *(PACKAGE / f"{name}.py" for name in ("provenance", "records", "errors", "layout", "figures/__init__", "tables/__init__")),
        *(PACKAGE / "config").rglob("*.py"),
        *(PACKAGE / "knowledge").glob("*.py"),
        PACKAGE / "labeling/hand_made.py",
    ]:
        third_party = {name.split(".")[0] for name in imports(path)} - set(__import__("sys").stdlib_module_names)
        assert third_party - ({"snakemake"} if path.stem == "records" else set()) <= LIGHT, path


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.name)
def test_a_script_is_a_shell(path):
    tree = ast.parse(path.read_text())
    assert len(path.read_text().splitlines()) <= 30
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.If | ast.For)]
    assert "snakemake.config" not in path.read_text()


@pytest.mark.parametrize("path", RULE_FILES, ids=lambda p: p.name)
def test_a_rule_file_keeps_its_contract(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 120
    assert re.match(r'""".*INPUTS .*OUTPUTS ', text, re.DOTALL), "the header names inputs and outputs"
    assert not re.search(r"^\s+run:", text, re.MULTILINE)
    assert not re.search(r"lambda \w+, (input|output)", text), "Snakemake does not record such params, so nothing reruns by them"
    assert not re.search(r"\{config\[|directory\(|touch\(", text)
    assert not re.search(r"^[A-Z_]+ =", text, re.MULTILINE), "constants of the workflow are properties of the run"


def test_every_rule_has_its_script_and_every_script_its_rule():
    rules = set(re.findall(r"^rule (\w+):", "\n".join(p.read_text() for p in RULE_FILES), re.MULTILINE))
    assert {path.stem for path in SCRIPTS} == rules - TARGETS - {"figure_labels"} | {"draw_figure", "write_table"}


def test_gpus_are_requested_only_as_the_run_file_sets():
    rules = re.split(r"^rule ", "\n".join(path.read_text() for path in RULE_FILES), flags=re.MULTILINE)
    requesting = {rule.split(":")[0]: re.findall(r"gpu=(.*),", rule) for rule in rules if "gpu=" in rule}
    assert requesting.pop("cluster_cells") == ["run.clustering_gpu"]
    assert requesting.pop("register_image") == requesting.pop("segment_nuclei") == ["run.segmentation_gpu"]
    assert requesting.pop("train_gate") == requesting.pop("predict_slide") == ["run.config.compute.gate_gpu"]
    assert requesting.pop("train_local") == requesting.pop("train_global") == ["run.training_gpus"]
    assert set(requesting) == {"embed_windows", "embed_cells", "explain_cells"}
    assert {value for values in requesting.values() for value in values} == {"run.config.compute.gpu"}


def test_the_snakefile_is_short():
    assert len((ROOT / "Snakefile").read_text().splitlines()) <= 60


def test_user_errors_are_no_assertions_and_loads_are_safe():
    for path in MODULES:
        tree = ast.parse(path.read_text())
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.Assert)], path
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler) and node.type is None], path
        assert "strict=False)" not in path.read_text().replace("zip(", "(") or "load_state_dict" not in path.read_text(), path


def test_demo_and_paper_have_the_same_keys_in_the_same_order():
    yaml = __import__("yaml")
    demo, paper = (yaml.safe_load((ROOT / f"config/{name}.yaml").read_text()) for name in ("demo", "paper"))
    assert list(demo) == list(paper)
    for key in demo:
        if isinstance(demo[key], dict) and key not in {"synthetic", "figures", "tables"}:
            assert list(demo[key]) == list(paper[key]), key
