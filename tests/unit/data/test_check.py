"""The screen before a run: every line of known files, and the verdict on a known problem."""

import inspect
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from nuclass_pipeline.config.expression import ClusteringConfig
from nuclass_pipeline.config.image import RegistrationConfig
from nuclass_pipeline.config.synthetic import SyntheticConfig
from nuclass_pipeline.data.check import check_bundle
from nuclass_pipeline.data.image.pictures import DOT_COLOR, KEY_PX, PANEL_PX
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.phantom import make_slide
from tests import ROOT

MPP = 0.2738


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    """A tissue phantom of 400 cells: arguments of the check."""
    folder = tmp_path_factory.mktemp("slide")
    files = {"manifest": folder / "outs/experiment.xenium", "image": folder / "he.ome.tif", "alignment": folder / "alignment.csv"}
    make_slide(organ="lung", seed=5, config=SyntheticConfig(cells=400), truth=folder / "truth.parquet", **files)
    return {"bundle": folder / "outs", "image": files["image"], "alignment": files["alignment"]}


def look(**arguments):
    findings = check_bundle(config=RegistrationConfig(), **arguments)
    by_name = {finding.what: (finding.found, finding.verdict) for finding in findings}
    assert len(by_name) == len(findings)
    return by_name


def problems(found):
    return {name for name, (_, verdict) in found.items() if verdict == "problem"}


def number(found, name, before):
    """Return the number in front of the word `before` in a line."""
    words = found[name][0].replace(",", "").replace(";", "").split()
    return float(words[words.index(before) - 1])


def moved(slide, folder, change):
    """Write the alignment after `change` of the Xenium frame, a (3, 3) matrix in px."""
    path = folder / "alignment.csv"
    np.savetxt(path, np.array(change) @ np.loadtxt(slide["alignment"], delimiter=","), delimiter=",")
    return slide | {"alignment": path}


def run(*arguments):
    command = [sys.executable, "-m", "nuclass_pipeline.cli", "check", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"})


def test_a_sound_slide_has_no_problem_and_the_numbers_of_its_tables(slide):
    found = look(**slide)
    cells = pd.read_parquet(slide["bundle"] / "cells.parquet")
    genes, controls = int(cells["transcript_counts"].sum()), int((cells["total_counts"] - cells["transcript_counts"]).sum())
    absent = int((cells["nucleus_count"] == 0).sum())
    assert not problems(found)
    assert found["release"] == ("xenium-3.0.0.15", "ok")
    assert found["cells"] == ("400", "ok")
    assert found["cells only in the matrix"] == ("0", "ok")
    assert found["genes"] == ("469", "ok")
    assert found["median transcripts per cell"] == (f"{cells['transcript_counts'].median():g}", "ok")
    assert found["controls"] == (f"{controls}, {100 * controls / (controls + genes):.2f} % of all counts", "ok")
    assert found["cells without nucleus"] == (f"{absent}, {absent / 4:.1f} %", "ok")
    assert absent > 0
    transcripts = pd.read_parquet(slide["bundle"] / "transcripts.parquet")
    good, assigned = transcripts["qv"] >= 20, transcripts["cell_id"] != "UNASSIGNED"
    over = transcripts.loc[good & assigned & transcripts["is_gene"], "overlaps_nucleus"].mean()
    assert found["transcripts"] == (f"{len(transcripts):,} in transcripts.parquet", "ok")
    assert found["transcripts in cells"] == (f"{100 * assigned.mean():.1f} %", "ok")
    assert found["transcripts with qv ≥ 20"] == (f"{100 * good.mean():.1f} %", "ok")
    assert found["transcripts over the nucleus"] == (f"{100 * over:.1f} % of {genes:,} counted", "ok")
    assert found["cells with other transcripts"] == ("0 of 400 differ from transcript_counts", "ok")
    assert found["optional files missing"] == ("metrics_summary.csv", "note")
    assert found["rotation"] == ("91.5°", "ok")
    assert found["reflected"] == ("no", "ok")
    assert found["axes"] == ("differ in scale by 0.0 %", "ok")
    assert found["cells inside the image"][0].startswith("100.0 %, image ")
    assert found["registration"][0].startswith("good: best shift ")
    assert number(found, "registration", "µm") < 1
    assert number(found, "registration", "shifted") > 3 * number(found, "correlation by chance", "with")


def test_without_an_image_there_is_no_line_on_it(slide):
    found = look(bundle=slide["bundle"])
    on_the_image = {"pixel size", "rotation", "reflected", "axes", "cells inside the image", "registration", "correlation by chance"}
    assert not on_the_image & set(found)
    assert len(found) == 14


def test_the_real_bundle_is_described(real_data):
    found = look(bundle=real_data / "xoa3.0_mouse_ileum_tiny", markers={"T_Cell": {"CD3E", "CD3D"}})
    assert found["release"] == ("xenium-3.0.0.15", "ok")
    assert found["cells"] == ("23", "ok")
    assert found["genes"] == ("5,006", "ok")
    assert found["median transcripts per cell"] == ("9", "note")
    assert found["controls"] == ("1, 0.23 % of all counts", "ok")
    assert found["cells without nucleus"] == ("0, 0.0 %", "ok")
    assert found["optional files missing"] == ("none", "ok")
    assert found["transcripts"] == ("1,985 in transcripts.parquet", "ok")
    assert found["transcripts in cells"] == ("40.5 %", "ok")
    assert found["transcripts with qv ≥ 20"] == ("27.2 %", "ok")
    assert found["transcripts over the nucleus"] == ("26.3 % of 433 counted", "ok")
    assert found["cells with other transcripts"] == ("0 of 23 differ from transcript_counts", "ok")
    assert found["types without marker"] == ("T_Cell", "problem")


def test_the_median_is_compared_with_the_transcripts_that_clustering_needs(slide):
    least = inspect.signature(check_bundle).parameters["min_transcripts"].default
    assert least == ClusteringConfig().min_transcripts
    median = pd.read_parquet(slide["bundle"] / "cells.parquet")["transcript_counts"].median()
    for limit, verdict in ((median, "ok"), (median + 1, "note")):
        assert look(bundle=slide["bundle"], min_transcripts=limit)["median transcripts per cell"] == (f"{median:g}", verdict)


def test_an_archive_is_to_be_unpacked_first(tmp_path):
    (tmp_path / "outs.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"outs\.zip: bundle: is a file, not a folder\. Unpack it"):
        check_bundle(bundle=tmp_path / "outs.zip", config=RegistrationConfig())


def test_markers_are_counted_by_type(slide):
    found = look(bundle=slide["bundle"], markers={"T_Cell": {"CD3E", "CD3D", "NOGENE"}, "Endocrine": {"NOGENE"}})
    assert found["markers on the panel"] == ("T_Cell 2", "ok")
    assert found["types without marker"] == ("Endocrine", "note")


@pytest.mark.parametrize(("x_um", "y_um"), [(15, 0), (0, -15), (9, 12)])
def test_a_shift_of_15_um_is_a_problem_with_its_number(slide, tmp_path, x_um, y_um):
    found = look(**moved(slide, tmp_path, [[1, 0, x_um / 0.2125], [0, 1, y_um / 0.2125], [0, 0, 1]]))
    assert problems(found) == {"registration"}
    assert found["registration"][0].startswith("shifted: ")
    assert number(found, "registration", "µm") == pytest.approx(15, abs=1)


def test_a_shift_within_the_limit_is_not_a_problem(slide, tmp_path):
    found = look(**moved(slide, tmp_path, [[1, 0, 3 / 0.2125], [0, 1, 0], [0, 0, 1]]))
    assert not problems(found)
    assert number(found, "registration", "µm") == pytest.approx(3, abs=1)


def test_the_warnings_of_the_workflow_are_noted(slide, tmp_path):
    pixels = tifffile.imread(slide["image"])
    rows = len(pixels) // 3
    pixels[:rows] = pixels[-rows:]
    tifffile.imwrite(tmp_path / "he.tif", pixels, photometric="rgb", tile=(256, 256))
    assert "registration warnings" not in look(**slide)
    found = look(**slide | {"image": tmp_path / "he.tif"})
    share, verdict = found["cells that match nuclei"]
    assert float(share.split()[0]) == pytest.approx(80, abs=4)
    assert verdict == "note"
    assert found["registration warnings"] == (
        f"only {share} of the cells match nuclei: part of the H&E may be missing or of another place",
        "note",
    )


@pytest.mark.parametrize(("x_sign", "y_sign"), [(-1, 1), (1, -1), (-1, -1)])
def test_a_mirrored_or_turned_alignment_correlates_by_chance_alone(slide, tmp_path, x_sign, y_sign):
    cells = pd.read_parquet(slide["bundle"] / "cells.parquet")
    x, y = ((cells[name].min() + cells[name].max()) / 0.2125 for name in ("x_centroid", "y_centroid"))
    found = look(**moved(slide, tmp_path, [[x_sign, 0, x * (x_sign < 0)], [0, y_sign, y * (y_sign < 0)], [0, 0, 1]]))
    assert found["reflected"] == (("no", "ok") if x_sign == y_sign else ("yes", "note"))
    assert found["cells inside the image"][1] == "ok"
    assert "correlation by chance" in problems(found)


def test_an_alignment_of_another_slide_leaves_no_cell_to_compare(slide, tmp_path):
    found = look(**moved(slide, tmp_path, [[1, 0, 1e5], [0, 1, 0], [0, 0, 1]]), overlay=tmp_path / "check.png")
    assert found["cells inside the image"][0].startswith("0.0 %")
    assert problems(found) == {"cells inside the image", "registration"}


def test_axes_of_unequal_scale_are_noted(slide, tmp_path):
    found = look(**moved(slide, tmp_path, [[1.1, 0, 0], [0, 1, 0], [0, 0, 1]]))
    assert found["axes"] == ("differ in scale by 10.0 %", "note")


@pytest.mark.parametrize(("claimed", "verdict"), [(None, "note"), (MPP, "ok"), (1.04 * MPP, "ok"), (1.06 * MPP, "note")])
def test_the_pixel_size_in_the_file_is_only_compared(slide, tmp_path, claimed, verdict):
    image = slide["image"]
    if claimed:
        image = tmp_path / "he.ome.tif"
        metadata = {"axes": "YXS", "PhysicalSizeX": claimed, "PhysicalSizeXUnit": "µm"}
        tifffile.imwrite(image, tifffile.imread(slide["image"]), photometric="rgb", tile=(512, 512), metadata=metadata)
    found = look(**slide | {"image": image})
    assert found["pixel size"] == (f"0.2738 µm by the alignment, which is used; the file claims {claimed or 0.2125:.4f}", verdict)
    assert not problems(found)


def test_the_overlay_marks_the_cells_and_is_the_same_twice(slide, tmp_path):
    for name in ("one.png", "two.png"):
        look(**slide, overlay=tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    pixels = np.asarray(Image.open(tmp_path / "one.png"))
    assert pixels.shape == (PANEL_PX + KEY_PX, 2 * PANEL_PX, 3)
    marked = (pixels == DOT_COLOR).all(axis=2)
    height, width = tifffile.TiffFile(slide["image"]).series[0].shape[:2]
    scale = PANEL_PX / max(height, width)
    matrix = np.linalg.inv(np.loadtxt(slide["alignment"], delimiter=","))
    xy_um = pd.read_parquet(slide["bundle"] / "cells.parquet")[["x_centroid", "y_centroid"]].to_numpy()
    x, y = (scale * ((xy_um / 0.2125) @ matrix[:2, :2].T + matrix[:2, 2])).T.astype(int)
    hidden = ~marked[y, x]
    assert hidden.mean() < 0.05, "only the black frame of the right panel may cover a dot"
    assert not marked[:, round(width * scale) + 2 : PANEL_PX].any()
    assert marked[:, PANEL_PX:].sum() > 500


def test_a_bundle_that_was_cut_is_noted(slide, tmp_path):
    bundle = shutil.copytree(slide["bundle"], tmp_path / "outs")
    cells = pd.read_parquet(bundle / "cells.parquet").iloc[:-2]
    cells.drop(columns="nucleus_area").to_parquet(bundle / "cells.parquet")
    manifest = json.loads((bundle / "experiment.xenium").read_text())
    del manifest["analysis_sw_version"]
    (bundle / "experiment.xenium").write_text(json.dumps(manifest))
    found = look(bundle=bundle)
    assert found["cells only in the matrix"] == ("2", "note")
    assert found["cells"] == ("398, 400 by the manifest", "note")
    assert found["release"] == ("unknown", "note")
    assert found["cells without nucleus"][1] == "note"


def test_files_of_two_runs_are_refused(slide, tmp_path):
    bundle = shutil.copytree(slide["bundle"], tmp_path / "outs")
    cells = pd.read_parquet(bundle / "cells.parquet")
    cells.assign(cell_id=["strange-1", *cells["cell_id"][1:]]).to_parquet(bundle / "cells.parquet")
    with pytest.raises(UserError, match="cell strange-1 of the cell table is not in it"):
        look(bundle=bundle)


@pytest.mark.parametrize("name", ["alignment", "overlay"])
def test_what_needs_an_image_is_refused_without_one(slide, tmp_path, name):
    with pytest.raises(UserError, match="Add --image"):
        look(bundle=slide["bundle"], **{name: tmp_path / "file"})


def test_the_command_prints_the_screen_and_ends_with_0_or_1(slide, tmp_path):
    options = ["--image", slide["image"], "--organ", "lung"]
    sound = run(slide["bundle"], *options, "--alignment", slide["alignment"], "--overlay", tmp_path / "check.png")
    assert sound.returncode == 0, sound.stderr
    assert (tmp_path / "check.png").is_file()
    markers = next(line for line in sound.stdout.splitlines() if "markers on the panel" in line)
    assert "B_Cell 16, " in markers
    wrong = moved(slide, tmp_path, [[1, 0, 15 / 0.2125], [0, 1, 0], [0, 0, 1]])
    shifted = run(slide["bundle"], *options, "--alignment", wrong["alignment"])
    assert shifted.returncode == 1
    assert [line.split()[0] for line in shifted.stdout.splitlines() if line.rstrip().endswith("problem")] == ["registration"]


def test_a_broken_file_is_one_line(slide, tmp_path):
    (tmp_path / "he.tif").write_text("no image")
    done = run(slide["bundle"], "--image", tmp_path / "he.tif")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path / 'he.tif'}: file: not a readable TIFF")
    assert len(done.stderr.splitlines()) == 1
