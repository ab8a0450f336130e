import itertools
from pathlib import Path

import pytest

from nuclass_pipeline.figures import complementarity, registration, reliability
from nuclass_pipeline.figures.draw import draw_figure
from tests.unit.figures import fakes


def test_no_two_texts_of_a_figure_overlap(tmp_path: Path) -> None:
    figures = [
        complementarity.draw(complementarity=fakes.write_complementarity(tmp_path / "c.parquet")),
        registration.draw(registration=fakes.write_registration(tmp_path / "r.parquet")),
        reliability.draw(reliability=fakes.write_reliability(tmp_path / "b.parquet"), heldout=fakes.write_ece(tmp_path / "h.parquet")),
    ]
    for figure in figures:
        figure.draw_without_rendering()
        texts = [text for axes in figure.axes for text in [*axes.texts, *axes.get_xticklabels(), *axes.get_yticklabels()]]
        boxes = [text.get_window_extent().padded(-1) for text in texts if text.get_text() and text.get_visible()]
        assert not [pair for pair in itertools.combinations(boxes, 2) if pair[0].overlaps(pair[1])]


def test_files_are_deterministic_and_text_stays_text(tmp_path: Path) -> None:
    path = fakes.write_complementarity(tmp_path / "c.parquet")
    for run in "ab":
        outputs = [tmp_path / f"{run}.{suffix}" for suffix in ("pdf", "png")]
        draw_figure(name="complementarity", inputs={"complementarity": path}, options={"slide": "pooled"}, outputs=outputs)
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert b"/Type /Font" in (tmp_path / "a.pdf").read_bytes()
    assert b"CreationDate" not in (tmp_path / "a.pdf").read_bytes()


@pytest.mark.parametrize("name", ["nonsense", "../draw"])
def test_a_figure_without_a_module_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'nuclass_pipeline\.figures\."):
        draw_figure(name=name, inputs={}, options={}, outputs=[tmp_path / "x.png"])
    assert not list(tmp_path.iterdir())
