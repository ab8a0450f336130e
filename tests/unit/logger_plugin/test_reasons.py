"""Snakemake's reasons, in a person's words."""

import pytest
from snakemake.jobs import Reason
from snakemake.persistence import ParamsChange

from snakemake_logger_plugin_nuclass.reasons import code_modules, explain_reason

RUN = {
    "evaluation": {"bootstrap": 1000, "bins": 10},
    "labeling": {"min_confidence": 0.6, "rules": {"depth": 2}},
    "global_": {"context": {"name": "b"}},
}
OUTPUTS = ["results/demo/a.parquet", "results/demo/b.parquet"]


def reason(params=None, **values):
    found = Reason()
    for name, value in values.items():
        # Sets stay the lazy ones of Snakemake, because their truth decides.
        getattr(found, name).update(value) if isinstance(value, set) else setattr(found, name, value)
    if params:
        found.params_changed = ParamsChange(*({repr(value) for value in side} for side in params), files={"x"})
    return found


def why(found, made_before=True, outputs=OUTPUTS, **params):
    return explain_reason(found, outputs, made_before, params, RUN)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"forced": True}, "forced by the command"),
        ({"missing_output": {"results/demo/a.parquet"}}, "a.parquet is missing"),
        ({"missing_output": set(OUTPUTS)}, "a.parquet and b.parquet are missing"),
        ({"incomplete_output": {"results/demo/a.parquet"}}, "unfinished when the last run ended"),
        ({"updated_input": {"results/a/slides/x/labels.parquet"}}, "labels.parquet is newer"),
        (
            {"updated_input": {f"results/a/slides/x-{number}/labels.parquet" for number in range(4)}},
            "slides/*/labels.parquet (4 slides) are newer",
        ),
        (
            {
                "updated_input": {
                    f"results/a/predictions/base/{model}/seed-0/{slide}.parquet" for model in ("gate", "local") for slide in "xyz"
                }
            },
            "predictions/base/*/seed-0/*.parquet (6 files) are newer",
        ),
        ({"updated_input": {"results/a/predictions/base/gate/seed-0/x.parquet"}}, "predictions/base/gate/seed-0/x.parquet is newer"),
        ({"updated_input": {"results/a/models/base/local/seed-0/best.ckpt"}}, "best.ckpt is newer"),
        (
            {"updated_input": {f"results/a/models/base/{model}/seed-{seed}/best.ckpt" for model in ("global", "local") for seed in (0, 1)}},
            "models/base/*/seed-*/best.ckpt (4 files) are newer",
        ),
        (
            {"updated_input": {*(f"results/a/slides/{slide}/{name}.parquet" for slide in "xy" for name in ("cells", "labels")), "z.tsv"}},
            "slides/*/cells.parquet (2 slides) and 3 other files are newer",
        ),
        ({"updated_input": {"s/1/labels.tsv", "s/2/labels.tsv"}}, "labels.tsv (2 files) are newer"),
        ({"updated_input": {f"of/lung-{number}/lung-{number}_he.tif" for number in (1, 2)}}, "*_he.tif (2 files) are newer"),
        ({"updated_input": {"of/lung-1/lung-1_he.tif"}}, "*_he.tif is newer"),
        ({"updated_input": {"x/a", "x/b", "x/c"}}, "a and 2 other files are newer"),
        ({"updated_input_run": {"s/1/labels.parquet"}}, "labels.parquet is made again"),
        ({"updated_input": {"a", "b"}, "updated_input_run": {"b"}}, "a is newer"),
        ({"input_changed": True, "updated_input_run": {"b"}}, "it reads other files than before"),
        ({"code_changed": True}, "its script changed"),
        ({"software_stack_changed": True}, "its software environment changed"),
        ({}, "requested"),
    ],
)
def test_each_reason_is_in_words(values, words):
    assert why(reason(**values)) == words


def test_what_was_never_made_is_new_whatever_else_holds():
    found = reason(missing_output=set(OUTPUTS), updated_input_run={"b"}, params=([1], [2]))
    assert why(found, made_before=False) == "new"


def test_snakemake_forces_what_is_unfinished():
    assert explain_reason(reason(forced=True), OUTPUTS, True, {}, RUN, forced=False) == "unfinished when the last run ended"


def test_a_target_has_no_reason():
    assert why(reason(updated_input_run={"b"}), outputs=[]) == ""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ({"bootstrap": 500, "bins": 10}, {"bootstrap": 1000, "bins": 10}, "`evaluation.bootstrap` changed (500 → 1000)"),
        (
            {"min_confidence": 0.5, "rules": {"depth": 1}},
            {"min_confidence": 0.6, "rules": {"depth": 2}},
            "`labeling.min_confidence` changed (0.5 → 0.6); `labeling.rules.depth` changed (1 → 2)",
        ),
        ({"name": "a"}, {"name": "b"}, "`global.context.name` changed (a → b)"),
        ({"bins": 10}, {"bootstrap": 1000, "bins": 10}, "`evaluation.bootstrap` changed"),
        ({"of": [1], "x": 1}, {"of": [2], "x": 1}, "`of` changed"),
        ("text", {"bins": 3}, "`config` changed"),
    ],
)
def test_a_changed_section_names_its_keys(old, new, words):
    assert why(reason(params=([old], [new])), config=new) == words


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("code", "labeling.stage", "code of labeling.stage or of what it imports changed"),
        ("code", "a.b, c.d", "code of a.b, c.d or of what they import changed"),
        ("code", "", "its code or what it imports changed"),
        ("content", "", "a table that it reads changed"),
        ("organs", "", "`organs` changed"),
    ],
)
def test_a_changed_param_is_named(name, code, words):
    found = reason(params=(["old"], ["new"]))
    assert explain_reason(found, OUTPUTS, True, {name: "new", "other": "same"}, RUN, code) == words


def test_a_param_that_is_gone_is_a_change():
    assert why(reason(params=(["old"], [])), other="same") == "its parameters changed"


def test_modules_of_a_rule_are_those_that_it_names():
    calls = {"a": '"x.y", run.z', "b": 'f"tables.{name}"'}
    text = "\n\n\n".join(f"rule {rule}:\n    params:\n        code=code_version({call}),\n" for rule, call in calls.items())
    assert [code_modules(rule, text) for rule in ("a", "b", "c")] == ["x.y", "", ""]
