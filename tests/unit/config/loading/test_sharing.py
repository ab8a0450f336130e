"""A run that uses the slides of another agrees with it in all that those depend on, and may differ in all else."""

import json
import shutil
from pathlib import Path

import pytest

from nuclass_pipeline.config.loading.sharing import SHARED_KEYS, check_slides_from
from nuclass_pipeline.config.run import load_run
from nuclass_pipeline.config.run_file import Config
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.records import STARTED
from tests import ROOT
from tests.unit.config.conftest import edited

FREE = {"run", "seeds", "slides", "slides_from", "compute", "study", "local", "global", "gate", "evaluation", "attribution"}
FREE |= {"variants", "figures", "tables"}
"""Keys in which two runs may differ; of `study` the classes and the roles of shared slides are compared."""
REMEDY = "Give both the same value, or remove slides_from."


def started(raw, name="demo"):
    """Leave what a run leaves when it starts."""
    folder = Path("results", name)
    folder.mkdir(parents=True, exist_ok=True)
    run = load_run(raw | {"run": name}, root=ROOT)
    (folder / STARTED).write_text(json.dumps(run.checked))


def second(raw, **keys):
    return raw | {"run": "second", "slides_from": "demo"} | keys


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, demo):
    monkeypatch.chdir(tmp_path)
    started(demo)


def refused(raw):
    with pytest.raises(UserError) as caught:
        load_run(raw, root=ROOT, file="config/second.yaml")
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{ROOT}/", "")


def test_every_key_is_compared_or_free():
    keys = {info.alias or name for name, info in Config.model_fields.items()}
    assert keys == {*SHARED_KEYS} | FREE
    assert not {*SHARED_KEYS} & FREE


def test_the_slides_lie_in_the_other_run_and_all_else_in_this_one(demo):
    run = load_run(second(demo), root=ROOT)
    assert run.folders == {
        "results": "results/second",
        "logs": "logs/second",
        "benchmarks": "benchmarks/second",
        "slides": "results/demo/slides",
    }
    assert load_run(demo, root=ROOT).folders["slides"] == "results/demo/slides"


@pytest.fixture
def alone(monkeypatch):
    """No other check, because the files that the values name are not there."""
    monkeypatch.setattr("nuclass_pipeline.config.run.FILES", ())
    monkeypatch.setattr("nuclass_pipeline.config.run.ALWAYS", (check_slides_from,))


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("labels", "config/markers.tsv", "labels: config/markers.tsv here, and config/labels.tsv in run demo, whose slides this run uses."),
        ("synthetic.seeds.demo-lung-2", 99, "synthetic.seeds.demo-lung-2: 99 here, and 12 in run demo"),
        ("image.fill", 200, "image.fill: 200 here, and 255 in run demo"),
        ("registration.accept_unclear", ["demo-lung-1"], "registration.accept_unclear: demo-lung-1 here, and nothing in run demo"),
        ("segmentation.method", "cellpose", "segmentation.method: cellpose here, and"),
        ("clustering.neighbors", 9, "clustering.neighbors: 9 here, and"),
        ("domains.mode", "contact", "domains.mode: contact here, and"),
        ("programs.library", "sets.gmt", "programs.library: sets.gmt here, and nothing in run demo"),
        ("labeling.annotation", "config", "labeling.annotation: config here, and config/annotation in run demo"),
        ("labeling.markers", "config/labels.tsv", "labeling.markers: config/labels.tsv here, and config/markers.tsv in run demo"),
        ("proposals.model", "config", "proposals.model: config here, and nothing in run demo"),
        ("split.block_um", 150, "split.block_um: 150.0 here, and 125.0 in run demo"),
        ("split.fractions", {"train": 0.6, "gate": 0.2, "val": 0.2}, "split.fractions.train: 0.6 here, and 0.64 in run demo"),
        ("study.classes", ["T_Cell", "B_Cell"], "study.classes: T_Cell, B_Cell here, and "),
    ],
)
def test_the_first_key_that_differs_is_named_with_both_values_and_the_remedies_work(demo, key, value, message):
    raw = edited(second(demo), key, value)
    found = refused(raw)
    assert found.startswith(f"config/second.yaml: {message}")
    assert found.endswith(REMEDY)
    assert load_run({name: value for name, value in raw.items() if name != "slides_from"}, root=ROOT)
    started(raw | {"slides_from": None})
    assert load_run(raw, root=ROOT)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seeds", [1, 2]),
        ("compute.threads", 1),
        ("local.backbone.name", "tiny-vit"),
        ("global.context", {"name": "tiny-vit", "image_px": 96, "freeze": True}),
        ("gate.optim.max_epochs", 3),
        ("evaluation.bootstrap", 9),
        ("attribution.cells", 1),
        ("figures", {}),
        ("tables", {}),
        ("synthetic.seeds.breast-1", 5),
    ],
)
def test_what_no_slide_depends_on_may_differ(demo, key, value):
    assert load_run(edited(second(demo), key, value), root=ROOT)


def test_a_slide_is_in_the_other_run_and_in_the_same_role(demo):
    fewer = demo["study"] | {"predict": []}
    assert load_run(second(demo, study=fewer), root=ROOT)
    started(demo | {"study": fewer})
    message = "study.predict: slide demo-lung-he is not in run demo, whose slides this run uses. List it there too, or remove slides_from."
    assert message in refused(second(demo))
    started(demo)
    swapped = demo["study"] | {"train": ["demo-lung-2", "demo-pancreas-1"], "heldout": ["demo-lung-1", "demo-pancreas-2"]}
    message = "study.train: slide demo-lung-2 is listed here, and under study.heldout in run demo. List it in one role, or"
    assert message in refused(second(demo, study=swapped))


def test_the_accepted_slides_that_count_are_those_of_both(demo):
    accepted = {"accept_unclear": ["demo-lung-1", "demo-pancreas-1"]}
    started(demo | {"registration": accepted})
    without = {"train": ["demo-lung-1"], "heldout": ["demo-lung-2"]}
    assert load_run(second(demo, study=without, registration={"accept_unclear": ["demo-lung-1"]}), root=ROOT)
    assert "registration.accept_unclear: nothing here, and demo-lung-1 in run demo" in refused(second(demo, study=without))


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("column", "value", "shown"),
    [
        ("organ", "breast", "breast here, and lung in run demo"),
        ("image", "other.tif", "other.tif here, and resources/he.tif in run demo"),
        ("mpp", "0.25", "0.25 here, and nothing in run demo"),
    ],
)
def test_rows_of_two_sheets_agree_in_the_files_and_may_differ_in_notes(demo, tmp_path, column, value, shown):
    header, *rows = (ROOT / "config/slides.tsv").read_text().splitlines()
    mine = {"slide": "mine", "kind": "image", "organ": "lung", "image": "resources/he.tif"}

    def sheet(name, **values):
        line = "\t".join((mine | values).get(field, "") for field in header.split("\t"))
        (tmp_path / name).write_text("\n".join([header, *rows, line]) + "\n")
        return str(tmp_path / name)

    study = demo["study"] | {"predict": ["mine"]}
    started(demo | {"slides": sheet("one.tsv"), "study": study})
    assert load_run(second(demo, slides=sheet("two.tsv", note="another"), study=study), root=ROOT)
    changed = second(demo, slides=sheet("two.tsv", **{column: value}), study=study)
    found = refused(changed)
    assert found.startswith(f"{tmp_path}/two.tsv: mine, {column}: {shown} ({tmp_path}/one.tsv). {REMEDY}")


def test_the_other_run_is_another_and_has_its_own_slides_and_has_been_started(demo):
    assert "slides_from: second is this run itself. Name another run, or remove the key." in refused(second(demo, slides_from="second"))
    started(second(demo), "third")
    message = "slides_from: third itself uses the slides of run demo. Name demo, or remove the key."
    assert message in refused(second(demo, slides_from="third"))
    message = "slides_from: no run dmo has been started here, did you mean 'demo'? Start that run first (`snakemake --cores 2 slides"
    assert message in refused(second(demo, slides_from="dmo"))
    Path("results/demo", STARTED).unlink()
    assert "slides_from: no run demo has been started here. Start that run first" in refused(second(demo))


def test_a_finished_run_without_that_record_is_compared_by_its_run_file(demo):
    Path("results/demo", STARTED).rename("results/demo/config.yaml")
    assert load_run(second(demo), root=ROOT)
    assert "image.fill: 200 here, and 255 in run demo" in refused(edited(second(demo), "image.fill", 200))


def test_a_record_of_another_version_is_refused(demo):
    Path("results/demo", STARTED).write_text('{"run": "demo", "older": 1}')
    message = "results/demo: run file: this version of the program cannot read the run file with which it was started. Start run"
    assert message in refused(second(demo))


def test_a_lost_slide_sheet_is_that_of_the_other_run(demo):
    record = Path("results/demo", STARTED)
    record.write_text(json.dumps(json.loads(record.read_text()) | {"slides": "moved/slides.tsv"}))
    message = "slides_from: run demo was started with the slide sheet moved/slides.tsv, which does not exist. Put it back, start run demo"
    assert message in refused(second(demo))


def test_figures_of_an_archive_need_no_slides(demo):
    shutil.rmtree("results/demo")
    Path("results/second/metrics").mkdir(parents=True)
    assert load_run(second(demo), root=ROOT)
