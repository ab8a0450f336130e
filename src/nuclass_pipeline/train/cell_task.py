"""What training path local and path global share: their data, and batches as the models want them."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
from torch import Tensor
from torch.utils.data import DataLoader

from nuclass_pipeline.config.compute import Compute
from nuclass_pipeline.config.models import OptimConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import require
from nuclass_pipeline.models.encoders import Encoder
from nuclass_pipeline.train.augment import AugmentRanges, augment, sample_augmentation
from nuclass_pipeline.train.dataset import CacheBudget, CellBatch, CellDataset, SlideFiles, join_cells
from nuclass_pipeline.train.engine import TrainingTask
from nuclass_pipeline.train.loaders import make_loader

logger = logging.getLogger(__name__)

ENCODED_FROM_PIXELS = 4


@dataclass(frozen=True)
class TrainingCells:
    """Training and validation cells."""

    train: CellDataset
    validation: CellDataset

    @classmethod
    def open(cls, slides: Sequence[SlideFiles], gb: float, **options: Any) -> "TrainingCells":
        """Open parts `train` and `val` of the slides within one budget of memory; options are those of `CellDataset`."""
        memory = CacheBudget.of_gb(gb)
        train = CellDataset(slides, parts=["train"], memory=memory, **options)
        return cls(train, CellDataset(slides, parts=["val"], memory=memory, **options))

    def loaders(self, optim: OptimConfig, compute: Compute, seed: int) -> tuple[DataLoader[Any], DataLoader[Any]]:
        """Return the shuffled training loader and the complete validation loader."""
        return (
            make_loader(self.train, optim.batch_size, compute.workers, shuffle_seed=seed),
            make_loader(self.validation, optim.batch_size, compute.workers),
        )

    def fingerprint(self) -> str:
        """Identify the cells of both parts."""
        return self.train.fingerprint() + self.validation.fingerprint()


class CellTask(TrainingTask):
    """A path in training: pixels become values 0–1 on the device, and are augmented there while training."""

    augmented: bool
    limits: AugmentRanges

    def on_after_batch_transfer(self, batch: CellBatch, dataloader_idx: int) -> CellBatch:
        """Prepare a batch; Lightning calls this."""
        image = as_float(batch.image)
        context = None if batch.context is None else as_float(batch.context)
        if self.augmented and self.trainer.training:
            jitter = sample_augmentation(len(image), self.generator, self.limits)
            image = augment(image, jitter)
            if context is not None and context.ndim == ENCODED_FROM_PIXELS:
                context = augment(context, jitter)
        return batch._replace(image=image, context=context)


def as_float(values: Tensor) -> Tensor:
    """Turn uint8 images into values 0–1; leave features as they are."""
    return values.float() / 255 if values.ndim == ENCODED_FROM_PIXELS else values


def set_frozen(encoder: Encoder, frozen: bool) -> None:
    """Freeze an encoder, its running statistics included, or train it."""
    encoder.requires_grad_(not frozen)
    encoder.train(not frozen)


def slide_files(
    patches: Sequence[Path], labels: Sequence[Path], splits: Sequence[Path], organs: Sequence[str], contexts: Sequence[Path] | None = None
) -> list[SlideFiles]:
    """Bring the files of each slide together."""
    wide = contexts if contexts is not None else [None] * len(patches)
    return [SlideFiles(*row) for row in zip(patches, labels, splits, organs, wide, strict=True)]


def observed_classes(slides: Sequence[SlideFiles], part: str, classes: Sequence[str]) -> list[str]:
    """Return those of `classes` that have a cell in `part` of any slide, in their order; say which are left out."""
    seen = Counter(label for slide in slides for label in join_cells(slide.labels, slide.split, [part], classes)["label"])
    if left_out := [name for name in classes if not seen[name]]:
        logger.info("without a cell in part %s, so left out of the model: %s", part, ", ".join(left_out))
    return [name for name in classes if seen[name]]


def pixel_size(patches: Sequence[Path]) -> float:
    """Return the one pixel size of all patch files, µm.

    Raises
    ------
    UserError
        If a file does not say, or two differ.
    """
    sizes = {}
    for path in patches:
        with h5py.File(path, "r") as file:
            if "mpp" not in file.attrs:
                raise UserError(
                    path, "mpp", "the attribute is missing", "Make the patches with this pipeline, or set the attribute, µm per pixel."
                )
            sizes[float(file.attrs["mpp"])] = path
    if len(sizes) > 1:
        found = ", ".join(f"{size} in {path}" for size, path in sizes.items())
        raise UserError(patches[0], "mpp", f"patches differ in pixel size: {found}", "Use one pixel size for all slides.")
    return next(iter(sizes))


def feature_dim(contexts: Sequence[Path]) -> int:
    """Return the size of the features in the files of a frozen context encoder.

    Raises
    ------
    UserError
        If a file holds no features, or two differ in size.
    """
    dims = {}
    for path in contexts:
        with h5py.File(require(path), "r") as file:
            if "feature" not in file:
                raise UserError(
                    path, "feature", "the dataset is missing, and the context encoder is frozen", "Give the files of embed_context."
                )
            dims[file["feature"].shape[1]] = path
    if len(dims) > 1:
        raise UserError(contexts[0], "feature", f"sizes differ: {dims}", "Make all features with one encoder.")
    return int(next(iter(dims)))
