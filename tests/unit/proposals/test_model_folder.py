"""A folder of a language model that was made to do harm is one line: no code, no network, little memory."""

import json
import os
import pickle
import shutil
import socket
import struct
import time

import pytest

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.proposals.model_folder import load_language_model
from tests.unit.proposals.tiny_language_model import write_model


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def folder(sound, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise SystemExit("a connection was tried")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return shutil.copytree(sound, tmp_path / "model")


def edit(folder, name="config.json", **values):
    described = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({key: value for key, value in (described | values).items() if value is not None}))


class _Harm:
    def __reduce__(self):
        return os.system, ("touch harmed",)


def _pickle_alone(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Harm()))


def _index(part):
    def spoil(folder):
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": {"a": part}}))

    return spoil


def _nan(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    next(iter(weights.values())).view(-1)[0] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def _giant_header(folder):
    header = json.dumps({"a": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)


def _pipe(name):
    def spoil(folder):
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return spoil


CASES = {
    "remote code": (lambda f: edit(f, model_type="mine", auto_map={"AutoConfig": "evil/r--m.C"}), "is none of transformers, and code"),
    "pickle alone": (_pickle_alone, "no file named model.safetensors"),
    "index above": (_index("../other.safetensors"), "names files of another folder"),
    "index elsewhere": (_index("/etc/model.safetensors"), "names files of another folder"),
    "adapter": (lambda f: (f / "adapter_config.json").write_text('{"base_model_name_or_path": "evil/model"}'), "names another model"),
    "quantized": (lambda f: edit(f, quantization_config={"quant_method": "gptq"}), "it is quantized"),
    "kernel of the hub": (lambda f: edit(f, attn_implementation="a/b", _attn_implementation="a/b"), "names code of the hub"),
    "deep": (lambda f: edit(f, num_hidden_layers=10**8), "its num_hidden_layers is 100000000"),
    "wide": (lambda f: edit(f, hidden_size=10**9), "its hidden_size is 1000000000"),
    "large": (lambda f: edit(f, vocab_size=10**8), "describes 1,6"),
    "many words": (lambda f: edit(f, intermediate_size=10**7), "values, and its files hold"),
    "text for a number": (lambda f: edit(f, hidden_size="16"), ""),
    "zero heads": (lambda f: edit(f, num_attention_heads=0), ""),
    "large config": (lambda f: edit(f, note="x" * 3_000_000), "more than 2,000,000 bytes"),
    "deep config": (lambda f: (f / "config.json").write_text("[" * 100_000), "nested too deeply|no keys|Expecting|depth"),
    "NaN": (_nan, "has values that are not finite numbers"),
    "giant header": (_giant_header, "declares more values than it holds"),
    "pipe for weights": (_pipe("model.safetensors"), "pipe or a device"),
    "pipe for the tokenizer": (_pipe("tokenizer.json"), "pipe or a device"),
    "pipe for a template": (_pipe("chat_template.jinja"), "pipe or a device"),
    "tokenizer of noise": (lambda f: (f / "tokenizer.json").write_bytes(bytes(range(256)) * 50), ""),
    "tokenizer of other keys": (lambda f: (f / "tokenizer.json").write_text('{"model": {"type": "BPE", "vocab": 3}}'), ""),
}


@pytest.mark.parametrize("case", CASES)
def test_a_folder_made_to_do_harm_is_one_line(folder, case, monkeypatch):
    spoil, message = CASES[case]
    monkeypatch.chdir(folder.parent)
    spoil(folder)
    begun = time.process_time()
    with pytest.raises(UserError, match=message) as caught:
        load_language_model(folder)
    assert "\n" not in str(caught.value)
    assert "hf download Qwen" in str(caught.value)
    assert time.process_time() - begun < 10
    assert not (folder.parent / "harmed").exists()


def test_pickles_and_code_beside_the_weights_are_not_read(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Harm()))
    edit(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil/repo--mine.T", None]})
    edit(folder, auto_map={"AutoModelForCausalLM": "evil/repo--mine.M"})
    load_language_model(folder)
    assert not (folder.parent / "harmed").exists()
