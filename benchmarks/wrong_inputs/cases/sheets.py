"""Slide sheets, through `snakemake -n`."""
# ruff: noqa: E501 -- a case is a row of a table.

from pathlib import Path

from benchmarks.wrong_inputs.case import Case, Step, both, fifo, replace, write
from benchmarks.wrong_inputs.cases.runs import DRY, edited
from benchmarks.wrong_inputs.phantoms import SHEET

FILE = "project/config/slides.tsv"
TRIO = "slide\tkind\torgan\tbundle\nmine-1\ttrio\tlung\tdata/1\nmine-2\ttrio\tlung\tdata/2\n"


def sheet(old: str, new: str) -> Step:
    """Return the step that changes the sheet."""
    return replace(FILE, old, new)


def with_urls(bundle: str, image: str = "https://cf.10xgenomics.com/he.ome.tif") -> Step:
    """Return the step that makes the first slide a download."""
    head = "slide\tkind\torgan\tbundle\timage\talignment\tbundle_url\timage_url\n"
    fixed = "resources/xenium/mine-1"
    rows = f"mine-1\txenium\tlung\t{fixed}/outs\t{fixed}/mine-1_he_image.ome.tif\t\t{bundle}\t{image}\n"
    return write(FILE, head + rows + SHEET.splitlines()[2] + "\t\t\n")


def _case(name: str, wrong: str, make: Step, says: str = "slides.tsv", **named: object) -> Case:
    return Case("sheets", name, wrong, make, DRY, says=says, needs=("project",), **named)  # type: ignore[arg-type]


CASES = [
    _case("semicolons", "Excel's semicolon export", write(FILE, SHEET.replace("\t", ";")), "slides.tsv", expects="refused or accepted"),
    _case("commas", "saved as CSV", write(FILE, SHEET.replace("\t", ",")), "slides.tsv", expects="refused or accepted"),
    _case("spaces", "blanks instead of tabs", write(FILE, SHEET.replace("\t", "    "))),
    _case("windows ends", "CRLF", write(FILE, SHEET.replace("\n", "\r\n")), "", expects="accepted"),
    _case("old mac ends", "CR alone", write(FILE, SHEET.replace("\n", "\r")), "slides.tsv", expects="refused or accepted"),
    _case("utf-16", "Excel's Unicode text", write(FILE, SHEET, "utf-16"), "", expects="accepted"),
    _case("bom", "UTF-8 with a byte order mark", write(FILE, "\ufeff" + SHEET), "", expects="accepted"),
    _case("xlsx", "an Excel workbook of this name", write(FILE, b"PK\x03\x04" + b"\0" * 500)),
    _case("no header", "first line forgotten", write(FILE, SHEET.partition("\n")[2])),
    _case("header in capitals", "Slide, Kind", sheet("slide\tkind", "Slide\tKind"), "slides.tsv", expects="refused or accepted"),
    _case("unknown column", "aligment for alignment", sheet("\talignment", "\taligment"), "aligment"),
    _case("column twice", "image twice", sheet("image\talignment", "image\timage"), "image"),
    _case("short row", "a tab missing", sheet("mine-1\txenium\tlung\t", "mine-1\txenium\tlung "), "mine-1|line 2"),
    _case("long row", "a tab too many", sheet("data/1/alignment.csv", "data/1/alignment.csv\textra"), "line 2|mine-1"),
    _case("slide twice", "the same id in two rows", sheet("mine-2\t", "mine-1\t"), "mine-1"),
    _case("id in capitals", "Mine-1", both(sheet("mine-1\t", "Mine-1\t"), edited("[mine-1]", "[Mine-1]")), "Mine-1|slide"),
    _case("id with dots", "../../x", both(sheet("mine-1\t", "../../x\t"), edited("[mine-1]", "[../../x]")), "slide"),
    _case("id with braces", "{x}", both(sheet("mine-1\t", "{x}\t"), edited("[mine-1]", "['{x}']")), "slide"),
    _case("id with regex", ".*", both(sheet("mine-1\t", ".*\t"), edited("[mine-1]", "['.*']")), "slide"),
    _case("kind misspelt", "xenum", sheet("xenium\tlung\tdata/1", "xenum\tlung\tdata/1"), "kind.*xenium"),
    _case("organ misspelt", "lungs", sheet("lung\tdata/1", "lungs\tdata/1"), "organ.*lung"),
    _case("organ in capitals", "Lung", sheet("lung\tdata/1", "Lung\tdata/1"), "organ", expects="refused or accepted"),
    _case("organ of the mouse", "brain", sheet("lung\tdata/1", "brain\tdata/1"), "organ"),
    _case("path with braces", "data/{1}", sheet("data/1/outs", "data/{1}/outs"), "slides.tsv"),
    _case("path with slash", "outs/ with a slash at the end", sheet("data/1/outs", "data/1/outs/"), "", expects="accepted"),
    _case("path with dot", "./data/1/outs", sheet("data/1/outs", "./data/1/outs"), "", expects="accepted"),
    _case("path of the manifest", "experiment.xenium itself", sheet("data/1/outs", "data/1/outs/experiment.xenium"), "bundle",
          expects="refused or accepted"),
    _case("path with backslashes", "data\\1\\outs", sheet("data/1/outs", "data\\1\\outs"), "bundle"),
    _case("path quoted", '"data/1/outs"', sheet("data/1/outs", '"data/1/outs"'), "", expects="accepted or refused"),
    _case("path with tilde", "~/data", sheet("data/1/outs", "~/data/outs"), "bundle"),
    _case("path missing", "data/3", sheet("data/1/outs", "data/3/outs"), "data/3/outs"),
    _case("bundle a level up", "the folder above outs", sheet("data/1/outs", "data/1"), "data/1"),
    _case("image is a folder", "image: data/1", sheet("data/1/he.ome.tif", "data/1"), "image"),
    _case("image and alignment exchanged", "columns exchanged",
          sheet("data/1/he.ome.tif\tdata/1/alignment.csv", "data/1/alignment.csv\tdata/1/he.ome.tif"), "slides.tsv|alignment.csv",
          expects="refused"),
    _case("alignment missing", "no such csv", sheet("data/1/alignment.csv", "data/1/align.csv"), "align.csv"),
    _case("image empty", "no H&E", sheet("data/1/he.ome.tif", ""), "image"),
    _case("mpp on xenium", "mpp given for kind xenium",
          write(FILE, SHEET.replace("alignment\n", "alignment\tmpp\n").replace(".csv\n", ".csv\t0.25\n")), "mpp"),
    _case("mpp with unit", "0.25 um", write(FILE, "slide\tkind\torgan\timage\tmpp\nmine-1\timage\tlung\tdata/1/he.ome.tif\t0.25 um\n"), "mpp"),
    _case("mpp zero", "0", write(FILE, "slide\tkind\torgan\timage\tmpp\nmine-1\timage\tlung\tdata/1/he.ome.tif\t0\n"), "mpp"),
    _case("image slide trained", "kind image under train",
          write(FILE, "slide\tkind\torgan\timage\tmpp\nmine-1\timage\tlung\tdata/1/he.ome.tif\t0.25\nmine-2\timage\tlung\tdata/2/he.ome.tif\t0.25\n"),
          "mine-[12]"),
    _case("trio without files", "bundle of no patches", write(FILE, TRIO), "annotations.json|patches"),
    _case("url http ftp", "ftp://", with_urls("ftp://example.org/outs.zip"), "bundle_url"),
    _case("url file", "file:///etc/passwd", with_urls("file:///etc/passwd"), "bundle_url"),
    _case("url without scheme", "cf.10xgenomics.com/x.zip", with_urls("cf.10xgenomics.com/x.zip"), "bundle_url"),
    _case("url with newline", "control character", with_urls("https://cf.10xgenomics.com/a\x0bb.zip"), "slides.tsv"),
    _case("url of image empty", "bundle_url alone", with_urls("https://cf.10xgenomics.com/outs.zip", ""), "image_url|image"),
    _case("formula id", "slide =1+1", both(sheet("mine-1\t", "=1+1\t"), edited("[mine-1]", "['=1+1']")), "slide"),
    _case("fifo", "a FIFO as slide sheet", fifo(FILE), "slides.tsv", cpu_s=10),
    _case("large", "300 MB of rows", lambda: Path(FILE).write_text(SHEET + "x\n" * (15 * 10**7)), "slides.tsv", cpu_s=10),
    _case("long field", "a path of 200,000 letters", sheet("data/1/outs", "d" * 200_000), "slides.tsv|bundle", cpu_s=10),
    _case("empty", "0 bytes", write(FILE, "")),
    _case("header only", "no rows", write(FILE, SHEET.partition("\n")[0] + "\n"), "mine-1|slides.tsv"),
    _case("nul", "zeros after a crash", write(FILE, SHEET.encode() + b"\0" * 300)),
    _case("comment", "# first line", write(FILE, "# my slides\n" + SHEET), "slides.tsv", expects="refused or accepted"),
    _case("unused row broken", "a row of a slide that no study names is wrong", sheet("mine-2\t", "odd-1\txenium\tlung\t\t\t\nmine-2\t"),
          "odd-1|line 3", expects="refused or accepted"),
]  # fmt: skip
