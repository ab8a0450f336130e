from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nuclass_pipeline.figures import confusion
from nuclass_pipeline.vocabulary import UNRESOLVED
from tests.unit.figures import fakes


def test_confusion_rows_are_shares_of_the_label(tmp_path: Path) -> None:
    paths = fakes.write_predictions(tmp_path, cells=600, slides=fakes.SLIDES[:2])
    figure = confusion.draw(local=paths["local"], global_=paths["global"], gate=paths["gate"])
    frame = pd.concat(map(pd.read_parquet, paths["gate"]))
    for axes in figure.axes[:3]:
        np.testing.assert_allclose(axes.images[0].get_array().sum(axis=1), 1)
    axes = figure.axes[2]
    rows = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    labels = [row.split(" (")[0] for row in rows]
    counts = frame["label"].value_counts()
    assert f"Malignant ({counts['Epithelial_Malignant']:,})" in rows
    assert sum(int(row.split("(")[1].rstrip(")").replace(",", "")) for row in rows) == len(frame) - counts[UNRESOLVED]
    columns = [tick.get_text() for tick in axes.get_xticklabels()]
    malignant = frame[frame["label"] == "Epithelial_Malignant"]
    share = (malignant["predicted"] == "Macrophage").mean()
    entry = axes.images[0].get_array()[labels.index("Malignant"), columns.index("Macrophage")]
    assert entry == pytest.approx(share)
    # Monocyte is on the slide but not a class of the model, so all of its cells are errors; Unresolved is not a class.
    known = frame[frame["label"] != UNRESOLVED]
    assert "Monocyte" in labels
    assert not [name for name in frame if name == "p_Monocyte"]
    assert axes.get_title(loc="left").endswith(f"{(known['label'] == known['predicted']).mean():.3f}")


def test_the_key_has_the_unit_of_the_fields(tmp_path: Path) -> None:
    paths = fakes.write_predictions(tmp_path, cells=600, slides=fakes.SLIDES[:2])
    figure = confusion.draw(local=paths["local"], global_=paths["global"], gate=paths["gate"])
    figure.draw_without_rendering()
    key = figure.axes[-1]
    assert key.get_ylabel() == "% of the label's cells"
    ticks = dict(zip(key.get_yticks(), [tick.get_text() for tick in key.get_yticklabels()], strict=True))
    assert ticks[0] == "0"
    assert ticks[1] == "100"
    most = max(figure.axes[2].texts, key=lambda text: int(text.get_text()))
    assert int(most.get_text()) == round(100 * figure.axes[2].images[0].get_array().max())
