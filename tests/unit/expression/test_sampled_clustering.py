"""Large slides compare resolutions on a sample; neither threads nor processes change what is found."""

import os
import time

import numpy as np
import pandas as pd
import psutil
import pytest
import scanpy as sc
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

from nuclass_pipeline.config.expression import ClusteringConfig
from nuclass_pipeline.expression import clustering, maps
from nuclass_pipeline.expression.clustering import cluster_cells
from nuclass_pipeline.expression.maps import draw_map, find_neighbors, spread_positions
from nuclass_pipeline.expression.partitions import compare_seeds, leiden, most_stable, seeded_resolutions, worker_pool
from nuclass_pipeline.io import read_json

CONFIG = ClusteringConfig(components=10, resolutions=(0.5, 1.0, 30.0))


def _cluster(folder, cells, threads=1, config=CONFIG):
    folder.mkdir(exist_ok=True)
    cells.write_h5ad(folder / "counts.h5ad")
    outputs = {"clusters": folder / "clusters.parquet", "stability": folder / "clustering.json"}
    cluster_cells(counts=folder / "counts.h5ad", config=config, threads=threads, **outputs)
    return pd.read_parquet(folder / "clusters.parquet"), read_json(folder / "clustering.json")


def _compare(components):
    graph = find_neighbors(components, CONFIG, exact=True).obsp["connectivities"]
    return compare_seeds([leiden(graph, *run) for run in seeded_resolutions(CONFIG)], CONFIG)


@pytest.fixture(scope="module")
def points():
    """Return six groups of 200 points each in ten dimensions, and the groups."""
    rng = np.random.default_rng(0)
    group = rng.permutation(np.repeat(np.arange(6), 200))
    return (rng.normal(size=(6, 10))[group] * 3 + rng.normal(size=(1200, 10))).astype(np.float32), group


def test_every_number_of_threads_finds_the_same(draw_cells, tmp_path, monkeypatch):
    monkeypatch.setattr(clustering, "SHARED_CELLS", 0)
    cells = draw_cells()
    first, record = _cluster(tmp_path / "1", cells)
    for threads in (2, 3):
        again, again_record = _cluster(tmp_path / str(threads), cells, threads)
        pd.testing.assert_frame_equal(again, first, check_exact=True)
        assert again_record == record


def test_every_number_of_threads_finds_the_same_by_a_sample(draw_cells, tmp_path, monkeypatch):
    monkeypatch.setattr(clustering, "SHARED_CELLS", 0)
    monkeypatch.setattr(clustering, "SAMPLE_CELLS", 300)
    cells = draw_cells()
    first, record = _cluster(tmp_path / "1", cells)
    again, again_record = _cluster(tmp_path / "2", cells, 2)
    pd.testing.assert_frame_equal(again, first, check_exact=True)
    assert again_record == record
    assert record["cells"] == 300


def test_up_to_the_bound_every_cell_is_compared(draw_cells, tmp_path, monkeypatch):
    cells = draw_cells()
    number = int((~cells.obs["poor"]).sum())
    monkeypatch.setattr(clustering, "SAMPLE_CELLS", number)
    _, whole = _cluster(tmp_path, cells)
    monkeypatch.setattr(clustering, "SAMPLE_CELLS", number - 1)
    _, sampled = _cluster(tmp_path, cells)
    assert (whole["cells"], sampled["cells"]) == (number, number - 1)


def test_the_clusters_are_those_of_all_cells_at_the_resolution_of_the_sample(draw_cells, tmp_path, monkeypatch):
    """Step by step: the same graph and seed as without a sample, and a resolution from the graph of the sample alone."""
    monkeypatch.setattr(clustering, "SAMPLE_CELLS", 300)
    found, record = _cluster(tmp_path, draw_cells())
    named = found["cluster"].notna().to_numpy()
    components = found.loc[named].filter(like="pc_").to_numpy()
    rows = np.sort(np.random.default_rng(CONFIG.seed).choice(named.sum(), 300, replace=False))
    tried = _compare(components[rows])
    assert [one["stability"] for one in record["resolutions"]] == [one.stability for one in tried]
    assert record["chosen"] == most_stable(tried).resolution == 1.0
    graph = find_neighbors(components, CONFIG, exact=True).obsp["connectivities"]
    assert (found["cluster"][named].astype(int) == leiden(graph, 1.0, CONFIG.seed)).all()


def test_a_sample_chooses_the_planted_resolution(points, monkeypatch):
    monkeypatch.setattr(clustering, "SAMPLE_CELLS", 300)
    found = clustering._cluster(points[0], CONFIG, threads=1)
    whole = _compare(points[0])
    assert most_stable(found.tried).resolution == most_stable(whole).resolution == 1.0
    assert found.tried[-1].stability < 0.97 < 0.999 < found.tried[1].stability
    assert len(found.tried[0].cluster) == 300
    assert adjusted_rand_score(points[1], found.cluster) > 0.99
    assert (found.cluster == most_stable(whole).cluster).all()


@pytest.mark.slow
def test_sixty_thousand_cells_choose_the_planted_resolution():
    """The bound as it is: 24 groups, of which a resolution of 0.1 joins some and one of 30 splits all."""
    rng = np.random.default_rng(1)
    group = rng.integers(0, 24, 60_000)
    points = (rng.normal(size=(24, 12))[group] * 3 + rng.normal(size=(60_000, 12))).astype(np.float32)
    found = clustering._cluster(points, ClusteringConfig(resolutions=(0.1, 1.0, 30.0)), threads=2)
    assert [len(partition.cluster) for partition in found.tried] == [50_000] * 3
    assert most_stable(found.tried).resolution == 1.0
    assert found.cluster.max() == 23
    assert adjusted_rand_score(group, found.cluster) > 0.99


def test_one_resolution_needs_no_sample(draw_cells, tmp_path, monkeypatch):
    config = ClusteringConfig(components=10, resolutions=(0.5,))
    whole, record = _cluster(tmp_path, draw_cells(), config=config)
    monkeypatch.setattr(clustering, "SAMPLE_CELLS", 300)
    sampled, sampled_record = _cluster(tmp_path, draw_cells(), config=config)
    assert (whole["cluster"].dropna() == sampled["cluster"].dropna()).all()
    assert sampled_record == record
    assert record["resolutions"] == [{"resolution": 0.5, "clusters": 7, "stability": None}]


def test_processes_give_the_results_of_one(points):
    graph = find_neighbors(points[0], CONFIG, exact=True).obsp["connectivities"]
    runs = seeded_resolutions(CONFIG)
    assert runs == [(r, seed) for r in (0.5, 1.0, 30.0) for seed in (0, 1, 2)]
    with worker_pool(3) as submit:
        codes = [submit(leiden, graph, *run) for run in runs]
        assert submit(os.getpid)() != os.getpid()
        for code, run in zip(codes, runs, strict=True):
            assert (code() == leiden(graph, *run)).all()


def test_one_thread_is_this_process():
    with worker_pool(1) as submit:
        assert submit(os.getpid)() == os.getpid()


def test_no_process_outlives_an_error():
    with pytest.raises(KeyboardInterrupt), worker_pool(2) as submit:
        process = psutil.Process(submit(os.getpid)())
        submit(time.sleep, 60)
        time.sleep(1)
        raise KeyboardInterrupt
    process.wait(timeout=10)


def test_seeds_of_a_resolution_are_compared_with_each_other():
    codes = [np.array(one) for one in ([0, 0, 1, 1], [0, 0, 1, 1], [0, 1, 0, 1], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 1])]
    first, second = compare_seeds(codes, ClusteringConfig(resolutions=(0.5, 1.0)))
    # Crossed halves agree less than by chance: -0.5.
    assert first.stability == pytest.approx((1 - 0.5 - 0.5) / 3)
    assert second.stability == 1
    assert (second.cluster == [0, 0, 0, 1]).all()


def test_a_map_from_a_sample_keeps_the_groups_apart(points):
    cells = find_neighbors(points[0], CONFIG, exact=True)
    rows = np.arange(0, 1200, 4)
    drawn = draw_map(find_neighbors(points[0][rows], CONFIG, exact=True), CONFIG)
    refined = draw_map(cells, CONFIG, spread_positions(cells.obsp["connectivities"], rows, drawn, 0))
    for positions in (refined, draw_map(cells, CONFIG)):
        centers = np.array([positions[points[1] == group].mean(axis=0) for group in range(6)])
        nearest = np.linalg.norm(positions[:, None] - centers, axis=2).argmin(axis=1)
        assert (nearest == points[1]).mean() > 0.99


def test_cells_are_placed_by_their_neighbors():
    """A path 0–1–2–3 of which the ends are placed, and two islands."""
    graph = np.zeros((8, 8), np.float32)
    for first, second, weight in ((0, 1, 1), (1, 2, 5), (2, 3, 1), (4, 5, 1), (6, 7, 1)):
        graph[first, second] = graph[second, first] = weight
    placed = np.array([[0, 2], [6, 8]], np.float32)
    found = spread_positions(sparse.csr_matrix(graph), np.array([0, 3]), placed, seed=0)
    assert found[:4].tolist() == [[0, 2], [0, 2], [6, 8], [6, 8]]
    assert (found[4] == found[5]).all()
    assert (found[6] == found[7]).all()
    assert (found[4] != found[6]).all()
    assert (found >= [0, 2]).all()
    assert (found <= [6, 8]).all()


def test_a_cell_between_two_comes_to_their_weighted_mean():
    graph = sparse.csr_matrix(np.array([[0, 1, 0], [1, 0, 3], [0, 3, 0]], np.float32))
    found = spread_positions(graph, np.array([0, 2]), np.array([[0, 0], [4, 8]], np.float32), seed=0)
    assert found.tolist() == [[0, 0], [3, 6], [4, 8]]


def test_rapids_draws_the_whole_map_from_the_spectrum(points, monkeypatch):
    starts = []

    def umap(cells, **options):
        starts.append((cells.n_obs, options["init_pos"], options["maxiter"]))
        sc.tl.umap(cells, **options)

    def neighbors(cells, *, algorithm, **options):
        sc.pp.neighbors(cells, transformer="sklearn", **options)

    monkeypatch.setattr(clustering, "SAMPLE_CELLS", 300)
    stand_in = type("rapids", (), {"pp": type("pp", (), {"neighbors": neighbors}), "tl": type("tl", (), {"umap": umap})})
    monkeypatch.setattr(maps, "_tools", lambda config: stand_in)
    found = clustering._cluster(points[0], ClusteringConfig(resolutions=(0.5, 1.0), backend="rapids"), threads=2)
    assert starts == [(300, "spectral", 200), (1200, "spectral", 200)]
    assert len(found.tried[0].cluster) == 300
    assert adjusted_rand_score(points[1], found.cluster) > 0.99


@pytest.mark.slow
def test_approximate_neighbors_do_not_depend_on_the_threads(draw_cells, tmp_path, monkeypatch):
    """With two threads pynndescent finds other neighbours than with one."""
    numba = pytest.importorskip("numba")
    monkeypatch.setattr(maps, "EXACT_CELLS", 0)
    monkeypatch.setattr(clustering, "EXACT_CELLS", 0)
    cells = draw_cells(per_type=800)
    found = []
    for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
        numba.set_num_threads(threads)
        found.append(_cluster(tmp_path, cells, threads)[0])
    pd.testing.assert_frame_equal(*found, check_exact=True)
