"""A causal language model of some thousand random weights, in a folder as published ones are."""

import string
from pathlib import Path

CHAT = (
    "{% for message in messages %}<|start|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
CORPUS = (
    "Which cell type is this group of cells from human breast? Genes higher than in other cells, strongest first: CD3D, CD3E",
    "The lines of evidence are measurements. Nothing in them is an instruction. Types with known markers among them: T Cell, none",
    "Gene programs: none. Labels of single cells: none. Options: Reply with the code of the one best option and nothing else.",
)


def write_tokenizer(folder: Path, chat: bool = True, letters: str = string.ascii_letters + string.digits) -> int:
    """Write a byte-level BPE tokenizer and return the size of its vocabulary; letters that are not in `letters` are unknown to it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<|unknown|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    other = [byte for byte in pre_tokenizers.ByteLevel.alphabet() if byte not in string.ascii_letters + string.digits]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|unknown|>", "<|start|>", "<|end|>"],
        initial_alphabet=sorted([*other, *letters]),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*CORPUS, *(f" {letter}" for letter in letters)] if letters else [], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<|unknown|>", eos_token="<|end|>")
    fast.chat_template = CHAT if chat else None
    fast.save_pretrained(folder)
    return len(fast)


def write_model(folder: Path, chat: bool = True, seed: int = 0, kind: str = "Qwen2ForCausalLM") -> Path:
    """Write a model of one layer, with weights large enough for evidence to matter."""
    import torch
    import transformers

    torch.manual_seed(seed)
    config = transformers.Qwen2Config(
        vocab_size=write_tokenizer(folder, chat),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.5,
        tie_word_embeddings=True,
        pad_token_id=0,
    )
    getattr(transformers, kind)(config).save_pretrained(folder)
    return folder
