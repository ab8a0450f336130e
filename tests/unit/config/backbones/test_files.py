"""Fingerprints of weights: what changes them, and what they cost."""

import os
from pathlib import Path

import pytest

from nuclass_pipeline.config.backbones.files import BLOCK_BYTES, BLOCKS, find_weights, fingerprint_weights
from nuclass_pipeline.config.backbones.section import BackboneConfig
from nuclass_pipeline.errors import UserError


def changed_at(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize("size", [1, BLOCK_BYTES - 1, BLOCK_BYTES, 3 * BLOCK_BYTES + 7])
def test_every_byte_of_a_small_file_counts(tmp_path: Path, size: int) -> None:
    content, found = os.urandom(size), []
    for number, place in enumerate((0, size // 2, size - 1)):
        path = tmp_path / str(number)
        path.write_bytes(changed_at(content, place))
        found.append(fingerprint_weights([str(path)]))
    for name, text in (("as it is", content), ("longer", content + b"\0")):
        (tmp_path / name).write_bytes(text)
        found.append(fingerprint_weights([str(tmp_path / name)]))
    assert len(set(found)) == (5 if size > 1 else 3)
    assert all(len(value) == 16 for value in found)


def test_a_changed_part_of_a_large_file_counts_and_few_bytes_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size, part = 2 * BLOCKS * BLOCK_BYTES, 2 * BLOCK_BYTES + BLOCK_BYTES // 100
    path, found, read = tmp_path / "model.safetensors", set(), []
    content, pread = os.urandom(size), os.pread
    monkeypatch.setattr(os, "pread", lambda *args: read.append(args[1]) or pread(*args))
    for number, start in enumerate((0, size // 3, size // 2, size - part)):
        path.write_bytes(content[:start] + bytes(part) + content[start + part :])
        os.utime(path, ns=(number, number))
        found.add(fingerprint_weights([str(path)]))
    assert len(found) == 4
    assert sum(read) == 4 * BLOCKS * BLOCK_BYTES
    fingerprint_weights([str(path)])
    assert sum(read) == 4 * BLOCKS * BLOCK_BYTES


def test_files_beside_the_weights_count_and_no_weights_are_none(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"one")
    first = fingerprint_weights(find_weights(str(tmp_path)))
    assert fingerprint_weights([]) == ""
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_text("{}")
        assert find_weights(str(tmp_path))[-1] == find_weights(str(tmp_path / "model.safetensors"))[-1] == str(tmp_path / name)
        second = fingerprint_weights(find_weights(str(tmp_path)))
        assert second != first
        first = second


def test_weights_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone: weights: cannot be read \(No such file or directory\)\. Make the files"):
        fingerprint_weights([str(tmp_path / "gone")])


def test_the_key_follows_weights_and_views_and_not_where_the_weights_lie(tmp_path: Path) -> None:
    keys = {}
    for name, content in (("a", b"one"), ("copy", b"one"), ("b", b"two")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(content)
        keys[name] = BackboneConfig(name="uni2-h", weights=str(tmp_path / name), freeze=True).key
    assert keys["a"] == keys["copy"] != keys["b"]
    (tmp_path / "a/model.safetensors").unlink()
    assert BackboneConfig(name="uni2-h", weights=str(tmp_path / "a")).key == BackboneConfig(name="uni2-h").key not in keys.values()
    # As version 0.1.0 named it, because features of random weights stay where they are.
    tiny = BackboneConfig(name="tiny-vit", image_px=32, freeze=True)
    assert tiny.key == "be9b0dfa"
    assert len({tiny.model_copy(update={"views": views}).key for views in (1, 4, 8)}) == 3
