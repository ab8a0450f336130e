"""Cell types that can occur in each organ, and the names of its tissues in marker sources; a user's own file may replace organs.yaml."""

from pathlib import Path

from pydantic import Field, ValidationError, field_validator, model_validator

from nuclass_pipeline.config.base import Section
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_yaml
from nuclass_pipeline.knowledge.cell_types import HIERARCHY
from nuclass_pipeline.vocabulary import ORGANS


class PlaceTypes(Section):
    """Cell types and tissues of one organ, or of all."""

    types: tuple[str, ...] = Field(min_length=1, description="cell types of the hierarchy")
    tissues: tuple[str, ...] = Field(min_length=1, description="names of its tissues in marker sources")

    @field_validator("types")
    @classmethod
    def _types_are_known(cls, types: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in types if name not in HIERARCHY.types]:
            raise ValueError(f"{unknown[0]!r} is not a known cell type; use some of {', '.join(HIERARCHY.types)}")
        return types


class OrganTypes(Section):
    """Cell types and tissues that occur everywhere, and those that each organ adds."""

    everywhere: PlaceTypes
    organs: dict[str, PlaceTypes] = Field(min_length=1)

    @model_validator(mode="after")
    def _organs_add_types(self) -> "OrganTypes":
        for organ, added in self.organs.items():
            if organ not in ORGANS:
                raise ValueError(f"{organ!r} is not a known organ; use some of {', '.join(ORGANS)}")
            types = (*self.everywhere.types, *added.types)
            if repeated := sorted({name for name in types if types.count(name) > 1}):
                raise ValueError(f"{repeated[0]} is listed twice for {organ}; list it once, or under everywhere")
        return self

    def types_of(self, organ: str) -> tuple[str, ...]:
        """Return the cell types that can occur in `organ`, sorted."""
        return tuple(sorted((*self.everywhere.types, *self._of(organ).types)))

    def tissues_of(self, organ: str) -> frozenset[str]:
        """Return the names of the tissues of `organ` in marker sources, in lower case."""
        return frozenset(name.casefold() for name in (*self.everywhere.tissues, *self._of(organ).tissues))

    def _of(self, organ: str) -> PlaceTypes:
        if organ not in self.organs:
            raise UserError(
                "config/slides.tsv", "organ", f"no cell types are listed for {organ!r}", f"Use one of {', '.join(self.organs)}."
            )
        return self.organs[organ]


def read_organ_types(path: Path | str) -> OrganTypes:
    """Read the cell types and tissues of organs: a YAML file with `everywhere` and `organs`, each with `types` and `tissues`.

    Raises
    ------
    UserError
        If the file is not YAML, a key is missing or unknown, a type or organ is unknown, or a type is listed twice for an organ.
    """
    try:
        return OrganTypes.model_validate(read_yaml(path))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "organs"
        problem = first["msg"].removeprefix("Value error, ")
        raise UserError(path, field, problem, "List types and tissues for each organ, as in the shipped organs.yaml.") from None


ORGAN_TYPES = read_organ_types(Path(__file__).with_name("organs.yaml"))
"""Cell types and tissues of the eight organs of the vocabulary."""
