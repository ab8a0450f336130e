import pytest

from nuclass_pipeline.vocabulary import CLASSES, PAPER_CLASSES
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
        ("study.train", [], "it must list at least 1"),
        ("study.heldout", [], "it must list at least 1"),
        ("study.train", ["demo-lung-1", "demo-lung-2"], "study: demo-lung-2 is listed under two of train, heldout and predict"),
        ("study.predict", ["demo-lung-1"], "demo-lung-1 is listed under two of train, heldout and predict"),
        ("study.heldout", ["demo-lung-2", "demo-lung-he"], "demo-lung-he is listed under two"),
        ("study.train", ["demo-lung-9"], "study.train: slide 'demo-lung-9' is not in config/slides.tsv, did you mean 'demo-lung-"),
        ("study.heldout", ["Demo-Lung-2"], "study.heldout: slide 'Demo-Lung-2' is not in config/slides.tsv, did you mean 'demo-lung-2'?"),
        ("study.train", ["demo-lung-1 "], "slide 'demo-lung-1 ' is not in config/slides.tsv, did you mean 'demo-lung-1'?"),
        ("study.test", ["demo-lung-1"], "study.test: unknown key"),
    ],
)
def test_names_that_are_none_are_refused_with_the_nearest(refused, path, value, message):
    assert message in refused(path, value)


def test_paper_classes_are_sixteen_in_column_order():
    assert load_paper().config.study.classes == PAPER_CLASSES
    assert PAPER_CLASSES[:5] == ("Acinar", "B_Cell", "Cardiomyocyte", "Ductal", "Endocrine")
    assert (len(PAPER_CLASSES), len(set(PAPER_CLASSES) & set(CLASSES))) == (16, 16)
    assert (PAPER_CLASSES.index("Fibroblast"), PAPER_CLASSES.index("Macrophage"), PAPER_CLASSES.index("T_Cell")) == (10, 11, 14)
