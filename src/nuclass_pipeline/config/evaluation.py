"""The split of the training slides, and the scores of the held-out ones."""

from pydantic import Field, model_validator

from nuclass_pipeline.config.base import Section, Seed


class Fractions(Section):
    """Shares of a training slide's labelled cells."""

    train: float = Field(0.7, gt=0, lt=1, description="fits the two paths")
    gate: float = Field(0.15, gt=0, lt=1, description="fits the gate; neither path is trained on it")
    val: float = Field(0.15, gt=0, lt=1, description="selects checkpoints and calibrates")

    @model_validator(mode="after")
    def _sum_to_one(self) -> "Fractions":
        if abs(self.train + self.gate + self.val - 1) > 1e-6:
            raise ValueError(f"the fractions add up to {self.train + self.gate + self.val:g}, not 1")
        return self


class SplitConfig(Section):
    """The spatial split of a training slide; buffers separate its subsets."""

    fractions: Fractions = Fractions()
    buffer_um: float | None = Field(
        None, ge=0, description="smallest distance between cells of different subsets, µm; empty for a whole context window"
    )
    band_um: float = Field(4000.0, gt=0, description="the three subsets repeat along the slide about once in this length, µm")
    block_um: float = Field(500.0, gt=0, description="side of a bootstrap block, µm")


class EvaluationConfig(Section):
    """Scores and their uncertainty."""

    bootstrap: int = Field(1000, ge=0, description="resamples of spatial blocks for confidence intervals")
    bins: int = Field(10, ge=2, description="equal-width bins of the calibration error")
    seed: Seed = Field(0, description="seed of the bootstrap")


class AttributionConfig(Section):
    """Which cells are explained."""

    cells: int = Field(6, ge=0, description="cells per held-out slide in the attribution figure")
