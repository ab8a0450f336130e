import re

import pytest

from nuclass_pipeline.io import read_rows
from nuclass_pipeline.report.warnings import RUN, explain_warning, group_warnings
from tests import ROOT
from tests.unit.report.study import write_warnings

PACKAGE = ROOT / "src/nuclass_pipeline"
ROWS = [row for _, row in read_rows(PACKAGE / "report/warnings.tsv").rows]
SOURCE = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py") if path.parent.name != "report")
# Stage → pattern of the row that explains a message → messages. What stands in brackets is in the code: where it is worded otherwise,
# warnings.tsv may need another pattern.
MESSAGES = {
    "cells": {
        "gene names look like": ["[the gene names look like] those of a mouse, such as Actb"],
        "are dates": ["2 [gene names are dates], such as 1-Mar: a spreadsheet has changed them"],
        "occur twice": ["1 [gene names occur twice and are summed]: CD3D"],
        "are named by Ensembl": ["9 [genes are named by Ensembl ids]; their symbols are those of the bundle"],
        "matrix are not in the cell table": ["4 of 90 cells of the [matrix are not in the cell table and are left out]"],
        "no outline": ["4 of 90 cells [have no outline in] cell_boundaries.parquet"],
        "lie[s]? .*from its|lies beyond": [
            "(3, 5) of cell a lies 31 [µm from its] outline in cell_boundaries.parquet; 1 of 90 cells do",
            "(3, 5) of cell a [lies beyond] morphology.ome.tif, 3 × 4 µm; 1 of 90 cells do",
        ],
        "apart|lie at the place|from all others": [
            "x_centroid, y_centroid: [neighbours lie] 90 µm apart, 9.1 cell diameters: pixels, or a sample?",
            "x_centroid, y_centroid: 2 [cells lie at the place of another], such as a",
            "x_centroid, y_centroid: cell a at (3, 5) lies 900 [µm from all others]; 1 of 90 cells do",
        ],
        "differs? from|fewer in|more gene transcripts": [
            "transcript_counts [differs from the genes of] matrix.h5 in 1 of 90 cells, such as a: 3, 4",
            "control_counts [differs from the controls of] matrix.h5 in 9 of 90 cells",
            "transcripts.parquet: [more gene transcripts than transcript_counts of] cells.parquet in 1 of 90 cells, fewer in 0 of 90",
        ],
        "pixel size is stated": ["[no pixel size is stated, so that of the run], 0.25 µm, is assumed"],
        "detail than": ["[the patches have a pixel size of] 0.5 µm and show less detail than 0.25 µm, that of the run"],
        "the classes are those of": ["no record has class_id, so [the classes are those of] label"],
        "no known organ|sheet is other": [
            "the tissue 'ffpe' of 9 cells [names no known organ; ]lung is used",
            "[the tissue of all cells is of the] lung, and the organ of the slide sheet is other",
        ],
        "could not be cut|without annotation": [
            "2 of 9 patches of patches_224x224.h5 [have no id, because they could not be cut, and are left out]",
            "2 of 9 patches of patches_224x224.h5 [are of cells without annotation, and are left out]",
        ],
        ".": ["[pixel_size is] 0.5 µm in experiment.xenium; Xenium writes 0.2125"],
    },
    "registration": {
        "exchanged": ["nuclei absorb blue (0.31) more than red (0.22), [so red and blue look exchanged]: export the H&E as RGB"],
        "lie on the H&E": ["only 40 [% of the cells lie on the H&E], at least 50 % are needed"],
        "turn or shear": [
            "only 40 cells lie in tissue with nuclei in the same places, and at least 200 [are needed to measure a turn or shear]",
        ],
        "correlation|match nuclei|nuclei in the same places": [
            "correlation 0.05 [with the cells, ]0.04 by chance, at least 0.1 and twice that by chance are needed",
            "only 80.1 [% of the cells match nuclei]: part of the H&E may be missing or of another place",
            "only 40 [% of the cells lie on tissue with nuclei in the same places], at least 50 % are needed",
        ],
        "turned|strain": ["[the cells fit the H&E best turned by] 0.4° and strained by 0.3 %; align it again if it matters at its edges"],
        "shifted|off the nuclei": [
            "[by haematoxylin the cells are shifted by] (8.0, 0.1) µm, by the nuclei found on it (0.2, 0.1)",
            "the H&E lies 8.1 [µm off the nuclei] in 2 of 4 regions",
        ],
    },
    "image": {
        "are padded": ["47 % of the context windows of 256 [µm are padded]: 20 % of the area of all lies outside the image of the cell"],
        "points lie": [
            "3 of 9 [points lie outside their image and are left out], such as a",
            "3 of 9 [points lie at the place of an earlier one and are left out], such as a",
        ],
        "are Unresolved": ["3 cells of '9' [are Unresolved: ]not in the label map"],
        "tissue covers": ["[tissue covers] 0.10 % of the slide: look at tissue.png"],
        "(no|without) colou?r|grey": ["[the tissue has no color: the H&E looks converted to grey]"],
        "not stained|absorbs": ["[the tissue absorbs green less than red or blue: it is not stained as an H&E is]"],
        "exchanged": ["[the tissue varies in blue where an H&E varies in red: red and blue may be exchanged (BGR)]"],
        "filled with": ["12.0 [% of the image is filled with the color] #000000 and read as glass"],
        "not used|pixel size": ["[its pixel size is ]-1, not a positive number, and is not used"],
        "upright": ["[it was turned upright, as its EXIF orientation says]"],
        ".": ["[its pixels are ]0.25 × 0.3 µm by the file, and are resampled to square ones"],
    },
    "nuclei": {
        "dropped": ["9 of 90 [objects were dropped]: 9 dark"],
        "not nuclei": ["60 [% of the objects are not nuclei], and more may be: look at nuclei.png"],
        "per mm": ["9 [nuclei per mm² of tissue are unlikely]: check the pixel size, and look at nuclei.png"],
    },
    "labels": {
        "have a marker on the panel": ["3 of 14 cell types of the lung [have a marker on the panel]; the gene names look like those"],
        "are Unresolved": ["210 cells of 'CAF' [are Unresolved: ]not in the label map"],
        "name that is not known": ["2 of 20 [labelled cells have a name that is not known: ]'odd one' (2); fill in the column label"],
        "are not on the slide": ["mine.csv: 2 of 3 [cells are not on the slide, such as ]'elsewhere'; they are left out"],
        "no provided label": ["3 of 9 [cells have no provided label that is a class]: not in the label map"],
    },
    "split": {
        "no image": ["3 of 9 [cells have no image and are in no subset]: outside the H&E 3"],
        "cells have a label and an image": ["only 9 [cells have a label and an image]; scores of fewer than 500 are uncertain"],
        "buffers as wide": ["[buffers as wide as a context window ](256 µm) leave too few labelled cells, so they are 200 µm wide"],
        "share pixels": ["9 of 90 val cells (10.0 %)[ share pixels of their context with training windows]"],
        "fewer than": ["2 of 9 [classes have fewer than] 20 cells in a subset. T_Cell: train 9, gate 1, val 0, buffer 1"],
    },
    "predictions": {
        "are predicted as": ["gate, seed 0: 99 % of 900 [cells are predicted as] T_Cell; 12 % of its labels are"],
        "organ as unknown": ["gate, seed 0: no training slide is of colon, [so the models take its organ as unknown]"],
    },
    "calibration_metrics": {
        "one slide": ["gate, seed 0: [the calibration cells are of one slide, so nothing shows whether the calibration holds] on another"],
        "cells calibrate it": ["gate, seed 0: only 90 [cells calibrate it, and] 200 are few"],
        "bound": ["gate, seed 0: the temperature 0.1 [is at its bound, because nearly all calibration cells are right], or wrong"],
    },
    "heldout_metrics": {
        "classes that the model lacks": ["3 of 9 labelled cells are [of classes that the model lacks] (Monocyte 3): errors"],
        "one class": ["[its cells are of one class of the model], so it has no score with the closed label set"],
        "raised the ECE": ["gate, seed 0: [calibration raised the ECE of] a from 0.100 to 0.200"],
    },
    "variant_metrics": {
        "subsets may share pixels": ["close: split.buffer_um is 0 µm, less than a context window (256 µm)[, so subsets may share pixels]"],
        "not compared with the base": ["strict: labelled cells of a[ that are not compared with the base]: 3 have another label"],
    },
    "manifest": {"no commit": ["The code had changes [that no commit holds], so the commit in the manifest is not the code"]},
}
LISTED = [(stage, pattern, text) for stage, kinds in MESSAGES.items() for pattern, texts in kinds.items() for text in texts]


@pytest.mark.parametrize(("stage", "pattern", "text"), LISTED)
def test_a_kind_of_warning_has_its_own_explanation(stage, pattern, text):
    words = re.search(r"\[(.*)\]", text)[1]
    assert words in SOURCE, "the stage words its warning otherwise"
    (row,) = [row for row in ROWS if (row["stage"], row["pattern"]) == (stage, pattern)]
    assert explain_warning(stage, re.sub(r"[\[\]]", "", text)) == (row["meaning"], row["remedy"])


def test_every_row_of_a_kind_explains_a_warning_that_occurs():
    rows = {(row["stage"], row["pattern"]) for row in ROWS if row["pattern"] != "."}
    assert rows == {(stage, pattern) for stage, pattern, _ in LISTED if pattern != "."}


def test_every_result_with_warnings_has_a_general_explanation_and_no_row_is_idle():
    collected = set(re.findall(r"^        (\w+)=", (ROOT / "workflow/rules/warnings.smk").read_text(), re.MULTILINE))
    # Those of variants have the names of the same files of slides.
    stages = collected - {"warnings", "mem_mb", "runtime", "code", "variant_labels", "variant_split"}
    assert {row["stage"] for row in ROWS if row["pattern"] == "."} == stages
    assert {row["stage"] for row in ROWS} == stages
    for number, row in enumerate(ROWS):
        assert all(row.values())
        assert row["meaning"].endswith(".")
        assert row["remedy"].endswith(".")
        before = {(other["stage"], other["pattern"]) for other in ROWS[:number]}
        assert not before & {(row["stage"], "."), (row["stage"], row["pattern"])}


def test_a_warning_of_an_unknown_stage_has_no_explanation():
    assert explain_warning("elsewhere", "odd") == ("", "")


def test_groups_follow_the_slides_and_join_equal_explanations(tmp_path):
    rows = [("b", "split", "6 cells have no image"), ("", "manifest", "odd"), ("b", "split", "7 cells have no image")]
    rows += [("a", "split", "x: y"), ("", "heldout_metrics", "a: odd"), ("", "heldout_metrics", "gate, seed 0: odd")]
    rows += [("gone", "split", "odd"), ("", "heldout_metrics", "concat: c: odd")]
    groups = group_warnings(write_warnings(tmp_path / "w.parquet", rows), ["a", "b", "c"])
    assert [(group["slide"], group["count"]) for group in groups] == [(RUN, 2), ("a", 2), ("b", 2), ("c", 1), ("gone", 1)]
    assert [kind["texts"] for kind in groups[2]["kinds"]] == [["split: 6 cells have no image", "split: 7 cells have no image"]]
    assert [kind["texts"] for kind in groups[1]["kinds"]] == [["split: x: y"], ["heldout_metrics: odd"]]
    assert [kind["texts"] for kind in groups[3]["kinds"]] == [["heldout_metrics: concat: odd"]]
