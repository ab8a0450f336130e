"""The study: which slides, in which role, and which classes."""

from collections import Counter

from pydantic import Field, model_validator

from nuclass_pipeline.config.base import Section
from nuclass_pipeline.vocabulary import PAPER_CLASSES


class Study(Section):
    """Slides by role, and the classes to learn."""

    train: tuple[str, ...] = Field(min_length=1, description="slides for training, validation and calibration")
    heldout: tuple[str, ...] = Field(min_length=1, description="slides that no training step reads")
    predict: tuple[str, ...] = Field((), description="slides that are classified and not scored; an H&E without Xenium belongs here")
    classes: tuple[str, ...] = Field(PAPER_CLASSES, description="classes to train on; a class without a training cell is left out")

    @model_validator(mode="after")
    def _roles_are_disjoint(self) -> "Study":
        roles = Counter((*set(self.train), *set(self.heldout), *set(self.predict)))
        if twice := sorted(slide for slide, count in roles.items() if count > 1):
            raise ValueError(f"{', '.join(twice)} is listed under two of train, heldout and predict; list it once")
        return self

    @property
    def slides(self) -> tuple[str, ...]:
        """All slides: for training, held out, and to be classified only."""
        return (*self.train, *self.heldout, *self.predict)
