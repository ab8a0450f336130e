"""The study: which slides, in which role, and which classes."""

from collections import Counter

from pydantic import Field, field_validator, model_validator

from nuclass_pipeline.config.base import Section
from nuclass_pipeline.errors import similar
from nuclass_pipeline.vocabulary import CLASSES, PAPER_CLASSES


class Study(Section):
    """Slides by role, and the classes to learn."""

    train: tuple[str, ...] = Field(min_length=1, description="slides for training, validation and calibration")
    heldout: tuple[str, ...] = Field(min_length=1, description="slides that no training step reads")
    predict: tuple[str, ...] = Field((), description="slides that are classified and not scored; an H&E without Xenium belongs here")
    classes: tuple[str, ...] = Field(
        PAPER_CLASSES, description="classes to train on, at least two; those without a training cell are omitted"
    )

    @field_validator("classes")
    @classmethod
    def _classes_are_known(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in classes if name not in CLASSES]:
            raise ValueError(f"{unknown[0]!r} is not a class{similar(unknown[0], CLASSES)}. Use some of {', '.join(CLASSES)}")
        if len(classes) < 2:
            raise ValueError("a model needs at least two classes. List them, or remove the key for those of the paper")
        return classes

    @field_validator("train", "heldout", "predict", "classes")
    @classmethod
    def _names_occur_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if repeated := [name for name, count in Counter(names).items() if count > 1]:
            raise ValueError(f"{repeated[0]} is listed twice. List it once")
        return names

    @model_validator(mode="after")
    def _roles_are_disjoint(self) -> "Study":
        roles = Counter((*set(self.train), *set(self.heldout), *set(self.predict)))
        if twice := sorted(slide for slide, count in roles.items() if count > 1):
            raise ValueError(f"{', '.join(twice)} is listed under two of train, heldout and predict. List it under one")
        return self

    @property
    def slides(self) -> tuple[str, ...]:
        """All slides: for training, held out, and to be classified only."""
        return (*self.train, *self.heldout, *self.predict)
