"""What the commands share: the screen, the tables of the project, and the check of an organ's name."""

from pathlib import Path

from rich.console import Console

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.vocabulary import ORGANS

# Without markup, because names may hold brackets.
console = Console(markup=False)


def shipped_table(name: str) -> Path:
    """Return a table of the folder `config`: of the folder where the command runs, else of the project that holds this code."""
    path = Path("config", name)
    return path if path.is_file() else Path(__file__).parents[3] / path


def known_organ(organ: str) -> str:
    """Return the organ; a `UserError` if it is unknown."""
    if organ not in ORGANS:
        raise UserError("nuclass", "--organ", f"{organ!r} is not a known organ", f"Use one of {', '.join(ORGANS)}.")
    return organ
