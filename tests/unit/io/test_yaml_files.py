"""YAML is read more strictly than YAML is, and every problem is one line with its number."""

import time

import pytest

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_yaml

NESTED = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "a: the key occurs twice, in line 1 and in line 3, and YAML would keep the last. Remove one of them."),
        ("a:\n  b: 1\n  b: 2\n", "b: the key occurs twice, in line 2 and in line 3"),
        ("a: [{b: 1, b: 2}]\n", "b: the key occurs twice, in line 1 and in line 1"),
        ("1: a\n'1': b\n", "1: the key occurs twice"),
        ("a: [1\nb: 2\n", "line 2: not valid YAML ("),
        ("a:\n\tb: 1\n", "line 2: not valid YAML (found character '\\t' that cannot start any token). Use spaces instead of tabs."),
        ("a: “x: y”\n", "line 1: not valid YAML (mapping values are not allowed here). Replace typographic quotes"),
        ("a: b: c\n", "line 1: not valid YAML (mapping values are not allowed here). Check indentation, brackets and quotes there"),
        ("a: 1\n---\nb: 2\n", "line 2: not valid YAML (but found another document)"),
        ("a: !!python/object/apply:os.system [ls]\n", "line 1: not valid YAML (could not determine a constructor for the tag"),
        ("a: *b\n", "line 1: not valid YAML (found undefined alias 'b')"),
        ("? [a, b]\n: 1\n", "line 1: a key is a list or a section"),
        ("a: &a [*a]\n", "line 1: a value contains itself through an alias"),
        (NESTED, "aliases repeat it to more than 100,000 values"),
        ("a: " + "[" * 2000 + "]" * 2000, "its values are nested too deeply"),
        ("seed: 010\n", "line 1: YAML reads 010 as another number. Write it without leading zeros or colons, or in quotes."),
        ("a: 1:30\n", "line 1: YAML reads 1:30 as another number"),
        ("a: 2024-13-41\n", "not valid YAML (month must be in 1..12)"),
        ("a: \x01\n", "line 1: not text: it has the control character 0x01"),
    ],
)
def test_a_fault_is_one_line_with_its_place(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    begun = time.process_time()
    with pytest.raises(UserError) as refused:
        read_yaml(tmp_path / "a.yaml")
    assert time.process_time() - begun < 8
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_valid_yaml_is_read_in_every_encoding(tmp_path, encoding):
    text = "a: &x {b: 1, c: 1.0e-4, d: '010'}\r\ne: {<<: *x, b: 2}\r\nµ: 0.5\r\nf: [0, -1, 0x10, 1_000]\r\n"
    (tmp_path / "a.yaml").write_bytes(text.encode(encoding))
    shared = {"b": 1, "c": 1e-4, "d": "010"}
    assert read_yaml(tmp_path / "a.yaml") == {"a": shared, "e": shared | {"b": 2}, "µ": 0.5, "f": [0, -1, 16, 1000]}


def test_an_empty_file_is_nothing_and_a_large_one_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("# only a comment\n")
    assert read_yaml(tmp_path / "a.yaml") is None
    (tmp_path / "a.yaml").write_text("a: 1\n" * 250_000)
    with pytest.raises(UserError, match="larger than 1 MB"):
        read_yaml(tmp_path / "a.yaml")
