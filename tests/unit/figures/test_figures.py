from types import SimpleNamespace

import pytest

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.figures import list_figures


def _run(figures: dict[int, str], unscored: tuple[str, ...] = (), colors: dict[str, str] | None = None) -> SimpleNamespace:
    def predictions(model: str, slides: tuple[str, ...]) -> list[str]:
        return [f"{model}/{slide}" for slide in slides]

    config = SimpleNamespace(file="run file", figures=figures, study=SimpleNamespace(colors=colors or {}))
    return SimpleNamespace(
        file="run file",
        heldout_slides=("a", "b"),
        registered_slides=() if colors else ("a",),
        unscored_slides=unscored,
        heldout_point_slides=("b",) if colors else (),
        seeds=(3, 4),
        first_seed_predictions=predictions,
        config=config,
        error=lambda field, problem, remedy: UserError("run file", field, problem, remedy),
    )


def test_each_figure_reads_the_held_out_slides() -> None:
    figures = list_figures(_run({1: "gate_map"}))
    assert figures["gate_map"].inputs == {
        "local": ["local/a", "local/b"],
        "global_": ["global/a", "global/b"],
        "gate": ["gate/a", "gate/b"],
        "overviews": "<results>/metrics/overviews.parquet",
    }
    assert figures["gate_map"].options == {"slides": ("a", "b")}
    assert [path.split("/", 1)[1] for path in figures["attribution"].inputs["attribution"]] == [
        f"metrics/base/attribution/seed-3/{slide}.parquet" for slide in "ab"
    ]


def test_only_unscored_slides_have_a_cell_map() -> None:
    assert "cell_map" not in list_figures(_run({}))
    assert list_figures(_run({}, ("c",)))["cell_map"].inputs == {
        "gate": ["gate/c"],
        "overviews": "<results>/metrics/overviews.parquet",
    }


def test_only_images_with_points_have_labels_beside_predictions() -> None:
    assert "point_labels" not in list_figures(_run({}, ("c",)))
    figure = list_figures(_run({4: "point_labels"}, colors={"Nerve": "#112233"}))["point_labels"]
    assert figure.inputs == {"gate": ["gate/b"], "point_images": "<results>/metrics/point_images.parquet"}
    assert figure.options == {"slides": ("b",), "colors": {"Nerve": "#112233"}}


def test_an_unknown_figure_is_a_user_error() -> None:
    with pytest.raises(UserError, match=r"figures\.2: there is no figure 'nonsense'"):
        list_figures(_run({1: "confusion", 2: "nonsense"}))


def test_figures_get_the_own_colors_and_none_is_of_a_registration_that_is_not_made() -> None:
    figures = list_figures(_run({}, colors={"Nerve": "#112233"}))
    assert "registration" not in figures
    assert all(figure.options["colors"] == {"Nerve": "#112233"} for figure in figures.values())
    assert not list_figures(_run({}))["composition"].options
