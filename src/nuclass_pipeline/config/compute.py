"""Hardware: nothing here may change a result beyond rounding."""

from typing import Any, Literal

from pydantic import Field

from nuclass_pipeline.config.base import Section


class Compute(Section):
    """What the machine offers."""

    gpu: int = Field(0, ge=0, le=1, description="1 gives a GPU to each job that runs networks, and one to each of `devices` of a training")
    devices: int = Field(
        1, ge=1, le=64, description="devices of the training of a path, which share each batch: GPUs if gpu is 1, else processes on cores"
    )
    threads: int = Field(8, ge=1, le=1024, description="cores per training job")
    hours: int = Field(48, ge=1, le=8760, description="time limit of a training job on a cluster, hours")
    precision: Literal["32-true", "bf16-mixed"] = Field("bf16-mixed", description="Lightning precision of training and inference")
    workers: int = Field(0, ge=0, le=1024, description="loader processes per device of a training; 0 reads in the training process")
    cache_gb: int = Field(4, ge=0, le=65_536, description="memory for decoded patches, GB; patches beyond it are read again in each epoch")

    checkpoint_minutes: int = Field(
        10, ge=0, le=10_080, description="time after which the state of a training is saved within an epoch; 0 is after each step"
    )
    gate_gpu: int = Field(0, ge=0, le=1, description="GPUs per job that trains or runs the gate: 0 or 1")

    @classmethod
    def of(cls, resources: Any, threads: int = 1) -> "Compute":
        """Return what a job's resources and threads grant; they travel as resources so that new hardware never reruns a job."""
        granted = {name: getattr(resources, name) for name in cls.model_fields if hasattr(resources, name)}
        # `gpu` is a number per device here, and the number of the whole job among the resources.
        return cls(**granted | {"gpu": min(1, granted.get("gpu", 0)), "threads": threads})
