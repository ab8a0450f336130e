"""The slides of a study by what is done with them; rules and figures take their lists from here."""

from collections.abc import Iterable
from typing import Literal, get_args

from nuclass_pipeline.config.run_file import Config
from nuclass_pipeline.config.slides import Slide

Role = Literal["train", "heldout", "predict", "label"]


class StudySlides:
    """Lists of the slides of a run.

    Attributes
    ----------
    config
        The run file.
    slides
        Rows of the slides of the study.
    """

    config: Config
    slides: dict[str, Slide]

    def role(self, slide: str) -> Role:
        """Return what the study uses `slide` for."""
        return next(role for role in get_args(Role) if slide in getattr(self.config.study, role))

    @property
    def organs(self) -> dict[str, str]:
        """Slide → organ."""
        return {name: slide.organ for name, slide in self.slides.items()}

    @property
    def training_slides(self) -> list[str]:
        """Slides for training, validation and calibration."""
        return list(self.config.study.train)

    @property
    def heldout_slides(self) -> list[str]:
        """Slides that are scored and never trained on."""
        return list(self.config.study.heldout)

    @property
    def unscored_slides(self) -> list[str]:
        """Slides that are only classified."""
        return list(self.config.study.predict)

    @property
    def cohort_slides(self) -> list[str]:
        """Training and held-out slides."""
        return [*self.training_slides, *self.heldout_slides]

    @property
    def classified_slides(self) -> list[str]:
        """Slides that the models classify: all but those that are only labelled."""
        return [*self.cohort_slides, *self.unscored_slides]

    @property
    def labeled_only(self) -> list[str]:
        """Slides that are labelled and nothing more."""
        return list(self.config.study.label)

    @property
    def slides_with_xenium(self) -> list[str]:
        """Slides that have a Xenium bundle."""
        return self.slides_of("xenium", "synthetic")

    @property
    def slides_with_image(self) -> list[str]:
        """Slides whose H&E is resampled for the models."""
        return [name for name in self.slides_of("xenium", "synthetic", "image", "images") if name in self.classified_slides]

    @property
    def registered_slides(self) -> list[str]:
        """Slides whose H&E is registered to their cells."""
        return [name for name in self.slides_with_xenium if name in self.classified_slides]

    @property
    def slides_in_strips(self) -> list[str]:
        """Training slides that are cut into strips: all but images, which are split by case."""
        return [name for name in self.training_slides if self.slides[name].kind != "images"]

    @property
    def heldout_point_slides(self) -> list[str]:
        """Held-out slides that are images with points."""
        return [name for name in self.heldout_slides if self.slides[name].kind == "images"]

    @property
    def slides_with_truth(self) -> list[str]:
        """Synthetic slides: the true class of every cell is known."""
        return self.slides_of("synthetic")

    def slides_of(self, *kinds: str) -> list[str]:
        """Return the slides of these kinds in the order of the study."""
        return [name for name, slide in self.slides.items() if slide.kind in kinds]

    def pattern(self, *kinds: str) -> str:
        """Return the wildcard constraint for the slides of these kinds, or for all; it matches nothing when there is none."""
        return "|".join(self.slides_of(*kinds) if kinds else self.slides) or "(?!)"

    @property
    def slides_with_programs(self) -> list[str]:
        """Slides whose clusters get gene programs: those with Xenium, if the run file names a library."""
        return self.slides_with_xenium if self.config.programs.library else []

    @property
    def archives(self) -> str:
        """Wildcard constraint for the slides whose bundle is an archive."""
        return "|".join(name for name, slide in self.slides.items() if slide.archived) or "(?!)"

    def downloads(self, slides: Iterable[str]) -> str:
        """Return the wildcard constraint for those of some slides that come from a URL."""
        return "|".join(name for name in slides if self.slides[name].bundle_url) or "(?!)"
