"""The plan of a run, without running it."""

import pytest

PER_SLIDE = (
    "read_cells",
    "register_image",
    "build_image",
    "cluster_cells",
    "rank_markers",
    "label_cells",
    "find_domains",
    "propose_labels",
    "figure_labels",
    "split_cells",
    "extract_patches",
)


def test_the_demo_plans_every_step(project):
    jobs = project.planned()
    assert {jobs[rule] for rule in ("make_slide", *PER_SLIDE, "embed_cells", "predict_slide")} == {4}
    assert {jobs[rule] for rule in ("train_local", "train_global", "train_gate", "calibrate_models", "build_report")} == {1}
    assert "fetch_slide" not in jobs
    assert "embed_context" not in jobs


def test_the_paper_fetches_eleven_slides_and_caches_the_frozen_encoder(project):
    jobs = project.planned("--configfile", "config/paper.yaml")
    assert {jobs[rule] for rule in ("fetch_slide", "embed_context", *PER_SLIDE)} == {11}
    assert jobs["explain_cells"] == 3
    assert "make_slide" not in jobs


@pytest.mark.parametrize("target", ["figure_confusion", "fig3", "tab2", "figures", "tables", "slides"])
def test_targets_have_names(project, target):
    assert project.planned(target)


def test_annotators_are_compared_on_demand(project):
    assert "compare_annotators" not in project.planned()
    assert project.planned("ablation")["compare_annotators"] == 4


def test_a_frozen_context_is_one_config_word(project):
    project.edit(lambda raw: raw["global"]["context"].update(freeze=True))
    assert project.planned()["embed_context"] == 4


def test_a_trio_enters_without_a_bundle(project):
    sheet = project.folder / "config/slides.tsv"
    sheet.write_text(sheet.read_text() + "mine\ttrio\tlung\ttrios/mine\t\t\t\t\t\tmy own\n")
    project.edit(lambda raw: raw["study"]["heldout"].append("mine"))
    (project.folder / "trios/mine").mkdir(parents=True)
    for name in ("annotations.json", "patches_224x224.h5", "patches_1024x1024.h5"):
        (project.folder / "trios/mine" / name).touch()
    jobs = project.planned()
    assert (jobs["import_trio"], jobs["read_cells"], jobs["predict_slide"]) == (1, 4, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.update(locl={}), "config/demo.yaml: locl: unknown key, did you mean 'local'?"),
        (lambda raw: raw["study"].update(train=["nowhere"]), "slide 'nowhere' is not in config/slides.tsv"),
    ],
)
def test_a_mistake_in_the_run_file_is_told_without_a_traceback(project, change, message):
    project.edit(change)
    done = project.snakemake("-n")
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert 'File "' not in done.stderr
