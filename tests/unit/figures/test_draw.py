from pathlib import Path

import pytest

from nuclass_pipeline.figures.draw import draw_figure
from nuclass_pipeline.figures.style import COLORS, in_order
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


def test_own_colors_hold_while_a_figure_is_drawn_and_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, str] = {}

    class Module:
        @staticmethod
        def draw() -> str:
            seen.update(COLORS)
            assert in_order({"Unresolved", "Nerve", "Bone", "T_Cell"}) == ["T_Cell", "Nerve", "Bone", "Unresolved"]
            return "figure"

    monkeypatch.setattr("nuclass_pipeline.figures.draw.import_module", lambda _: Module)
    monkeypatch.setattr("nuclass_pipeline.figures.draw.save_figure", lambda figure, outputs: None)
    before = dict(COLORS)
    draw_figure(name="any", inputs={}, options={"colors": {"Nerve": "#112233", "Bone": "#445566"}}, outputs=[tmp_path / "a.png"])
    assert (seen["Nerve"], seen["Bone"]) == ("#112233", "#445566") and before == COLORS
