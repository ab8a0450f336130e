"""`nuclass import-points` and `nuclass import-holdouts`: data sets of others as slides."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from nuclass_pipeline.cli.common import console


def import_points(
    source: Annotated[Path, typer.Argument(help="folder of the data set; for `table`, the file")],
    out: Annotated[Path, typer.Option(help="folder to write: slides with copies of the images, slide sheet, label map, run files")],
    layout: Annotated[Literal["m2c", "ocelot", "nucls", "table"], typer.Option(help="how the data set is laid out: docs/data.md")],
    folds: Annotated[int, typer.Option(help="number of slides, among which whole cases are spread")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="seed of the folds")] = 0,
    mpp: Annotated[float | None, typer.Option(help="pixel size of the images, µm; if left out, that of the data set")] = None,
) -> None:
    """Import images with a labelled point for each cell as slides of kind `images`, with a run file for each fold."""
    from nuclass_pipeline.config.loading.points import mpp_problem
    from nuclass_pipeline.data.points.layouts import LAYOUTS
    from nuclass_pipeline.data.points.study import spread_cases, write_study
    from nuclass_pipeline.errors import UserError
    from nuclass_pipeline.io import require

    if mpp is not None and (found := mpp_problem(mpp)):
        problem, remedy = found
        raise UserError("nuclass import-points", "--mpp", problem, remedy)
    require(source, "Name the folder of the data set, or the table of its points.")
    data = LAYOUTS[layout](source, mpp)
    runs = write_study(data, out, spread_cases(data, folds, seed), Path(__file__).parents[3])
    empty = data.empty_images
    unused = [f"{len(empty)} of {len(data.images)} images have no point, such as {empty[0]}"] if empty else []
    for note in (*data.notes, *unused):
        console.print(f"warning: {note}", soft_wrap=True, highlight=False)
    cases = {image.case for image in data.images.values()}
    console.print(f"{len(runs)} slides: {len(data.images)} images of {len(cases)} cases, {len(data.points)} cells", highlight=False)
    console.print(f"next: snakemake --cores 2 --configfile {runs[0]}", soft_wrap=True, highlight=False)


def import_holdouts(
    file: Annotated[Path, typer.Argument(help="hold-outs file of the public reference (JSON)")],
    out: Annotated[Path, typer.Option(help="slide sheet to write; rows are added to one that is there")],
) -> None:
    """Add the hold-outs of the public reference to a slide sheet, as slides of kind `trio`."""
    from nuclass_pipeline.data.trio.holdouts import add_slides, read_holdouts

    found = read_holdouts(file)
    add_slides(out, list(found.values()))
    for name, slide in found.items():
        if name != slide.slide:
            console.print(f"warning: {name} is named {slide.slide}", soft_wrap=True, highlight=False)
    rows = "row" if len(found) == 1 else "rows"
    console.print(f"{out}: {len(found)} {rows} added", soft_wrap=True, highlight=False)
    names = ", ".join(slide.slide for slide in found.values())
    console.print(f"next: add to study.heldout of the run file: {names}", soft_wrap=True, highlight=False)
