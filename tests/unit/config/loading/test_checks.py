import os
import shutil

import pytest

from nuclass_pipeline.config.run import load_run
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.figures import list_figures
from nuclass_pipeline.tables import list_tables
from tests import ROOT
from tests.unit.config.conftest import edited


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("split.buffer_um", 100, "split.buffer_um: 100 is less than half a context window (128 µm). Remove the key for a whole"),
        ("image.context_um", 512, "split.buffer_um: 128 is less than half a context window (256 µm). Remove the key for a whole"),
        ("study", {"train": ["demo-lung-1"], "heldout": ["demo-lung-he"]}, "study.heldout: slide demo-lung-he is an H&E without Xenium"),
        ("synthetic.seeds", {}, "synthetic.seeds.demo-lung-1: the slide is synthetic and has no seed. Add `demo-lung-1: 1` there"),
        ("synthetic.seeds.demo-lug-1", 5, "synthetic.seeds.demo-lug-1: no such slide in config/slides.tsv, did you mean 'demo-lung-1'?"),
        ("synthetic.seeds.demo-lung-2", 11, "synthetic.seeds.demo-lung-2: slide demo-lung-1 has the same seed and organ"),
        ("study.train", ["demo-lung-1"], "study.heldout: slide demo-pancreas-2 is of pancreas, and no slide of study.train is"),
        (
            "registration.accept_unclear",
            ["demo-lug-2"],
            "registration.accept_unclear: 'demo-lug-2' is not a slide of the study with Xenium, did you mean 'demo-lung-2'?",
        ),
        ("compute.devices", 3, "local.optim.batch_size: is 32, which 3 devices (compute.devices) cannot share equally. Set it to 33, or"),
        ("registration.accept_unclear", ["demo-lung-he"], "'demo-lung-he' is not a slide of the study with Xenium"),
        ("labeling.annotation", "config/annotations", "labeling.annotation: config/annotations is not a folder"),
        ("labels", "config/label.tsv", "labels: config/label.tsv does not exist, did you mean 'labels.tsv'? Correct the path"),
        ("labeling.markers", "config", "labeling.markers: config is a folder, not a file"),
        ("programs.library", "nothing.gmt", "programs.library: nothing.gmt does not exist. Download it: http"),
    ],
)
def test_what_does_not_fit_together_is_refused_by_its_key(refused, path, value, message):
    assert message in refused(path, value)


@pytest.mark.parametrize(("buffer_um", "noted"), [(None, False), (128, True), (255.9, True), (256, False), (300, False)])
def test_a_buffer_below_a_window_is_noted_at_load(demo, buffer_um, noted):
    problem = f"split.buffer_um: {buffer_um} is less than a context window (256 µm), so subsets may share pixels"
    notes = load_run(edited(demo, "split.buffer_um", buffer_um), root=ROOT, file="mine.yaml").notes
    assert [note.startswith(f"mine.yaml: {problem}") for note in notes] == [True] * noted


def test_an_accepted_slide_changes_the_parameters_of_no_other(demo):
    run = load_run(edited(demo, "registration.accept_unclear", ["demo-lung-2"]), root=ROOT)
    before = load_run(demo, root=ROOT)
    changed = [name for name in run.slides_with_xenium if run.registration(name) != before.registration(name)]
    assert changed == ["demo-lung-2"]
    assert run.registration("demo-lung-2")["accept_unclear"] == ["demo-lung-2"]


def test_remedies_work(demo):
    for path, value in (
        ("split.buffer_um", 128),
        ("split.buffer_um", None),
        ("synthetic.seeds.demo-lung-2", 13),
        ("synthetic.seeds.breast-1", 1),
        ("study", {"train": ["demo-lung-1"], "heldout": ["demo-lung-2"], "predict": ["demo-lung-he"]}),
    ):
        assert load_run(edited(demo, path, value), root=ROOT)


def test_a_predicted_slide_of_an_organ_that_is_not_trained_is_refused_and_the_remedy_works(own):
    own.rows["c"] = ["image", "liver", "", "c.tif", ""]
    own.write("c.tif", "c")
    own.raw["study"]["predict"] = ["c"]
    problem = "study.predict: slide c is of liver, and no slide of study.train is, so the models do not learn that organ."
    assert f"{problem} Add a slide of liver to study.train, or remove c from study.predict." in own.refused()
    own.rows["d"] = ["xenium", "liver", "d/outs", "d.tif", ""]
    for name in ("d/outs/experiment.xenium", "d.tif"):
        own.write(name, name)
    own.raw["study"]["train"].append("d")
    assert own.load().role("c") == "predict"


def test_an_organ_that_is_not_trained_can_be_taken_as_unknown(own):
    own.rows["c"] = ["image", "liver", "", "c.tif", ""]
    own.write("c.tif", "c")
    own.raw["study"] |= {"predict": ["c"], "unknown_organ": "neutral"}
    problem = "local.organ_dropout: is 0, and slide c is of liver, and no slide of study.train is"
    assert problem in own.refused()
    for changes in ({"organ_dropout": 0.1}, {"conditioning": "none"}):
        own.raw["local"] = {"backbone": {"name": "tiny-resnet"}, **changes}
        assert own.load().role("c") == "predict"


@pytest.mark.parametrize(
    ("column", "path", "message"),
    [
        (2, "a/out", "a, bundle: {0}/a/out/experiment.xenium does not exist. Correct the path, or put the file there."),
        (2, "a/outs/experiment.xenium", "a, bundle: {0}/a/outs/experiment.xenium is a file. Name the folder that holds experiment.xenium."),
        (3, "a/he.tiff", "a, image: {0}/a/he.tiff does not exist, did you mean 'he.tif'?"),
        (3, "a", "a, image: {0}/a is a folder, not a file"),
        (3, "a/pipe", "a, image: {0}/a/pipe is a pipe or device, not a file"),
        (4, "m.csv", "a, alignment: {0}/m.csv does not exist"),
    ],
)
def test_files_of_ones_own_must_be_there(own, tmp_path, column, path, message):
    os.mkfifo(tmp_path / "a/pipe")
    own.rows["a"][column] = path
    assert message.format(tmp_path) in own.refused()


@pytest.mark.parametrize("path", ["a/he.tif/", "./a//he.tif", "b/../a/he.tif", "{0}/a/he.tif"])
def test_paths_are_read_in_every_spelling(own, tmp_path, path):
    own.rows["a"][3] = path.format(tmp_path)
    assert own.load().slides["a"].image.endswith("a/he.tif")


def test_names_of_files_may_have_blanks_and_letters_of_any_alphabet(own):
    own.write("Präparat 1 [neu], é/he (1).tif", "image")
    own.rows["a"][3] = "Präparat 1 [neu], é/he (1).tif"
    assert own.load().slides["a"].image.endswith("/Präparat 1 [neu], é/he (1).tif")


def link(own, name, target):
    (own.folder / name).symlink_to(own.folder / target)


SAME = "a and b, bundle: both slides are the same bundle. Keep one of them, because scores on cells that were trained on are too high."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda own: own.rows["b"].__setitem__(2, "a/outs/"), SAME),
        (lambda own: (link(own, "c", "a"), own.rows["b"].__setitem__(2, "c/outs")), SAME),
        (lambda own: shutil.copyfile(own.folder / "a/outs/cell_feature_matrix.h5", own.folder / "b/outs/cell_feature_matrix.h5"), SAME),
        (
            lambda own: (own.rows["b"].__setitem__(3, "a/he.tif"), own.rows["b"].__setitem__(4, "a/m.csv")),
            "a and b, image: both slides have the same H&E in the same place",
        ),
        (lambda own: own.rows["b"].__setitem__(3, "a/he.tif"), "a and b, image: both slides have the same H&E in the same place"),
        (lambda own: own.rows["b"].__setitem__(4, "a/m.csv"), "a and b, alignment: {0}/a/m.csv cannot align two images"),
    ],
)
def test_one_slide_under_two_names_is_refused(own, tmp_path, change, message):
    assert own.load()
    change(own)
    assert message.format(tmp_path) in own.refused()


def test_a_link_to_a_slide_that_a_rule_made_is_that_slide(own, tmp_path):
    made = tmp_path / "resources/synthetic/demo-lung-1"
    own.write(made / "outs/cell_feature_matrix.h5", "counts")
    (tmp_path / "b/outs").rename(tmp_path / "b/old")
    (tmp_path / "b/outs").symlink_to(made / "outs")
    own.rows["demo-lung-1"] = ["synthetic", "lung", *demo_paths()]
    own.raw |= {"study": {"train": ["demo-lung-1"], "heldout": ["b"]}, "synthetic": {"seeds": {"demo-lung-1": 1}}}
    (tmp_path / "b/outs/experiment.xenium").write_text("{}")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert "demo-lung-1 and b, bundle: both slides are the same bundle" in own.refused()


def demo_paths():
    start = "resources/synthetic/demo-lung-1"
    return [f"{start}/outs", f"{start}/demo-lung-1_he_image.ome.tif", f"{start}/demo-lung-1_he_imagealignment.csv"]


@pytest.mark.parametrize("role", ["train", "heldout", "predict"])
def test_only_a_slide_that_is_labelled_and_nothing_more_has_no_image(own, role):
    own.rows["c"] = ["xenium", "lung", "a/outs", "", ""]
    own.raw["study"] = {"train": ["a"], "heldout": ["b"]} | {role: ["c"]}
    message = f"config/slides.tsv: c, image: it is empty, and study.{role} needs the H&E of the slide."
    assert f"{message} Fill in image, or list the slide under study.label." in own.refused()
    own.raw["study"] = {"label": ["c"]}
    run = own.load()
    assert (run.slides["c"].image, run.slides["c"].own_files) == ("", {"bundle": f"{own.folder}/a/outs/experiment.xenium"})
    own.raw["study"] = {"train": ["a"], "heldout": ["b"], "label": ["c"]}
    assert own.load().labeled_only == ["c"]


def test_the_image_of_a_slide_that_is_only_labelled_is_not_read(own):
    start, rest = f"{own.folder}/c/", ["a/outs/experiment.xenium", "a/outs/cell_feature_matrix.h5", "a/he.tif", "a/m.csv"]
    for name in ("experiment.xenium", "cell_feature_matrix.h5"):
        own.write(f"c/outs/{name}", name)
    own.write("c/he.tif", "image")
    own.rows["c"] = ["xenium", "lung", "c/outs", "c/he.tif", "a/m.csv"]
    own.raw["study"] = {"train": ["a"], "heldout": ["b"], "label": ["c"]}
    found = own.load().source_files
    assert [path for path in found if path.startswith(start)] == [f"{start}outs/experiment.xenium", f"{start}outs/cell_feature_matrix.h5"]
    assert [path for path in found if path.startswith(f"{own.folder}/a/")] == [f"{own.folder}/{name}" for name in rest]
    own.rows["c"][3] = "c/gone.tif"
    assert "c, image: " in own.refused()
    assert "c/gone.tif does not exist" in own.refused()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["image", "lung", "", "a/he.tif", ""], "slide c is an H&E without Xenium, so it has no labels. List it under study.predict."),
        (["trio", "lung", "t", "", ""], "slide c is of kind trio: it has labels, and no transcripts to label it from. List it under"),
    ],
)
def test_a_slide_without_transcripts_cannot_be_labelled(own, row, message):
    own.write("t/annotations.json", "{}")
    own.rows["c"] = row
    own.raw["study"] = {"train": ["a"], "heldout": ["b"], "label": ["c"]}
    assert f"study.label: {message}" in own.refused()
    own.raw["study"] = {"train": ["a"], "heldout": ["b"], "predict": ["c"]}
    assert own.load()


def test_the_figures_of_models_are_refused_where_there_is_none(own):
    own.raw |= {"study": {"label": ["a"]}, "figures": {1: "confusion"}}
    with pytest.raises(UserError, match=r"figures\.1: there is no figure 'confusion'\. Remove the key; labels are drawn in the label"):
        list_figures(own.load())
    own.raw |= {"figures": {}, "tables": {1: "cohort", 2: "heldout"}}
    assert list_figures(own.load()) == {}
    with pytest.raises(UserError, match=r"tables\.2: there is no table 'heldout'\. Use one of cohort\."):
        list_tables(own.load())


def test_two_slides_may_be_regions_of_one_image(own):
    own.rows["b"][3] = "a/he.tif"
    (own.folder / "b/m.csv").write_text("1,0,500\n0,1,0\n0,0,1\n")
    assert own.load().slides["b"].image == own.load().slides["a"].image


def test_the_same_slide_may_be_classified_again(own):
    own.raw["study"] = {"train": ["a"], "heldout": ["b"], "predict": ["c"]}
    own.rows["c"] = list(own.rows["b"])
    assert own.load().unscored_slides == ["c"]


def test_the_label_map_is_read_before_any_job(own):
    own.write("config/labels.tsv", "raw\tclass\treason\nX\tT_cell\t\n")
    assert "labels.tsv: line 2, class: 'T_cell' (raw label 'X') is not a class, did you mean 'T_Cell'?" in own.refused()


def test_an_image_alone_may_be_that_of_a_slide_that_is_still_to_be_made(demo):
    """The demo classifies the H&E of one of its own slides, which no run has made yet."""
    run = load_run(demo, root=ROOT)
    assert run.unscored_slides == ["demo-lung-he"]
    with pytest.raises(UserError, match=r"demo-lung-he, image: resources/synthetic/demo-lung-2/demo-lung-2_he_image\.ome\.tif"):
        load_run(edited(demo, "study.heldout", ["demo-pancreas-2"]), root=ROOT)
