"""The plan of a run, without running it."""

import subprocess

import pytest
from snakemake.cli import parse_args

from tests import ROOT

OF_XENIUM = (
    "read_cells",
    "register_image",
    "cluster_cells",
    "rank_markers",
    "label_cells",
    "find_domains",
    "propose_labels",
    "figure_labels",
    "export_labels",
)
OF_ALL = ("build_image", "split_cells", "extract_patches")


def test_the_demo_plans_every_step(project):
    jobs = project.planned()
    assert {jobs[rule] for rule in ("make_slide", *OF_XENIUM)} == {4}
    assert {jobs[rule] for rule in (*OF_ALL, "embed_cells", "predict_slide")} == {5}
    assert {jobs[rule] for rule in ("measure_image", "segment_nuclei", "figure_cell_map")} == {1}
    assert {jobs[rule] for rule in ("train_local", "train_global", "train_gate", "calibrate_models", "build_report")} == {1}
    assert "fetch_slide" not in jobs
    assert "embed_windows" not in jobs


def test_the_paper_fetches_twelve_slides_and_caches_the_frozen_encoder(project):
    project.edit(lambda raw: raw["compute"].update(gpu=0), "paper")
    for name in ("uni2-h", "dinov3-vitl16"):
        weights = project.folder / f"resources/weights/{name}/model.safetensors"
        weights.parent.mkdir(parents=True)
        weights.touch()
    jobs = project.planned("--configfile", "config/paper.yaml")
    assert {jobs[rule] for rule in ("fetch_slide", "embed_windows", *OF_XENIUM, *OF_ALL)} == {12}
    assert not {"measure_image", "segment_nuclei", "figure_cell_map"} & set(jobs)
    assert jobs["explain_cells"] == 3
    assert "make_slide" not in jobs


LABELS_ONLY = tuple(rule for rule in OF_XENIUM if rule != "register_image")
OF_THE_RUN = (
    *("summarize_cohort", "table_cohort", "collect_warnings", "record_run", "summarize_quality", "summarize_runtime"),
    *("build_report", "all"),
)


@pytest.fixture
def study(tmp_path_factory):
    """A folder outside the project with a run file, a slide sheet and the manifest of a bundle without H&E, to be labelled only."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "outs").mkdir()
    (folder / "outs/experiment.xenium").write_text("{}")
    (folder / "slides.tsv").write_text("slide\tkind\torgan\tbundle\nmine\txenium\tlung\touts\n")
    (folder / "run.yaml").write_text("run: mine\nslides: slides.tsv\nstudy: {label: [mine]}\n")
    return folder


def test_a_bundle_without_an_image_is_labelled_from_a_run_file_outside_the_project(project, study):
    jobs = project.planned("--configfile", f"{study}/run.yaml")
    assert jobs == dict.fromkeys((*LABELS_ONLY, *OF_THE_RUN), 1) | {"total": 16}


def test_the_image_of_a_public_slide_is_downloaded_only_if_something_wants_it(project):
    folder = "resources/xenium/public-lung"
    paths = {name: f"{folder}/public-lung_he_{name}" for name in ("image.ome.tif", "imagealignment.csv")}
    project.add_slide(
        slide="public-lung",
        kind="xenium",
        organ="lung",
        bundle=f"{folder}/outs",
        image=paths["image.ome.tif"],
        alignment=paths["imagealignment.csv"],
        bundle_url="https://example.org/outs.zip",
        image_url="https://example.org/he.ome.tif",
    )
    project.edit(lambda raw: raw["study"].update(label=["public-lung"]))
    labels = project.planned("labels")
    assert labels["fetch_bundle"] == 1
    assert not {"fetch_slide", "fetch_image"} & set(labels)
    registration = project.planned("results/demo/slides/public-lung/registration.json")
    assert (registration["fetch_bundle"], registration["fetch_image"], registration["register_image"]) == (1, 1, 1)
    project.edit(lambda raw: raw["study"].update(label=[], predict=["demo-lung-he", "public-lung"]))
    jobs = project.planned()
    assert jobs["fetch_slide"] == 1
    assert not {"fetch_bundle", "fetch_image"} & set(jobs)


def test_a_study_outside_the_project_keeps_its_results(project, study):
    command = project.command("-n", "labels", "-s", f"{project.folder}/Snakefile", "--configfile", "run.yaml", "--directory", str(study))
    done = subprocess.run(command, cwd=study, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert project.jobs_in(done.stdout) == dict.fromkeys((*LABELS_ONLY, "labels"), 1) | {"total": 9}


def test_the_table_of_times_waits_for_all_jobs_but_those_of_the_report(project):
    project.edit(lambda raw: raw.update(programs={"library": "resources/sets.gmt"}))
    (project.folder / "resources").mkdir(exist_ok=True)
    (project.folder / "resources/sets.gmt").touch()
    whole, before = project.planned(), project.planned("results/demo/metrics/runtime.parquet")
    assert whole["find_programs"] == whole["export_labels"] == 4
    assert {rule for rule in whole if whole[rule] != before.get(rule)} == {"build_report", "all", "total"}


def test_jobs_on_a_cluster_share_no_limit_of_gpus(monkeypatch):
    monkeypatch.chdir(ROOT)
    _, of_cluster = parse_args(["--profile", "profiles/slurm"])
    assert (of_cluster.resources["gpu"].value, of_cluster.set_resource_scopes) == (1, {"gpu": "local"})
    _, of_machine = parse_args([])
    assert of_machine.set_resource_scopes == {}


@pytest.mark.parametrize("target", ["figure_confusion", "fig3", "tab2", "figures", "tables", "slides"])
def test_targets_have_names(project, target):
    assert project.planned(target)


def test_annotators_are_compared_on_demand(project):
    assert "compare_annotators" not in project.planned()
    assert project.planned("ablation")["compare_annotators"] == 4


def test_a_frozen_context_is_one_config_word(project):
    project.edit(lambda raw: raw["global"]["context"].update(freeze=True))
    assert project.planned()["embed_windows"] == 5


def test_a_trio_enters_without_a_bundle(project):
    project.add_slide(slide="mine", kind="trio", organ="lung", bundle="trios/mine", note="my own")
    project.edit(lambda raw: raw["study"]["heldout"].append("mine"))
    (project.folder / "trios/mine").mkdir(parents=True)
    for name in ("annotations.json", "patches_224x224.h5", "patches_1024x1024.h5"):
        (project.folder / "trios/mine" / name).touch()
    jobs = project.planned()
    assert (jobs["import_trio"], jobs["read_cells"], jobs["predict_slide"]) == (1, 4, 6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.update(locl={}), "config/demo.yaml: locl: unknown key, did you mean 'local'?"),
        (lambda raw: raw["local"]["backbone"].update(name="uni2"), "local.backbone.name: 'uni2': unknown encoder, did you mean 'uni2-h'?"),
        (lambda raw: raw["local"]["backbone"].update(name="uni2-h"), "local.backbone.weights: the folder is missing, and uni2-h needs"),
        (lambda raw: raw["study"].update(train=["nowhere"]), "slide 'nowhere' is not in config/slides.tsv"),
    ],
)
def test_a_mistake_in_the_run_file_is_reported_without_a_traceback(project, change, message):
    project.edit(change)
    done = project.snakemake("-n")
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert 'File "' not in done.stderr
