"""Files of weights and checkpoints made to do harm: one line, no network, no code, little memory."""

import json
import os
import pickle
import re
import resource
import socket
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from nuclass_pipeline.config.backbones.registry import BACKBONES, BackboneSpec
from nuclass_pipeline.config.backbones.section import BackboneConfig
from nuclass_pipeline.config.models import LocalConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.models.backbones import build_backbone
from nuclass_pipeline.models.checkpoint import CheckpointMetadata, save_checkpoint
from nuclass_pipeline.models.encoders import assemble
from nuclass_pipeline.models.local import LocalClassifier, restore_local
from nuclass_pipeline.models.networks.specs import check_spec, plain_spec
from nuclass_pipeline.models.weights import read_pickle, read_tensors
from tests.unit.models.test_backbones import SOURCE, images, save_dinov3

TINY = BackboneConfig(name="tiny-vit", image_px=32)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, as an error that no library handles."""

    def refuse(*_: Any, **__: Any) -> None:
        raise SystemExit("a connection was tried")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setitem(BACKBONES, "mini-dinov3", BackboneSpec(32, 64, factory="models.backbones:load_dinov3", **SOURCE))


def refused(folder: Path, name: str = "mini-dinov3") -> str:
    begun, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError) as caught:
        build_backbone(BackboneConfig(name=name, weights=str(folder)))
    assert time.process_time() - begun < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000
    assert "\n" not in str(caught.value)
    assert "hf download" in str(caught.value)
    return str(caught.value)


def write_safetensors(path: Path, header: dict[str, Any], data: bytes = b"", length: int | None = None) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)


def entry(shape: list[int], offsets: tuple[int, int]) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": offsets}


CONFIGS = {
    "hub": ({"architecture": "hf-hub:evil/dinov3"}, "'hf-hub:evil/dinov3' is not an architecture of 'timm'"),
    "address": ({"architecture": "https://evil.example/dinov3"}, "is not an architecture"),
    "local folder": ({"architecture": "local-dir:/tmp/dinov3"}, "is not an architecture"),
    "path": ({"architecture": "../../dinov3"}, "is not an architecture"),
    "list": ({"architecture": ["dinov3"]}, "names neither"),
    "another size": ({"architecture": "vit_7b_patch16_dinov3", "pretrained": True}, "vectors of 4096 values, but mini-dinov3 has 32"),
    "another model": ({"model_type": "llama", "auto_map": {"AutoModel": "x.Y"}}, "names neither"),
    "hub code": ({"model_type": "dinov3_vit", "hidden_size": 32, "auto_map": {"AutoModel": "evil/x--m.Y"}}, "'auto_map' would load"),
    "kernel": ({"model_type": "dinov3_vit", "hidden_size": 32, "attn_implementation": "evil/kernel"}, "'attn_implementation' would load"),
    "huge": ({"model_type": "dinov3_vit", "hidden_size": 32, "intermediate_size": 10**9}, "'intermediate_size' is 1000000000"),
    "deep": ({"model_type": "dinov3_vit", "hidden_size": 32, "num_hidden_layers": 10**9}, "'num_hidden_layers' is 1000000000"),
    "quantized": ({"model_type": "dinov3_vit", "hidden_size": 32, "quantization_config": {"quant_method": "gptq"}}, "would load"),
    "wide": ({"model_type": "dinov3_vit", "hidden_size": 4096}, "vectors of 4096 values"),
    "text for a number": ({"model_type": "dinov3_vit", "hidden_size": "32"}, "not loadable as DINOv3"),
    "no heads": ({"model_type": "dinov3_vit", "hidden_size": 32, "num_attention_heads": 0}, "not loadable as DINOv3"),
}


@pytest.fixture(scope="module")
def dinov3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dinov3")
    save_dinov3(folder)
    return folder


@pytest.fixture
def folder(dinov3: Path, tmp_path: Path) -> Path:
    """A sound folder of a small DINOv3, to be spoilt."""
    for file in dinov3.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


@pytest.mark.parametrize("case", CONFIGS)
def test_a_config_that_leads_elsewhere_is_refused(folder: Path, case: str) -> None:
    config, message = CONFIGS[case]
    (folder / "config.json").write_text(json.dumps(config))
    assert message in refused(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 90_000, " " * 200_000, "\xff\x00"])
def test_a_config_that_is_no_config_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    assert "not a readable config.json" in refused(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "loop", "folder"])
def test_what_is_no_file_does_not_wait(folder: Path, name: str, kind: str) -> None:
    (folder / name).unlink()
    make = {"pipe": os.mkfifo, "loop": lambda path: path.symlink_to(path), "folder": os.mkdir}[kind]
    make(folder / name)
    assert "config.json" in refused(folder) or "holds neither" in refused(folder)


def test_an_adapter_is_refused(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "evil/model"}')
    assert "adapter_config.json names another model" in refused(folder)


def test_weights_that_are_not_numbers_are_refused(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    next(iter(state.values())).view(-1)[0] = float("nan")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    assert "has values that are not finite numbers" in refused(folder)


HEADERS = {
    "giant": ({"a": entry([10**6, 10**6], (0, 4 * 10**12))}, b"", None),
    "overlap": ({"a": entry([4], (0, 16)), "b": entry([4], (8, 24))}, bytes(24), None),
    "hole": ({"a": entry([1], (0, 4)), "b": entry([1], (8, 12))}, bytes(12), None),
    "negative": ({"a": entry([-1], (0, 4))}, bytes(4), None),
    "long header": ({}, b"", 10**12),
    "no header": ({}, b"", 0),
    "no shape": ({"a": {"dtype": "F32"}}, b"", None),
    "not a table": ({"a": 1}, b"", None),
    "other tensors": ({"a": entry([2], (0, 8))}, bytes(8), None),
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_that_lies_is_refused(folder: Path, case: str) -> None:
    header, data, length = HEADERS[case]
    write_safetensors(folder / "model.safetensors", header, data, length)
    assert "not loadable as DINOv3" in refused(folder)
    (folder / "config.json").write_text('{"architecture": "vit_small_patch16_dinov3"}')
    assert "vit_small_patch16_dinov3" in refused_by_timm(folder)


def refused_by_timm(folder: Path) -> str:
    spec = BackboneSpec(384, 64, factory="models.backbones:load_dinov3", **SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "mini-dinov3", spec)
        return refused(folder)


class _Harm:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_is_not_run(tmp_path: Path, protocol: int) -> None:
    harmed = tmp_path / "harmed"
    for name, save in {
        "torch": lambda path: torch.save({"a": _Harm(harmed)}, path, pickle_protocol=protocol),
        "old torch": lambda path: torch.save({"a": _Harm(harmed)}, path, pickle_protocol=protocol, _use_new_zipfile_serialization=False),
        "pickle": lambda path: path.write_bytes(pickle.dumps(_Harm(harmed), protocol)),
    }.items():
        path = tmp_path / "pytorch_model.bin"
        path.unlink(missing_ok=True)
        save(path)
        message = refused(tmp_path, "uni2-h")
        assert "which is not a tensor, and is not run" in message or "not a zip file" in message, name
    assert not harmed.exists()


def repack(path: Path, replace: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path) as old:
        records = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", method) as new:
        for name, content in records.items():
            new.writestr(name, replace.get(name.rpartition("/")[2], content))


def test_memory_is_not_reserved_by_a_pickle(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "weights.bin")
    repack(tmp_path / "weights.bin", {"data.pkl": b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\xe4\x0bT\x02\x85R."})
    with pytest.raises(ValueError, match="'builtins bytearray', which is not a tensor"):
        read_pickle(tmp_path / "weights.bin")


def test_a_compressed_record_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(20_000_000)}, tmp_path / "weights.bin")
    repack(tmp_path / "weights.bin", {}, zipfile.ZIP_DEFLATED)
    assert (tmp_path / "weights.bin").stat().st_size < 200_000
    with pytest.raises(ValueError, match=r"is compressed, which torch.save never does"):
        read_tensors(tmp_path / "weights.bin")


@pytest.mark.parametrize(
    "content", [{"a": 1}, [torch.zeros(2)], {1: torch.zeros(2)}, {"a": torch.zeros(2, device="meta")}, {"a": {"b": torch.zeros(1)}}]
)
def test_what_is_not_tensors_by_name_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "weights.bin")
    with pytest.raises(ValueError, match=r"no tensors by name|is not a plain tensor|which is not a tensor"):
        read_tensors(tmp_path / "weights.bin")


def checkpoint(path: Path) -> LocalClassifier:
    local = LocalConfig(backbone=TINY)
    model = LocalClassifier(build_backbone(TINY), classes=2, organs=1, config=local)
    meta = CheckpointMetadata(
        kind="local", classes=("A", "B"), organs=("lung",), mpp=0.25, local=local, backbone=model.backbone.spec, dims={"local": 64}, seed=0
    )
    save_checkpoint(path, model, meta)
    return model.eval()


def spoil(path: Path, change: Any) -> str:
    """Change the content of a checkpoint and return the message of its refusal."""
    checkpoint(path)
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    begun = time.process_time()
    with pytest.raises(UserError) as caught:
        restore_local(path)
    assert time.process_time() - begun < 10
    assert "\n" not in str(caught.value)
    assert "Train the model again" in str(caught.value)
    return str(caught.value)


def test_a_checkpoint_gives_the_same_model(tmp_path: Path) -> None:
    saved = checkpoint(tmp_path / "best.ckpt")
    before = torch.get_rng_state()
    restored, meta = restore_local(tmp_path / "best.ckpt")
    x, organ = images(3, 32), torch.zeros(3, dtype=torch.long)
    torch.testing.assert_close(restored(x, organ).logits, saved(x, organ).logits, rtol=0, atol=0)
    assert meta.classes == ("A", "B")
    # The random state moves on as by building the model once.
    torch.set_rng_state(before)
    LocalClassifier(assemble(meta.backbone), classes=2, organs=1, config=meta.local)
    once = torch.get_rng_state()
    torch.set_rng_state(before)
    restore_local(tmp_path / "best.ckpt")
    assert torch.equal(torch.get_rng_state(), once)


CHANGES: dict[str, tuple[Any, str]] = {
    "hub": (lambda c: c["meta"]["backbone"].update(architecture="hf-hub:evil/model"), "'hf-hub:evil/model' is not an architecture"),
    "download": (lambda c: c["meta"]["backbone"]["arguments"].update(pretrained=True), "'pretrained' would load something else"),
    "file": (lambda c: c["meta"]["backbone"]["arguments"].update(checkpoint_path="/etc/passwd"), "'checkpoint_path' would load"),
    "library": (lambda c: c["meta"]["backbone"].update(library="os"), "is not an architecture of 'os'"),
    "depth": (lambda c: c["meta"]["backbone"]["arguments"].update(depth=10**7), "'depth' is 10000000"),
    "width": (lambda c: c["meta"]["backbone"]["arguments"].update(embed_dim=960_000), "they do not fit its description"),
    "no description": (lambda c: c["meta"].update(backbone={}), "they do not fit its description"),
    "wrong argument": (lambda c: c["meta"]["backbone"]["arguments"].update(depht=3), "they do not fit its description"),
    "not finite": (lambda c: c["meta"]["backbone"].update(std=[float("nan")] * 3), "its std is not three numbers"),
    "zero": (lambda c: c["meta"]["backbone"].update(std=[0.0, 1.0, 1.0]), "its std has a zero"),
    "classes": (lambda c: c["meta"].update(classes=["A", "B", "C"]), "2 tensors are of another shape, the first is head.4.bias, [2] for"),
    "encoder": (lambda c: c["meta"]["local"]["backbone"].update(name="hf-hub:evil/model"), "local.backbone.name"),
    "key": (lambda c: c["meta"].update(hub_model="evil/model"), "hub_model: Extra inputs are not permitted"),
    "no state": (lambda c: c.pop("state"), "'state' is missing"),
    "no meta": (lambda c: c.pop("meta"), "'meta' is missing"),
    "state": (lambda c: c.update(state=[1]), "it holds no tensors by name"),
    "missing tensor": (lambda c: c["state"].pop("head.1.bias"), "1 tensors are missing, the first is head.1.bias"),
    "more tensors": (lambda c: c["state"].update(x=torch.zeros(1)), "1 tensors are left over, the first is x"),
    "NaN": (lambda c: c["state"]["head.1.bias"].fill_(float("nan")), "head.1.bias has values that are not finite numbers"),
    "infinite": (lambda c: c["state"]["head.1.bias"].fill_(float("inf")), "not finite"),
    "expanded": (lambda c: c["state"].update({"head.1.weight": torch.zeros(1).expand(10**9, 10**3)}), "of another shape"),
    "Lightning": (
        lambda c: [c.pop("format"), c.update({"pytorch-lightning_version": "2", "hyper_parameters": {"name": "hf-hub:evil/model"}})],
        "not a nuclass-checkpoint-1 file",
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_checkpoint_that_lies_is_refused(tmp_path: Path, case: str) -> None:
    change, message = CHANGES[case]
    assert message in spoil(tmp_path / "best.ckpt", change)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02}q\x00.", b"\x00" * 1000])
def test_a_checkpoint_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "best.ckpt").write_bytes(content)
    with pytest.raises(UserError, match="not a readable checkpoint"):
        restore_local(tmp_path / "best.ckpt")


def test_a_checkpoint_that_is_a_pipe_does_not_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "best.ckpt")
    with pytest.raises(UserError, match="a pipe or a device"):
        restore_local(tmp_path / "best.ckpt")


def test_a_checkpoint_that_runs_code_is_not_run(tmp_path: Path) -> None:
    checkpoint(tmp_path / "best.ckpt")
    content = torch.load(tmp_path / "best.ckpt", weights_only=True)
    torch.save({**content, "hyper_parameters": _Harm(tmp_path / "harmed")}, tmp_path / "best.ckpt")
    with pytest.raises(UserError, match="which is not a tensor, and is not run"):
        restore_local(tmp_path / "best.ckpt")
    assert not (tmp_path / "harmed").exists()


def test_large_networks_are_refused_before_they_are_built(tmp_path: Path) -> None:
    """UNI2-h has 2.7 GB of weights; the refusal of a small file needs none of them."""
    write_safetensors(tmp_path / "model.safetensors", {"a": entry([2], (0, 8))}, bytes(8))
    code = (
        "from pathlib import Path\nfrom nuclass_pipeline.config.backbones.section import BackboneConfig\n"
        "from nuclass_pipeline.errors import UserError\nfrom nuclass_pipeline.models.backbones import build_backbone\n"
        f"try: build_backbone(BackboneConfig(name='uni2-h', weights={str(tmp_path)!r}))\nexcept UserError as error: print(error)\n"
        # Not ru_maxrss, because a child inherits that of the process that started it.
        "print(next(line.split()[1] for line in Path('/proc/self/status').open() if line.startswith('VmHWM')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    message, peak_kb = done.stdout.splitlines()
    assert re.search(r"the file does not fit vit_giant_patch14_224 \(\d{3} tensors are missing, the first is \w", message)
    assert int(peak_kb) < 1_500_000


@pytest.mark.parametrize("value", [True, "evil/model", {"a": 1}])
def test_arguments_that_load_are_refused_whatever_their_value(value: Any) -> None:
    with pytest.raises(ValueError, match="'pretrained_cfg' would load something else"):
        check_spec(plain_spec("timm", "test_vit", {"pretrained_cfg": value}, (0.5,) * 3, (0.5,) * 3))
