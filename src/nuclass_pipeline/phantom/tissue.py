"""Cells: their class, niche and place."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nuclass_pipeline.arrays import Floats, Integers
from nuclass_pipeline.phantom.classes import LOOKS
from nuclass_pipeline.phantom.layout import MARGIN_UM, NEST, NORMAL, STROMA, Discs, Layout

# About half a local crop, because the crops of most cells deeper in the stroma than this must show no parenchyma.
DEEP_UM = 27.0
GLAND_CLASS = {"lung": "Epithelial_Airway", "pancreas": "Acinar"}
GRANULAR_CLASS = {"lung": "Mast_Cell", "pancreas": "Endocrine"}
LINING_CLASS = {"lung": "Epithelial_Alveolar", "pancreas": "Ductal"}


@dataclass
class Cells:
    """Cells in the order of their ids.

    Attributes
    ----------
    xy_um
        (N, 2) centre of the nucleus, µm.
    label
        (N,) class.
    niche
        (N,) tissue compartment.
    direction_rad
        (N,) direction of the long axis of the nucleus, radians.
    """

    xy_um: Floats
    label: NDArray[np.str_]
    niche: NDArray[np.str_]
    direction_rad: Floats

    def __len__(self) -> int:
        return len(self.xy_um)

    def take(self, order: Integers) -> "Cells":
        """Return the cells of these rows, in this order."""
        return Cells(self.xy_um[order], self.label[order], self.niche[order], self.direction_rad[order])


@dataclass
class _Packing:
    """Cells and holes accepted so far, as discs that do not overlap.

    Attributes
    ----------
    capacity
        Discs that fit into the arrays.
    xy, radius
        (capacity, 2) centres and (capacity,) radii of the discs, µm.
    used
        Discs accepted so far.
    cells
        x, y, class, niche and direction of the accepted cells.
    """

    capacity: int
    xy: Floats = field(init=False)
    radius: Floats = field(init=False)
    used: int = 0
    cells: list[tuple[float, float, str, str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.xy, self.radius = np.empty((self.capacity, 2)), np.empty(self.capacity)

    def fits(self, xy: Floats, radius: float) -> bool:
        """Return whether a disc overlaps no other."""
        offset = self.xy[: self.used] - xy
        return bool((np.einsum("ij,ij->i", offset, offset) >= (self.radius[: self.used] + radius) ** 2).all())

    def block(self, xy: Floats, radius: float) -> None:
        """Keep cells out of a disc."""
        self.xy[self.used], self.radius[self.used] = xy, radius
        self.used += 1

    def add(self, xy: Floats, label: str, niche: str, direction: float) -> bool:
        """Accept the cell if there is room for it."""
        radius = LOOKS[label].keep_out_um
        if self.used >= self.capacity or not self.fits(xy, radius):
            return False
        self.block(xy, radius)
        self.cells.append((float(xy[0]), float(xy[1]), label, niche, direction))
        return True


@dataclass(frozen=True)
class Mix:
    """Proportions that differ from slide to slide.

    Attributes
    ----------
    fibroblast, endothelial, t_cell, macrophage
        Weights of the classes in the stroma.
    granular
        Share of granular cells in normal islands; the others are gland cells.
    vessels
        Factor on the number of capillaries.
    """

    fibroblast: float
    endothelial: float
    t_cell: float
    macrophage: float
    granular: float
    vessels: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Mix":
        """Draw each proportion between 0.8 and 1.25 times its typical value."""
        return cls(*(rng.uniform(0.8, 1.25, 6) * [0.70, 0.10, 0.20, 0.20, 0.45, 1.0]))


def populate(rng: np.random.Generator, layout: Layout, cells: int) -> Cells:
    """Place cells of all classes of the organ.

    Parameters
    ----------
    rng
        Source of randomness.
    layout
        Geometry of the slide; the holes that vessels and lumens make are added to it.
    cells
        Number of cells wanted; the result may have a few less.
    """
    mix, packing = Mix.draw(rng), _Packing(cells * 2 + 2000)
    area = layout.size_um[0] * layout.size_um[1]
    # Largest structures first, because they need room that scattered cells would take.
    _arterioles(rng, layout, packing)
    _aggregates(rng, layout, packing)
    _vessels(rng, layout, packing, round(area / 7600 * mix.vessels))
    _lumens(rng, layout, packing)
    _fill_parenchyma(rng, layout, packing, mix, round(0.35 * cells))
    _fill_stroma(rng, layout, packing, mix, cells)
    table = list(zip(*packing.cells, strict=True))
    found = Cells(np.array(table[:2]).T, np.array(table[2]), np.array(table[3]), np.array(table[4]))
    return found.take(rng.permutation(len(found)))


def _scatter(rng: np.random.Generator, layout: Layout, n: int) -> Floats:
    """Draw about `n` points in the tissue, at least 3.5 µm from its edge."""
    xy = rng.uniform(0, 1, (n, 2)) * layout.size_um + MARGIN_UM
    return xy[layout.edge(xy) > 3.5]


def _sites(rng: np.random.Generator, layout: Layout, packing: _Packing, radius_um: float, depth_um: float, per_zone: int) -> Floats:
    """Find places for discs deep in the stroma, at most `per_zone` around an island; none is blocked."""
    xy = _scatter(rng, layout, 6000)
    region, depth, _ = layout.regions(xy)
    inside = (region == STROMA) & (depth > depth_um) & (layout.edge(xy) > radius_um + 4) & layout.clear(xy)
    xy = xy[inside]
    zone, _ = layout.islands.reach(xy)
    chosen: list[int] = []
    for index in range(len(xy)):
        near = chosen and np.hypot(*(xy[chosen] - xy[index]).T).min() < 2.2 * radius_um
        if not near and (zone[chosen] == zone[index]).sum() < per_zone and packing.fits(xy[index], radius_um):
            chosen.append(index)
    return np.asarray(xy[chosen])


def _ring(rng: np.random.Generator, packing: _Packing, center: Floats, radius_um: float, spacing_um: float, label: str, niche: str) -> None:
    """Place cells on a circle, their nuclei along it."""
    n = max(3, round(2 * np.pi * radius_um / spacing_um))
    angles = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(n) / n + rng.normal(0, 0.06, n)
    for angle in angles:
        packing.add(center + radius_um * np.array([np.cos(angle), np.sin(angle)]), label, niche, float(angle + np.pi / 2))


def _endothelium(layout: Layout, center: Floats) -> tuple[str, str]:
    tumour = bool(layout.regions(center[None])[2][0])
    return ("Endothelial_TumorAssociated", "tumour stroma") if tumour else ("Endothelial", "normal stroma")


def _arterioles(rng: np.random.Generator, layout: Layout, packing: _Packing) -> None:
    centers = _sites(rng, layout, packing, 21, DEEP_UM + 3, 1)
    for center in centers:
        packing.block(center, 5.2)
        _ring(rng, packing, center, 9.2, 13, *_endothelium(layout, center))
        _ring(rng, packing, center, 14.5, 10.5, "Smooth_Muscle", "vessel wall")
        _ring(rng, packing, center, 20.5, 14.0, "Smooth_Muscle", "vessel wall")
    layout.discs.append(Discs(centers, np.full(len(centers), 7.2), np.full(len(centers), "arteriole")))


def _aggregates(rng: np.random.Generator, layout: Layout, packing: _Packing) -> None:
    centers = _sites(rng, layout, packing, 25, 14, 1)
    for center in centers:
        for radius, label in [*[(16.0, "B_Cell")] * 160, *[(25.0, "T_Cell")] * 22, *[(25.0, "Macrophage")] * 18]:
            offset = rng.normal(0, 1, 2)
            offset *= radius * np.sqrt(rng.uniform(0, 1)) / np.linalg.norm(offset)
            packing.add(center + offset, label, "lymphoid aggregate", float(rng.uniform(0, np.pi)))


def _vessels(rng: np.random.Generator, layout: Layout, packing: _Packing, n: int) -> None:
    centers = _sites(rng, layout, packing, 9.5, DEEP_UM + 6, 1 + n // 4)[:n]
    radii = rng.uniform(3.2, 5.0, len(centers))
    for center, radius in zip(centers, radii, strict=True):
        packing.block(center, radius - 2)
        _ring(rng, packing, center, radius + 2.2, 9.5, *_endothelium(layout, center))
    layout.discs.append(Discs(centers, radii, np.full(len(centers), "vessel")))


def _holes(
    rng: np.random.Generator, layout: Layout, packing: _Packing, radii_um: Floats, gap_um: float, overhang_um: float
) -> tuple[Floats, Floats]:
    """Pack discs of the given radii, sorted from the largest, into normal islands."""
    centers: list[Floats] = []
    kept: list[float] = []
    xy = _scatter(rng, layout, len(radii_um))
    radii_um = radii_um[: len(xy)]
    region, depth, tumour = layout.regions(xy)
    good = ~tumour & (region != 0) & (depth < overhang_um - radii_um) & (layout.edge(xy) > radii_um + 3)
    for center, radius in zip(xy[good], radii_um[good], strict=True):
        clear = not centers or (np.hypot(*(np.array(centers) - center).T) > np.array(kept) + radius + gap_um).all()
        if clear and packing.fits(center, float(radius)):
            centers.append(center)
            kept.append(float(radius))
    return np.array(centers).reshape(-1, 2), np.array(kept)


def _lumens(rng: np.random.Generator, layout: Layout, packing: _Packing) -> None:
    centers, radii = _holes(rng, layout, packing, np.sort(rng.uniform(6, 10, 6000))[::-1], 26, -1.0)
    # All are blocked before the first ring, because a ring must not take the place of another lumen.
    for center, radius in zip(centers, radii, strict=True):
        packing.block(center, radius - 0.5)
    for center, radius in zip(centers, radii, strict=True):
        _ring(rng, packing, center, radius + 4.0, 9.5, LINING_CLASS[layout.organ], "lumen")
    layout.discs.append(Discs(centers, radii, np.full(len(centers), "lumen")))


def _fill_parenchyma(rng: np.random.Generator, layout: Layout, packing: _Packing, mix: Mix, most: int) -> None:
    xy = _scatter(rng, layout, 12 * most)
    region, _, _ = layout.regions(xy)
    before = len(packing.cells)
    for point, code in zip(xy, region, strict=True):
        if len(packing.cells) >= before + most:
            return
        angle = float(rng.uniform(0, np.pi))
        if code == NEST:
            packing.add(point, "Epithelial_Malignant", "nest", angle)
        elif code == NORMAL:
            packing.add(point, GRANULAR_CLASS[layout.organ] if rng.uniform() < mix.granular else GLAND_CLASS[layout.organ], "gland", angle)


def _fill_stroma(rng: np.random.Generator, layout: Layout, packing: _Packing, mix: Mix, total: int) -> None:
    xy = _scatter(rng, layout, 10 * total)
    region, depth, tumour = layout.regions(xy)
    xy, depth, tumour = xy[region == STROMA], depth[region == STROMA], tumour[region == STROMA]
    typed = (depth > DEEP_UM) & layout.clear(xy)
    # No fibroblasts or vessels in ambiguous places, because their surroundings must show whether the stroma is tumour stroma.
    inner = np.array([mix.fibroblast, mix.endothelial, mix.t_cell, mix.macrophage])
    outer = np.array([0.0, 0.0, mix.t_cell, mix.macrophage])
    angle = layout.direction(xy) + rng.normal(0, 0.22, len(xy))
    for point, deep, sick, direction, sure in zip(xy, depth, tumour, angle, typed, strict=True):
        if len(packing.cells) >= total:
            return
        if deep < DEEP_UM and rng.uniform() > 0.25:
            continue
        weights = inner if sure else outer
        kind = int(rng.choice(4, p=weights / weights.sum()))
        names = ("Tumor_Associated_Fibroblast", "Endothelial_TumorAssociated") if sick else ("Fibroblast", "Endothelial")
        packing.add(point, (*names, "T_Cell", "Macrophage")[kind], f"{'tumour' if sick else 'normal'} stroma", float(direction))
