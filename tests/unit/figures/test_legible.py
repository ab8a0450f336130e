"""All figures can be read: text of 6 points or more, none over the edge or over other text, also in the hardest run."""

from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from nuclass_pipeline.figures import (
    attribution,
    cell_map,
    complementarity,
    composition,
    confusion,
    gate_map,
    point_labels,
    registration,
    reliability,
)
from nuclass_pipeline.figures.draw import draw_figure
from nuclass_pipeline.figures.style import fit_name, percent
from nuclass_pipeline.vocabulary import CLASSES
from tests.unit.figures import fakes, hard
from tests.unit.figures.legible import problems

Make = Callable[[Path], Figure]


def _maps(folder: Path) -> dict[str, object]:
    return {"overviews": fakes.write_overviews(folder / "o.parquet", hard.SLIDES[:2]), "slides": hard.SLIDES}


EASY: dict[str, Make] = {
    "composition": lambda folder: composition.draw(cohort=fakes.write_cohort(folder / "c.parquet")),
    "registration": lambda folder: registration.draw(registration=fakes.write_registration(folder / "r.parquet")),
    "reliability": lambda folder: reliability.draw(
        reliability=fakes.write_reliability(folder / "b.parquet"), heldout=fakes.write_ece(folder / "h.parquet")
    ),
    "complementarity": lambda folder: complementarity.draw(complementarity=fakes.write_complementarity(folder / "m.parquet")),
    "attribution": lambda folder: attribution.draw(attribution=fakes.write_attribution(folder / "a.parquet", cells=2)),
    "point_labels": lambda folder: point_labels.draw(
        gate=fakes.write_predictions(folder)["gate"][:1],
        point_images=fakes.write_point_images(folder / "p.parquet", fakes.SLIDES[:1]),
        slides=fakes.SLIDES[:1],
    ),
}
HARD: dict[str, Make] = {
    "composition": lambda folder: composition.draw(cohort=hard.write_cohort(folder / "c.parquet")),
    "registration": lambda folder: registration.draw(registration=hard.write_registration(folder / "r.parquet")),
    "confusion": lambda folder: confusion.draw(**hard.write_predictions(folder, seeds=2)),
    "confusion without errors": lambda folder: confusion.draw(**hard.write_predictions(folder, wrong=0)),
    "reliability": lambda folder: reliability.draw(
        reliability=hard.write_reliability(folder / "b.parquet"), heldout=fakes.write_ece(folder / "h.parquet")
    ),
    "complementarity": lambda folder: complementarity.draw(complementarity=hard.write_complementarity(folder / "m.parquet")),
    "gate_map": lambda folder: gate_map.draw(**hard.write_predictions(folder), **_maps(folder)),
    "cell_map": lambda folder: cell_map.draw(gate=hard.write_predictions(folder)["gate"], **_maps(folder)),
    "point_labels": lambda folder: point_labels.draw(
        gate=hard.write_predictions(folder, cells=4000)["gate"],
        point_images=fakes.write_point_images(folder / "p.parquet", hard.SLIDES, "a-case-with-a-very-long-name-that-goes-on-and-on"),
        slides=hard.SLIDES,
    ),
    "attribution": lambda folder: attribution.draw(attribution=hard.write_attribution(folder / "a.parquet")),
    "attribution without errors": lambda folder: attribution.draw(attribution=hard.write_attribution(folder / "a.parquet", wrong=False)),
}


@pytest.mark.parametrize("make", EASY.values(), ids=EASY.keys())
def test_a_figure_can_be_read(tmp_path: Path, make: Make) -> None:
    assert not problems(make(tmp_path))


@pytest.mark.parametrize("make", HARD.values(), ids=HARD.keys())
def test_the_hardest_figure_can_be_read(tmp_path: Path, make: Make) -> None:
    assert not problems(make(tmp_path))


def test_the_check_finds_what_it_looks_for() -> None:
    figure = Figure((2, 2))
    figure.text(0.5, 0.5, "large", fontsize=8)
    assert not problems(figure)
    figure.text(0.5, 0.1, "small", fontsize=5.5)
    figure.text(0.95, 0.9, "over the edge", fontsize=8)
    figure.text(0.52, 0.5, "on it", fontsize=8)
    figure.text(0.1, 0.3, "mean g", fontsize=8)
    figure.text(0.1, 0.7, "T cell on H&E", fontsize=8)
    assert [text.split("'")[1] for text in problems(figure)] == ["small", "mean g", "over the edge", "large"]


def test_many_cells_make_small_files(tmp_path: Path) -> None:
    paths = hard.write_predictions(tmp_path, cells=10_000, slides=("big",))
    overviews = fakes.write_overviews(tmp_path / "o.parquet", ("big",))
    inputs = {"gate": paths["gate"], "overviews": overviews}
    draw_figure(name="cell_map", inputs=inputs, options={"slides": ["big"]}, outputs=[tmp_path / "map.pdf"])
    assert (tmp_path / "map.pdf").stat().st_size < 7e5, "cells are pixels, because a million vector circles cannot be opened"


def test_all_classes_fit_into_the_confusion(tmp_path: Path) -> None:
    assert len(CLASSES) >= 22
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hard, "LONG", list(CLASSES[-16:]))
        first = hard.write_predictions(tmp_path / "a", slides=("a",))
        patch.setattr(hard, "LONG", list(CLASSES[:16]))
        second = hard.write_predictions(tmp_path / "b", slides=("b",))
    figure = confusion.draw(**{name: [*first[name], *second[name]] for name in first})
    assert len(figure.axes[0].get_yticks()) >= 21
    assert not problems(figure)


def test_names_and_shares_are_shortened() -> None:
    assert fit_name("pancreas-with-a-long-name-2", 21) == "pancreas-w…ong-name-2"
    assert fit_name("a" * 21, 21) == "a" * 21
    assert [percent(part, 10_000) for part in (0, 1, 4, 5, 1234, 10_000)] == ["0.0 %", "<0.1 %", "<0.1 %", "0.1 %", "12.3 %", "100.0 %"]
