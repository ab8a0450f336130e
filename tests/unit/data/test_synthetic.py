"""The demo cohort: genuine Xenium columns, consistent counts, a true alignment, and both built-in facts."""

import json
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import tifffile
from scipy.sparse import csc_matrix
from scipy.spatial import cKDTree

from nuclass_pipeline.config.synthetic import SyntheticConfig
from nuclass_pipeline.data.synthetic import make_slide
from nuclass_pipeline.data.synthetic.classes import LOOKS
from nuclass_pipeline.data.synthetic.layout import MARGIN_UM, Layout, draw_layout
from nuclass_pipeline.data.synthetic.programmes import read_panel, read_programmes
from nuclass_pipeline.data.synthetic.tissue import Cells, populate
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import TRUTH

CONFIG = SyntheticConfig(cells=600)
TABLES = ("cells", "transcripts", "cell_boundaries", "nucleus_boundaries")
PAIRS = (("Fibroblast", "Tumor_Associated_Fibroblast"), ("Endothelial", "Endothelial_TumorAssociated"))
CLASSES = {
    "lung": "B_Cell Endothelial Endothelial_TumorAssociated Epithelial_Alveolar Epithelial_Malignant Fibroblast Macrophage "
    "Smooth_Muscle T_Cell Tumor_Associated_Fibroblast",
    "pancreas": "Acinar Ductal Endocrine Endothelial Endothelial_TumorAssociated Epithelial_Malignant Fibroblast Macrophage "
    "T_Cell Tumor_Associated_Fibroblast",
}


@dataclass(frozen=True)
class Slide:
    organ: str
    folder: Path

    @property
    def outs(self) -> Path:
        return self.folder / "outs"

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(self.outs / f"{name}.parquet")

    @property
    def truth(self) -> pd.DataFrame:
        return read_table(self.folder / "truth.parquet", TRUTH)

    @property
    def matrix(self) -> csc_matrix:
        with h5py.File(self.outs / "cell_feature_matrix.h5") as file:
            group = file["matrix"]
            return csc_matrix((group["data"][:], group["indices"][:], group["indptr"][:]), shape=group["shape"][:])

    @property
    def he(self) -> np.ndarray:
        return tifffile.imread(self.folder / "x_he_image.ome.tif")

    @property
    def alignment(self) -> np.ndarray:
        return np.loadtxt(self.folder / "x_he_imagealignment.csv", delimiter=",")


def make(folder: Path, organ: str, seed: int, config: SyntheticConfig = CONFIG) -> Slide:
    make_slide(
        organ=organ,
        seed=seed,
        config=config,
        manifest=folder / "outs" / "experiment.xenium",
        image=folder / "x_he_image.ome.tif",
        alignment=folder / "x_he_imagealignment.csv",
        truth=folder / "truth.parquet",
    )
    return Slide(organ, folder)


@pytest.fixture(scope="session")
def slides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Slide]:
    return {organ: make(tmp_path_factory.mktemp(organ), organ, 5) for organ in CLASSES}


@pytest.fixture(params=sorted(CLASSES))
def slide(request: pytest.FixtureRequest, slides: dict[str, Slide]) -> Slide:
    return slides[request.param]


@pytest.fixture
def real_bundle(real_data: Path) -> Path:
    return real_data / "xoa3.0_mouse_ileum_tiny"


@pytest.mark.parametrize("name", TABLES)
def test_columns_and_types_are_those_of_a_real_bundle(slides, real_bundle, name):
    real = pq.read_schema(real_bundle / f"{name}.parquet")
    ours = pq.read_schema(slides["lung"].outs / f"{name}.parquet")
    assert [(field.name, field.type) for field in ours] == [(field.name, field.type) for field in real]


def test_matrix_file_has_the_layout_of_a_real_one(slides, real_bundle):
    def layout(path: Path) -> dict[str, str]:
        found: dict[str, str] = {}
        with h5py.File(path) as file:
            file.visititems(lambda name, item: found.update({name: item.dtype.kind}) if isinstance(item, h5py.Dataset) else None)
            return found | {key: str(np.asarray(value).dtype.kind) for key, value in file.attrs.items()}

    assert layout(slides["lung"].outs / "cell_feature_matrix.h5") == layout(real_bundle / "cell_feature_matrix.h5")


def test_json_files_have_the_keys_of_real_ones(slides, real_bundle):
    def keys(path: Path) -> list[str]:
        return list(json.loads(path.read_text()))

    def target(path: Path) -> dict:
        return json.loads(path.read_text())["payload"]["targets"][0]

    for name in ("experiment.xenium", "gene_panel.json"):
        assert keys(slides["lung"].outs / name) == keys(real_bundle / name)
    ours, real = (target(folder / "gene_panel.json") for folder in (slides["lung"].outs, real_bundle))
    assert {key: sorted(value) if isinstance(value, dict) else 0 for key, value in ours.items()} == {
        key: sorted(value) if isinstance(value, dict) else 0 for key, value in real.items()
    }


def test_images_are_coded_as_a_bundle_codes_them(slide):
    with tifffile.TiffFile(slide.outs / "morphology_focus" / "morphology_focus_0000.ome.tif") as dapi:
        page = dapi.pages[0]
        assert (dapi.is_bigtiff, dapi.is_ome, page.compression, page.dtype, page.tile) == (True, True, 34712, np.uint16, (1024, 1024))
        assert [level.shape[0] for level in dapi.series[0].levels] == [page.shape[0] >> level for level in range(5)]
        assert 'PhysicalSizeX="0.2125"' in dapi.ome_metadata
    with tifffile.TiffFile(slide.folder / "x_he_image.ome.tif") as he:
        assert (he.series[0].axes, he.pages[0].compression, he.pages[0].photometric, len(he.series[0].levels)) == ("YXS", 7, 6, 5)
        assert 'PhysicalSizeX="0.2125"' in he.ome_metadata


def test_counts_follow_from_the_transcripts(slide):
    cells, drawn, matrix = slide.table("cells"), slide.table("transcripts"), slide.matrix
    with h5py.File(slide.outs / "cell_feature_matrix.h5") as file:
        names = file["matrix/features/name"][:].astype(str)
        kinds = file["matrix/features/feature_type"][:].astype(str)
    counted = drawn[(drawn["qv"] >= 20) & (drawn["cell_id"] != "UNASSIGNED")]
    rows = pd.Index(names).get_indexer(counted["feature_name"])
    columns = pd.Index(cells["cell_id"]).get_indexer(counted["cell_id"])
    assert (rows >= 0).all() and (columns >= 0).all()
    again = csc_matrix((np.ones(len(rows), dtype=int), (rows, columns)), shape=matrix.shape)
    assert (again != matrix).nnz == 0
    per_cell = counted[counted["is_gene"]].groupby("cell_id").size().reindex(cells["cell_id"], fill_value=0)
    assert (per_cell.to_numpy() == cells["transcript_counts"]).all()
    assert (np.asarray(matrix.sum(0)).ravel() == cells["total_counts"]).all()
    assert list(dict.fromkeys(kinds))[:3] == ["Gene Expression", "Negative Control Probe", "Negative Control Codeword"]
    assert (kinds == "Gene Expression").sum() == 469


def test_quality_matches_the_configuration(slide):
    drawn, cells, truth = slide.table("transcripts"), slide.table("cells"), slide.truth
    assert (drawn["qv"] < 20).mean() == pytest.approx(CONFIG.low_quality_fraction, abs=0.01)
    assert 0.001 < (~drawn["is_gene"]).mean() < 0.003
    assert 0.85 < (drawn["cell_id"] != "UNASSIGNED").mean() < 0.99
    assert cells["transcript_counts"][~truth["poor"]].median() == pytest.approx(CONFIG.transcripts_per_cell, rel=0.2)
    assert truth["poor"].mean() == pytest.approx(CONFIG.poor_fraction, abs=0.01)
    assert (truth["poor"] == (cells["transcript_counts"] < 10)).all()


def test_ids_agree_across_files(slide):
    cells = slide.table("cells")
    with h5py.File(slide.outs / "cell_feature_matrix.h5") as file:
        assert (file["matrix/barcodes"][:].astype(str) == cells["cell_id"]).all()
    assert (slide.truth["cell_id"] == cells["cell_id"]).all()
    assert cells["cell_id"].str.fullmatch("[a-p]{8}-1").all() and cells["cell_id"].is_monotonic_increasing and cells["cell_id"].is_unique
    assert (slide.table("cell_boundaries")["cell_id"].unique() == cells["cell_id"]).all()
    assert (slide.table("nucleus_boundaries")["cell_id"].unique() == cells["cell_id"][cells["nucleus_count"] == 1]).all()
    assert set(slide.table("transcripts")["cell_id"]) <= {*cells["cell_id"], "UNASSIGNED"}
    assert (cells["nucleus_area"].isna() == (cells["nucleus_count"] == 0)).all()
    assert (cells["nucleus_count"] == 0).mean() < 0.02
    assert json.loads((slide.outs / "experiment.xenium").read_text())["num_cells"] == len(cells)


@pytest.mark.parametrize("name", ["cell_boundaries", "nucleus_boundaries"])
def test_polygons_are_closed_and_enclose_the_stated_area(slide, name):
    table, column = slide.table(name), "cell_area" if name == "cell_boundaries" else "nucleus_area"
    assert set(table.groupby("cell_id").size()) == {25}
    points = table[["vertex_x", "vertex_y"]].to_numpy(dtype=float).reshape(-1, 25, 2)
    assert (points[:, 0] == points[:, -1]).all()
    x, y = points[:, :-1, 0], points[:, :-1, 1]
    area = np.abs((x * np.roll(y, -1, 1) - y * np.roll(x, -1, 1)).sum(1)) / 2
    stated = slide.table("cells")[column].dropna().to_numpy()
    assert np.median(area / stated) == pytest.approx(0.985, abs=0.02)
    labels = table["label_id"].to_numpy().reshape(-1, 25)[:, 0]
    assert (np.diff(labels) > 0).all() and labels[0] >= 1


def test_nuclei_do_not_overlap(slide):
    table = slide.table("nucleus_boundaries")
    points = table[["vertex_x", "vertex_y"]].to_numpy(dtype=float)
    owner = np.repeat(np.arange(len(points) // 25), 25)
    pairs = cKDTree(points).query_pairs(0.1, output_type="ndarray")
    touching = {tuple(pair) for pair in np.sort(owner[pairs], axis=1) if pair[0] != pair[1]}
    assert len(touching) < 0.02 * owner[-1]


def test_assigned_transcripts_lie_near_their_cell(slide):
    drawn = slide.table("transcripts")
    drawn = drawn[drawn["cell_id"] != "UNASSIGNED"]
    centre = slide.table("cells").set_index("cell_id").loc[drawn["cell_id"], ["x_centroid", "y_centroid"]].to_numpy()
    distance = np.hypot(*(drawn[["x_location", "y_location"]].to_numpy() - centre).T)
    assert np.median(distance) < 6
    assert (distance < 20).all()
    assert (drawn.loc[drawn["overlaps_nucleus"] == 1, "nucleus_distance"] == 0).all()
    assert 0.3 < drawn["overlaps_nucleus"].mean() < 0.6


def redness(slide: Slide, xy_um: np.ndarray) -> np.ndarray:
    """Optical density of the red channel, which haematoxylin absorbs and eosin hardly."""
    x, y, _ = np.linalg.inv(slide.alignment) @ np.vstack([xy_um.T / 0.2125, np.ones(len(xy_um))])
    red = slide.he[np.round(y).astype(int), np.round(x).astype(int), 0]
    return -np.log(np.maximum(red, 1) / 245)


def test_alignment_leads_from_nuclei_to_dark_pixels(slide):
    points = slide.table("nucleus_boundaries")[["vertex_x", "vertex_y"]].to_numpy(dtype=float).reshape(-1, 25, 2)[:, :-1]
    centre = points.mean(1)
    inside = redness(slide, centre).mean()
    shifted = np.mean([redness(slide, centre + np.array([dx, dy])).mean() for dx, dy in ((8, 0), (-8, 0), (0, 8), (0, -8))])
    assert inside > shifted + 0.2
    scale = np.sqrt(np.linalg.det(slide.alignment[:2, :2]))
    assert 0.2125 * scale == pytest.approx(CONFIG.he_mpp, rel=1e-6)
    assert scale > 1.2
    assert np.rad2deg(np.arctan2(slide.alignment[1, 0], slide.alignment[0, 0])) == pytest.approx(CONFIG.rotation_deg)
    assert slide.alignment[2].tolist() == [0, 0, 1]


def test_dapi_shows_the_nuclei(slide):
    image = tifffile.imread(slide.outs / "morphology_focus" / "morphology_focus_0000.ome.tif")
    cells = slide.table("cells")[["x_centroid", "y_centroid"]].to_numpy()
    column, row = np.round(cells / 0.2125).astype(int).T
    assert np.median(image[row, column]) > 5 * np.median(image)


def test_glass_surrounds_the_tissue(slide):
    corner = np.array([[5.0, 5.0], [30.0, 20.0]])
    assert redness(slide, corner).max() < 0.05
    cells = slide.table("cells")
    assert cells["x_centroid"].min() > 50 and cells["y_centroid"].min() > 50


def test_same_seed_same_bytes_and_other_seed_other_slide(slides, tmp_path):
    again, other = make(tmp_path / "again", "lung", 5), make(tmp_path / "other", "lung", 6)
    first = slides["lung"]
    files = sorted(path.relative_to(first.folder) for path in first.folder.rglob("*") if path.is_file())
    assert len(files) == 11
    for name in files:
        same = (first.folder / name).read_bytes() == (again.folder / name).read_bytes()
        assert same, name
        if name.suffix not in (".json", ".csv"):
            assert (first.folder / name).read_bytes() != (other.folder / name).read_bytes(), name


def test_every_class_is_present_and_no_other(slide):
    counts = slide.truth["label"].value_counts()
    assert sorted(counts.index) == CLASSES[slide.organ].split()
    assert counts.min() >= 5
    assert counts.sum() == pytest.approx(CONFIG.cells, rel=0.05)


def test_markers_recover_the_classes(slide):
    programmes, genes = read_programmes(), [gene["gene"] for gene in read_panel()]
    truth, counts = slide.truth, slide.matrix[: len(genes)].T.toarray().astype(float)
    logged = np.log1p(100 * counts / np.maximum(counts.sum(1, keepdims=True), 1))
    logged = (logged - logged.mean(0)) / (logged.std(0) + 1e-9)
    classes = sorted(set(truth["label"]))
    own = [[genes.index(gene) for gene in programmes[name] if sum(gene in programmes[one] for one in classes) == 1] for name in classes]
    assert min(map(len, own)) >= 6
    best = np.array(classes)[np.argmax([logged[:, columns].mean(1) for columns in own], axis=0)]
    assert (best == truth["label"])[~truth["poor"]].mean() > 0.92


@pytest.fixture(scope="module", params=[("lung", 11), ("pancreas", 21)], ids=str)
def tissue(request: pytest.FixtureRequest) -> tuple[Layout, Cells]:
    """A slide of full size, not rendered."""
    organ, seed = request.param
    rng = np.random.default_rng(seed)
    layout = draw_layout(rng, organ, 2500, 5000, 2.0)
    return layout, populate(rng, layout, 2500)


def auc(score: np.ndarray, positive: np.ndarray) -> float:
    """Chance that a positive scores higher than a negative."""
    higher = score[positive][:, None] - score[~positive]
    return float((higher > 0).mean() + 0.5 * (higher == 0).mean())


@pytest.mark.parametrize("pair", PAIRS)
def test_the_context_tells_the_pairs_apart_but_the_crop_does_not(tissue, pair):
    _, cells = tissue
    chosen = np.isin(cells.label, pair)
    tumour = cells.label[chosen] == pair[1]
    offset = np.abs(cells.xy_um[:, None] - cells.xy_um[chosen]).max(2)
    kinds = np.isin(cells.label, ["Epithelial_Malignant"]), np.isin(cells.label, ["Epithelial_Alveolar", "Acinar", "Endocrine", "Ductal"])

    def excess(reach_um: float) -> np.ndarray:
        return ((offset < reach_um) & kinds[0][:, None]).sum(0) - ((offset < reach_um) & kinds[1][:, None]).sum(0)

    assert auc(excess(128.0), tumour) > 0.9
    assert auc(excess(28.0), tumour) < 0.65
    density = ((offset < 28.0) & ~(kinds[0] | kinds[1])[:, None]).sum(0)
    assert 0.35 < auc(density, tumour) < 0.65


def test_every_strip_holds_every_class(tissue):
    layout, cells = tissue
    classes = len(CLASSES[layout.organ].split())
    assert np.unique(cells.label, return_counts=True)[1].min() >= 80
    for axis in (0, 1):
        place = (cells.xy_um[:, axis] - MARGIN_UM) / layout.size_um[axis]
        for start in np.linspace(0, 2 / 3, 9):
            labels, counts = np.unique(cells.label[(place >= start) & (place < start + 1 / 3)], return_counts=True)
            assert (len(labels), bool(counts.min() >= 8)) == (classes, True), (axis, start, labels[counts.argmin()])


@pytest.mark.parametrize("pair", PAIRS)
def test_pairs_share_their_look(pair):
    assert LOOKS[pair[0]] == LOOKS[pair[1]]


@pytest.mark.parametrize(("organ", "pair"), [("lung", ("T_Cell", "Macrophage")), ("pancreas", ("Acinar", "Endocrine"))])
def test_the_nucleus_tells_neighbours_apart(slides, organ, pair):
    slide = slides[organ]
    xy, label = slide.table("cells")[["x_centroid", "y_centroid"]].to_numpy(), slide.truth["label"].to_numpy()
    cells = np.flatnonzero(np.isin(label, pair))
    _, nearest = cKDTree(xy[cells]).query(xy[cells], k=5)
    same = (label[cells][nearest[:, 1:]] == label[cells][:, None]).mean()
    share = (label[cells] == pair[0]).mean()
    assert same == pytest.approx(share**2 + (1 - share) ** 2, abs=0.15)
    area = slide.table("cells")["cell_area"].to_numpy()
    assert area[label == pair[0]].mean() == pytest.approx(area[label == pair[1]].mean(), rel=0.2)


@pytest.mark.parametrize("pair", [("Macrophage", "T_Cell"), ("Acinar", "Endocrine")])
def test_only_the_grain_of_the_nucleus_tells_neighbours_apart(slides, pair):
    slide = slides["pancreas"]
    nuclei = slide.table("nucleus_boundaries").groupby("cell_id")[["vertex_x", "vertex_y"]].mean()
    label = slide.truth.set_index("cell_id").loc[nuclei.index, "label"].to_numpy()
    chosen = np.isin(label, pair)
    points = nuclei.to_numpy()[chosen]
    steps = np.stack(np.meshgrid(np.arange(-2, 2.1, 0.25), np.arange(-2, 2.1, 0.25)), -1).reshape(-1, 2)
    ring = np.hypot(*steps.T) > 1.0  # leaves the nucleolus out
    density = redness(slide, (points[:, None] + steps).reshape(-1, 2)).reshape(len(points), -1)
    second = label[chosen] == pair[1]
    assert auc(density[:, ring].std(1), second) > 0.85
    assert 0.25 < auc(density.mean(1), second) < 0.75


def test_unknown_organ_is_told_in_one_line(tmp_path):
    with pytest.raises(UserError, match=r"'brain' has no phantom. Use one of lung, pancreas\.$") as caught:
        make(tmp_path, "brain", 1)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.*"))
