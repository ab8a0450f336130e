"""The slide sheet: which slides exist and where their files are. The run file assigns their roles."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from nuclass_pipeline.config.base import InputPath, Name, Section
from nuclass_pipeline.config.errors import describe_problem
from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.config.loading.points import IMAGES, POINTS, picture_files
from nuclass_pipeline.config.loading.trios import ANNOTATIONS, patch_paths
from nuclass_pipeline.errors import UserError, similar
from nuclass_pipeline.io import COLUMN_MARK, read_rows, split_column
from nuclass_pipeline.io.addresses import address_problem, show_address
from nuclass_pipeline.layout import UNPACKED_MANIFEST
from nuclass_pipeline.vocabulary import ORGANS, OTHER_ORGAN

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
"""Endings of an archive, in small letters or capitals."""
_TABLE_ENDINGS, _IMAGE_ENDINGS = (".csv", ".tsv", ".txt", ".json"), (".tif", ".tiff", ".svs", ".png", ".jpg", ".jpeg")
"""Endings of tables and of images, to find two columns exchanged."""
_FIXED = {
    "bundle": "resources/{origin}/{slide}/outs",
    "image": "resources/{origin}/{slide}/{slide}_he_image.ome.tif",
    "alignment": "resources/{origin}/{slide}/{slide}_he_imagealignment.csv",
}
"""Paths that the rules `make_slide` and `fetch_slide` write."""

_MATRIX = "cell_feature_matrix"
_TABLE_SUFFIXES = (".parquet", ".csv.gz", ".csv")
# Each of the cell tables, because they are compared; of all else the first that is there.
READ_FILES = (
    *((f"cells{suffix}",) for suffix in (*_TABLE_SUFFIXES, ".zarr.zip")),
    (f"{_MATRIX}.h5", f"{_MATRIX}/*", f"{_MATRIX}.tar.gz", f"{_MATRIX}.zarr.zip"),
    *(tuple(f"{name}{suffix}" for suffix in _TABLE_SUFFIXES) for name in ("transcripts", "cell_boundaries", "nucleus_boundaries")),
    ("gene_panel.json",),
    ("morphology_focus/*.ome.tif", "morphology_focus.ome.tif", "morphology.ome.tif", "morphology_mip.ome.tif"),
)
"""Files of a bundle that `read_cells` reads beside `experiment.xenium`; of the names in a row, the first that is there."""


def _check_url(url: str) -> str:
    if url and (problem := address_problem(url)):
        raise ValueError(f"{problem}. Write it whole, such as https://host/file.zip")
    return url


Url = Annotated[str, AfterValidator(_check_url)]


class Slide(Section):
    """One row of the sheet.

    `bundle` is the Xenium output folder or an archive of it, the folder of a trio (`annotations.json` and two patch files),
    or that of images with points (`images.csv` and `points.csv`).
    Columns that have a default may be left out of the sheet.
    """

    slide: Name = Field(description="id: lower-case letters, digits and hyphens")
    kind: Literal["xenium", "image", "trio", "images", "synthetic"] = Field(
        description="xenium: a bundle with its H&E, or without one to label it only; image: an H&E alone; trio: annotations and patches; "
        "images: images with a labelled point for each cell; synthetic: a demo slide"
    )
    organ: Literal[(*ORGANS, OTHER_ORGAN)] = Field(description="organ")  # type: ignore[valid-type]
    release: str = Field("", description="release of the software that wrote a public bundle")
    bundle: InputPath = Field("", description="folder of the bundle, or an archive of it; or folder of the trio, or of the images")
    image: InputPath = Field("", description="H&E image")
    mpp: float | None = Field(None, gt=0, description="kind image: pixel size, µm, if the file states none or a wrong one")
    alignment: InputPath = Field("", description="imagealignment.csv; empty for an H&E already in Xenium pixels")
    bundle_url: Url = Field("", description="where the zipped bundle is downloaded from; empty for files of your own")
    image_url: Url = Field("", description="the same for the H&E image")
    alignment_url: Url = Field("", description="the same for the alignment; empty for an H&E already in Xenium pixels")
    annotation: InputPath = Field("", description="a person's labels, if not in labeling.annotation: a path, or path::column")
    clusters: InputPath = Field(
        "", description="a person's clusters in place of Leiden's, kinds xenium and synthetic: table of cell_id, cluster"
    )
    cells: int | None = Field(None, ge=1, description="about how many cells, for `nuclass plan` and the memory of jobs before a download")
    label_source: str = Field("", description="where the labels of a public slide come from")
    note: str = Field("", description="free text")

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Self:
        # No image of kind xenium, because a slide that is only labelled has none; `check_images` looks at the others.
        needed = {"image": ("image",), "synthetic": ("bundle", "image")}.get(self.kind, ("bundle",))
        if empty := [name for name in needed if not getattr(self, name)]:
            raise ValueError(f"{empty[0]} is empty; a slide of kind {self.kind} needs it. Fill it in")
        urls, by_hand = ("bundle_url", "image_url", "alignment_url"), ("annotation", "clusters")
        unfit = {
            "image": ("bundle", "alignment", *urls, *by_hand),
            **dict.fromkeys(("trio", "images"), ("image", "alignment", "mpp", *urls, *by_hand)),
            "synthetic": ("mpp", *urls),
        }
        if given := [name for name in unfit.get(self.kind, ("mpp",)) if getattr(self, name)]:
            raise ValueError(f"{given[0]} does not apply to a slide of kind {self.kind}. Leave it empty")
        return self

    @model_validator(mode="after")
    def _organ_has_markers(self) -> Self:
        if self.organ == OTHER_ORGAN and self.kind in ("xenium", "synthetic"):
            raise ValueError(f"organ {OTHER_ORGAN} has no markers to label a slide from. Use one of {', '.join(ORGANS)}")
        return self

    @model_validator(mode="after")
    def _image_is_no_table(self) -> Self:
        if self.image.lower().endswith(_TABLE_ENDINGS):
            raise ValueError(f"image is {self.image}, a table; perhaps image and alignment are exchanged. Write the path of the H&E")
        if self.alignment.lower().endswith(_IMAGE_ENDINGS):
            raise ValueError(f"alignment is {self.alignment}, an image. Write the path of the alignment, or leave it empty")
        if self.alignment and not self.image:
            raise ValueError("image is empty, so the alignment would not be used. Fill in image, or leave both empty")
        return self

    @model_validator(mode="after")
    def _lies_where_its_rule_writes(self) -> Self:
        if any(self.urls.values()) and not (self.bundle_url and self.image_url):
            raise ValueError("a download needs both bundle_url and image_url. Fill in both, or neither")
        if self.alignment_url and not self.alignment:
            raise ValueError("alignment is empty, so the file at alignment_url would not be used. Fill in alignment")
        for name, expected in self.fixed_paths.items():
            if (found := getattr(self, name)) and found != expected:
                raise ValueError(f"{name} is {found}, and its rule writes {expected}. Write that path")
        return self

    @property
    def fixed_paths(self) -> dict[str, str]:
        """Paths of the files that a rule makes or downloads; empty for files of one's own."""
        origin = "synthetic" if self.kind == "synthetic" else "xenium"
        coming = self.kind == "synthetic" or self.bundle_url
        return {name: path.format(origin=origin, slide=self.slide) for name, path in _FIXED.items()} if coming else {}

    @property
    def archived(self) -> bool:
        """Whether the bundle is an archive that has to be unpacked first."""
        return self.kind == "xenium" and self.bundle.lower().endswith(ARCHIVES)

    @property
    def manifest(self) -> str:
        """Path of the bundle's `experiment.xenium`."""
        return UNPACKED_MANIFEST.format(slide=self.slide) if self.archived else f"{self.bundle}/experiment.xenium"

    @property
    def urls(self) -> dict[str, str]:
        """Addresses of the bundle, the H&E and the alignment."""
        return {"bundle_url": self.bundle_url, "image_url": self.image_url, "alignment_url": self.alignment_url}

    @property
    def shown_urls(self) -> dict[str, str]:
        """The same without signatures and keys, which change while the files do not."""
        return {name: show_address(url) for name, url in self.urls.items()}

    def trio_files(self, image: ImageConfig) -> dict[str, str]:
        """Return the paths of the annotations and the two patch files of a slide of kind `trio`."""
        local, context = patch_paths(self.bundle, image)
        return {"annotations": f"{self.bundle}/{ANNOTATIONS}", "local": local, "context": context}

    @property
    def pictures(self) -> list[str]:
        """Paths of the pictures of a slide of kind `images`."""
        return picture_files(self.bundle)

    @property
    def first_file(self) -> str:
        """Path of what must be there before anything is run, beside image and alignment; empty for an H&E alone."""
        if self.kind == "image" or self.archived:
            return self.bundle
        first = {"trio": f"{self.bundle}/{ANNOTATIONS}", "images": f"{self.bundle}/{IMAGES}"}
        return first.get(self.kind, self.manifest)

    @property
    def own_files(self) -> dict[str, str]:
        """Column → path of the files that must be there before anything is run."""
        found = {"bundle": self.first_file, "image": self.image, "alignment": self.alignment}
        return {} if self.fixed_paths else {name: path for name, path in found.items() if path}

    def read_files(self, image: ImageConfig) -> list[str]:
        """Return all files of the slide that rules read."""
        if self.kind == "trio":
            return list(self.trio_files(image).values())
        if self.kind == "images":
            return [f"{self.bundle}/{IMAGES}", f"{self.bundle}/{POINTS}", *self.pictures]
        bundle = [] if self.kind == "image" else [self.manifest, *self.bundle_files]
        return [*bundle, *(path for path in (self.image, self.alignment) if path)]

    @property
    def bundle_files(self) -> list[str]:
        """Files of a bundle of one's own that are read beside its manifest.

        A bundle that a rule makes has none, because the rule writes its manifest last.
        """
        if self.kind != "xenium" or self.archived or self.fixed_paths:
            return []
        folder = Path(self.bundle)
        present = {name: [path for path in sorted(folder.glob(name)) if path.is_file()] for names in READ_FILES for name in names}
        found = [next((present[name] for name in names if present[name]), []) for names in READ_FILES]
        return [f"{self.bundle}/{path.relative_to(folder)}" for paths in found for path in paths]


def read_slides(path: Path) -> dict[str, Slide]:
    """Read the sheet; keys are slide ids.

    Raises
    ------
    UserError
        If the sheet is missing, is not a table, lacks a column, repeats a slide or holds a value that is not allowed.
    """
    fields = Slide.model_fields
    required = [name for name, field in fields.items() if field.is_required()]
    table = read_rows(path, required=required, missing="Name the slide sheet in the run file under `slides`.")
    if unknown := [name for name in table.columns if name not in fields]:
        problem = f"unknown column{similar(unknown[0], fields)}"
        raise UserError(path, unknown[0], problem, f"Allowed are {', '.join(fields)}, separated by tabs.")
    slides: dict[str, Slide] = {}
    for line, row in table.rows:
        slide = _parse(path, line, row)
        if slide.slide in slides:
            raise UserError(path, f"line {line}, slide", f"{slide.slide!r} has two rows", "Remove one of them.")
        slides[slide.slide] = slide
    return slides


def _parse(path: Path, line: int, row: dict[str, str]) -> Slide:
    try:
        return Slide.model_validate({key: value for key, value in row.items() if value})
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else "row"
        problem, remedy = describe_problem(first, "See docs/data.md for the columns.")
        raise UserError(path, f"line {line}, {field}", problem, remedy) from error


def place_slide(slide: Slide, find: Callable[[str], str], coming: set[str]) -> Slide:
    """Return the slide with its paths where `find` finds them, except those in `coming`, which rules write where they run."""
    own = {name: find(path) for name in _FIXED if (path := getattr(slide, name)) and path not in coming}
    for name in ("annotation", "clusters"):
        path, column = split_column(getattr(slide, name))
        own |= {name: find(path) + (f"{COLUMN_MARK}{column}" if column else "")} if path else {}
    return slide.model_copy(update=own)
