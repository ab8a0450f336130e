"""Slides of kind `trio`: which patch files are read, and whether their windows are as wide as those of the run."""

import re
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from nuclass_pipeline.config.image import MIN_SIDE_PX, ImageConfig
from nuclass_pipeline.config.loading.points import mpp_problem
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import stated_mpp
from nuclass_pipeline.layout import patch_file

if TYPE_CHECKING:
    from nuclass_pipeline.config.run import Run

ANNOTATIONS = "annotations.json"
SPLITS = ("train", "test", "all")
"""Folders in which the public reference keeps patch datasets of one slide."""
_HEAD_BYTES = 2**16
_SIDES = ("local_um", "context_um")


def patch_paths(folder: str, image: ImageConfig) -> tuple[str, str]:
    """Return the paths of the local and the context patches in a folder.

    They are those with the sides of the run, px, if both are there, and otherwise the narrowest and the widest ones, because the pixel
    size of the patches may be another.
    """
    names = (re.fullmatch(r"patches_(\d+)x\1", path.stem) for path in Path(folder).glob("patches_*.h5"))
    found, sides = sorted(int(name[1]) for name in names if name), (image.local_px, image.context_px)
    if len(found) >= len(sides) and not set(sides) <= set(found):
        sides = (found[0], found[-1])
    return f"{folder}/{patch_file(sides[0])}", f"{folder}/{patch_file(sides[1])}"


def check_trios(run: "Run") -> None:
    """Check that the patches of each trio are wide enough, by the names of their files."""
    for name in run.slides_of("trio"):
        folder = run.slides[name].bundle
        for key, path in zip(_SIDES, map(Path, patch_paths(folder, run.config.image)), strict=True):
            side_px = int(path.stem.rpartition("x")[2])
            mpp = _first_mpp(Path(folder), path) or run.config.image.mpp
            if path.exists() and side_px < round(getattr(run.config.image, key) / mpp):
                raise too_narrow(path, side_px, key, run.config.image, mpp)


def check_trio_slides(run: "Run") -> None:
    """Check that no slide whose patches are kept in two folders is trained on and held out."""
    trios = [run.slides[name] for name in run.slides_of("trio")]
    for one, other in combinations([slide for slide in trios if slide.slide in run.cohort_slides], 2):
        parts, roles = [Path(slide.bundle).resolve() for slide in (one, other)], {run.role(one.slide), run.role(other.slide)}
        kept_together = parts[0].parent == parts[1].parent and {part.name for part in parts} <= set(SPLITS)
        if len(roles) == 1 or not kept_together:
            continue
        slides = {_first_text(part, "slide_id") for part in parts}
        if len(slides) == 1 and (name := slides.pop()):
            problem = f"both bundles hold cells of slide {name}, and one is trained on while the other is held out"
            remedy = "List both under study.train: cells beside trained ones make scores too high."
            raise UserError(run.config.slides, f"{one.slide} and {other.slide}, bundle", problem, remedy)


def too_narrow(path: Path, side_px: int, key: str, image: ImageConfig, mpp: float) -> UserError:
    """Return the error for patches that do not cover the field of view of the run; `key` is `local_um` or `context_um`."""
    field_um, step_um = getattr(image, key), 2 * image.mpp
    problem = f"its windows are {side_px * mpp:.10g} µm wide ({side_px} px of {mpp:.10g} µm), and image.{key} is {field_um:g}"
    again = f"cut the patches again {round(field_um / mpp)} px wide"
    widest_um = int(side_px * mpp / step_um + 1e-6) * step_um
    if widest_um < MIN_SIDE_PX * image.mpp:
        return UserError(path, key, problem, f"{again.capitalize()}.")
    return UserError(path, key, problem, f"Set image.{key} to {widest_um:.10g}, or {again}.")


def annotations_below(folder: str) -> tuple[str, str] | None:
    """Return problem and remedy of a folder that holds no annotations, but folders with annotations; None for any other."""
    found = [f"{folder}/{name}" for name in SPLITS if Path(folder, name, ANNOTATIONS).is_file()]
    if not found or Path(folder, ANNOTATIONS).exists():
        return None
    rows = "Write one row with the bundle " + ", and one with the bundle ".join(found)
    return f"{folder} holds no {ANNOTATIONS}; a folder in it does", f"{rows}."


def _first_mpp(folder: Path, path: Path) -> float | None:
    """Return the pixel size that the patch file, or the first annotation, states, µm; None where there is none that can be read."""
    try:
        stated = stated_mpp(path)
        mpp = float(_first_text(folder, "micron_per_pixel")) if stated is None else float(stated)
    except (UserError, TypeError, ValueError):
        # Left to the job that reads the files, because its error says what is wrong with them.
        return None
    return None if mpp_problem(mpp) else mpp


def _first_text(folder: Path, field: str) -> str:
    """Return a field of the first annotation as text; empty if it has none."""
    path = folder / ANNOTATIONS
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        # The first bytes only, because the annotations of a slide take up to a GB.
        head = file.read(_HEAD_BYTES).decode(errors="replace").partition("}")[0]
    found = re.search(rf'"{field}"\s*:\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))', head)
    return "" if found is None else found[1] or found[2] or ""
