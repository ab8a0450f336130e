"""A bundle of one's own is read again when one of its files has changed, and what follows is done again."""

import os


def test_a_changed_matrix_is_read_again(mine):
    project, bundle = mine
    project.edit(lambda raw: raw["study"].update(train=["demo-lung-1", "demo-pancreas-1", "mine"]))
    slide = project.folder / "results/demo/slides/mine"
    slide.mkdir(parents=True)
    made = [slide / name for name in ("cells.parquet", "counts.h5ad", "clusters.parquet", "clustering.json", "labels.parquet")]
    begun = bundle.stat().st_mtime
    for number, path in enumerate(made):
        path.touch()
        os.utime(path, (begun + number + 1, begun + number + 1))
    os.utime(bundle / "cell_feature_matrix.h5", (begun + 60, begun + 60))
    assert project.planned("results/demo/slides/mine/labels.parquet") == {"read_cells": 1, "cluster_cells": 1, "label_cells": 1, "total": 3}
