"""What every section of a run file shares."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A frozen section that refuses unknown keys; defaults are the paper's values."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
