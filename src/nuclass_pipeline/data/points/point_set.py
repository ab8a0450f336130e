"""A data set of images with points, as every layout is read."""

from dataclasses import dataclass, field

from nuclass_pipeline.config.loading.points import Point, PointImage
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.vocabulary import CLASSES

RED, GREEN, BLUE, BROWN = "#9b2c2d", "#429b45", "#3075e2", "#90590d"
KNOWN_COLORS = {
    **{"Lymphocyte": BLUE, "Tumor_or_Epithelial": RED, "Stromal": GREEN},
    **{"Other": BLUE, "Tumor": RED},
    **{"tumor_any": RED, "nonTIL_stromal": GREEN, "sTIL": BLUE, "other_nucleus": BROWN},
}
"""Colors of the classes of M2C, OCELOT and NuCLS, by lineage as those of the vocabulary."""
# Those of Okabe and Ito, and of Tol, because they differ for color-blind readers too.
PALETTE = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),
    *("#332288", "#882255", "#999933", "#44aa99", "#661100", "#ddcc77"),
)
"""Colors of classes that have none."""


@dataclass(frozen=True)
class PointSet:
    """A data set of images with points.

    Attributes
    ----------
    name, organ
        Prefix of its slides, and their organ.
    images, points
        The images by name, and a point for each cell.
    classes
        Raw class → class of the study.
    groups
        Image → what folds are balanced by, beside the classes; empty where there is nothing.
    notes
        What was left out or assumed.
    """

    name: str
    organ: str
    images: dict[str, PointImage]
    points: list[Point]
    classes: dict[str, str]
    groups: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def empty_images(self) -> list[str]:
        """Images without a point."""
        return sorted(set(self.images) - {point.image for point in self.points})

    @property
    def colors(self) -> dict[str, str]:
        """Own class → color."""
        own = [name for name in dict.fromkeys(self.classes.values()) if name not in CLASSES]
        others = [name for name in own if name not in KNOWN_COLORS]
        if len(others) > len(PALETTE):
            problem = f"{len(others)} classes need a color, and {len(PALETTE)} differ enough"
            raise UserError(
                "nuclass import-points", "class", problem, "Join some classes, or use names of the vocabulary (docs/labels.md)."
            )
        free = dict(zip(others, PALETTE, strict=False))
        return {name: KNOWN_COLORS.get(name) or free[name] for name in own}
