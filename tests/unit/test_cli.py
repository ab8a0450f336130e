"""The commands do what their stages do, and a mistake is one line."""

import json
import subprocess
import sys

import pandas as pd
import pytest

from tests import ROOT


def nuclass(*arguments, cwd=ROOT):
    command = [sys.executable, "-m", "nuclass_pipeline.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture
def files(tmp_path):
    """Forty cells of two kinds that could not differ more, with published labels."""
    kinds = {"T": ["CD3D", "CD3E", "CD3G", "TRAC", "IL7R"], "Fib": ["LUM", "DPT", "PDGFRA", "CCDC80", "FBLN1"]}
    genes = [gene for listed in kinds.values() for gene in listed]
    rows = [[8 if gene in kinds[kind] else 0 for gene in genes] for kind in kinds for _ in range(20)]
    ids = [f"c{i}" for i in range(40)]
    pd.DataFrame(rows, pd.Index(ids, name="cell_id"), genes).to_csv(tmp_path / "counts.csv")
    pd.DataFrame({"cell_id": ids, "label": ["T"] * 20 + ["Fib"] * 20}).to_csv(tmp_path / "cells.csv", index=False)
    (tmp_path / "lineages.tsv").write_text("label\tlineage\nT\tLymphocytes\nFib\tStromal\n")
    return [
        f"--{name}={tmp_path / file}" for name, file in (("counts", "counts.csv"), ("cells", "cells.csv"), ("lineages", "lineages.tsv"))
    ]


def test_score_labels_prints_and_writes(files, tmp_path):
    done = nuclass("score-labels", *files, "--organ=breast", f"--json={tmp_path / 'out.json'}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "out.json").read_text())
    assert scores["n_cells"] == 40
    assert scores["accuracy"] == scores["macro_f1"] == scores["f1"]["Stromal"] == 1
    assert {"coverage", "selective_accuracy"} <= scores.keys()
    assert "macro_f1" in done.stdout


def test_a_mistake_is_one_line(files, tmp_path):
    done = nuclass("score-labels", *files, "--organ=toe", f"--json={tmp_path / 'out.json'}")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out.json").exists()


def test_build_markers_adds_a_panel(tmp_path):
    (tmp_path / "panel.csv").write_text("Genes,Annotation\nNEWGENE,T cells\n")
    done = nuclass("build-markers", "--organ=breast", f"--output={tmp_path / 'out.tsv'}", f"--panel={tmp_path / 'panel.csv'}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    own, joined = (pd.read_csv(path, sep="\t", keep_default_na=False) for path in (ROOT / "config/markers.tsv", tmp_path / "out.tsv"))
    new = joined[joined["gene"] == "NEWGENE"]
    assert new[["class", "weight", "organs"]].to_numpy().tolist() == [["T_Cell", 3, "breast"]]
    assert len(joined) == len(own) + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("build-markers", "--organ=nope", "--output=out.tsv"), "error: nuclass: --organ: 'nope' is not a known organ. Use one of breast,"),
        (("check", "outs", "--organ=nope"), "error: nuclass: --organ: 'nope' is not a known organ. Use one of breast,"),
        # Not about the marker table, which is found from any folder.
        (("check", "outs", "--organ=lung"), "error: outs/experiment.xenium: file: it does not exist."),
        (("check", "outs", "--organ="), "error: nuclass: --organ: '' is not a known organ."),
        (("docs", "--root=nope"), "error: nope/config: file: it does not exist. Name the folder of the project, which holds"),
        (("summary", "nope"), "error: nope: folder: it holds no run. Name the folder of a run, such as results/demo."),
        (("summary", "no[/b]dir"), "error: no[/b]dir: folder: it holds no run."),
        (("summary", "run"), "error: run/metrics/base/heldout.parquet: file: it does not exist. Run the workflow."),
    ],
)
def test_an_unknown_organ_or_folder_is_one_line(tmp_path, arguments, message):
    (tmp_path / "run/slides").mkdir(parents=True)
    done = nuclass(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
