"""The demo cohort: genuine Xenium columns, consistent counts, a true alignment, and the three built-in facts."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import tifffile
from scipy.sparse import csc_matrix
from scipy.spatial import cKDTree
from scipy.stats import norm

from nuclass_pipeline.config.synthetic import SyntheticConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table
from nuclass_pipeline.phantom import make_slide
from nuclass_pipeline.phantom.classes import LOOKS, Look
from nuclass_pipeline.phantom.layout import MARGIN_UM, NEST, NORMAL, STROMA, Layout, draw_layout
from nuclass_pipeline.phantom.programs import read_phantom_panel, read_programs
from nuclass_pipeline.phantom.tissue import DEEP_UM, GLAND_CLASS, GRANULAR_CLASS, LINING_CLASS, Cells, populate
from nuclass_pipeline.schemas import TRUTH

CONFIG = SyntheticConfig(cells=600)
TABLES = ("cells", "transcripts", "cell_boundaries", "nucleus_boundaries")
PAIRS = (("Fibroblast", "Tumor_Associated_Fibroblast"), ("Endothelial", "Endothelial_TumorAssociated"))
CLASSES = {
    "lung": "B_Cell Endothelial Endothelial_TumorAssociated Epithelial_Airway Epithelial_Alveolar Epithelial_Malignant Fibroblast "
    "Macrophage Mast_Cell Smooth_Muscle T_Cell Tumor_Associated_Fibroblast",
    "pancreas": "Acinar B_Cell Ductal Endocrine Endothelial Endothelial_TumorAssociated Epithelial_Malignant Fibroblast Macrophage "
    "Smooth_Muscle T_Cell Tumor_Associated_Fibroblast",
}
ORGAN_PAIRS = (("Epithelial_Airway", "Acinar"), ("Mast_Cell", "Endocrine"), ("Epithelial_Alveolar", "Ductal"))
PARENCHYMA = [name for pair in ORGAN_PAIRS for name in pair]
NEIGHBOURS = (
    ("lung", ("Macrophage", "T_Cell")),
    ("lung", ("Epithelial_Airway", "Mast_Cell")),
    ("pancreas", ("Macrophage", "T_Cell")),
    ("pancreas", ("Acinar", "Endocrine")),
)
DEMO = (("lung", 11), ("lung", 12), ("pancreas", 21), ("pancreas", 22))
KINDS = {name: replace(look, size=1.0) for name, look in LOOKS.items()}
"""Looks without the size of the nucleus, in which the two organs differ a little."""
UNIQUE_KINDS = list(dict.fromkeys(KINDS.values()))


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
    center = slide.table("cells").set_index("cell_id").loc[drawn["cell_id"], ["x_centroid", "y_centroid"]].to_numpy()
    distance = np.hypot(*(drawn[["x_location", "y_location"]].to_numpy() - center).T)
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
    center = points.mean(1)
    inside = redness(slide, center).mean()
    shifted = np.mean([redness(slide, center + np.array([dx, dy])).mean() for dx, dy in ((8, 0), (-8, 0), (0, 8), (0, -8))])
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
    programs, genes = read_programs(), [gene["gene"] for gene in read_phantom_panel()]
    truth, counts = slide.truth, slide.matrix[: len(genes)].T.toarray().astype(float)
    logged = np.log1p(100 * counts / np.maximum(counts.sum(1, keepdims=True), 1))
    logged = (logged - logged.mean(0)) / (logged.std(0) + 1e-9)
    classes = sorted(set(truth["label"]))
    own = [[genes.index(gene) for gene in programs[name] if sum(gene in programs[one] for one in classes) == 1] for name in classes]
    assert min(map(len, own)) >= 6
    best = np.array(classes)[np.argmax([logged[:, columns].mean(1) for columns in own], axis=0)]
    assert (best == truth["label"])[~truth["poor"]].mean() > 0.92


def lay(organ: str, seed: int, cells: int) -> tuple[Layout, Cells]:
    """Give layout and cells as `make_slide` draws them, not rendered."""
    stream = np.random.default_rng([seed, sorted(CLASSES).index(organ)]).spawn(4)[0]
    layout = draw_layout(stream, organ, cells, SyntheticConfig().cells_per_mm2, SyntheticConfig().aspect)
    return layout, populate(stream, layout, cells)


@pytest.fixture(scope="module")
def demo() -> dict[tuple[str, int], tuple[Layout, Cells]]:
    """The demo's slides at full size."""
    return {(organ, seed): lay(organ, seed, SyntheticConfig().cells) for organ, seed in DEMO}


@pytest.fixture(params=DEMO, ids=str)
def key(request: pytest.FixtureRequest) -> tuple[str, int]:
    return request.param


@pytest.fixture
def tissue(demo, key) -> tuple[Layout, Cells]:
    return demo[key]


def test_cells_are_those_of_the_written_slides(slide):
    _, cells = lay(slide.organ, 5, CONFIG.cells)
    assert (cells.label == slide.truth["label"]).all()
    assert (cells.niche == slide.truth["niche"]).all()
    assert np.abs(cells.xy_um - slide.table("cells")[["x_centroid", "y_centroid"]]).max(axis=None) < 10


def auc(score: np.ndarray, positive: np.ndarray) -> float:
    """Chance that a positive scores higher than a negative."""
    higher = score[positive][:, None] - score[~positive]
    return float((higher > 0).mean() + 0.5 * (higher == 0).mean())


def composition(cells: Cells, chosen: np.ndarray, reach_um: float, kinds: list[Look]) -> np.ndarray:
    """Count the cells of each look in the square around each chosen cell, itself left out."""
    offset = np.abs(cells.xy_um[:, None] - cells.xy_um[chosen]).max(2)
    near = (offset < reach_um) & (offset > 0)
    return np.stack([near[[KINDS[label] == kind for label in cells.label]].sum(0) for kind in kinds], 1).astype(float)


def learn(features: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Give the weights of the linear rule that fits best."""
    return np.linalg.lstsq(np.c_[features, np.ones(len(features))], positive.astype(float), rcond=None)[0][:-1]


def test_islands_lie_in_stroma(tissue):
    layout, cells = tissue
    spacing = cKDTree(layout.islands.centers_um).query(layout.islands.centers_um, k=2)[0][:, 1]
    assert len(layout.tumour) == 18
    assert 6 <= layout.tumour.sum() <= 12
    assert spacing.min() > 135 and spacing.max() < 195
    region, depth, tumour = layout.regions(cells.xy_um)
    assert (region[cells.label == "Epithelial_Malignant"] == NEST).all()
    glands = np.isin(cells.label, [GLAND_CLASS[layout.organ], GRANULAR_CLASS[layout.organ]])
    assert (region[glands] == NORMAL).all()
    assert not tumour[np.isin(cells.label, PARENCHYMA)].any()
    fibroblasts = np.isin(cells.label, PAIRS[0])
    assert (region[fibroblasts] == STROMA).all() and depth[fibroblasts].min() >= DEEP_UM
    assert layout.clear(cells.xy_um[fibroblasts]).all()
    endothelium = np.isin(cells.label, PAIRS[1])
    assert (region[endothelium] == STROMA).all() and depth[endothelium].min() > 20
    assert layout.clear(cells.xy_um[endothelium]).mean() > 0.9
    for pair in PAIRS:
        chosen = np.isin(cells.label, pair)
        assert (tumour[chosen] == (cells.label[chosen] == pair[1])).all()


@pytest.mark.parametrize("pair", PAIRS)
def test_the_context_tells_the_pairs_apart_but_the_crop_does_not(tissue, pair):
    _, cells = tissue
    chosen = np.isin(cells.label, pair)
    tumour = cells.label[chosen] == pair[1]
    offset = np.abs(cells.xy_um[:, None] - cells.xy_um[chosen]).max(2)
    kinds = cells.label == "Epithelial_Malignant", np.isin(cells.label, PARENCHYMA)

    def excess(reach_um: float) -> np.ndarray:
        return ((offset < reach_um) & kinds[0][:, None]).sum(0) - ((offset < reach_um) & kinds[1][:, None]).sum(0)

    assert auc(excess(128.0), tumour) > 0.94
    # A fifth of the cells have an island's rim in a corner of the crop.
    assert auc(excess(28.0), tumour) < 0.71
    assert ((offset < 28.0) & (kinds[0] | kinds[1])[:, None]).any(0).mean() < 0.22
    density = ((offset < 28.0) & ~(kinds[0] | kinds[1])[:, None]).sum(0)
    assert 0.4 < auc(density, tumour) < 0.6


@pytest.mark.parametrize("pair", PAIRS)
def test_a_rule_for_the_pairs_learnt_from_other_slides_needs_the_context(demo, key, pair):
    stroma = [kind for kind in UNIQUE_KINDS if kind not in [KINDS[name] for name in (*PARENCHYMA, "Epithelial_Malignant")]]

    def score(reach_um: float, kinds: list[Look]) -> float:
        parts = {}
        for name, (_, cells) in demo.items():
            chosen = np.isin(cells.label, pair)
            parts[name] = composition(cells, chosen, reach_um, kinds), cells.label[chosen] == pair[1]
        others = [part for name, part in parts.items() if name != key]
        rule = learn(*(np.concatenate(columns) for columns in zip(*others, strict=True)))
        return auc(parts[key][0] @ rule, parts[key][1])

    context, crop = score(128.0, UNIQUE_KINDS), score(28.0, UNIQUE_KINDS)
    assert context > 0.92
    assert crop < 0.83
    assert context - crop > 0.1
    assert 0.4 < score(28.0, stroma) < 0.77


def test_every_class_is_frequent_at_full_size(tissue):
    layout, cells = tissue
    labels, counts = np.unique(cells.label, return_counts=True)
    assert labels.tolist() == CLASSES[layout.organ].split()
    assert len(cells) == 2500
    assert counts.min() >= 75
    assert counts.max() <= 0.2 * len(cells)


def test_every_strip_holds_every_class(tissue):
    layout, cells = tissue
    for axis in (0, 1):
        place = (cells.xy_um[:, axis] - MARGIN_UM) / layout.size_um[axis]
        for start in np.linspace(0, 2 / 3, 9):
            labels, counts = np.unique(cells.label[(place >= start) & (place < start + 1 / 3)], return_counts=True)
            assert (len(labels), bool(counts.min() >= 14)) == (12, True), (axis, start, labels[counts.argmin()])


@pytest.mark.parametrize("pair", PAIRS)
def test_pairs_share_their_look(pair):
    assert LOOKS[pair[0]] is LOOKS[pair[1]]


@pytest.mark.parametrize("pair", ORGAN_PAIRS)
def test_pairs_of_two_organs_differ_a_little_in_size(pair):
    assert KINDS[pair[0]] == KINDS[pair[1]]
    assert [LOOKS[name].size for name in pair] == [1.04, 0.96]


def test_all_other_classes_have_looks_of_their_own():
    assert len(LOOKS) == 15
    assert len(UNIQUE_KINDS) == 15 - len(PAIRS) - len(ORGAN_PAIRS)


def test_organs_differ_in_the_names_of_three_classes_alone(demo):
    assert [(names["lung"], names["pancreas"]) for names in (GLAND_CLASS, GRANULAR_CLASS, LINING_CLASS)] == list(ORGAN_PAIRS)
    lung, pancreas = (set(CLASSES[organ].split()) for organ in ("lung", "pancreas"))
    assert (lung - pancreas, pancreas - lung) == tuple(set(names) for names in zip(*ORGAN_PAIRS, strict=True))
    programs = read_programs()
    for pair in ORGAN_PAIRS:
        common = set(programs[pair[0]]) & set(programs[pair[1]])
        assert all(sum(programs[name][gene] for gene in common) < 0.25 * sum(programs[name].values()) for name in pair)
    kinds = {frozenset((KINDS[label], niche) for label, niche in zip(cells.label, cells.niche, strict=True)) for _, cells in demo.values()}
    assert len(kinds) == 1
    assert {frozenset(kind for discs in layout.discs for kind in discs.kind) for layout, _ in demo.values()} == {
        frozenset({"arteriole", "vessel", "lumen"})
    }


@pytest.mark.parametrize("pair", ORGAN_PAIRS)
def test_the_surroundings_do_not_tell_the_organ(demo, pair):
    def gather(keys: tuple[tuple[str, int], ...], reach_um: float) -> tuple[np.ndarray, np.ndarray]:
        parts = []
        for organ, seed in keys:
            _, cells = demo[organ, seed]
            chosen = np.isin(cells.label, pair)
            parts.append((composition(cells, chosen, reach_um, UNIQUE_KINDS), np.full(chosen.sum(), organ == "pancreas")))
        features, pancreas = zip(*parts, strict=True)
        return np.concatenate(features), np.concatenate(pancreas)

    for known, new in ((DEMO[::2], DEMO[1::2]), (DEMO[1::2], DEMO[::2])):
        # Over 128 µm a rule can also pick up that these two slides of one organ have more nests.
        for reach_um, most in ((28.0, 0.6), (128.0, 0.78)):
            features, pancreas = gather(new, reach_um)
            assert auc(features @ learn(*gather(known, reach_um)), pancreas) < most


@pytest.mark.parametrize("pair", ORGAN_PAIRS)
def test_a_nucleus_tells_the_organ_in_about_two_of_three_cells(slides, pair):
    found = []
    for organ, name in zip(("lung", "pancreas"), pair, strict=True):
        points, density, ring = nuclei(slides[organ], [name])
        area = slides[organ].table("cells").set_index("cell_id").loc[points.index, "nucleus_area"].to_numpy()
        # Stains differ in strength from slide to slide, so the grain is taken relative to it.
        found.append((density[:, ring].std(1) / density.mean(1), area))
    pancreas = np.repeat([False, True], [len(one[0]) for one in found])
    grain, area = (auc(np.concatenate(values), pancreas) for values in zip(*found, strict=True))
    # Over the same 2 µm a smaller nucleus shows more of its edge; beyond that the grain says nothing.
    assert 0.2 < grain < 0.8
    # Of two normal distributions 2 ln(1.04 / 0.96) apart, with a deviation of 2 × 0.09.
    assert area == pytest.approx(1 - norm.cdf(np.log(1.04 / 0.96) / (0.09 * np.sqrt(2))), abs=0.08)
    assert found[0][1].mean() / found[1][1].mean() == pytest.approx((1.04 / 0.96) ** 2, rel=0.08)


def nuclei(slide: Slide, names: list[str]) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Give the centres of the classes' nuclei, the densities around each, and which of those leave the nucleolus out."""
    points = slide.table("nucleus_boundaries").groupby("cell_id")[["vertex_x", "vertex_y"]].mean()
    points = points[np.isin(slide.truth.set_index("cell_id").loc[points.index, "label"], names)]
    steps = np.stack(np.meshgrid(np.arange(-2, 2.1, 0.25), np.arange(-2, 2.1, 0.25)), -1).reshape(-1, 2)
    density = redness(slide, (points.to_numpy()[:, None] + steps).reshape(-1, 2)).reshape(len(points), -1)
    return points, density, np.hypot(*steps.T) > 1.0


@pytest.mark.parametrize(("organ", "pair"), NEIGHBOURS)
def test_the_nucleus_tells_neighbors_apart(slides, organ, pair):
    slide = slides[organ]
    xy, label = slide.table("cells")[["x_centroid", "y_centroid"]].to_numpy(), slide.truth["label"].to_numpy()
    cells = np.flatnonzero(np.isin(label, pair))
    _, nearest = cKDTree(xy[cells]).query(xy[cells], k=5)
    same = (label[cells][nearest[:, 1:]] == label[cells][:, None]).mean()
    share = (label[cells] == pair[0]).mean()
    assert same == pytest.approx(share**2 + (1 - share) ** 2, abs=0.15)
    area = slide.table("cells")["cell_area"].to_numpy()
    assert area[label == pair[0]].mean() == pytest.approx(area[label == pair[1]].mean(), rel=0.2)


@pytest.mark.parametrize(("organ", "pair"), NEIGHBOURS)
def test_only_the_grain_of_the_nucleus_tells_neighbors_apart(slides, organ, pair):
    slide = slides[organ]
    points, density, ring = nuclei(slide, list(pair))
    second = slide.truth.set_index("cell_id").loc[points.index, "label"].to_numpy() == pair[1]
    assert auc(density[:, ring].std(1), second) > 0.95
    assert 0.25 < auc(density.mean(1), second) < 0.75


def test_unknown_organ_is_told_in_one_line(tmp_path):
    with pytest.raises(UserError, match=r"'brain' has no phantom. Use one of lung, pancreas\.$") as caught:
        make(tmp_path, "brain", 1)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.*"))
