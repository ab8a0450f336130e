"""Hardware: nothing here may change a result beyond rounding."""

from typing import Any, Literal

from pydantic import Field

from nuclass_pipeline.config.base import Section


class Compute(Section):
    """What the machine offers."""

    gpu: int = Field(0, ge=0, le=1, description="GPUs per job: 0 or 1; jobs, not GPUs, are run in parallel")
    threads: int = Field(8, ge=1, le=1024, description="cores per training job")
    hours: int = Field(48, ge=1, le=8760, description="time limit of a training job on a cluster, hours")
    precision: Literal["32-true", "bf16-mixed"] = Field("bf16-mixed", description="Lightning precision of training and inference")
    workers: int = Field(0, ge=0, le=1024, description="loader processes per training job; 0 reads in the training process")
    cache_gb: int = Field(4, ge=0, le=65_536, description="memory for decoded patches, GB; patches beyond it are read again in each epoch")

    checkpoint_minutes: int = Field(
        10, ge=0, le=10_080, description="time after which the state of a training is saved within an epoch; 0 is after each step"
    )
    gate_gpu: int = Field(0, ge=0, le=1, description="GPUs per job that trains or runs the gate: 0 or 1")

    @classmethod
    def of(cls, resources: Any) -> "Compute":
        """Return what a job's resources grant; they travel as resources so that new hardware never reruns a job."""
        return cls(**{name: getattr(resources, name) for name in cls.model_fields if hasattr(resources, name)})
