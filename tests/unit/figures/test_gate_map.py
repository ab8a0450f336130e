from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.figures import gate_map
from nuclass_pipeline.vocabulary import UNRESOLVED
from tests.unit.figures import fakes


def test_gate_map_shows_every_cell_once(tmp_path: Path) -> None:
    slides = fakes.SLIDES[:2]
    paths = fakes.write_predictions(tmp_path, cells=500, slides=slides)
    overviews = fakes.write_overviews(tmp_path / "o.parquet")
    figure = gate_map.draw(local=paths["local"], global_=paths["global"], gate=paths["gate"], overviews=overviews, slides=slides)
    frame = pd.read_parquet(paths["gate"][1])
    g, outcome = figure.axes[2], figure.axes[3]
    assert g.get_title(loc="left") == f"lung-2: {len(frame):,} cells"
    np.testing.assert_allclose(g.collections[0].get_array(), frame["gate_weight"])
    np.testing.assert_allclose(g.collections[0].get_offsets(), frame[["x_um", "y_um"]])
    drawn = {points.get_label(): len(points.get_offsets()) for points in outcome.collections}
    right = {m: (pd.read_parquet(paths[m][1])["predicted"] == frame["label"])[frame["label"] != UNRESOLVED] for m in ("local", "global")}
    assert drawn["local_only"] == (right["local"] & ~right["global"]).sum()
    assert sum(drawn.values()) == (frame["label"] != UNRESOLVED).sum()
    assert [axes.get_xlabel() for axes in figure.axes if axes.get_label() == "<colorbar>"] == ["gate weight of the global path"]
    # y grows downwards, as on the slide.
    low, high = g.get_ylim()
    assert low > high


def test_gate_map_refuses_other_cells(tmp_path: Path) -> None:
    paths = fakes.write_predictions(tmp_path, cells=50, slides=fakes.SLIDES[:2])
    with pytest.raises(UserError, match="its cells differ from the gate's"):
        inputs = {"local": paths["local"][::-1], "global_": paths["global"], "gate": paths["gate"]}
        gate_map.draw(**inputs, overviews=fakes.write_overviews(tmp_path / "o.parquet"), slides=fakes.SLIDES[:2])
