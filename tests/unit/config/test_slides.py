import logging

import pytest

from nuclass_pipeline.config.slides import read_slides
from nuclass_pipeline.errors import UserError
from tests import ROOT
from tests.unit.config.test_run import load_paper


def read(folder, content):
    (folder / "slides.tsv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_slides(folder / "slides.tsv")


def test_the_sheet_names_what_is_public():
    sheet = read_slides(ROOT / "config/slides.tsv")
    public = [slide for slide in sheet.values() if slide.kind == "xenium"]
    assert len(public) == 24
    study = load_paper().config.study
    for role, word in (("train", "train"), ("heldout", "held out")):
        assert list(getattr(study, role)) == [slide.slide for slide in public if slide.note.split("; ")[1] == word]
    for slide in public:
        sample = slide.note.split(";")[0]
        assert slide.release
        assert slide.label_source
        assert slide.note.endswith("10x Genomics, CC BY 4.0")
        assert slide.bundle_url.endswith(f"/{slide.release}/{sample}/{sample}_outs.zip")
        assert slide.image_url.endswith(f"/{slide.release}/{sample}/{sample}_he_image.ome.tif")
        assert slide.alignment_url.endswith(f"/{slide.release}/{sample}/{sample}_he_imagealignment.csv") or slide.slide == "breast-1"


HEADER = "slide\tkind\torgan\tbundle\timage\talignment\tbundle_url\timage_url\talignment_url\tnote\n"
FIXED = "resources/xenium/a/outs\tresources/xenium/a/a_he_image.ome.tif\tresources/xenium/a/a_he_imagealignment.csv"
URLS = "https://h/b.zip\thttps://h/i.tif\thttps://h/m.csv"


@pytest.mark.parametrize(
    ("sheet", "message"),
    [
        ("slide\tkind\n", "organ: the column is missing; the columns are slide, kind"),
        ("", "header: the file is empty. Write the names of the columns in its first line: slide, kind, organ."),
        (HEADER + "a\txenium\tbrain\tx\ty\t\t\t\t\t\n", "line 2, organ: 'brain': unknown. Use one of breast, colon"),
        (HEADER + "a\txenium\tLung\tx\ty\t\t\t\t\t\n", "line 2, organ: 'Lung': unknown, did you mean 'lung'?"),
        (HEADER + "a\txenum\tlung\tx\ty\t\t\t\t\t\n", "line 2, kind: 'xenum': unknown, did you mean 'xenium'?"),
        (HEADER + "A b\txenium\tlung\tx\ty\t\t\t\t\t\n", "line 2, slide: 'A b': not a name. Use lower-case letters"),
        (HEADER + "nul\txenium\tlung\tx\ty\t\t\t\t\t\n", "line 2, slide: 'nul': the name is reserved by Windows"),
        (HEADER + f"{'a' * 65}\txenium\tlung\tx\ty\t\t\t\t\t\n", "it must have at most 64 characters"),
        (HEADER + "\txenium\tlung\tx\ty\t\t\t\t\t\n", "line 2, slide: the value is missing. Fill it in."),
        (HEADER + "a\txenium\tlung\tx\t\tm.csv\t\t\t\t\n", "image is empty, so the alignment would not be used. Fill in image, or leave"),
        (HEADER + "a\txenium\tlung\t\ty\t\t\t\t\t\n", "bundle is empty; a slide of kind xenium needs it"),
        (HEADER + "a\timage\tlung\t\t\t\t\t\t\t\n", "image is empty; a slide of kind image needs it"),
        (HEADER + "a\timage\tlung\t\ty\tz.csv\t\t\t\t\n", "alignment does not apply to a slide of kind image"),
        (HEADER + "a\txenium\tlung\tx\ta.csv\the.TIF\t\t\t\t\n", "image is a.csv, a table; perhaps image and alignment are exchanged"),
        (HEADER + "a\txenium\tlung\tx\the.tif\the.TIF\t\t\t\t\n", "alignment is he.TIF, an image. Write the path of the alignment"),
        (HEADER + "a\ttrio\tlung\tx\ty\t\t\t\t\t\n", "image does not apply to a slide of kind trio. Leave it empty"),
        (HEADER + "a\timages\tlung\tx\ty\t\t\t\t\t\n", "image does not apply to a slide of kind images. Leave it empty"),
        (HEADER + "a\timages\tlung\t\t\t\t\t\t\t\n", "bundle is empty; a slide of kind images needs it. Fill it in"),
        (HEADER + "a\txenium\tother\tx\ty\t\t\t\t\t\n", "organ other has no markers to label a slide from. Use one of breast"),
        (HEADER + "a\ttrio\tlung\tx\t\t\thttps://h/b.zip\t\t\t\n", "bundle_url does not apply to a slide of kind trio"),
        (HEADER + "a\ttrio\tlung\tx\t\t\t\t\t\t\tone more\n", "line 2, row: has 11 values for 10 columns"),
        (HEADER + "a\txenium\tlung\tx{}\ty\t\t\t\t\t\n", "line 2, bundle: 'x{}': '{' in a path is a wildcard of Snakemake"),
        (HEADER + "a\txenium\tlung\thttps://h/b.zip\ty\t\t\t\t\t\n", "is an address, and addresses belong in the columns of URLs"),
        ("slide\tkind\torgan\tmpp\ttrack\na\timage\tlung\t1\t2\n", "track: unknown column"),
        ("slide\tkind\torgan\talignement\n", "alignement: unknown column, did you mean 'alignment'?"),
        ("slide\tkind\torgan\tslide\n", "slide: the column occurs twice"),
        ("slide\t\tkind\torgan\na\t\ttrio\tlung\n", "header: column 2 has no name. Name the column, or remove it from every line."),
        ("slide\tkind\torgan\timage\tmpp\na\timage\tlung\the.tif\t0.25 µm\n", "line 2, mpp: '0.25 µm': not a number"),
        ("slide\tkind\torgan\timage\tmpp\na\timage\tlung\the.tif\t0,25\n", "line 2, mpp: '0,25': not a number"),
        ("slide\tkind\torgan\timage\tbundle\tmpp\na\txenium\tlung\the.tif\touts\t0.25\n", "mpp does not apply to a slide of kind xenium"),
        (HEADER + "a\ttrio\tlung\tx\t\t\t\t\t\t\n" * 2, "line 3, slide: 'a' has two rows"),
        (
            HEADER + f"a\txenium\tlung\tmine/outs\tx\ty\t{URLS}\t\n",
            "bundle is mine/outs, and its rule writes resources/xenium/a/outs.",
        ),
        (HEADER + f"b\txenium\tlung\t{FIXED}\t{URLS}\t\n", "and its rule writes resources/xenium/b/outs"),
        (HEADER + f"a\txenium\tlung\t{FIXED}\thttps://h/b.zip\t\t\t\n", "a download needs both bundle_url and image_url. Fill in both"),
        (HEADER + f"a\txenium\tlung\t{FIXED}\t\thttps://h/i.tif\t\t\n", "a download needs both bundle_url and image_url"),
        (
            HEADER + f"a\txenium\tlung\t{FIXED.rsplit(chr(9), 1)[0]}\t\t{URLS}\t\n",
            "alignment is empty, so the file at",
        ),
        (HEADER + f"a\txenium\tlung\t{FIXED}\th/b.zip\thttps://h/i.tif\t\t\n", "line 2, bundle_url: "),
        (HEADER + "a\tsynthetic\tlung\tx\ty\t\t\t\t\t\n", "bundle is x, and its rule writes resources/synthetic/a/outs"),
    ],
)
def test_a_mistake_in_the_sheet_names_line_and_column(tmp_path, sheet, message):
    with pytest.raises(UserError) as refusal:
        read(tmp_path, sheet)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


SHORT = "slide\tkind\torgan\tbundle"
ROW = "a\ttrio\tlung\tx"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (f"{SHORT}\n{ROW}\n", "utf-8-sig"),
        (f"{SHORT}\r\n{ROW}\r\n", "utf-16"),
        (f"{SHORT}\r{ROW}\r", "utf-8"),
        (f"{SHORT}\n\n\t\t\t\n{ROW}\n \t\n\t\t\t\t\t\n\n", "utf-8"),
        (f"{SHORT}\t\n{ROW}\t\n", "utf-8"),
        (f"{SHORT}\tnote\n{ROW}/\tµm\n", "latin-1"),
        (f"{SHORT};note\n{ROW};\n".replace("\t", ";"), "utf-8"),
        (f"{SHORT}\n{ROW}".replace("\t", ","), "utf-8"),
        (f'{SHORT}\n"a"\t"trio"\t"lung"\t"x"\n', "utf-8"),
    ],
)
def test_a_sheet_of_a_spreadsheet_is_read(tmp_path, text, encoding, caplog):
    with caplog.at_level(logging.WARNING):
        slides = read(tmp_path, text.encode(encoding))
    assert [(slide.slide, slide.bundle) for slide in slides.values()] == [("a", "x")]
    assert ("read as Windows-1252" in caplog.text) == (encoding == "latin-1")


def test_a_download_has_the_paths_of_its_rule(tmp_path):
    slide = read(tmp_path, f"{HEADER}a\txenium\tlung\t{FIXED}\t{URLS}\t\n")["a"]
    assert (slide.own_files, slide.archived) == ({}, False)
    assert list(slide.fixed_paths.values()) == FIXED.split("\t")
    own = read(tmp_path, f"{SHORT}\timage\na\txenium\tlung\touts/\the.tif\n")["a"]
    assert own.own_files == {"bundle": "outs/experiment.xenium", "image": "he.tif"}
