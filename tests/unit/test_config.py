import copy

import pytest
import yaml

from nuclass_pipeline.config.errors import MOVED
from nuclass_pipeline.config.run import load_run
from nuclass_pipeline.config.slides import read_slides
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.vocabulary import CLASSES, PAPER_CLASSES, UNRESOLVED, read_label_map
from tests import ROOT
from tests.workflow.test_keys import KEYS


@pytest.fixture
def demo():
    return yaml.safe_load((ROOT / "config/demo.yaml").read_text())


def edited(raw, path, value):
    raw = copy.deepcopy(raw)
    *folders, key = path.split(".")
    section = raw
    for folder in folders:
        section = section.setdefault(folder, {})
    section[key] = value
    return raw


def test_demo_and_paper_are_valid(demo):
    run = load_run(demo, root=ROOT)
    assert run.training_slides == ["demo-lung-1", "demo-pancreas-1"]
    assert run.context_source.endswith("patches_1024x1024.h5")
    paper = load_run(yaml.safe_load((ROOT / "config/paper.yaml").read_text()), root=ROOT)
    assert len(paper.slides) == 11
    assert {slide.organ for slide in paper.slides.values()} == {"breast", "colon", "heart", "kidney", "liver", "lung", "ovary", "pancreas"}
    assert paper.context_source.endswith("features/dinov3-vitl16.1024.h5")


def test_the_paper_run_states_the_defaults():
    paper = load_run(yaml.safe_load((ROOT / "config/paper.yaml").read_text()), root=ROOT).config
    assert paper.local.optim == type(paper.local.optim)()
    assert paper.global_.optim == type(paper.global_)().optim
    assert paper.gate == type(paper.gate)()
    assert type(paper.gate)(optim={"patience": 5}).optim.lr_head == paper.gate.optim.lr_head
    assert paper.study.classes == PAPER_CLASSES
    assert (paper.local.label_smoothing, paper.global_.label_smoothing) == (0.1, 0.05)
    assert (paper.global_.alpha_initial, paper.global_.alpha_final, paper.global_.alpha_epochs) == (0.25, 1.0, 2)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("locl", {}, "locl: unknown key, did you mean 'local'?"),
        ("local.backbon", {}, "local.backbon: unknown key, did you mean 'backbone'?"),
        ("global.optim.lr", 1, "global.optim.lr: unknown key"),
        ("local.optim.lr_head", "fast", "local.optim.lr_head: 'fast'"),
        ("local.optim.lr_head", -1, "greater than 0"),
        ("compute.precision", False, "compute.precision: False"),
        ("study.train", ["demo-lung-1", "demo-lung-2"], "demo-lung-2 is listed under two of train, heldout and predict"),
        ("study.predict", ["demo-lung-1"], "demo-lung-1 is listed under two of train, heldout and predict"),
        ("study.heldout", ["demo-lung-2", "demo-lung-he"], "demo-lung-he is listed under two"),
        ("study", {"train": ["demo-lung-1"], "heldout": ["demo-lung-he"]}, "study.heldout: slide demo-lung-he is an H&E without Xenium"),
        ("segmentation.method", "otsu", "segmentation.method: 'otsu'"),
        ("study.train", ["demo-lung-9"], "slide 'demo-lung-9' is not in config/slides.tsv, did you mean 'demo-lung-"),
        ("split.buffer_um", 100, "less than half a context window (128 µm)"),
        ("split.fractions", {"train": 0.5, "gate": 0.2, "val": 0.2}, "add up to 0.9"),
        ("synthetic.seeds", {}, "synthetic.seeds.demo-lung-1: the slide is synthetic and has no seed"),
        ("run", "My Run", "run: 'My Run'"),
        ("slides", "nowhere.tsv", "nowhere.tsv: file: it does not exist"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(demo, path, value, message):
    with pytest.raises(UserError) as refusal:
        load_run(edited(demo, path, value), root=ROOT, file="config/demo.yaml")
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_yaml_exponents_without_a_point_are_numbers_all_the_same(demo):
    assert load_run(edited(demo, "local.optim.lr_head", yaml.safe_load("1e-4")), root=ROOT).config.local.optim.lr_head == 1e-4


def test_files_of_ones_own_must_be_there_unless_the_run_is_an_archive(demo, tmp_path):
    (tmp_path / "slides.tsv").write_text(HEADER + "a\txenium\tlung\touts\the.tif\t\t\t\t\t\n" + "b\ttrio\tlung\ttrio\t\t\t\t\t\t\n")
    raw = edited(edited(edited(demo, "slides", "slides.tsv"), "study", {"train": ["a"], "heldout": ["b"]}), "synthetic", {})
    with pytest.raises(UserError, match=r"slides\.tsv: a, bundle: outs/experiment\.xenium does not exist"):
        load_run(raw, root=tmp_path)
    for name in ("outs/experiment.xenium", "trio/annotations.json"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"a, image: he\.tif does not exist"):
        load_run(raw, root=tmp_path)
    (tmp_path / "results/demo/metrics").mkdir(parents=True)
    assert load_run(raw, root=tmp_path).slides_of("trio") == ["b"]


def test_an_image_alone_may_be_that_of_a_slide_that_is_still_to_be_made(demo, tmp_path):
    """The demo classifies the H&E of one of its own slides, which no run has made yet."""
    assert load_run(demo, root=ROOT).unscored_slides == ["demo-lung-he"]
    (tmp_path / "slides.tsv").write_text("slide\tkind\torgan\timage\tbundle\na\timage\tlung\the.tif\t\nb\ttrio\tlung\t\ttrio\n")
    (tmp_path / "trio").mkdir()
    (tmp_path / "trio/annotations.json").touch()
    raw = edited(edited(demo, "slides", "slides.tsv"), "study", {"train": ["b"], "heldout": ["c"], "predict": ["a"]})
    (tmp_path / "slides.tsv").write_text((tmp_path / "slides.tsv").read_text() + "c\ttrio\tlung\t\ttrio\n")
    with pytest.raises(UserError, match=r"a, image: he\.tif does not exist"):
        load_run(raw, root=tmp_path)
    (tmp_path / "he.tif").touch()
    run = load_run(raw, root=tmp_path)
    assert (run.role("a"), run.slides["a"].mpp, run.slides["a"].first_file) == ("predict", None, "")


def test_the_sheet_names_what_is_public(demo):
    paper = load_run(yaml.safe_load((ROOT / "config/paper.yaml").read_text()), root=ROOT)
    sheet = read_slides(ROOT / "config/slides.tsv")
    public = [slide for slide in sheet.values() if slide.kind == "xenium"]
    assert len(public) == 24
    assert set(paper.slides) < {slide.slide for slide in public}
    for slide in public:
        sample = slide.note.split(";")[0]
        assert slide.release
        assert slide.label_source
        assert slide.note.endswith("10x Genomics, CC BY 4.0")
        assert slide.bundle_url.endswith(f"/{slide.release}/{sample}/{sample}_outs.zip")
        assert slide.image_url.endswith(f"/{slide.release}/{sample}/{sample}_he_image.ome.tif")
        assert slide.alignment_url.endswith(f"/{slide.release}/{sample}/{sample}_he_imagealignment.csv") or slide.slide == "breast-1"


HEADER = "slide\tkind\torgan\tbundle\timage\talignment\tbundle_url\timage_url\talignment_url\tnote\n"


@pytest.mark.parametrize(
    ("sheet", "message"),
    [
        ("slide\tkind\n", "organ: the columns are slide, kind"),
        (HEADER + "a\txenium\tbrain\tx\ty\t\t\t\t\t\n", "line 2, organ: 'brain'"),
        (HEADER + "A b\txenium\tlung\tx\ty\t\t\t\t\t\n", "line 2, slide: 'A b'"),
        (HEADER + "a\txenium\tlung\tx\t\t\t\t\t\t\n", "image is empty; a slide of kind xenium needs it"),
        (HEADER + "a\txenium\tlung\t\ty\t\t\t\t\t\n", "bundle is empty; a slide of kind xenium needs it"),
        (HEADER + "a\timage\tlung\t\t\t\t\t\t\t\n", "image is empty; a slide of kind image needs it"),
        (HEADER + "a\timage\tlung\t\ty\tz.csv\t\t\t\t\n", "alignment does not apply to a slide of kind image"),
        (HEADER + "a\ttrio\tlung\tx\t\t\t\t\t\t\tone more\n", "line 2, row: has 11 values for 10 columns"),
        ("slide\tkind\torgan\tmpp\ttrack\n", "track: the columns are slide, kind, organ, mpp, track"),
        ("slide\tkind\torgan\tslide\n", "slide: the columns are"),
        ("slide\tkind\torgan\timage\tmpp\na\timage\tlung\the.tif\t0.25 µm\n", "line 2, mpp: '0.25 µm'"),
        ("slide\tkind\torgan\timage\tbundle\tmpp\na\txenium\tlung\the.tif\touts\t0.25\n", "mpp does not apply to a slide of kind xenium"),
        (HEADER + "a\ttrio\tlung\tx\t\t\t\t\t\t\n" * 2, "slide: 'a' has two rows"),
    ],
)
def test_a_mistake_in_the_sheet_names_line_and_column(demo, tmp_path, sheet, message):
    (tmp_path / "slides.tsv").write_text(sheet)
    with pytest.raises(UserError) as refusal:
        load_run(edited(demo, "slides", "slides.tsv"), root=tmp_path)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_the_label_map_is_idempotent_and_counts_what_it_drops():
    label_map = read_label_map(ROOT / "config/labels.tsv")
    assert label_map.align(CLASSES).labels == list(CLASSES)
    aligned = label_map.align(["Tumor Cells", "Endocrine 1", "Myeloid", "Myeloid", "Odd", "Unresolved", "SMC/Pericyte"])
    assert aligned.labels == ["Epithelial_Malignant", "Endocrine", *[UNRESOLVED] * 5]
    assert aligned.dropped == {
        ("Myeloid", "lineage, not a class"): 2,
        ("Odd", "not in the label map"): 1,
        ("SMC/Pericyte", "two classes"): 1,
    }


def test_paper_classes_are_sixteen_in_column_order():
    assert PAPER_CLASSES[:5] == ("Acinar", "B_Cell", "Cardiomyocyte", "Ductal", "Endocrine")
    assert (len(PAPER_CLASSES), len(set(PAPER_CLASSES) & set(CLASSES))) == (16, 16)
    assert (PAPER_CLASSES.index("Fibroblast"), PAPER_CLASSES.index("Macrophage"), PAPER_CLASSES.index("T_Cell")) == (10, 11, 14)


def test_a_wrong_label_map_is_refused(tmp_path):
    path = tmp_path / "labels.tsv"
    path.write_text("raw\tclass\treason\nX\tTCell\t\n")
    with pytest.raises(UserError, match="'TCell'"):
        read_label_map(path)
    path.write_text("raw\tclass\treason\nX\tT_Cell\t\nX\tB_Cell\t\n")
    with pytest.raises(UserError, match="two meanings"):
        read_label_map(path)


def test_a_language_annotator_needs_a_model(demo):
    with pytest.raises(UserError, match=r"proposals: annotator llm-score needs proposals\.model: name the folder"):
        load_run(demo | {"proposals": {"annotator": "llm-score"}}, root=ROOT)
    proposals = {"annotator": "llm-score", "model": "m"}
    assert load_run(demo | {"proposals": proposals}, root=ROOT).config.proposals.model == "m"


@pytest.mark.parametrize("key", MOVED)
def test_a_key_of_an_earlier_version_is_refused_with_its_new_place(demo, key):
    with pytest.raises(UserError) as caught:
        load_run(edited(demo, key, 1), root=ROOT)
    assert f"{key}: the key {MOVED[key]}. Change it in the run file" in str(caught.value)
    changed = MOVED[key].removeprefix("is now ")
    assert f"`{key}`" in (ROOT / "CHANGELOG.md").read_text() or f"`{key.rsplit('.')[-1]}`" in (ROOT / "CHANGELOG.md").read_text()
    assert changed.startswith("was removed") or changed in KEYS


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("study.classes", ["T_cell"], "study.classes: ['T_cell']: 'T_cell' is not a class"),
        ("study.classes", [], "at least 1 item"),
        ("study.train", ["demo-lung-1", "demo-lung-1"], "demo-lung-1 is listed twice"),
        ("seeds", [0, 0], "a seed is listed twice"),
        ("seeds", [-1], "greater than or equal to 0"),
        ("figures", {0: "confusion"}, "greater than 0"),
    ],
)
def test_values_that_name_nothing_are_refused(demo, path, value, message):
    with pytest.raises(UserError) as caught:
        load_run(edited(demo, path, value), root=ROOT)
    assert message in str(caught.value)


SHORT = "slide\tkind\torgan\tbundle"
ROW = "a\ttrio\tlung\tx"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (f"{SHORT}\n{ROW}\n", "utf-8-sig"),
        (f"{SHORT}\r\n{ROW}\r\n", "utf-8"),
        (f"{SHORT}\n\n\t\t\t\n{ROW}\n \t\n\t\t\t\t\t\n\n", "utf-8"),
    ],
)
def test_a_sheet_of_a_spreadsheet_is_read(tmp_path, text, encoding):
    (tmp_path / "slides.tsv").write_bytes(text.encode(encoding))
    assert [(slide.slide, slide.bundle) for slide in read_slides(tmp_path / "slides.tsv").values()] == [("a", "x")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"{SHORT}\tnote\n{ROW}\t0.25 µm\n".encode("latin1"), "file: not a table in UTF-8 ("),
        (f"{SHORT}\n{ROW}\n".encode("utf-16"), "Save it as tab-separated text in UTF-8."),
        (f"{SHORT}\t\n{ROW}\t\n".encode(), "header: column 5 has no name. Remove the tab at its end."),
        (f"slide\t\tkind\torgan\n{ROW}\n".encode(), "header: column 2 has no name. Name the column, or remove it from every line."),
    ],
)
def test_a_sheet_in_another_encoding_or_without_a_name_is_refused(tmp_path, content, message):
    (tmp_path / "slides.tsv").write_bytes(content)
    with pytest.raises(UserError) as refusal:
        read_slides(tmp_path / "slides.tsv")
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
