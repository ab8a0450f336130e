"""What the commands share: the screen, and the check of an organ's name."""

from rich.console import Console

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.vocabulary import ORGANS

console = Console()


def known_organ(organ: str) -> str:
    """Return the organ; a `UserError` if there is no such one."""
    if organ not in ORGANS:
        raise UserError("nuclass", "--organ", f"{organ!r} is not a known organ", f"Use one of {', '.join(ORGANS)}.")
    return organ
