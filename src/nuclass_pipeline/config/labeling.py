"""Labels of cells, and proposals of labels for clusters."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from nuclass_pipeline.config.base import InputPath, OptionalPath, Section, Seed
from nuclass_pipeline.errors import similar

CELL_ANNOTATORS = {"rules": "labeling.rules:Rules.fit"}
"""The registry: name in `labeling.annotator` → what fits the annotator to a slide, as `module:function` in the package."""


LANGUAGE_MODEL_REMEDY = (
    "Set `proposals.model` to a folder with a causal language model, such as Qwen2.5-1.5B-Instruct (Apache-2.0): "
    "`hf download Qwen/Qwen2.5-1.5B-Instruct --local-dir resources/models/Qwen2.5-1.5B-Instruct`; "
    "or remove `proposals.model` and set `proposals.annotator: rules`."
)


class LabelingConfig(Section):
    """How marker evidence becomes the label of a cell."""

    annotator: str = Field("rules", description="what ranks the admissible labels of a cell; the names are in CELL_ANNOTATORS")
    markers: InputPath = Field("config/markers.tsv", description="marker table")
    annotation: InputPath = Field(
        "config/annotation", description="folder of <slide>.tsv, a person's edits, or <slide>.csv, provided labels"
    )
    min_confidence: float = Field(0.83, ge=0, le=1, description="lowest probability of a label; below it a cell is Unresolved")
    seed: Seed = Field(0, description="seed of the simulated doublets that calibrate the confidence")

    @field_validator("annotator")
    @classmethod
    def _annotator_is_registered(cls, annotator: str) -> str:
        if annotator not in CELL_ANNOTATORS:
            raise ValueError(f"unknown annotator{similar(annotator, CELL_ANNOTATORS)}. Use one of {', '.join(CELL_ANNOTATORS)}")
        return annotator


class ProposalsConfig(Section):
    """Which annotator proposes labels of clusters; a person reviews the proposals, and no cell is labelled by them."""

    annotator: Literal["rules", "llm-score"] = Field("rules", description="rules, or llm-score: a local language model")
    model: OptionalPath = Field(None, description="folder of a causal language model, for llm-score")

    @model_validator(mode="after")
    def _a_language_annotator_has_a_model(self) -> "ProposalsConfig":
        if self.annotator == "llm-score" and not self.model:
            raise ValueError(
                "annotator llm-score needs proposals.model: name the folder of a causal language model there, "
                "or set proposals.annotator to rules"
            )
        return self
