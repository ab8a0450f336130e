"""The study: which slides, how cells become labels, and how labels become parts."""

from collections import Counter
from typing import Annotated, Literal

from pydantic import Field, model_validator

from nuclass_pipeline.config.base import Section
from nuclass_pipeline.vocabulary import PAPER_CLASSES


class Study(Section):
    """Slides by role, and the classes to learn."""

    train: tuple[str, ...] = Field(min_length=1, description="slides for training, validation and calibration")
    heldout: tuple[str, ...] = Field(min_length=1, description="slides that no training step ever reads")
    predict: tuple[str, ...] = Field((), description="slides that are classified and not scored; an H&E without Xenium belongs here")
    classes: tuple[str, ...] = Field(PAPER_CLASSES, description="classes to learn; those without a training cell are left out")

    @model_validator(mode="after")
    def _roles_are_disjoint(self) -> "Study":
        roles = Counter((*set(self.train), *set(self.heldout), *set(self.predict)))
        if twice := sorted(slide for slide, count in roles.items() if count > 1):
            raise ValueError(f"{', '.join(twice)} stands under two of train, heldout and predict; list it once")
        return self

    @property
    def slides(self) -> tuple[str, ...]:
        """All slides: for training, held out, and to be classified only."""
        return (*self.train, *self.heldout, *self.predict)


class ImageConfig(Section):
    """The resampled H&E and the windows cut from it."""

    mpp: float = Field(0.25, gt=0, description="pixel size of image.h5, µm")
    local_px: Literal[224] = Field(224, description="side of the local crop, px")
    context_px: Literal[1024] = Field(1024, description="side of the context window, px")
    fill: int = Field(255, ge=0, le=255, description="value outside the slide; 255 is white, as empty glass")
    materialize: bool = Field(False, description="write real copies of the patches instead of virtual windows")


class RegistrationConfig(Section):
    """When the H&E may be trusted to lie on the cells."""

    max_shift_um: float = Field(5.0, gt=0, description="largest residual shift between haematoxylin and nuclei, µm")
    search_um: float = Field(30.0, gt=0, description="largest shift looked for, µm")
    windows: int = Field(12, ge=0, description="squares in which the nuclei of the H&E are found as a second opinion; 0 does without")


class SegmentationConfig(Section):
    """How nuclei are found on an H&E: all of a slide of kind image, and a sample of a Xenium slide to check its registration."""

    method: Literal["watershed", "cellpose"] = Field("watershed", description="watershed needs no weights; cellpose is slow without a GPU")
    weights: str = Field("resources/weights/cellpose/cpsam_v2", description="weights of Cellpose 4")
    threshold_od: float = Field(0.16, gt=0, description="watershed: least optical density of haematoxylin in a nucleus")
    tile_px: int = Field(2048, ge=512, description="side of the tiles that are segmented one by one, px of image.h5")


class ClusteringConfig(Section):
    """Expression clusters."""

    min_transcripts: int = Field(10, ge=0, description="fewer gene transcripts: the cell fails quality control")
    components: int = Field(30, ge=2, description="principal components")
    neighbors: int = Field(15, ge=2, description="neighbours in the expression graph")
    resolutions: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (0.4, 0.6, 0.8, 1.0), min_length=1, description="Leiden resolutions; the most stable one is used"
    )
    repeats: int = Field(3, ge=2, description="seeds whose agreement is the stability of a resolution")
    backend: Literal["scanpy", "rapids"] = Field(
        "scanpy", description="what finds neighbours and draws the map; rapids needs rapids-singlecell and a GPU"
    )
    markers_per_cluster: int = Field(30, ge=1, description="markers kept per cluster")
    seed: int = Field(0, ge=0, description="seed of PCA, neighbours, Leiden and the map")


class LabelingConfig(Section):
    """How marker evidence becomes a label."""

    markers: str = Field("config/markers.tsv", description="marker table")
    annotator: Literal["rules"] = Field("rules", description="what ranks the admissible labels")
    min_confidence: float = Field(0.815, ge=0, le=1, description="least probability of a label; below it a cell is Unresolved")
    seed: int = Field(0, ge=0, description="seed of the mixed cells that confidence is read off")
    cluster_annotator: Literal["rules", "llm-score"] = Field("rules", description="what proposes labels of clusters, for review only")
    model: str | None = Field(None, description="folder of a causal language model, for llm-score")
    annotation: str = Field("config/annotation", description="folder of <slide>.tsv, a person's edits, or <slide>.csv, provided labels")

    @model_validator(mode="after")
    def _a_language_annotator_has_a_model(self) -> "LabelingConfig":
        if self.cluster_annotator == "llm-score" and not self.model:
            raise ValueError(
                "cluster_annotator llm-score needs labeling.model: name the folder of a causal language model there, "
                "or set labeling.cluster_annotator to rules"
            )
        return self


class Fractions(Section):
    """Shares of a training slide's labelled cells."""

    train: float = Field(0.7, gt=0, lt=1, description="fits the two paths")
    gate: float = Field(0.15, gt=0, lt=1, description="fits the gate; neither path has seen it")
    val: float = Field(0.15, gt=0, lt=1, description="selects checkpoints and calibrates")

    @model_validator(mode="after")
    def _sum_to_one(self) -> "Fractions":
        if abs(self.train + self.gate + self.val - 1) > 1e-6:
            raise ValueError(f"the fractions add up to {self.train + self.gate + self.val:g}, not 1")
        return self


class SplitConfig(Section):
    """The guarded spatial split of a training slide."""

    fractions: Fractions = Fractions()
    guard_um: float = Field(128.0, ge=0, description="least distance between cells of different parts, µm; at least half a context window")
    band_um: float = Field(4000.0, gt=0, description="the three parts repeat along the slide about once in this length, µm")
    block_um: float = Field(500.0, gt=0, description="side of a bootstrap block, µm")


class EvaluationConfig(Section):
    """Scores and their uncertainty."""

    bootstrap: int = Field(1000, ge=0, description="resamples of spatial blocks for confidence intervals")
    bins: int = Field(10, ge=2, description="equal-width bins of the calibration error")
    seed: int = Field(0, ge=0, description="seed of the bootstrap")
    explained_cells: int = Field(6, ge=0, description="cells per held-out slide in the attribution figure")
