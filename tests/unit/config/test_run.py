import pytest
import yaml

from nuclass_pipeline.config.errors import MOVED
from nuclass_pipeline.config.run import load_run
from nuclass_pipeline.errors import UserError
from tests import ROOT
from tests.unit.config.conftest import edited
from tests.workflow.test_keys import KEYS


def test_demo_and_paper_are_valid(demo):
    run = load_run(demo, root=ROOT)
    assert run.training_slides == ["demo-lung-1", "demo-pancreas-1"]
    assert run.context_source.endswith("patches_1024x1024.h5")
    assert run.config.labeling.markers == "config/markers.tsv"
    paper = load_paper()
    assert len(paper.slides) == 12
    assert {slide.organ for slide in paper.slides.values()} == {"breast", "colon", "heart", "kidney", "liver", "lung", "ovary", "pancreas"}
    assert paper.context_source.endswith(f"features/dinov3-vitl16.1024.{paper.config.global_.context.key}.h5")


def load_paper():
    """Load the run of the paper, whose weights and GPU are elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nuclass_pipeline.config.run.FILES", ())
        return load_run(yaml.safe_load((ROOT / "config/paper.yaml").read_text()), root=ROOT)


def test_the_paper_run_states_the_defaults():
    paper = load_paper().config
    assert paper.local.optim == type(paper.local.optim)()
    assert paper.global_.optim == type(paper.global_)().optim
    assert paper.gate == type(paper.gate)()
    assert type(paper.gate)(optim={"patience": 5}).optim.lr_head == paper.gate.optim.lr_head
    assert (paper.local.label_smoothing, paper.global_.label_smoothing) == (0.1, 0.05)
    assert (paper.global_.alpha_initial, paper.global_.alpha_final, paper.global_.alpha_epochs) == (0.25, 1.0, 2)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("locl", {}, "locl: unknown key, did you mean 'local'?"),
        ("studdy", {}, "studdy: unknown key, did you mean 'study'?"),
        ("local.backbon", {}, "local.backbon: unknown key, did you mean 'backbone'?"),
        ("local.optim.LR_head", 1, "local.optim.LR_head: unknown key, did you mean 'lr_head'?"),
        ("global.optim.lr", 1, "global.optim.lr: unknown key"),
        ("local.optim.lr_head", "fast", "local.optim.lr_head: 'fast': not a number. Write a number without a unit, such as 0.0001"),
        ("local.optim.lr_head", "1e-4 s", "local.optim.lr_head: '1e-4 s': not a number"),
        ("local.optim.batch_size", "1e3", "local.optim.batch_size: '1e3': not a whole number. Write it in digits, such as 10000."),
        ("local.optim.batch_size", 2.5, "local.optim.batch_size: 2.5: not a whole number"),
        ("local.optim.lr_head", -1, "it must be above 0"),
        ("local.optim.lr_head", float("inf"), "inf: Input should be a finite number"),
        ("compute.precision", False, "compute.precision: False: on, off, yes, no, true and false are truth values in YAML"),
        (
            "compute.precision",
            "bf16mixed",
            "compute.precision: 'bf16mixed': unknown, did you mean 'bf16-mixed'? Use one",
        ),
        ("compute.threads", True, "compute.threads: True: on, off, yes, no, true and false are truth values in YAML"),
        ("global.optim.clip_norm", False, "global.optim.clip_norm: False: on, off"),
        ("seeds", [True], "seeds: [True]: on, off"),
        ("local.augment", "sometimes", "local.augment: 'sometimes': not a truth value. Write true or false."),
        ("compute", None, "compute: the section is empty. Remove it, or write a key below it, indented."),
        ("compute", [1], "compute: [1]: not a section of keys. Write its keys below it, indented, or remove it."),
        ("synthetic.seeds", [1], "synthetic.seeds: [1]: not a section of keys"),
        ("study.train", "demo-lung-1", "study.train: 'demo-lung-1': not a list. Write [a, b], or one `- a` a line."),
        ("run", 7, "run: 7: not text. Put it in quotes."),
        (
            "run",
            False,
            "run: False: on, off, yes, no, true and false are truth values in YAML. Write a number",
        ),
        ("split.fractions", {"train": 0.5, "gate": 0.2, "val": 0.2}, "add up to 0.9"),
        ("slides", "nowhere.tsv", "nowhere.tsv: file: it does not exist. Name the slide sheet in the run file under `slides`."),
        ("slides", "config", "config: file: it is a folder, not a file"),
        ("figures", {0: "confusion"}, "it must be above 0"),
        ("figures", {1: "confusio"}, "figures.1: there is no figure 'confusio', did you mean 'confusion'?"),
        ("tables", {1: "cohorts"}, "tables.1: there is no table 'cohorts', did you mean 'cohort'?"),
        ("labels", "x" * 5000, "labels: 'xxx"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(refused, path, value, message, monkeypatch):
    if path in {"figures", "tables"} and 1 in value:
        monkeypatch.setattr("nuclass_pipeline.config.run.ALWAYS", (list_drawn,))
    assert message in (line := refused(path, value))
    assert len(line) < 900


def list_drawn(run):
    from nuclass_pipeline.figures import list_figures
    from nuclass_pipeline.tables import list_tables

    return list_figures(run), list_tables(run)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My Run", "run: 'My Run': not a name. Use lower-case letters, digits and hyphens, such as lung-1."),
        ("", "run: '': not a name"),
        (".", "run: '.': not a name"),
        ("..", "run: '..': not a name"),
        ("a/b", "run: 'a/b': not a name"),
        ("a\n", "run: 'a\\n': not a name"),
        ("-a", "run: '-a': not a name"),
        ("ä", "run: 'ä': not a name"),
        ("con", "run: 'con': the name is reserved by Windows"),
        ("lpt1", "run: 'lpt1': the name is reserved by Windows"),
        ("a" * 65, "it must have at most 64 characters"),
    ],
)
def test_the_name_of_a_run_is_that_of_a_folder_everywhere(refused, name, message):
    assert message in refused("run", name)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("seeds", [0, 0], "seeds: [0, 0]: seed 0 is listed twice. List it once"),
        ("seeds", [-1], "seeds.0: -1: it must be at least 0"),
        ("seeds", [2**32], "seeds.0: 4294967296: it must be at most 4294967295"),
        ("seeds", [1.5], "seeds.0: 1.5: not a whole number"),
        ("seeds", ["one"], "seeds.0: 'one': not a whole number"),
        ("seeds", [], "it must list at least 1"),
        ("seeds", 3, "seeds: 3: not a list"),
        ("clustering.seed", -1, "clustering.seed: -1: it must be at least 0"),
        ("evaluation.seed", 2**40, "evaluation.seed: 1099511627776: it must be at most"),
        ("synthetic.seeds", {"demo-lung-1": -3}, "synthetic.seeds.demo-lung-1: -3: it must be at least"),
    ],
)
def test_a_seed_is_one_of_numpy(refused, path, value, message):
    assert message in refused(path, value)


def test_yaml_exponents_without_a_point_are_numbers_all_the_same(demo):
    assert load_run(edited(demo, "local.optim.lr_head", yaml.safe_load("1e-4")), root=ROOT).config.local.optim.lr_head == 1e-4


def test_a_language_annotator_needs_a_model(refused):
    line = refused("proposals", {"annotator": "llm-score"})
    assert "proposals: annotator llm-score needs proposals.model: name the folder" in line


@pytest.mark.parametrize("key", MOVED)
def test_a_key_of_an_earlier_version_is_refused_with_its_new_place(refused, key):
    assert f"{key}: the key {MOVED[key]}. Change it in the run file" in refused(key, 1)
    changed = MOVED[key].removeprefix("is now ")
    assert f"`{key}`" in (ROOT / "CHANGELOG.md").read_text() or f"`{key.rsplit('.')[-1]}`" in (ROOT / "CHANGELOG.md").read_text()
    assert changed.startswith("was removed") or changed in KEYS


def test_paths_start_from_the_folder_of_the_snakefile_wherever_it_runs(own, monkeypatch, tmp_path):
    run = own.load()
    assert run.slides["a"].manifest == f"{tmp_path}/a/outs/experiment.xenium"
    assert run.config.labeling.markers == f"{tmp_path}/config/markers.tsv"
    assert run.folders["results"] == "results/own"
    monkeypatch.chdir(tmp_path)
    run = own.load()
    assert (run.slides["a"].manifest, run.config.labels) == ("a/outs/experiment.xenium", "config/labels.tsv")
    monkeypatch.chdir(tmp_path / "a")
    own.raw["labels"] = "./config//labels.tsv/"
    assert own.load().config.labels == f"{tmp_path}/config/labels.tsv"


def test_what_rules_make_stays_relative_where_results_go(demo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = load_run(demo, root=ROOT)
    he = "resources/synthetic/demo-lung-2/demo-lung-2_he_image.ome.tif"
    assert run.slides["demo-lung-he"].image == run.slides["demo-lung-2"].image == he
    assert run.config.labels == f"{ROOT}/config/labels.tsv"


def test_scores_of_an_archived_run_need_none_of_its_files(own, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own.rows["a"][2] = "gone/outs"
    assert "a, bundle: gone/outs/experiment.xenium does not exist" in own.refused()
    (tmp_path / "results/own/metrics").mkdir(parents=True)
    assert own.load().slides_of("xenium") == ["a", "b"]


def test_an_error_names_the_file_that_sets_the_key(demo):
    raw = edited(demo, "split.buffer_um", 100)
    sources = {"config/demo.yaml": demo, "mine.yaml": {"split": {"buffer_um": 100}}, "--config": {"seeds": [1]}}
    with pytest.raises(UserError) as caught:
        load_run(raw, root=ROOT, sources=sources)
    problem = "mine.yaml: split.buffer_um: 100 is less than half a context window (128 µm)"
    assert str(caught.value) == f"{problem}. Remove the key for a whole window, or set it to 128 or more."
