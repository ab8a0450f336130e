"""Networks that are not registered train the local path through Snakemake, each from a folder of weights."""

import pytest
import timm
import torch

from nuclass_pipeline.models.local import restore_local

NETWORKS = {
    "resnet18": 1920,
    "swin_tiny_patch4_window7_224": 2880,
    "mobilenetv3_small_050": 224,
    "vit_tiny_patch16_224": 192,
    "convnext_atto": 1200,
}


def prepare(project, architecture, epochs=1):
    """Name a network in the run file, with random weights in a folder, and one slide to train on."""
    folder = project.folder / "weights" / architecture
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.save(timm.create_model(architecture).state_dict(), folder / "pytorch_model.bin")
    backbone = {"name": "mine", "architecture": architecture, "weights": str(folder), "image_px": 64}

    def change(raw):
        raw["study"].update(train=["demo-lung-1"], heldout=["demo-lung-2"], predict=[])
        raw["local"].update(backbone=backbone)
        raw["local"]["optim"].update(max_epochs=epochs)

    project.edit(change)


@pytest.mark.parametrize("architecture", NETWORKS)
def test_a_network_is_planned(project, architecture):
    prepare(project, architecture)
    assert project.planned("--forcerun", "train_local", "--", "results/demo/models/base/local/seed-0/best.ckpt")["train_local"] == 1


@pytest.mark.slow
def test_each_network_trains_an_epoch(project):
    for architecture, dim in NETWORKS.items():
        prepare(project, architecture)
        done = project.snakemake("--", "results/demo/models/base/local/seed-0/best.ckpt")
        assert done.returncode == 0, done.stderr[-3000:]
        model, meta = restore_local(project.folder / "results/demo/models/base/local/seed-0/best.ckpt")
        assert (model.backbone.dim, meta.epoch, meta.local.backbone.architecture) == (dim, 0, architecture)
