"""Checkpoints, weights and descriptions of networks, through the jobs and functions that load them."""
# ruff: noqa: E501 -- a case is a row of a table.

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.wrong_inputs.case import Case, Step, both, cut, fifo, link, nothing, stage, write
from benchmarks.wrong_inputs.cases.patches import EMBED, PREDICT, _config


def load(name: str, weights: str = "w") -> Step:
    """Return the job that builds an encoder of the registry."""
    return stage(
        "models.backbones:build_backbone", config=lambda: _config("backbones.section", "BackboneConfig", name=name, weights=weights)
    )


DINO, UNI = load("dinov3-vitl16"), load("uni2-h")


class Runs:
    """An object whose unpickling writes outside."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("echo was here > ../outside/pwned",))


def checkpoint(change: Callable[[dict[str, Any]], Any], path: str = "local.ckpt") -> Step:
    """Return the step that changes the content of a checkpoint."""

    def run() -> None:
        import torch

        content = torch.load(path, weights_only=True)
        torch.save(change(content) or content, path)

    return run


def meta(**values: Any) -> Step:
    """Return the step that changes the description of the local path."""
    return checkpoint(lambda content: content["meta"].update(values))


def described(**values: Any) -> Step:
    """Return the step that writes a config.json and small weights beside it."""
    return both(write("w/config.json", json.dumps(values)), tensors())


def tensors(**values: Any) -> Step:
    """Return the step that writes a model.safetensors of a few tensors."""

    def run() -> None:
        import torch
        from safetensors.torch import save_file

        Path("w").mkdir(exist_ok=True)
        save_file(values or {"cls_token": torch.zeros(1, 1, 4)}, "w/model.safetensors")

    return run


def bin_file(content: Any) -> Step:
    """Return the step that writes pytorch_model.bin."""

    def run() -> None:
        import torch

        Path("w").mkdir(exist_ok=True)
        torch.save(content() if callable(content) else content, "w/pytorch_model.bin")

    return run


def _state(name: str, value: Callable[[Any], Any]) -> Step:
    def change(content: dict[str, Any]) -> None:
        state = content["state"]
        key = next(key for key in state if name in key and state[key].dim() >= 1 and state[key].is_floating_point())
        state[key] = value(state[key])

    return checkpoint(change)


def _case(name: str, wrong: str, make: Step, says: str = "w", door: Step = DINO, **named: Any) -> Case:
    needs = ("trio", "models") if door in (EMBED, PREDICT) else ()
    return Case("models", name, wrong, make, door, says=says, needs=needs, cpu_s=10, **named)


HEADER = b"\xff\xff\xff\xff\xff\xff\xff\x7f{}"
CASES = [
    _case("right", "nothing", nothing, "", EMBED, expects="accepted"),
    _case("checkpoint is a pickle of code", "os.system", lambda: Path("local.ckpt").write_bytes(pickle.dumps(Runs())), "local.ckpt", EMBED),
    _case("checkpoint zip with code", "os.system in a torch zip", checkpoint(lambda content: content | {"meta": Runs()}), "local.ckpt", EMBED),
    _case("checkpoint cut", "half", cut("local.ckpt", 0.5), "local.ckpt", EMBED),
    _case("checkpoint empty", "0 bytes", write("local.ckpt", b""), "local.ckpt", EMBED),
    _case("checkpoint fifo", "a FIFO", fifo("local.ckpt"), "local.ckpt", EMBED),
    _case("checkpoint link to zeros", "/dev/zero", link("local.ckpt", "/dev/zero"), "local.ckpt", EMBED),
    _case("checkpoint of the other path", "global for local", lambda: Path("local.ckpt").write_bytes(Path("global.ckpt").read_bytes()), "local.ckpt", EMBED),
    _case("checkpoint of others", "a Lightning checkpoint", checkpoint(lambda c: {"state_dict": c["state"], "epoch": 3}), "local.ckpt", EMBED),
    _case("checkpoint names a hub", "backbone hf-hub:", meta(backbone={"library": "timm", "architecture": "hf-hub:MahmoodLab/UNI", "arguments": {}, "mean": [0, 0, 0], "std": [1, 1, 1]}),
          "local.ckpt", EMBED),
    _case("checkpoint names a URL", "pretrained_cfg with a url", meta(backbone={"library": "timm", "architecture": "vit_small_patch16_224", "arguments": {
          "pretrained": True, "pretrained_cfg_overlay": {"url": "http://example.org/x.pth"}}, "mean": [0, 0, 0], "std": [1, 1, 1]}), "local.ckpt", EMBED),
    _case("checkpoint names a giant", "a network of 1.8 billion weights", meta(backbone={"library": "timm", "architecture": "vit_giant_patch14_dinov2", "arguments": {
          "img_size": 224, "depth": 200}, "mean": [0, 0, 0], "std": [1, 1, 1]}), "local.ckpt", EMBED),
    _case("checkpoint names an unknown", "no such network", meta(backbone={"library": "own", "architecture": "huge-resnet", "arguments": {}, "mean": [0, 0, 0], "std": [1, 1, 1]}),
          "local.ckpt", EMBED),
    _case("checkpoint names a module", "library os", meta(backbone={"library": "os", "architecture": "system", "arguments": {"command": "id"}, "mean": [0, 0, 0], "std": [1, 1, 1]}),
          "local.ckpt", EMBED),
    _case("checkpoint without classes", "classes []", meta(classes=[]), "local.ckpt", EMBED),
    _case("checkpoint of other classes", "another order", meta(classes=["T_Cell", "Fibroblast", "Macrophage"]), "local.ckpt|global.ckpt", EMBED),
    _case("checkpoint of another pixel size", "mpp 0.5", meta(mpp=0.5), "local.ckpt|global.ckpt|mpp", EMBED),
    _case("checkpoint of other organs", "no lung", meta(organs=["breast"] * 8), "local.ckpt|organ", EMBED),
    _case("checkpoint weights nan", "NaN", _state("head", lambda t: t * float("nan")), "local.ckpt", EMBED),
    _case("checkpoint weights short", "a tensor of another size", _state("head", lambda t: t[:1]), "local.ckpt", EMBED),
    _case("checkpoint weights missing", "a tensor removed", checkpoint(lambda c: (c["state"].pop(next(iter(c["state"]))) is None) or c), "local.ckpt", EMBED),
    _case("gate of another model", "dims of another training", checkpoint(lambda c: c["meta"].update(dims={"local": 7, "context": 7, "global": 7}), "gate.ckpt"), "gate.ckpt", PREDICT),
    _case("weights folder missing", "no folder", nothing, "w.*weights|w: "),
    _case("weights folder is a file", "a file named w", write("w", "x"), "w"),
    _case("weights without config", "no config.json", tensors(), "config.json"),
    _case("config cut", "half of the JSON", both(described(), write("w/config.json", '{"model_type": ')), "config.json"),
    _case("config list", "[]", both(described(), write("w/config.json", "[]")), "config.json"),
    _case("config fifo", "a FIFO", both(described(), fifo("w/config.json")), "config.json"),
    _case("config deep", "brackets", both(described(), write("w/config.json", "[" * 100_000)), "config.json"),
    _case("config of another model", "model_type bert", described(model_type="bert"), "config.json|w"),
    _case("config runs code", "auto_map to a file in the folder", both(described(model_type="dinov3_vit", auto_map={"AutoModel": "evil.Model"}),
          write("w/evil.py", "open('../outside/pwned','w').write('x')")), "w"),
    _case("config names a hub", "architecture hf-hub:", described(architecture="hf-hub:timm/vit_large_patch16_dinov3", num_classes=0), "w"),
    _case("config names a URL", "pretrained_cfg url", described(architecture="vit_large_patch16_dinov3", pretrained_cfg={"url": "http://example.org/x.bin", "hf_hub_id": "a/b"}), "w"),
    _case("config giant", "hidden_size 100,000", described(model_type="dinov3_vit", hidden_size=100_000, num_hidden_layers=400, intermediate_size=400_000), "w"),
    _case("safetensors few", "a file of one tensor", described(architecture="vit_large_patch16_dinov3"), "model.safetensors"),
    _case("safetensors header", "header of 2⁶³ bytes", both(described(architecture="vit_large_patch16_dinov3"), write("w/model.safetensors", HEADER)), "model.safetensors"),
    _case("safetensors html", "a login page", both(described(architecture="vit_large_patch16_dinov3"), write("w/model.safetensors", "<html>sign in</html>")), "model.safetensors"),
    _case("git lfs pointer", "cloned without LFS", both(described(architecture="vit_large_patch16_dinov3"), write("w/model.safetensors",
          "version https://git-lfs.github.com/spec/v1\noid sha256:4665\nsize 343254736\n")), "model.safetensors"),
    _case("bin of code", "os.system", both(write("w/config.json", '{"architecture": "vit_giant_patch14_224"}'), bin_file(Runs)), "w", UNI),
    _case("bin old pickle", "a plain pickle of code", both(write("w/config.json", "{}"), lambda: Path("w/pytorch_model.bin").write_bytes(pickle.dumps(Runs()))), "w", UNI),
    _case("bin wrapped", "{'model': …}", both(write("w/config.json", "{}"), bin_file(lambda: {"model": {"cls_token": __import__("torch").zeros(1, 1, 1536)}})), "w", UNI),
    _case("bin zip bomb", "a zip of 3 GB of zeros", both(write("w/config.json", "{}"), lambda: _bomb()), "w", UNI),
]  # fmt: skip


def _bomb() -> None:
    import zipfile

    with (
        zipfile.ZipFile("w/pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("archive/data.pkl", "w", force_zip64=True) as file,
    ):
        for _ in range(3000):
            file.write(bytes(1 << 20))
