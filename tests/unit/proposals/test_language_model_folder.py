"""A folder without a complete causal language model is an error of one line with a remedy, and its code is never run."""

import json
import shutil

import pytest

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.proposals.language_model import LanguageModel
from tests.unit.proposals.tiny_language_model import write_model, write_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"))


def _no_folder(path, folder):
    return path / "absent"


def _no_weights(path, folder):
    (path / "model.safetensors").unlink()
    return path


def _cut_weights(path, folder):
    (path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
    return path


def _no_tokenizer(path, folder):
    for file in path.glob("tokenizer*"):
        file.unlink()
    return path


def _classifier(path, folder):
    return write_model(path, kind="Qwen2ForSequenceClassification")


def _part_missing(path, folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    save_file({name: value for name, value in weights.items() if "q_proj.weight" not in name}, path / "model.safetensors", {"format": "pt"})
    return path


def _no_letters(path, folder):
    write_tokenizer(path, letters="")
    return path


def _not_json(path, folder):
    (path / "config.json").write_text("{")
    return path


def _image_model(path, folder):
    (path / "config.json").write_text('{"model_type": "vit", "architectures": ["ViTModel"]}')
    return path


def _own_code(path, folder):
    config = json.loads((path / "config.json").read_text())
    own = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}}
    (path / "config.json").write_text(json.dumps(config | own))
    (path / "mine.py").write_text("raise SystemExit('code of the folder was run')")
    return path


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_no_folder, "there is no config.json"),
        (_not_json, "not loadable as a causal language model"),
        (_no_weights, "not loadable as a causal language model"),
        (_cut_weights, "not loadable as a causal language model"),
        (_no_tokenizer, "it has no token for single letters"),
        (_image_model, "not loadable as a causal language model"),
        (_own_code, "not loadable as a causal language model"),
        (_classifier, "'Qwen2ForSequenceClassification'. is not a causal language model"),
        (_part_missing, "1 tensors are missing or do not fit, first model.layers.0.self_attn.q_proj.weight"),
        (_no_letters, "it has no token for single letters"),
    ],
)
def test_an_unsuitable_folder_is_reported_with_a_remedy(folder, tmp_path, spoil, message):
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    with pytest.raises(UserError, match=message) as caught:
        LanguageModel(spoil(copy, folder), threads=1)
    assert "hf download Qwen/Qwen2.5-1.5B-Instruct" in str(caught.value)
    assert "Apache-2.0" in str(caught.value)
    assert "\n" not in str(caught.value)
