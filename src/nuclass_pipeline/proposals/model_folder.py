"""Load a causal language model from a folder that anyone may have written."""

import inspect
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from nuclass_pipeline.config.labeling import LANGUAGE_MODEL_REMEDY
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io.tensor_files import check_model_folder, read_shapes, read_small_json
from nuclass_pipeline.runtime import stay_offline

MAX_CONFIG_BYTES = 2_000_000
"""Most bytes of a config.json."""
MAX_LAYERS, MAX_EXPERTS, MAX_SIZE = 500, 5000, 10**8
"""Far above the numbers in the config.json of the largest published models."""
SPARE_VALUES = 10**8
"""Values that a model may have beside those of its files, such as masks."""


def load_language_model(folder: Path) -> tuple[Any, Any]:
    """Read model and tokenizer; code in the folder is never run, pickles are not read, and nothing is downloaded.

    Raises
    ------
    UserError
        If the folder holds no causal language model, or an incomplete one.
    """
    stay_offline()
    if not (folder / "config.json").is_file():
        raise UserError(folder, "language model", "there is no config.json", LANGUAGE_MODEL_REMEDY)
    try:
        _check_size(folder)
        model, info, tokenizer = _load(folder)
    except (KeyboardInterrupt, SystemExit):
        raise
    # Of any class, because the files may be anyone's, and a panic of the Rust libraries is not even an Exception.
    except BaseException as error:
        text = str(error).strip()
        reason = text.splitlines()[0][:300] if text else type(error).__name__
        raise UserError(folder, "language model", f"not loadable as a causal language model ({reason})", LANGUAGE_MODEL_REMEDY) from error
    if type(model).__name__ not in (model.config.architectures or []):
        raise UserError(folder, "architectures", f"{model.config.architectures} is not a causal language model", LANGUAGE_MODEL_REMEDY)
    if missing := {"past_key_values", "logits_to_keep"} - set(inspect.signature(model.forward).parameters):
        raise UserError(folder, "architectures", f"{type(model).__name__} takes no {sorted(missing)[0]}", LANGUAGE_MODEL_REMEDY)
    # Refused, because transformers fills missing tensors with random numbers and only warns.
    if wrong := sorted([*info["missing_keys"], *map(str, info["mismatched_keys"])]):
        problem = f"{len(wrong)} tensors are missing or do not fit, first {wrong[0]}"
        raise UserError(folder, "weights", problem, LANGUAGE_MODEL_REMEDY)
    if bad := next((name for name, tensor in model.named_parameters() if not bool(tensor.isfinite().all())), None):
        raise UserError(folder, "weights", f"the tensor {bad} has values that are not finite numbers", LANGUAGE_MODEL_REMEDY)
    return model.eval(), tokenizer


def _load(folder: Path) -> tuple[Any, Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    local = {"local_files_only": True, "trust_remote_code": False}
    loaded: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **local)
    return *loaded, AutoTokenizer.from_pretrained(folder, **local)


def _check_size(folder: Path) -> None:
    """Raise a `ValueError` if the folder leads elsewhere, or its model is larger than its files."""
    import torch
    from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM

    check_model_folder(folder)
    described = read_small_json(folder / "config.json", MAX_CONFIG_BYTES)
    if "quantization_config" in described:
        raise ValueError("it is quantized")
    if (kind := described.get("model_type")) not in CONFIG_MAPPING:
        raise ValueError(f"its model_type {str(kind)[:40]!r} is none of transformers, and code of the folder is never run")
    if any("implementation" in key and "/" in str(value) for key, value in described.items()):
        raise ValueError("its config.json names code of the hub")
    for key, number in _numbers(described):
        if number > (MAX_LAYERS if "layer" in key else MAX_EXPERTS if "expert" in key else MAX_SIZE):
            raise ValueError(f"its {key[:40]} is {str(number)[:20]}")
    held = sum(prod(shape) for file in folder.glob("*.safetensors") for shape in read_shapes(file).values())
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    # Without memory for its tensors, because transformers would make those that no file holds.
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        sketched: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=False)  # type: ignore[no-untyped-call]
    wanted = sum(tensor.numel() for tensor in (*sketched.parameters(), *sketched.buffers()))
    if wanted > held + SPARE_VALUES:
        raise ValueError(f"its config.json describes {wanted:,} values, and its files hold {held:,}")


def _numbers(described: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers in a description, each with its innermost key."""
    if isinstance(described, dict):
        for name, value in described.items():
            yield from _numbers(value, str(name))
    elif isinstance(described, list):
        for value in described:
            yield from _numbers(value, key)
    elif isinstance(described, int | float) and not isinstance(described, bool):
        yield key, described
