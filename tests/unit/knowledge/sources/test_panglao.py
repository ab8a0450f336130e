"""PanglaoDB: canonical human markers of the organ's tissues, each with all its cell types."""

import gzip

import numpy as np
import pytest

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.knowledge.sources.files import read_download
from nuclass_pipeline.knowledge.sources.panglao import PANGLAO, canonical_human, panglao_weight, read_panglao

HEADER = "species\tofficial gene symbol\tcell type\tnicknames\tubiquitousness index\tcanonical marker\torgan"
HEADER += "\tsensitivity_human\tspecificity_human\n"
ROWS = [
    "Mm Hs\tGENE1\tHepatocytes\tGENE9\t0.1\t1\tLiver\t0.5\t0.2",
    "Hs\tGENE2\tT cells\t\t0\t1.0\tImmune system\t1\t0",
    "Hs\tGENE2\tNuocytes\t\t0\t1\tImmune system\t0.5\t0",
    "Hs\tGENE2\tMacrophages\t\t0\t1\tImmune system\tNA\tNA",
    "Hs\tGENE3\tCajal-Retzius cells\t\t0\t1\tBrain\t1\t0",
    "Hs\tGENE3\tSertoli cells\t\t0\t1\tReproductive\t1\t0",
    "Hs\tGENE3\tPodocytes\t\t0\t1\tKidney\t1\t0",
    "Mm\tGENE4\tT cells\t\t0\t1\tImmune system\t1\t0",
    "Hs\tGENE5\tT cells\t\t0\t\tImmune system\t1\t0",
    "\tGENE6\tT cells\t\t0\t1\tImmune system\t1\t0",
]


def _write(tmp_path, *rows, header=HEADER, name="panglao.tsv.gz"):
    path = tmp_path / name
    path.write_bytes(gzip.compress((header + "\n".join(rows) + "\n").encode()))
    return path


def test_rows_are_kept_by_species_canonical_mark_and_tissue(tmp_path):
    table = read_panglao(_write(tmp_path, *ROWS), "liver")
    found = list(table[["gene", "name", "type"]].itertuples(index=False, name=None))
    assert found == [
        ("GENE1", "Hepatocytes", "Hepatocyte"),
        ("GENE2", "T cells", "T_Cell"),
        ("GENE2", "Nuocytes", None),
        ("GENE2", "Macrophages", "Macrophage"),
    ]
    assert table["weight"].tolist() == pytest.approx([1 + 2 * 0.5 * 0.8 * 0.9, 3, 2, 1])
    assert table["positive"].all()
    assert set(table["organs"]) == {"liver"}
    assert set(table["release"].str.match(r"panglao\.tsv\.gz [0-9a-f]{12}$")) == {True}


def test_another_organ_has_other_tissues(tmp_path):
    assert "Epithelial_Renal" in set(read_panglao(_write(tmp_path, *ROWS), "kidney")["type"])


def test_nicknames_are_not_genes(tmp_path):
    assert "GENE9" not in set(read_panglao(_write(tmp_path, *ROWS), "liver")["gene"])


def test_weights_grow_with_sensitivity_and_fall_with_the_share_of_other_cells():
    some = np.array([0.0, 0.3, 1.0])
    assert panglao_weight(some, np.zeros(3), np.zeros(3)).tolist() == pytest.approx([1, 1.6, 3])
    assert panglao_weight(np.ones(3), some, np.zeros(3)).tolist() == pytest.approx([3, 2.4, 1])
    assert panglao_weight(np.ones(3), np.zeros(3), some).tolist() == pytest.approx([3, 2.4, 1])
    assert panglao_weight(np.array([np.nan]), np.array([0.5]), np.array([0.5])).tolist() == [1]


@pytest.mark.parametrize(
    ("header", "rows", "problem"),
    [
        (HEADER.replace("organ", "tissue"), ROWS, "organ: the column is missing; found species, .*panglaodb.se.*licence: none stated"),
        (HEADER, ROWS[4:6], "no human marker of a tissue of liver is left"),
        (HEADER, [ROWS[0].replace("0.5", "5")], "sensitivity_human, line 2: '5' is not a number from 0 to 1"),
        (HEADER, [ROWS[4], ROWS[1].replace("\t1\t0", "\tmuch\t0")], "sensitivity_human, line 3: 'much' is not a number"),
    ],
)
def test_errors_are_one_line(tmp_path, header, rows, problem):
    with pytest.raises(UserError, match=problem) as caught:
        read_panglao(_write(tmp_path, *rows, header=header), "liver")
    assert "\n" not in str(caught.value)


def test_the_original(real_data):
    path = real_data / "markers/restricted_do_not_ship/PanglaoDB_markers_27_Mar_2020.tsv.gz"
    if not path.is_file():
        pytest.skip("PanglaoDB is not there")
    frame, _ = read_download(path, PANGLAO)
    human = frame[frame["species"].str.contains("Hs")]
    kept = canonical_human(frame)
    columns = ["cell type", "official gene symbol"]
    # 4,343 and 3,116, because two of the 4,345 and 3,117 genes of the file differ from others only by a blank at the end.
    assert [len(frame), len(human), *human[columns].nunique()] == [8286, 7851, 178, 4343]
    assert [len(kept), *kept[columns].nunique()] == [5181, 163, 3116]
    liver = read_panglao(path, "liver")
    assert not set(liver["name"]) & {"Cajal-Retzius cells", "Sertoli cells", "Bergmann glia", "Retinal ganglion cells"}
    assert set(liver.loc[liver["gene"] == "CD2", "type"].dropna()) >= {"T_Cell"}
    assert len(set(liver.loc[liver["gene"] == "IL7R", "name"])) > 1
    assert "ACE2" not in set(liver.loc[liver["gene"] == "BACE2", "gene"])
    assert {"Hepatocyte", "Cholangiocyte", "Macrophage", "T_Cell", "Endothelial"} <= set(liver["type"].dropna())
    assert liver["weight"].between(1, 3).all()
