"""What a run needs beside its slides: weights, models, packages and a GPU. Checked before the first job, which may download 30 GB."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuclass_pipeline.config.backbones.section import BackboneConfig
from nuclass_pipeline.config.expression import RAPIDS_REMEDY
from nuclass_pipeline.config.image import CELLPOSE_PACKAGE_REMEDY, CELLPOSE_REMEDY
from nuclass_pipeline.config.labeling import LANGUAGE_MODEL_REMEDY

if TYPE_CHECKING:
    from nuclass_pipeline.config.run import Run

_GPUS = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/nvidia0", "/dev/nvgpu", "/dev/nvhost-gpu", "/dev/dxg", "/dev/kfd")
"""What the drivers of NVIDIA, of its boards, of Windows below Linux, and of AMD make."""
_DEVICES = Path("/dev")
"""Where the driver of NVIDIA makes a file for each GPU; other drivers make none."""
_SCHEDULERS = ("sbatch", "qsub", "bsub", "condor_submit")
_JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")


_NEEDED: ContextVar[bool] = ContextVar("needed", default=True)


@contextmanager
def without_needs() -> Iterator[None]:
    """Run a block in which weights, packages and GPUs may be missing, because a plan is made before they are there."""
    token = _NEEDED.set(False)
    try:
        yield
    finally:
        _NEEDED.reset(token)


def has_gpu() -> bool:
    """Return whether this machine has the driver of a GPU, without loading torch."""
    return any(Path(name).exists() for name in _GPUS)


def on_cluster() -> bool:
    """Return whether jobs may run on another machine: where a scheduler takes them, or has started this process."""
    return any(shutil.which(name) for name in _SCHEDULERS) or any(name in os.environ for name in _JOBS)


def check_language_model(run: "Run") -> None:
    """Check that the language model that proposes labels is there."""
    model = run.config.proposals.model
    if run.proposes_by_model and not Path(model or "", "config.json").is_file():
        raise run.error("proposals.model", f"{model} holds no config.json", LANGUAGE_MODEL_REMEDY)


def encoder_weights(run: "Run", field: str) -> list[str]:
    """Return the files of an encoder's weights, for the input of a rule that loads it; its job must also find the GPU.

    Parameters
    ----------
    run
        The run.
    field
        `local.backbone` or `global.context`.

    Raises
    ------
    UserError
        If the weights are missing, or the run file gives jobs a GPU that is not there.
    """
    if not _NEEDED.get():
        return []
    check_gpu(run)
    encoder = {"local.backbone": run.config.local.backbone, "global.context": run.config.global_.context}[field]
    if problem := encoder.weights_problem:
        raise run.error(f"{field}.weights", f"{encoder.weights}: {problem}" if encoder.weights else problem, encoder.remedy)
    return encoder.weights_files


def describe_encoders(run: "Run") -> list[dict[str, Any]]:
    """Return use, name, terms and files of the run's encoders, for its record; a run that only labels slides uses none."""
    if not run.training_slides:
        return []
    used: dict[str, BackboneConfig] = {}
    for variant in run.variants.values():
        own = {"local.backbone": variant.config.local.backbone, "global.context": variant.config.global_.context}
        used |= {f"{variant.within}{field}": encoder for field, encoder in own.items() if encoder not in used.values()}
    return [
        {"use": use, "name": encoder.name, "licence": encoder.entry.licence, "source": encoder.entry.source, "files": encoder.weights_files}
        for use, encoder in used.items()
    ]


def segmenter_weights(run: "Run") -> list[str]:
    """Return the weights of Cellpose, for the input of a rule that segments nuclei; nothing for other methods."""
    segmentation = run.config.segmentation
    if segmentation.method != "cellpose" or not _NEEDED.get():
        return []
    check_gpu(run)
    check_package(run, "segmentation.method", "cellpose", CELLPOSE_PACKAGE_REMEDY)
    if not Path(segmentation.weights).is_file():
        raise run.error("segmentation.weights", f"{segmentation.weights} does not exist", CELLPOSE_REMEDY)
    return [segmentation.weights]


def clustering_needs(run: "Run") -> list[str]:
    """Return no file, for the input of the rule that clusters cells; its job must find the package and the GPU of `clustering.backend`."""
    if run.config.clustering.backend == "rapids" and _NEEDED.get():
        check_gpu(run)
        check_package(run, "clustering.backend", "rapids_singlecell", RAPIDS_REMEDY)
    return []


def check_package(run: "Run", field: str, name: str, remedy: str) -> None:
    """Check that an optional package is installed, without loading it."""
    if find_spec(name) is None:
        raise run.error(field, f"the package {name.replace('_', '-')} is not installed", remedy)


def check_gpu(run: "Run") -> None:
    """Check that GPUs are there if the run file gives one to jobs; a machine that hands jobs to a cluster needs none."""
    compute = run.config.compute
    if not compute.gpu or on_cluster():
        return
    if not has_gpu():
        problem = "is 1, but this machine has no GPU and no scheduler of a cluster"
        raise run.error("compute.gpu", problem, "Set it to 0, or run on a machine with a GPU; `nuclass doctor` shows what it has.")
    if 0 < (found := len(list(_DEVICES.glob("nvidia[0-9]*")))) < compute.devices:
        problem = f"is {compute.devices}, but this machine has {found} GPU{'s' if found > 1 else ''} and no scheduler of a cluster"
        raise run.error("compute.devices", problem, f"Set it to {found}, or run on a machine with more GPUs.")
