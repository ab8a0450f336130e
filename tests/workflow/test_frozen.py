"""Two frozen encoders through Snakemake: features are computed once, and a second run shares them."""

import json

import numpy as np
import pytest

from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import PREDICTIONS
from tests.unit.train.toys import write_images

CELLS = 240
GATE = "results/{run}/predictions/base/gate/seed-{seed}/c.parquet"


def write_trio(folder, seed):
    """Write patches of 32 and 64 px, whose class is the brightness, of cells on a square of 1 mm."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    ids, kind, places = [f"c{number:03}" for number in range(CELLS)], rng.integers(2, size=CELLS), rng.uniform(0, 4000, (CELLS, 2))
    for side_px in (32, 64):
        images = rng.integers(0, 120, (CELLS, side_px, side_px, 3)) + 100 * kind[:, None, None, None]
        write_images(folder / f"patches_{side_px}x{side_px}.h5", ids, images.astype(np.uint8))
    cells = {
        cell: {"class_id": ("T_Cell", "Macrophage")[number], "centroid_x": x, "centroid_y": y}
        for cell, number, (x, y) in zip(ids, kind.tolist(), places.tolist(), strict=True)
    }
    (folder / "annotations.json").write_text(json.dumps(cells))


def frozen(raw, run, **changes):
    brief = {"max_epochs": 2, "warmup_steps": 2, "batch_size": 32}
    encoder = {"name": "tiny-vit", "image_px": 32, "freeze": True}
    raw["study"] = {**raw["study"], "train": ["a", "b"], "heldout": ["c"], "predict": [], "label": []}
    raw["image"] = {"local_um": 8, "context_um": 16}
    raw["split"] = {"buffer_um": 8}
    raw["synthetic"], raw["figures"], raw["tables"] = {}, {1: "confusion"}, {1: "heldout"}
    head = {"optim": brief, "standardize": True}
    raw["local"], raw["global"], raw["gate"] = {"backbone": encoder, **head}, {"context": encoder, **head}, {"kind": "neighbors"}
    raw.update(run=run, **changes)


@pytest.mark.long
def test_features_are_computed_once_and_shared_with_a_second_run(project):
    for number, name in enumerate("abc"):
        write_trio(project.folder / "trios" / name, number)
        project.add_slide(slide=name, kind="trio", organ="lung", bundle=f"trios/{name}")
    project.edit(lambda raw: frozen(raw, "one"))
    done = project.snakemake(GATE.format(run="one", seed=0))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    table = read_table(project.folder / GATE.format(run="one", seed=0), PREDICTIONS)
    assert len(table) == CELLS
    # Neighbours say nothing here, because the classes lie at random places.
    assert table["gate_weight"].mean() > 0.9
    np.testing.assert_allclose(table[[name for name in table if name.startswith("p_")]].sum(axis=1), 1, atol=1e-5)
    assert len(list((project.folder / "results/one/slides").glob("*/features/tiny-vit.*.h5"))) == 6
    project.edit(lambda raw: frozen(raw, "two", slides_from="one", seeds=[1]))
    jobs = project.planned(GATE.format(run="two", seed=1))
    assert "embed_windows" not in jobs
    assert (jobs["train_local"], jobs["embed_cells"]) == (1, 3)
