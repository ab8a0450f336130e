"""Windows of one more side around the cells of a slide, for variants of a run with another field of view."""

from pathlib import Path

from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.alignment import read_registration
from nuclass_pipeline.data.image.patches import write_patches
from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import CELLS
from nuclass_pipeline.units import Micron


def extract_windows(*, image: Path, registration: Path, cells: Path, side_px: int, config: ImageConfig, patches: Path) -> None:
    """Write the windows of one side around every cell; which cells have an image is decided on the crops of the run file.

    Parameters
    ----------
    image, registration
        The resampled H&E, and the alignment that places the cells on it.
    cells
        Table `CELLS`.
    side_px
        Side of the windows, px of `image`.
    config
        Pixel size, fill value, and whether patches are copied.
    patches
        Patch file, rows in the order of `cells`.

    Raises
    ------
    UserError
        If a file is missing or broken.
    """
    alignment, _ = read_registration(registration)
    table = read_table(cells, CELLS)
    xy_px = alignment.to_image(Micron(table[["x_um", "y_um"]].to_numpy()), config.mpp)
    write_patches(patches, image, table["cell_id"].tolist(), xy_px, side_px, config)
