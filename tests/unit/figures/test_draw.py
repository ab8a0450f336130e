from pathlib import Path

import pytest

from nuclass_pipeline.figures.draw import draw_figure
from tests.unit.figures import fakes


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
