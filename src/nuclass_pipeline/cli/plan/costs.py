"""Rough costs of a job: hours from the figures of docs/performance.md, and the size of its files from those of docs/sizes.md."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nuclass_pipeline.cli.plan.jobs import JobPlan
from nuclass_pipeline.config.backbones.section import BackboneConfig
from nuclass_pipeline.config.memory.encoders import UNKNOWN_DIM, weights_mb
from nuclass_pipeline.config.memory.formulas import PEAKS
from nuclass_pipeline.config.memory.sizes import SlideSize
from nuclass_pipeline.config.models import OptimConfig
from nuclass_pipeline.config.run import Run

START_S = 5.0
"""A job that does nothing: Python and its libraries."""
CPU_FLOPS, GPU_FLOPS = 5e10, 1e14
"""Operations of a network in a second on a core and on a GPU."""
PATCH_PX = 16
"""Side of what a transformer takes as one token, px; other networks take strides of about this size."""
MIN_WEIGHTS_MB = 1.6
"""Weights of the networks whose size is not known; they are small."""
BACKWARD = 3
"""Work of a training step, in passes forward."""
PREDICTION_FILES = 3
"""Files of predictions of a slide: of both paths and the gate."""


@dataclass(frozen=True)
class JobCost:
    """What a job takes.

    Attributes
    ----------
    mem_mb
        Memory that it requests, MB.
    cpu_hours, gpu_hours
        Hours of one core, or of one GPU.
    disk_mb
        Size of the files that it leaves, MB.
    """

    mem_mb: int
    cpu_hours: float
    gpu_hours: float
    disk_mb: float


@dataclass(frozen=True)
class Rate:
    """Seconds of a core, and bytes of the files, by the size of the slides.

    Attributes
    ----------
    cell_ms, mm2_s
        Milliseconds for each cell; seconds for each mm² of the H&E.
    cell_bytes, count_bytes
        Bytes of the files for each cell, and for each gene found in a cell.
    mm2_mb
        MB of the files for each mm² of the H&E.
    """

    cell_ms: float = 0
    mm2_s: float = 0
    cell_bytes: float = 0
    count_bytes: float = 0
    mm2_mb: float = 0

    def seconds(self, sizes: list[SlideSize]) -> float:
        """Return the seconds of a job that reads slides of these sizes."""
        return START_S + sum(self.cell_ms * size.cells / 1000 + self.mm2_s * size.area_mm2 for size in sizes)

    def disk_mb(self, sizes: list[SlideSize]) -> float:
        """Return the size of its files, MB."""
        of_cells = sum(self.cell_bytes * size.cells + self.count_bytes * size.counts for size in sizes) / 1e6
        return of_cells + sum(self.mm2_mb * size.area_mm2 for size in sizes)


RATES = {
    "make_slide": Rate(cell_ms=3, cell_bytes=3000, mm2_mb=30),
    "fetch_slide": Rate(cell_bytes=25_000, mm2_mb=30),
    "fetch_bundle": Rate(cell_bytes=25_000),
    "fetch_image": Rate(mm2_mb=30),
    "unpack_bundle": Rate(cell_ms=0.3, cell_bytes=25_000),
    "read_cells": Rate(cell_ms=0.06, cell_bytes=40, count_bytes=4.3),
    "register_image": Rate(mm2_s=0.1),
    "build_image": Rate(mm2_s=0.8, mm2_mb=64),
    "import_points": Rate(mm2_s=0.8, mm2_mb=64, cell_bytes=40),
    "segment_nuclei": Rate(mm2_s=10, cell_bytes=500),
    "cluster_cells": Rate(cell_ms=2, cell_bytes=200),
    "rank_markers": Rate(cell_ms=0.25),
    "find_domains": Rate(cell_ms=0.9, cell_bytes=80),
    "label_cells": Rate(cell_ms=0.1, cell_bytes=40),
    "label_variant": Rate(cell_ms=0.1, cell_bytes=40),
    "propose_labels": Rate(cell_ms=0.05),
    "export_labels": Rate(cell_ms=0.05, cell_bytes=200, count_bytes=4.3),
    "extract_patches": Rate(cell_ms=0.1, cell_bytes=2 * 172),
    "extract_windows": Rate(cell_ms=0.1, cell_bytes=172),
    "import_trio": Rate(cell_ms=0.1, cell_bytes=2 * 172),
    "split_cells": Rate(cell_ms=0.02, cell_bytes=20),
    "split_variant": Rate(cell_ms=0.02, cell_bytes=20),
    "train_gate": Rate(cell_ms=1),
    "predict_slide": Rate(cell_ms=0.1, cell_bytes=PREDICTION_FILES * 220),
    "score_predictions": Rate(cell_ms=0.5),
    "compare_paths": Rate(cell_ms=0.5),
    "calibrate_models": Rate(cell_ms=0.2),
}
"""Rule → its rates; every other rule but those of encoders takes seconds and leaves little."""


def cost_of(run: Run, job: JobPlan) -> JobCost:
    """Return the costs of a job."""
    if job.rule in _WITH_ENCODERS:
        seconds, disk_mb = _WITH_ENCODERS[job.rule](run, job.named)
        # Of all its cores or GPUs, because those of a training work together.
        hours = seconds / 3600
        return JobCost(job.mem_mb, 0 if job.gpus else hours, hours if job.gpus else 0, disk_mb)
    rate = RATES.get(job.rule, Rate())
    sizes = []
    if job.rule in RATES:
        formula = PEAKS.get(job.rule)
        sizes = run.sizes_for(formula.of if formula else "own", job.named)
    hours = rate.seconds(sizes) / 3600
    return JobCost(job.mem_mb, 0 if job.gpus else hours, job.gpus * hours, rate.disk_mb(sizes))


def _seconds(run: Run, encoder: BackboneConfig, windows: float, passes: float) -> float:
    """Return the seconds in which an encoder sees windows, each as long as `passes` passes forward."""
    parameters = max(weights_mb(encoder), MIN_WEIGHTS_MB) * 1e6 / 4
    operations = 2 * parameters * (encoder.image_px / PATCH_PX) ** 2
    return windows * passes * operations / (GPU_FLOPS if run.config.compute.gpu else CPU_FLOPS)


def _training(run: Run, wildcards: Any, encoders: list[BackboneConfig], optim: OptimConfig) -> tuple[float, float]:
    config = run.variants[wildcards.variant].config
    shares, cells = config.split.fractions, sum(size.cells for size in run.sizes_for("training", wildcards))
    seen = [encoder for encoder in encoders if not encoder.freeze]
    epoch = sum(
        _seconds(run, encoder, cells * shares.train, BACKWARD + encoder.gradient_checkpointing)
        + _seconds(run, encoder, cells * shares.val * optim.checks_per_epoch, 1)
        for encoder in seen
    )
    return START_S + optim.max_epochs * epoch, sum(weights_mb(encoder) for encoder in seen)


def _train_local(run: Run, wildcards: Any) -> tuple[float, float]:
    local = run.variants[wildcards.variant].config.local
    return _training(run, wildcards, [local.backbone], local.optim)


def _train_global(run: Run, wildcards: Any) -> tuple[float, float]:
    config = run.variants[wildcards.variant].config
    return _training(run, wildcards, [config.local.backbone, config.global_.context], config.global_.optim)


def _embed_windows(run: Run, wildcards: Any) -> tuple[float, float]:
    variant, cells = run.frozen_run(wildcards), run.size(wildcards.slide).cells
    encoder, _ = variant.window_encoders[variant.frozen_field(wildcards)]
    return START_S + _seconds(run, encoder, cells, encoder.views), 2 * cells * encoder.views * _dim(encoder) / 1e6


def _embed_cells(run: Run, wildcards: Any) -> tuple[float, float]:
    config, cells = run.variants[wildcards.variant].config, run.size(wildcards.slide).cells
    local, context = config.local.backbone, config.global_.context
    # Twice the local one, because the global path trains its own copy on.
    seconds = 2 * (0 if local.freeze else _seconds(run, local, cells, 1)) + (0 if context.freeze else _seconds(run, context, cells, 1))
    vectors = _dim(local) + 2 * config.global_.projection
    return START_S + seconds, cells * (2 * vectors + 16 * len(config.study.classes)) / 1e6


def _dim(encoder: BackboneConfig) -> int:
    return encoder.entry.dim or UNKNOWN_DIM


_WITH_ENCODERS: dict[str, Callable[[Run, Any], tuple[float, float]]] = {
    "train_local": _train_local,
    "train_global": _train_global,
    "embed_windows": _embed_windows,
    "embed_cells": _embed_cells,
}
"""Rule that runs encoders → its seconds, of one GPU or of one core, and the size of its files, MB."""
