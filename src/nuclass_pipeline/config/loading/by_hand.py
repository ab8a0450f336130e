"""The files in which a person labels or clusters cells: where they lie, and which slide has which."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nuclass_pipeline.config.loading.roles import StudySlides
from nuclass_pipeline.config.loading.run_files import is_set
from nuclass_pipeline.errors import UserError, similar
from nuclass_pipeline.io import read_rows, split_column

if TYPE_CHECKING:
    from nuclass_pipeline.config.run import Run

LABEL_ENDINGS = (".csv", ".h5ad")
"""Endings of files with a label for each cell."""
NAMES_ENDING = ".names.tsv"
"""Ending of the table of names beside such a file."""


def names_beside(table: Path) -> Path:
    """Return the table of names beside a person's labels: `mine.names.tsv` beside `mine.csv`."""
    return table.with_name(table.stem + NAMES_ENDING)


class HandMade(StudySlides):
    """Files of a person about the slides of a run."""

    @property
    def hand_made(self) -> list[tuple[Path, str | None]]:
        """Files in which a person labels clusters or cells of a slide of the study, and their column of labels where one is named."""
        found = [(self.annotation(slide, form), self.label_column(slide)) for slide in self.slides_with_xenium for form in ("tsv", "csv")]
        return [(Path(path), column) for path, column in found if isinstance(path, str)]

    @property
    def annotations(self) -> list[str]:
        """All files of a person: labels and clusters of slides of the study, and tables of names."""
        further = [path for slide in self.slides_with_xenium for path in (self.own_clusters(slide), self.names(slide))]
        return [*(str(path) for path, _ in self.hand_made), *(path for path in further if isinstance(path, str))]

    def annotation(self, slide: str, form: Literal["tsv", "csv"]) -> str | list[str]:
        """Return the file in which a person labels `slide`'s clusters (tsv) or cells (csv or h5ad), or nothing if there is none."""
        if given := split_column(self.slides[slide].annotation)[0]:
            return given if (Path(given).suffix == ".tsv") == (form == "tsv") else []
        folder = self.config.labeling.annotation
        paths = [f"{folder}/{slide}{ending}" for ending in ((".tsv",) if form == "tsv" else LABEL_ENDINGS)]
        return next((path for path in paths if Path(path).is_file()), [])

    def label_map(self, slide: str) -> str | list[str]:
        """Return the map from raw labels to classes, or nothing if no person labels cells of `slide`."""
        return self.config.labels if self.annotation(slide, "csv") else []

    def label_column(self, slide: str) -> str | None:
        """Return the column of labels that the slide sheet names."""
        return split_column(self.slides[slide].annotation)[1]

    def names(self, slide: str) -> str | list[str]:
        """Return the table of names beside a person's labels, or nothing if it has no label yet."""
        if not isinstance(path := self.annotation(slide, "csv"), str) or not names_beside(Path(path)).is_file():
            return []
        # Not if it is still to be filled in, because a job writes it so, and would run again by it.
        table = names_beside(Path(path))
        return str(table) if any(row.get("label") for _, row in read_rows(table).rows) else []

    def own_clusters(self, slide: str) -> str | list[str]:
        """Return the table of a person's clusters of `slide`, or nothing if there is none."""
        return split_column(self.slides[slide].clusters)[0] or []

    @property
    def clustered_by_hand(self) -> list[str]:
        """Slides with a person's clusters."""
        return [slide for slide in self.slides_with_xenium if self.own_clusters(slide)]

    def cluster_column(self, slide: str) -> str | None:
        """Return the column of clusters that the slide sheet names."""
        return split_column(self.slides[slide].clusters)[1]


def check_annotation(run: "Run") -> None:
    """Check that each file of a person's labels is read, and read in one way."""
    folder = Path(run.config.labeling.annotation)
    if is_set("labeling.annotation", run.sources) and not folder.is_dir():
        raise run.error("labeling.annotation", f"{folder} is not a folder", "Make the folder, or correct the path.")
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        _check_name(run, path)
    for slide in run.slides_with_xenium:
        _check_sheet(run, slide)
        found = [path for ending in (".tsv", *LABEL_ENDINGS) if (path := folder / f"{slide}{ending}").is_file()]
        if given := split_column(run.slides[slide].annotation)[0]:
            found = [Path(given), *(path for path in found if path.resolve() != Path(given).resolve())]
        if len(found) > 1:
            remedy = "Remove one of them: edits of clusters (tsv), or labels of cells (csv or h5ad)."
            raise UserError(found[1], "file", f"slide {slide} also has {found[0]}", remedy)


def _check_name(run: "Run", path: Path) -> None:
    """Check that a file in the folder of a person's labels is one that is read."""
    name, *suffixes = path.name.split(".")
    read = suffixes in (["tsv"], ["csv"], ["h5ad"])
    if (read or suffixes == NAMES_ENDING.split(".")[1:]) and name not in run.catalogue:
        problem = f"no slide has this name{similar(name, run.catalogue)}"
        raise UserError(
            path,
            "name",
            problem,
            "Name the file after its slide: <slide>.tsv for edits, <slide>.csv for labels, <slide>.names.tsv for names.",
        )
    if name in run.slides and not read and not path.name.endswith(NAMES_ENDING):
        remedy = f"Save it as {name}.tsv, a person's edits, or {name}.csv or .h5ad, provided labels; or move it to another folder."
        raise UserError(path, "name", "only files that end with .tsv, .csv or .h5ad are read", remedy)
    if name in run.slides and name not in run.slides_with_xenium:
        problem = f"a slide of kind {run.slides[name].kind} has no labels to replace"
        raise UserError(path, "file", problem, "Remove the file.")


def _check_sheet(run: "Run", slide: str) -> None:
    """Check that the files of a person that the slide sheet names are there."""
    for column in ("annotation", "clusters"):
        path = split_column(getattr(run.slides[slide], column))[0]
        if path and not Path(path).is_file():
            raise UserError(run.config.slides, f"{slide}, {column}", f"{path!r} does not exist", "Correct the path, or put the file there.")
        endings = (".tsv", *LABEL_ENDINGS) if column == "annotation" else (".tsv", ".txt", *LABEL_ENDINGS)
        if path and not path.endswith(endings):
            problem = f"{path!r} ends with none of {', '.join(endings)}"
            raise UserError(run.config.slides, f"{slide}, {column}", problem, "Save it as one of these, and correct the path.")
