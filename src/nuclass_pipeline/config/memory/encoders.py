"""Peak memory of the rules that run encoders: weights, the cache of decoded patches, loader processes and activations."""

from dataclasses import dataclass
from pathlib import Path

from nuclass_pipeline.config.backbones.section import BackboneConfig
from nuclass_pipeline.config.compute import Compute

TORCH_MB = 750
"""torch and Lightning, imported."""
CUDA_MB = 3000
"""What CUDA takes of the memory of the machine in a process that uses a GPU."""
COPIES = 3
"""Memory of an encoder that is loaded, in sizes of its file: the tensors as read, in 32 bits, and in the network."""
TRAINED_COPIES = 8
"""The same on a CPU where it is trained: gradients, two moments, and the state that is saved are added."""
ACTIVATION_BYTES, INFERENCE_BYTES = 1000, 650
"""Activations on a CPU for each pixel that an encoder sees at once: in a training, and without gradients."""
BLOCKS_MB = 64
"""Decoded blocks of images that a process keeps, for all slides; more only within `cache_gb`."""
WORKER_MB = 100
"""Memory of a loader process beside blocks and batches."""
HELD_BATCHES = 4
"""Batches that a loader process holds: two that wait, one in the making, one on the way."""
PHASES = 2
"""Training and validation each have loader processes, and both are kept."""
CELL_BYTES = 80
"""Table of the cells of a training, for each cell."""
UNKNOWN_DIM = 1536
"""Size of a vector whose network is not in the registry."""
EMBEDDED_AT_ONCE, TILES_AT_ONCE = 64, 2
"""Windows and tiles at once where nothing is trained."""


@dataclass(frozen=True)
class WindowKind:
    """One kind of windows that a job reads, and the encoder that sees them.

    Attributes
    ----------
    encoder
        The encoder.
    as_features
        Whether its features are read instead of the windows.
    trained
        Whether it is trained.
    read_px
        Side of a window as it is read, px, where the GPU resizes it; 0 is that of the encoder's images.
    """

    encoder: BackboneConfig
    as_features: bool = False
    trained: bool = False
    read_px: int = 0

    @property
    def bytes_each(self) -> int:
        """Bytes of a decoded window, or of its features."""
        if self.as_features:
            return 2 * self.encoder.views * (self.encoder.entry.dim or UNKNOWN_DIM)
        return 3 * (self.read_px or self.encoder.image_px) ** 2

    def weights_mb(self, gpu: int) -> float:
        """Return the memory of the encoder, MB; nothing where features replace it."""
        copies = TRAINED_COPIES if self.trained and not gpu else COPIES
        return 0.0 if self.as_features else copies * weights_mb(self.encoder)


def weights_mb(encoder: BackboneConfig) -> float:
    """Return the size of an encoder's weights, MB: of its files where they are there, else as the registry says."""
    sizes = [Path(path).stat().st_size for path in encoder.weights_files if Path(path).is_file()]
    return sum(sizes) / 1e6 if sizes else float(encoder.entry.size_mb)


def encoder_mb(kinds: list[WindowKind], batch: float, compute: Compute, phases: int) -> float:
    """Return the memory of a job that runs encoders, without the cache of its cells, MB.

    Parameters
    ----------
    kinds
        What it reads of each cell.
    batch
        Cells at once, of all devices.
    compute
        Hardware of the job; several devices train.
    phases
        Loaders that are kept at the same time.
    """
    seen = [kind for kind in kinds if not kind.as_features]
    devices = compute.devices if phases == PHASES else 1
    batch /= devices
    network = sum(kind.weights_mb(compute.gpu) for kind in kinds)
    pixels = sum(kind.encoder.image_px**2 for kind in seen)
    network += CUDA_MB if compute.gpu else (ACTIVATION_BYTES if phases == PHASES else INFERENCE_BYTES) * batch * pixels / 1e6
    batch_mb = batch * sum(kind.bytes_each for kind in kinds) / 1e6
    each = (BLOCKS_MB if seen else 0) + HELD_BATCHES * batch_mb + (WORKER_MB if compute.workers else 0)
    # The job itself, and a process for each device if there are several.
    own = TORCH_MB + network + each * (phases * compute.workers or 1)
    return own if devices == 1 else TORCH_MB + devices * own


def cells_mb(kinds: list[WindowKind], cells: int, compute: Compute) -> float:
    """Return the memory of the cells of a training, MB: decoded patches within `cache_gb`, and all features."""
    patches = cells * sum(kind.bytes_each for kind in kinds if not kind.as_features) / 1e6
    features = cells * sum(kind.bytes_each for kind in kinds if kind.as_features) / 1e6
    return min(1000 * compute.cache_gb, patches) + features + CELL_BYTES * cells / 1e6
