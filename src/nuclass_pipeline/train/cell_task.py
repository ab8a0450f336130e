"""What the trainings of the local and the global path share: their cells, and batches on the device."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from nuclass_pipeline.config.compute import Compute
from nuclass_pipeline.config.models import OptimConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import open_h5
from nuclass_pipeline.models.encoders import Encoder
from nuclass_pipeline.train.augment import AugmentRanges, augment, sample_augmentation
from nuclass_pipeline.train.dataset import CellBatch, CellDataset, SlideFiles, join_cells
from nuclass_pipeline.train.engine import TrainingTask
from nuclass_pipeline.train.loaders import make_loader
from nuclass_pipeline.train.patch_reader import CacheBudget

logger = logging.getLogger(__name__)

IMAGE_AXES = 4


@dataclass(frozen=True)
class TrainingCells:
    """Training and validation cells.

    Attributes
    ----------
    train
        Cells of the subset `train`.
    validation
        Cells of the subset `val`.
    """

    train: CellDataset
    validation: CellDataset

    @classmethod
    def open(cls, slides: Sequence[SlideFiles], cache_gb: float, **options: Any) -> "TrainingCells":
        """Open the subsets `train` and `val` of the slides.

        Parameters
        ----------
        slides
            Files of the training slides.
        cache_gb
            Memory for the decoded patches of both subsets, GB; training cells come first.
        **options
            Further arguments of `CellDataset`.
        """
        memory = CacheBudget.of_gb(cache_gb)
        train = CellDataset(slides, subsets=["train"], memory=memory, **options)
        return cls(train, CellDataset(slides, subsets=["val"], memory=memory, **options))

    def loaders(self, optim: OptimConfig, compute: Compute, seed: int) -> tuple[DataLoader[Any], DataLoader[Any]]:
        """Return the shuffled training loader and the complete validation loader."""
        return (
            make_loader(self.train, optim.batch_size, compute.workers, shuffle_seed=seed),
            make_loader(self.validation, optim.batch_size, compute.workers),
        )

    def fingerprint(self) -> str:
        """Return a hash of the cells and labels of both subsets."""
        return self.train.fingerprint() + self.validation.fingerprint()


class CellTask(TrainingTask):
    """Training of a path: images become values 0–1 on the device, and are augmented there while training."""

    augmented: bool
    ranges: AugmentRanges

    def on_after_batch_transfer(self, batch: CellBatch, dataloader_idx: int) -> CellBatch:
        """Prepare a batch; Lightning calls this."""
        image = as_float(batch.image)
        context = None if batch.context is None else as_float(batch.context)
        # In training only, because the scores of validations must not depend on random draws.
        if self.augmented and self.trainer.training:
            params = sample_augmentation(len(image), self.generator, self.ranges)
            image = augment(image, params)
            if context is not None and context.ndim == IMAGE_AXES:
                # The same parameters, because the crop shows the middle of the context.
                context = augment(context, params)
        return batch._replace(image=image, context=context)


def as_float(values: Tensor) -> Tensor:
    """Return uint8 images (B, 3, S, S) as values 0–1, and features (B, D) as they are."""
    return values.float() / 255 if values.ndim == IMAGE_AXES else values


def set_frozen(encoder: Encoder, frozen: bool) -> None:
    """Freeze an encoder, its running statistics included, or train it."""
    encoder.requires_grad_(not frozen)
    # Evaluation mode too, because batch norms move their statistics without any gradient.
    encoder.train(not frozen)


def slide_files(
    patches: Sequence[Path], labels: Sequence[Path], splits: Sequence[Path], organs: Sequence[str], contexts: Sequence[Path] | None = None
) -> list[SlideFiles]:
    """Return the files of each slide, from one list per kind of file."""
    context_files = contexts if contexts is not None else [None] * len(patches)
    return [SlideFiles(*row) for row in zip(patches, labels, splits, organs, context_files, strict=True)]


def observed_classes(slides: Sequence[SlideFiles], subset: str, classes: Sequence[str]) -> list[str]:
    """Return those of `classes` that have a cell in `subset` of any slide, in their order; log the others."""
    seen = Counter(label for slide in slides for label in join_cells(slide.labels, slide.split, [subset], classes)["label"])
    if left_out := [name for name in classes if not seen[name]]:
        logger.info("no cell in subset %s, so left out of the model: %s", subset, ", ".join(left_out))
    return [name for name in classes if seen[name]]


def pixel_size(patches: Sequence[Path]) -> float:
    """Return the one pixel size of all patch files, µm.

    Raises
    ------
    UserError
        If a file is broken or has no pixel size, or if two differ.
    """
    sizes = {}
    for path in patches:
        with open_h5(path) as file:
            if "mpp" not in file.attrs:
                remedy = "Set the attribute `mpp` to the pixel size in µm, or make the patches with this pipeline."
                raise UserError(path, "mpp", "the attribute is missing", remedy)
            sizes[float(file.attrs["mpp"])] = path
    if len(sizes) > 1:
        remedy = "Use slides of one pixel size: make the patches again with one value of image.mpp."
        raise UserError(patches[0], "mpp", f"patches differ in pixel size: {_listed(sizes)}", remedy)
    return next(iter(sizes))


def feature_dim(contexts: Sequence[Path]) -> int:
    """Return the size of the features in the files of a frozen context encoder.

    Raises
    ------
    UserError
        If a file is broken or holds no features, or if two differ in size.
    """
    dims = {}
    for path in contexts:
        with open_h5(path) as file:
            if "feature" not in file:
                problem = "the dataset is missing, and the context encoder is frozen"
                raise UserError(path, "feature", problem, "Name the feature file that embed_context wrote for this slide.")
            dims[file["feature"].shape[1]] = path
    if len(dims) > 1:
        problem = f"features differ in size: {_listed(dims)}"
        raise UserError(contexts[0], "feature", problem, "Remove these files and run again, so that one encoder writes them all.")
    return int(next(iter(dims)))


def _listed(files: dict[Any, Path]) -> str:
    return ", ".join(f"{value} in {path}" for value, path in files.items())
