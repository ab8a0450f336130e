"""Figures: one module each, drawn from tables only. The list below says what each reads."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nuclass_pipeline.errors import similar
from nuclass_pipeline.layout import files, of_base

if TYPE_CHECKING:
    from nuclass_pipeline.config.run import Run


@dataclass(frozen=True)
class Figure:
    """What a figure is drawn from.

    Attributes
    ----------
    inputs
        Arguments of `draw` in the module of the figure's name: paths, or lists of paths.
    options
        Its other arguments, plain values.
    """

    inputs: dict[str, str | list[str]]
    options: dict[str, Any] = field(default_factory=dict)


def list_figures(run: "Run") -> dict[str, Figure]:
    """Return the figures of a run by name, in the order of the report.

    Raises
    ------
    UserError
        If the run file numbers a figure that is not in the list.
    """
    figures = _figures_of_models(run) if run.heldout_slides else {}
    for number, name in run.config.figures.items():
        if name not in figures:
            remedy = f"Use one of {', '.join(figures)}." if figures else "Remove the key; labels are drawn in the label reports."
            raise run.error(f"figures.{number}", f"there is no figure {name!r}{similar(name, figures)}", remedy)
    return figures


def _figures_of_models(run: "Run") -> dict[str, Figure]:
    heldout, unscored = run.heldout_slides, run.unscored_slides
    predictions = {name: run.first_seed_predictions(name.strip("_"), heldout) for name in ("local", "global_", "gate")}
    figures = {
        "composition": Figure({"cohort": files.cohort_metrics}),
        **({"registration": Figure({"registration": files.registration_metrics})} if run.registered_slides else {}),
        "confusion": Figure({**predictions}),
        "reliability": Figure({"reliability": of_base(files.reliability_metrics), "heldout": of_base(files.heldout_metrics)}),
        "complementarity": Figure({"complementarity": of_base(files.complementarity_metrics)}),
        "gate_map": Figure({**predictions, "overviews": files.overview_metrics}, {"slides": heldout}),
        "attribution": Figure(
            {"attribution": [of_base(files.attribution_metrics).format(seed=run.seeds[0], slide=slide) for slide in heldout]}
        ),
    }
    if points := run.heldout_point_slides:
        inputs = {"gate": run.first_seed_predictions("gate", points), "point_images": files.point_image_metrics}
        figures["point_labels"] = Figure(inputs, {"slides": points})
    if unscored:
        inputs = {"gate": run.first_seed_predictions("gate", unscored), "overviews": files.overview_metrics}
        figures["cell_map"] = Figure(inputs, {"slides": unscored})
    if colors := run.config.study.colors:
        for figure in figures.values():
            figure.options["colors"] = colors
    return figures
