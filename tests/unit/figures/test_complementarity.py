from pathlib import Path

import numpy as np
import pytest

from nuclass_pipeline.figures import complementarity
from nuclass_pipeline.figures.style import short_name
from nuclass_pipeline.vocabulary import CLASSES
from tests.unit.figures import fakes


def test_stacked_bars_are_the_outcomes(tmp_path: Path) -> None:
    figure = complementarity.draw(complementarity=fakes.write_complementarity(tmp_path / "c.parquet"))
    axes = figure.axes[0]
    widths = np.array([[bar.get_width() for bar in bars] for bars in axes.containers])
    np.testing.assert_allclose(widths.sum(axis=0), 1)
    labels = [tick.get_text() for tick in axes.get_yticklabels()]
    assert labels[0] == "All cells  (1,900)"
    assert labels[1:] == sorted(labels[1:], key=lambda name: [short_name(c) for c in CLASSES].index(name.split("  ")[0]))
    np.testing.assert_allclose(widths[:, labels.index("T cell  (100)")], [0.2, 0.1, 0.45, 0.25])
    gate, oracle = axes.get_lines()
    assert oracle.get_xdata()[0] == pytest.approx(1 - 170 / 1900)
    assert gate.get_xdata()[labels.index("T cell  (100)")] == pytest.approx(0.2 + 0.75 * 0.45)
    np.testing.assert_allclose(figure.axes[1].collections[-1].get_offsets()[0], [0.2, 0])
    assert figure.axes[1].get_xlabel() == "mean gate weight\nof the global path"
    figure.draw_without_rendering()
    assert axes.get_xlabel().startswith("%")
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "20", "40", "60", "80", "100"]
    assert [text.get_text() for text in axes.texts if text.get_position()[1] == labels.index("T cell  (100)") + 0.4] == [
        "20",
        "10",
        "45",
        "25",
    ]
