"""What the trainings of the local and the global path share: their cells, and batches on the device."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from nuclass_pipeline.config.backbones.section import BackboneConfig
from nuclass_pipeline.config.compute import Compute
from nuclass_pipeline.config.models import OptimConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import open_window_file, side_of
from nuclass_pipeline.models.checkpoint import CheckpointMetadata
from nuclass_pipeline.models.encoders import Encoder
from nuclass_pipeline.models.frozen import FrozenFeatures, warn_of_mpp
from nuclass_pipeline.models.layers import UNKNOWN
from nuclass_pipeline.train.augment import AugmentParams, AugmentRanges, augment, sample_augmentation
from nuclass_pipeline.train.dataset import CellBatch, CellDataset, SlideFiles, join_cells
from nuclass_pipeline.train.engine import TrainingTask
from nuclass_pipeline.train.loaders import make_loader
from nuclass_pipeline.train.loop.processes import own_part, process_rank
from nuclass_pipeline.train.patch_reader import CacheBudget

logger = logging.getLogger(__name__)

IMAGE_AXES = 4
VIEW_AXES = 3
"""Axes of features with views."""


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
    def open(cls, slides: Sequence[SlideFiles], compute: Compute, **options: Any) -> "TrainingCells":
        """Open the subsets `train` and `val` of the slides.

        Parameters
        ----------
        slides
            Files of the training slides.
        compute
            Memory for the decoded patches of both subsets, of which training cells come first, and loader processes.
        **options
            Further arguments of `CellDataset`.
        """
        # Twice, because the loader processes of the validation are kept beside those of the training.
        memory = CacheBudget.of_gb(compute.cache_gb, compute.devices * max(1, 2 * compute.workers))
        # Without views for validations, because models classify windows as they are.
        train = CellDataset(slides, subsets=["train"], memory=memory, all_views=True, **options)
        return cls(train, CellDataset(slides, subsets=["val"], memory=memory, **options))

    def loaders(self, optim: OptimConfig, compute: Compute, seed: int) -> tuple[DataLoader[Any], DataLoader[Any]]:
        """Return the shuffled training loader and the complete validation loader.

        Raises
        ------
        UserError
            If a subset has fewer cells than there are devices.
        """
        devices = compute.devices
        for subset, cells in (("train", self.train), ("val", self.validation)):
            if len(cells) < devices:
                problem = f"is {devices}, and subset {subset} has only {len(cells)} cells"
                fitting = max(n for n in range(1, max(1, len(cells)) + 1) if optim.batch_size % n == 0)
                raise UserError("run file", "compute.devices", problem, f"Set it to {fitting}.")
        return (
            make_loader(self.train, optim.batch_size, compute.workers, seed, self.train.runs(), devices),
            make_loader(self.validation, optim.batch_size, compute.workers, devices=devices),
        )

    def fingerprint(self) -> str:
        """Return a hash of the cells and labels of both subsets."""
        return self.train.fingerprint() + self.validation.fingerprint()


class CellTask(TrainingTask):
    """Training of a path: images become values 0–1 on the device, and are augmented there while training; of features, a view is drawn.

    Attributes
    ----------
    augmented, ranges
        Whether images are augmented, and how much.
    organ_dropout
        Share of training cells whose organ is hidden.
    """

    augmented: bool
    ranges: AugmentRanges
    organ_dropout = 0.0

    def on_after_batch_transfer(self, batch: CellBatch, dataloader_idx: int) -> CellBatch:
        """Prepare a batch; Lightning calls this."""
        image = as_float(batch.image)
        context = None if batch.context is None else as_float(batch.context)
        # In training only, because the scores of validations must not depend on random draws.
        if self.augmented and self.trainer.training:
            drawn = sample_augmentation(_whole(image), self.generator, self.ranges)
            params = AugmentParams(*map(own_part, drawn))
            if image.ndim == IMAGE_AXES:
                image = augment(image, params)
            if context is not None and context.ndim == IMAGE_AXES:
                # The same parameters, because the crop shows the middle of the context.
                context = augment(context, params)
        image, context = self._draw_views(image, context)
        organ = batch.organ
        if self.organ_dropout and self.trainer.training:
            hidden = own_part(torch.rand(_whole(organ), generator=self.generator)) < self.organ_dropout
            organ = organ.masked_fill(hidden.to(organ.device), UNKNOWN)
        return batch._replace(image=image, context=context, organ=organ)

    def _draw_views(self, image: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return one view of each cell (B, D), of features with views (B, V, D); anything else as it is."""
        sources = [source for source in (image, context) if source is not None and source.ndim == VIEW_AXES]
        # No draw without views, because the other draws of a training then stay the same.
        if not sources:
            return image, context
        view = own_part(torch.randint(sources[0].shape[1], (_whole(image),), generator=self.generator)).to(image.device)
        cell = torch.arange(len(image), device=image.device)

        # One draw for both, because the crop shows the middle of the context.
        def draw(source: Tensor) -> Tensor:
            return source[cell, view] if source.ndim == VIEW_AXES else source

        return draw(image), None if context is None else draw(context)


def _whole(part: Tensor) -> int:
    """Return the cells of the batch of which this process has a part; what is random is drawn for all of them, as in one process."""
    return process_rank()[1] * len(part)


def as_float(values: Tensor) -> Tensor:
    """Return uint8 images (B, 3, S, S) as values 0–1, and features (B, D) or (B, V, D) as they are."""
    return values.float() / 255 if values.ndim == IMAGE_AXES else values


def set_frozen(encoder: Encoder | None, frozen: bool) -> None:
    """Freeze an encoder, its running statistics included, or train it; nothing is done where features replace it."""
    if encoder is None:
        return
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
    """Return those of `classes` that have a cell in `subset` of any slide, in their order; log the others.

    Raises
    ------
    UserError
        If all cells are of one class.
    """
    seen = Counter(label for slide in slides for label in join_cells(slide.labels, slide.split, [subset], classes)["label"])
    if left_out := [name for name in classes if not seen[name]]:
        logger.info("no cell in subset %s, so left out of the model: %s", subset, ", ".join(left_out))
    found = [name for name in classes if seen[name]]
    if len(found) == 1:
        problem = f"all labelled cells in subset {subset} are {found[0]}, and a classifier needs two classes"
        raise UserError(slides[0].labels, "label", problem, "Add slides with other classes to study.train, or classes to study.classes.")
    return found


def pixel_size(patches: Sequence[Path]) -> float:
    """Return the pixel size of all patch files, µm: the smallest where they differ, because crops of it can be made into any other.

    Raises
    ------
    UserError
        If a file is broken or has no pixel size.
    """
    sizes = {}
    for path in patches:
        with open_window_file(path) as file:
            if "mpp" not in file.attrs:
                remedy = "Set the attribute `mpp` to the pixel size in µm, or make the patches with this pipeline."
                raise UserError(path, "mpp", "the attribute is missing", remedy)
            sizes[float(file.attrs["mpp"])] = path
    if len(sizes) > 1:
        logger.warning("patches differ in pixel size, and so in detail, µm: %s", _listed(sizes))
    return min(sizes)


def window_field(patches: Sequence[Path], name: str) -> float:
    """Return the one side of the windows behind all patch and feature files, µm; `name` is its key under `image` in the run file.

    Raises
    ------
    UserError
        If a file is broken or holds neither patches nor features, or if two differ.
    """
    fields = {_field_um(path): path for path in patches}
    if len(fields) > 1:
        remedy = f"Use slides of one field of view: make the patches again with one value of image.{name}."
        raise UserError(patches[0], name, f"windows differ in side: {_listed(fields)}", remedy)
    return next(iter(fields))


def _field_um(path: Path) -> float:
    with open_window_file(path) as file:
        if "field_um" in file.attrs:
            return float(file.attrs["field_um"])
        side_px = side_of(path, file)
    return window_um(side_px, pixel_size([path]))


def window_um(side_px: int, mpp: float) -> float:
    """Return the side of a window, µm."""
    # Rounded, because 264 × 0.2125 is not the number 56.1.
    return round(side_px * mpp, 6)


def frozen_features(paths: Sequence[Path], config: BackboneConfig, name: str) -> FrozenFeatures:
    """Describe the features in the files of a frozen encoder, and check that the encoder of the run file wrote them all.

    Parameters
    ----------
    paths
        Files of features.
    config
        The encoder.
    name
        `local_um` or `context_um`.

    Raises
    ------
    UserError
        If a file is missing or broken, holds no features, or was written by another encoder or other weights, or from other windows.
    """
    first = FrozenFeatures.read(paths[0])
    wanted = FrozenFeatures.of(config, field_um=first.field_um, mpp=first.mpp, dim=first.dim, spec=first.spec)
    for path in paths:
        wanted.check(path, name, "the run file" if path == paths[0] else f"the run file or {paths[0]}")
    return wanted


def check_windows(path: Path, meta: CheckpointMetadata, name: str, features: FrozenFeatures | None = None) -> None:
    """Check that a file holds what a model was trained on.

    Parameters
    ----------
    path
        File of patches or features.
    meta
        Metadata of the model.
    name
        `local_um` or `context_um`.
    features
        What it must hold if the encoder is frozen; without it, patches.

    Raises
    ------
    UserError
        If it holds something else, or windows of another side, or features of another magnification. Another pixel size is a warning.
    """
    if features:
        return features.check(path, name, "the checkpoint")
    with open_window_file(path) as file:
        if "feature" in file:
            raise UserError(
                path, "images", "the dataset is missing, and the encoder is part of the model", "Name the patch file of the slide."
            )
    warn_of_mpp(path, pixel_size([path]), meta.mpp)
    found, wanted = _field_um(path), getattr(meta, name)
    if wanted is not None and abs(found - wanted) > 1e-6 * found:
        problem = f"is {found:.10g} µm, and the model was trained on {wanted:.10g} µm"
        raise UserError(path, name, problem, f"Set image.{name} to {wanted:.10g}, or train the models again.")
    return None


def _listed(files: dict[Any, Path]) -> str:
    return ", ".join(f"{value} in {path}" for value, path in files.items())
