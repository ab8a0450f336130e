"""What each job of a run requests: the formula of its rule, with the sizes of the slides that it reads."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuclass_pipeline.config.memory.encoders import CUDA_MB, EMBEDDED_AT_ONCE, PHASES, TILES_AT_ONCE, WindowKind, cells_mb, encoder_mb
from nuclass_pipeline.config.memory.formulas import PEAKS, Slides, request_mb
from nuclass_pipeline.config.memory.sizes import SlideSize, read_size

if TYPE_CHECKING:
    from nuclass_pipeline.config.run import Run


class JobMemory:
    """Memory of the jobs of a run."""

    def size(self: "Run", slide: str) -> SlideSize:  # type: ignore[misc]
        """Return the size of a slide, as far as it is known before it is read."""
        return read_size(self.slides[slide], self.config, Path(self.folders["slides"], slide))

    def sizes_for(self: "Run", of: Slides, wildcards: Any) -> list[SlideSize]:  # type: ignore[misc]
        """Return the sizes of the slides that a job reads."""
        groups: dict[str, list[str]] = {
            "training": self.training_slides,
            "heldout": self.heldout_slides,
            "cohort": self.cohort_slides,
            "all": list(self.slides),
        }
        names = [wildcards.slide] if of == "own" else groups[of]
        return [self.size(slide) for slide in names]

    def mem_mb(self: "Run", rule: str) -> Callable[[Any, int], int]:  # type: ignore[misc]
        """Return a rule's `mem_mb`: the wildcards and the attempt, from 1, → MB."""
        return lambda wildcards, attempt: request_mb(self.peak_mb(rule, wildcards), attempt)

    def peak_mb(self: "Run", rule: str, wildcards: Any) -> float:  # type: ignore[misc]
        """Return the memory that a job is expected to take at most, MB."""
        if rule in WITH_ENCODERS:
            return WITH_ENCODERS[rule](self, wildcards)
        if rule in self.language_model_rules:
            return LANGUAGE_MODEL_MB
        formula = PEAKS[rule]
        cuda_mb = CUDA_MB if rule in OF_THE_GATE and self.config.compute.gate_gpu else 0
        return cuda_mb + formula.mb(self.sizes_for(formula.of, wildcards))

    @property
    def language_model_rules(self: "Run") -> list[str]:  # type: ignore[misc]
        """Rules whose jobs load a language model."""
        loading = {"propose_labels": self.proposes_by_model, "compare_annotators": bool(self.config.proposals.model)}
        return [rule for rule, loads in loading.items() if loads]


def _train_local(run: "Run", wildcards: Any) -> float:
    config = run.variants[wildcards.variant].config
    encoder = config.local.backbone
    return _training(run, wildcards, [WindowKind(encoder, encoder.freeze, not encoder.freeze)], config.local.optim.batch_size)


def _train_global(run: "Run", wildcards: Any) -> float:
    config = run.variants[wildcards.variant].config
    kinds = [WindowKind(encoder, encoder.freeze, not encoder.freeze) for encoder in (config.local.backbone, config.global_.context)]
    return _training(run, wildcards, kinds, config.global_.optim.batch_size)


def _training(run: "Run", wildcards: Any, kinds: list[WindowKind], batch: int) -> float:
    config = run.variants[wildcards.variant].config
    share = config.split.fractions.train + config.split.fractions.val
    cells = round(share * sum(size.cells for size in run.sizes_for("training", wildcards)))
    compute = run.config.compute
    return encoder_mb(kinds, batch, compute, PHASES) + cells_mb(kinds, cells, compute)


def _embed_windows(run: "Run", wildcards: Any) -> float:
    variant = run.frozen_run(wildcards)
    encoder, window_px = variant.window_encoders[variant.frozen_field(wildcards)]
    if encoder.tile_um is None:
        compute = run.config.compute
        return encoder_mb([WindowKind(encoder, read_px=compute.gpu * window_px)], EMBEDDED_AT_ONCE, compute, 1)
    # A tile holds the centres of its windows, and half a window around them.
    side_px = round(encoder.image_px * (1 + encoder.tile_um / (window_px * variant.config.image.mpp)))
    return encoder_mb([WindowKind(encoder.model_copy(update={"image_px": side_px}))], TILES_AT_ONCE, run.config.compute, 1)


def _embed_cells(run: "Run", wildcards: Any) -> float:
    encoders = [encoder for encoder, _ in run.variants[wildcards.variant].window_encoders.values()]
    kinds = [WindowKind(encoder, encoder.freeze) for encoder in encoders]
    compute = run.config.compute.model_copy(update={"cache_gb": 0})
    return encoder_mb(kinds, EMBEDDED_AT_ONCE, compute, 1) + cells_mb(kinds, run.size(wildcards.slide).cells, compute)


def _explain_cells(run: "Run", wildcards: Any) -> float:
    # The encoders themselves, frozen or not, on one cell at a time, in this process.
    kinds = [WindowKind(encoder) for encoder, _ in run.variants[wildcards.variant].window_encoders.values()]
    compute = run.config.compute.model_copy(update={"cache_gb": 0, "workers": 0})
    return encoder_mb(kinds, EXPLAINED_AT_ONCE, compute, 1) + cells_mb(kinds, run.size(wildcards.slide).cells, compute)


OF_THE_GATE = ("train_gate", "predict_slide")
"""Rules that run the gate, on a GPU if `compute.gate_gpu` is 1."""
LANGUAGE_MODEL_MB = 12_000
"""A language model that proposes labels, not measured."""
EXPLAINED_AT_ONCE = 8
"""Windows whose activations one explained cell takes, gradients included."""
WITH_ENCODERS: "dict[str, Callable[[Run, Any], float]]" = {
    "train_local": _train_local,
    "train_global": _train_global,
    "embed_windows": _embed_windows,
    "embed_cells": _embed_cells,
    "explain_cells": _explain_cells,
}
"""Rule that runs encoders → its memory, MB."""
