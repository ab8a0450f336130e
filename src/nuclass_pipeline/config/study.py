"""The study: which slides, in which role, and which classes."""

import re
from collections import Counter
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from nuclass_pipeline.config.base import Section
from nuclass_pipeline.errors import similar
from nuclass_pipeline.vocabulary import CLASSES, PAPER_CLASSES, UNRESOLVED

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]{0,63}")
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")


def _classes(values: dict[str, Any]) -> tuple[str, ...]:
    return CLASSES if values.get("label") and not values.get("train") else PAPER_CLASSES


class Study(Section):
    """Slides by role, and the classes to learn."""

    train: tuple[str, ...] = Field((), description="slides for training, validation and calibration")
    heldout: tuple[str, ...] = Field((), description="slides that no training step reads; needed where there are slides for training")
    predict: tuple[str, ...] = Field((), description="slides that are classified and not scored; an H&E without Xenium belongs here")
    label: tuple[str, ...] = Field((), description="slides that are labelled from their transcripts and nothing more; they need no H&E")
    unknown_organ: Literal["refuse", "neutral"] = Field(
        "refuse",
        description="slides of an organ that no training slide has: refuse, or neutral, which takes the organ as unknown; "
        "that needs local.organ_dropout, or local.conditioning none",
    )
    # Before `classes`, because those are checked with it.
    colors: dict[str, str] = Field(
        default_factory=dict, description="colour of each class of your own, as `#rrggbb`; `classes` may then list its name"
    )
    classes: tuple[str, ...] = Field(
        default_factory=_classes,
        description="classes to train on, at least two; those without a training cell are omitted. "
        "If left out, those of the paper, and in a study that only labels slides all 22",
    )

    @field_validator("colors")
    @classmethod
    def _colors_can_be_drawn(cls, colors: dict[str, str]) -> dict[str, str]:
        for name, color in colors.items():
            if not _NAME.fullmatch(name) or name in (*CLASSES, UNRESOLVED):
                why = "has its color already" if _NAME.fullmatch(name) else "is not a name of letters, digits, _, + and -"
                raise ValueError(f"{name!r} {why}. Choose another name")
            if not _COLOR.fullmatch(color):
                raise ValueError(f"{color!r} of {name} is not a color. Write it as #rrggbb, such as #9b2c2d")
        if repeated := [color for color, count in Counter(map(str.lower, colors.values())).items() if count > 1]:
            raise ValueError(f"{repeated[0]} is given to two classes. Give each its own")
        return colors

    @field_validator("classes")
    @classmethod
    def _classes_are_known(cls, classes: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        known = (*info.data.get("colors", {}), *CLASSES)
        if unknown := [name for name in classes if name not in known]:
            remedy = f"Use some of {', '.join(known)}, or give it a color under study.colors"
            raise ValueError(f"{unknown[0]!r} is not a class{similar(unknown[0], known)}. {remedy}")
        if len(classes) < 2:
            raise ValueError("a model needs at least two classes. List them, or remove the key for those of the paper")
        return classes

    @field_validator("train", "heldout", "predict", "label", "classes")
    @classmethod
    def _names_occur_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if repeated := [name for name, count in Counter(names).items() if count > 1]:
            raise ValueError(f"{repeated[0]} is listed twice. List it once")
        return names

    @model_validator(mode="after")
    def _roles_are_disjoint(self) -> "Study":
        roles = Counter((*set(self.train), *set(self.heldout), *set(self.predict), *set(self.label)))
        if twice := sorted(slide for slide, count in roles.items() if count > 1):
            raise ValueError(f"{', '.join(twice)} is listed under two of train, heldout, predict and label. List it under one")
        return self

    @model_validator(mode="after")
    def _roles_are_complete(self) -> "Study":
        if not self.slides:
            raise ValueError("it names no slide. List slides under train and heldout, or under label if they are only to be labelled")
        if self.heldout and not self.train:
            raise ValueError("heldout lists slides and train none. List a slide under train, or list those of heldout under label")
        if self.train and not self.heldout:
            raise ValueError("train lists slides and heldout none. List a slide under heldout, or list those of train under label")
        if self.predict and not self.train:
            raise ValueError("predict lists slides and train none. List slides under train and heldout, or remove those of predict")
        return self

    @property
    def slides(self) -> tuple[str, ...]:
        """All slides: for training, held out, to be classified only, and to be labelled only."""
        return (*self.train, *self.heldout, *self.predict, *self.label)
