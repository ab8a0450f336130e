import pytest

from nuclass_pipeline.config.run import load_run
from nuclass_pipeline.vocabulary import CLASSES, PAPER_CLASSES
from tests import ROOT
from tests.unit.config.test_run import load_paper


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("study.classes", ["T_cell", "B_Cell"], "study.classes: ['T_cell', 'B_Cell']: 'T_cell' is not a class, did you mean 'T_Cell'?"),
        ("study.classes", ["t cell", "B_Cell"], "'t cell' is not a class, did you mean 'T_Cell'? Use some of Acinar"),
        ("study.classes", ["Unresolved", "B_Cell"], "'Unresolved' is not a class"),
        ("study.classes", ["", "B_Cell"], "'' is not a class"),
        ("study.classes", ["B_Cell", "B_Cell"], "B_Cell is listed twice. List it once"),
        ("study.classes", ["B_Cell"], "a model needs at least two classes"),
        ("study.classes", [], "a model needs at least two classes. List them, or remove the key for those of the paper"),
        ("study.classes", None, "study.classes: the value is empty. Write a value, or remove the key."),
        ("study.classes", "T_Cell", "study.classes: 'T_Cell': not a list"),
        ("study.classes", [1, 2], "study.classes.0: 1: not text. Put it in quotes."),
        ("study.train", ["demo-lung-1", "demo-lung-1"], "demo-lung-1 is listed twice"),
        ("study.train", [], "heldout lists slides and train none. List a slide under train, or list those of heldout under label."),
        ("study.heldout", [], "train lists slides and heldout none. List a slide under heldout, or list those of train under label."),
        ("study", {}, "study: it names no slide. List slides under train and heldout, or under label if they are only to be labelled."),
        ("study", {"label": []}, "study: it names no slide."),
        ("study", {"predict": ["demo-lung-he"]}, "study: predict lists slides and train none. List slides under train and heldout, or"),
        ("study", {"predict": ["demo-lung-he"], "label": ["demo-lung-1"]}, "study: predict lists slides and train none."),
        ("study", {"label": ["demo-lung-1", "demo-lung-1"]}, "study.label: ['demo-lung-1', 'demo-lung-1']: demo-lung-1 is listed twice."),
        ("study", {"label": "demo-lung-1"}, "study.label: 'demo-lung-1': not a list."),
        ("study.label", ["demo-lung-1"], "study: demo-lung-1 is listed under two of train, heldout, predict and label. List it under one."),
        ("study.label", ["demo-lung-9"], "study.label: slide 'demo-lung-9' is not in config/slides.tsv, did you mean 'demo-lung-"),
        ("study.train", ["demo-lung-1", "demo-lung-2"], "study: demo-lung-2 is listed under two of train, heldout, predict and label"),
        ("study.predict", ["demo-lung-1"], "demo-lung-1 is listed under two of train, heldout, predict and label"),
        ("study.heldout", ["demo-lung-2", "demo-lung-he"], "demo-lung-he is listed under two"),
        ("study.train", ["demo-lung-9"], "study.train: slide 'demo-lung-9' is not in config/slides.tsv, did you mean 'demo-lung-"),
        ("study.heldout", ["Demo-Lung-2"], "study.heldout: slide 'Demo-Lung-2' is not in config/slides.tsv, did you mean 'demo-lung-2'?"),
        ("study.train", ["demo-lung-1 "], "slide 'demo-lung-1 ' is not in config/slides.tsv, did you mean 'demo-lung-1'?"),
        ("study.test", ["demo-lung-1"], "study.test: unknown key"),
    ],
)
def test_names_that_are_none_are_refused_with_the_nearest(refused, path, value, message):
    assert message in refused(path, value)


@pytest.mark.parametrize(
    "study",
    [
        {"label": ["demo-lung-1"]},
        {"train": [], "heldout": [], "predict": [], "label": ["demo-lung-1"]},
        {"train": ["demo-lung-1"], "heldout": ["demo-lung-2"], "label": ["demo-pancreas-1"]},
    ],
)
def test_a_study_may_label_slides_and_nothing_more(demo, study):
    run = load_run(demo | {"study": study, "figures": {}, "tables": {}}, root=ROOT)
    assert run.labeled_only == study["label"]
    assert run.role(study["label"][0]) == "label"
    assert run.slides_with_xenium == [*study.get("train", []), *study.get("heldout", []), *study["label"]]
    assert run.registered_slides == run.slides_with_image == run.classified_slides == run.slides_with_xenium[:-1]
    assert not [path for path in run.all_predictions if study["label"][0] in path]
    assert [encoder["use"] for encoder in run.encoders] == (["local.backbone", "global.context"] if study.get("train") else [])


def test_paper_classes_are_sixteen_in_column_order():
    assert load_paper().config.study.classes == PAPER_CLASSES
    assert PAPER_CLASSES[:5] == ("Acinar", "B_Cell", "Cardiomyocyte", "Ductal", "Endocrine")
    assert (len(PAPER_CLASSES), len(set(PAPER_CLASSES) & set(CLASSES))) == (16, 16)
    assert (PAPER_CLASSES.index("Fibroblast"), PAPER_CLASSES.index("Macrophage"), PAPER_CLASSES.index("T_Cell")) == (10, 11, 14)


OWN = {"Nerve": "#112233", "Tumor": "#9b2c2d"}


@pytest.mark.parametrize(
    ("colors", "classes", "message"),
    [
        ({}, ["Nerve", "T_Cell"], "'Nerve' is not a class. Use some of Acinar"),
        ({}, ["Nerve", "T_Cell"], "or give it a color under study.colors."),
        (OWN, ["Nervous", "T_Cell"], "'Nervous' is not a class, did you mean 'Nerve'?"),
        ({"T_Cell": "#112233"}, ["T_Cell", "B_Cell"], "'T_Cell' has its color already. Choose another name"),
        ({"Unresolved": "#112233"}, ["T_Cell", "B_Cell"], "'Unresolved' has its color already"),
        ({"a b": "#112233"}, ["T_Cell", "B_Cell"], "'a b' is not a name of letters, digits, _, + and -."),
        ({"Nerve": "blue"}, ["Nerve", "T_Cell"], "'blue' of Nerve is not a color. Write it as #rrggbb, such as #9b2c2d"),
        ({"Nerve": "#abc"}, ["Nerve", "T_Cell"], "'#abc' of Nerve is not a color"),
        ({"Nerve": "#AABBCC", "Tumor": "#aabbcc"}, ["Nerve", "Tumor"], "#aabbcc is given to two classes. Give each its own"),
    ],
)
def test_own_classes_need_a_color_each(demo, refused, colors, classes, message):
    assert message in refused("study", demo["study"] | {"colors": colors, "classes": classes})


def test_own_classes_with_colors_are_taken(demo):
    run = load_run(demo | {"study": demo["study"] | {"colors": OWN, "classes": ["Nerve", "T_Cell"]}}, root=ROOT)
    assert run.config.study.classes == ("Nerve", "T_Cell")
