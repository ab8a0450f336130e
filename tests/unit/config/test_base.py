from pathlib import Path

import pytest

from nuclass_pipeline.config.base import flatten, tidy_path


@pytest.mark.parametrize(
    ("given", "tidy"),
    [
        ("data/outs/", "data/outs"),
        ("./data//outs/./", "data/outs"),
        ("/data/outs//", "/data/outs"),
        ("//data", "/data"),
        ("../data/a.tif", "../data/a.tif"),
        ("  data/a b (1) [2] ü,;'&#%@+=!.tif ", "data/a b (1) [2] ü,;'&#%@+=!.tif"),
        ("~/data", str(Path.home() / "data")),
        ("a:b", "a:b"),
        ("", ""),
        (" ", ""),
        (None, None),
    ],
)
def test_a_path_is_tidied_as_jobs_use_it(given, tidy):
    assert tidy_path(given) == tidy


@pytest.mark.parametrize(
    ("path", "meaning"),
    [
        ("data/{slide}/outs", "'{' in a path is a wildcard of Snakemake"),
        ("data/<results>", "'<' in a path is a wildcard of Snakemake"),
        ("data/*.tif", "'*' in a path is a pattern"),
        ("data/slide?.tif", "'?' in a path is a pattern"),
        (r"data\outs", r"'\\' in a path is of Windows"),
        (r"C:\data", r"'\\' in a path is of Windows"),
        ("D:/data", "'D:/' in a path is of Windows"),
        ("$HOME/data", "'$' in a path is a variable of a shell"),
        ("https://host/he.tif", "'https://' in a path is an address"),
        ("a\nb", "'\\n' in a path is a control character"),
        ("a\0b", "'\\x00' in a path is a control character"),
        ("x" * 300, "in a path is longer than file systems allow"),
        ("x/" * 1200, "in a path is longer than file systems allow"),
        ("~nobody-here/data", "'~nobody-here' in a path is not a user of this machine"),
    ],
)
def test_a_path_that_a_job_would_read_otherwise_is_refused(path, meaning):
    with pytest.raises(ValueError) as caught:
        tidy_path(path)
    assert meaning in str(caught.value)


def test_keys_of_nested_sections_are_joined_by_points():
    nested = {"a": 1, "b": {"c": [2], "d": {"e": None}}, "f": {}}
    assert list(flatten(nested)) == [("a", 1), ("b.c", [2]), ("b.d.e", None)]
