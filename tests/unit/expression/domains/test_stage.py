"""The stage: files in, files out, and controls that separate structure from smoothing."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from sklearn.metrics import adjusted_rand_score

from nuclass_pipeline.config.expression import DomainsConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.expression.domains.stage import find_domains
from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import DOMAINS, METRICS
from tests.unit.expression.domains.planted_tissue import plant

EMPTY = 7


def write(folder, cells=2500, scale=1.0, **columns):
    """Write a tissue whose cell `EMPTY` has no transcripts, the cell table in another order than the counts."""
    tissue = plant(0, cells)
    counts = tissue.counts.toarray()
    counts[EMPTY] = 0
    names = [f"cell{i}" for i in range(cells)]
    ad.AnnData(counts, pd.DataFrame(index=names), pd.DataFrame(index=[f"GENE{i}" for i in range(120)])).write_h5ad(folder / "counts.h5ad")
    table = pd.DataFrame({"cell_id": names, "x_um": tissue.xy_um[:, 0] * scale, "y_um": tissue.xy_um[:, 1] * scale, **columns})
    areas = {"cell_area_um2": 50.0, "nucleus_area_um2": 20.0}
    table = table.assign(**areas, transcripts=counts.sum(axis=1).astype(int), nucleus_transcripts=np.nan, controls=0)
    table.iloc[::-1].to_parquet(folder / "cells.parquet")
    return tissue


def run(folder, **config):
    out = {"domains": folder / "domains.parquet", "scores": folder / "scores.parquet"}
    source = {"counts": folder / "counts.h5ad", "cells": folder / "cells.parquet"}
    find_domains(**source, config=DomainsConfig(**config), run="test", slide="s1", organ="breast", **out)
    return read_table(out["domains"], DOMAINS), read_table(out["scores"], METRICS)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tissue")
    tissue = write(folder)
    return tissue, *run(folder), folder


@pytest.fixture(scope="module")
def value(found):
    scores = found[2].set_index(["variant", "metric"])["value"]
    return lambda variant, metric: scores[variant, metric]


def test_every_cell_has_its_row_and_a_domain_if_it_has_transcripts(found):
    tissue, domains, _, _ = found
    assert domains["cell_id"].tolist() == [f"cell{i}" for i in range(2500)]
    assert domains.index[domains["domain"].isna()].tolist() == [EMPTY]
    kept = domains["domain"].notna()
    assert adjusted_rand_score(tissue.stripe[kept], domains["domain"][kept]) >= 0.8
    factors = domains.filter(like="factor_")
    assert factors.shape[1] == 10
    assert factors.loc[EMPTY].isna().all()
    assert factors[kept].to_numpy().min() >= 0


def test_scores_are_complete_and_finite(found):
    scores = found[2]
    names = ["domains", "adjacency_contact", "adjacency_radius", "chaos", "explained_variance", "silhouette", "davies_bouldin"]
    names += ["cmc", "cmc_weighted", "specificity", "mer", "moran_factors"]
    assert set(scores.loc[scores["variant"] == "fitted", "metric"]) == set(names)
    assert not scores.duplicated(["variant", "metric"]).any()
    assert np.isfinite(scores["value"]).all()
    assert (scores["n_cells"] == 2499).all()
    assert set(scores["model"]) == {"domains"}


def test_domains_are_compact(value):
    assert value("fitted", "domains") == 3
    assert value("fitted", "adjacency_contact") > value("fitted", "adjacency_radius") > 0.85
    assert 0 < value("fitted", "explained_variance") < 0.5


def test_smoothing_alone_makes_factors_look_spatial_and_the_controls_show_it(value):
    assert value("unsmoothed", "moran_factors") < 0.1
    assert value("permuted", "moran_factors") > 0.2
    assert value("fitted", "moran_factors") > value("permuted", "moran_factors") + 0.1


def test_domains_explain_the_spatial_structure_of_held_out_genes(value):
    assert value("held_out", "moran_genes") > 0.004
    assert abs(value("permuted", "moran_genes")) < 0.001
    assert value("held_out", "moran_genes_within") < 0.3 * value("held_out", "moran_genes")


def test_a_repeat_is_the_same(found):
    _, domains, scores, folder = found
    again = run(folder)
    pd.testing.assert_frame_equal(again[0], domains)
    pd.testing.assert_frame_equal(again[1], scores)


def test_sections_that_share_coordinates_are_not_linked(tmp_path):
    """Even and odd cells are put into two sections, so that a cell has half of the neighbours within its own."""
    write(tmp_path, 600, section=np.where(np.arange(600) % 2, "core2", "core1"))
    apart, _ = run(tmp_path)
    write(tmp_path, 600)
    together, _ = run(tmp_path)
    rows = together["domain"].notna()
    assert np.abs(apart.filter(like="factor_")[rows] - together.filter(like="factor_")[rows]).to_numpy().max() > 0.01
    write(tmp_path, 600, section="one")
    pd.testing.assert_frame_equal(run(tmp_path)[0], together)


def test_a_cell_without_a_section_is_refused(tmp_path):
    write(tmp_path, 600, section=[None if i == 3 else "one" for i in range(600)])
    with pytest.raises(UserError, match=r"section: cell 'cell3' has no section. Fill in"):
        run(tmp_path)


def test_coordinates_in_another_unit_are_refused(tmp_path):
    write(tmp_path, scale=1e-3)
    with pytest.raises(
        UserError,
        match=r"cells.parquet: x_um, y_um: a cell has 2498 others within 80 µm.*Convert the centroids to µm, or lower domains.radius_um",
    ):
        run(tmp_path)
    assert not (tmp_path / "domains.parquet").exists()


def test_a_handful_of_cells_is_one_domain(tmp_path):
    write(tmp_path, 9)
    domains, scores = run(tmp_path)
    assert domains["domain"].isna().tolist() == [i == EMPTY for i in range(9)]
    assert set(domains["domain"].dropna()) == {"0"}
    assert len(scores) == 0


def test_the_mode_sets_the_defaults():
    domain, contact = DomainsConfig(), DomainsConfig(mode="contact")
    assert (domain.steps, domain.resolution) == (2, 0.4)
    assert (contact.steps, contact.resolution) == (1, 0.2)
    assert DomainsConfig(mode="contact", steps=3).steps == 3
    assert DomainsConfig(**contact.model_dump(mode="json")) == contact
    with pytest.raises(ValidationError, match="radius_um is 10, less than contact_um"):
        DomainsConfig(radius_um=10)
