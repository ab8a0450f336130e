"""The one exception that reaches users."""

from pathlib import Path


class UserError(Exception):
    """A mistake in the input that the user can correct, reported in one line.

    Parameters
    ----------
    file
        The file at fault.
    field
        The column, key or dataset in it.
    problem
        What is wrong, with the value found.
    remedy
        What to do about it.
    """

    def __init__(self, file: Path | str, field: str, problem: str, remedy: str) -> None:
        self.file, self.field, self.problem, self.remedy = str(file), field, problem, remedy
        stop = "" if problem.endswith(("?", ".")) else "."
        super().__init__(" ".join(f"{file}: {field}: {problem}{stop} {remedy}".split()))
