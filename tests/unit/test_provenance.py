import hashlib
import json
import os
import re
import shutil
import subprocess

import pytest

from nuclass_pipeline import __version__, provenance
from nuclass_pipeline.provenance import content


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of two modules, the first importing the second."""
    root = tmp_path / "nuclass_pipeline"
    (root / "data").mkdir(parents=True)
    (root / "data/__init__.py").touch()
    (root / "stage.py").write_text('"""Doc."""\nfrom nuclass_pipeline.data.tool import f\n\n\ndef g():\n    return f()\n')
    (root / "data/tool.py").write_text("def f():\n    return 1\n")
    monkeypatch.setattr(provenance, "PACKAGE", root)
    yield root
    forget()


def forget():
    for cached in (provenance._tree, provenance._imports, provenance._code, provenance._version):
        cached.cache_clear()


def version():
    forget()
    return provenance.code_version("stage")


def test_code_counts_and_comments_do_not(package):
    before = version()
    (package / "data/tool.py").write_text('"""A tool."""\n\n\ndef f():  # why\n    """Return one."""\n    return 1\n')
    assert version() == before
    (package / "data/tool.py").write_text("def f():\n    return 2\n")
    assert version() != before


def test_every_file_beside_the_code_counts_unless_it_is_hidden(package):
    found = [version()]
    for name, text in (("data/page.html", b"<p>"), ("page.html", b"<b>"), ("data/table.tsv", b"a"), ("data/bytes.bin", b"\xff\x00")):
        (package / name).write_bytes(text)
        found.append(version())
    assert len(set(found)) == 5
    for name in ("data/.page.html.swp", "data/tool.pyc", "data/unused.py"):
        (package / name).write_text("x = 1")
    (package / "data/folder").mkdir()
    assert version() == found[-1]


def test_the_page_of_the_report_is_part_of_its_hash(monkeypatch, tmp_path):
    copy = shutil.copytree(provenance.PACKAGE, tmp_path / "nuclass_pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    before = provenance.code_hash("report.build")
    forget()
    monkeypatch.setattr(provenance, "PACKAGE", copy)
    assert provenance.code_hash("report.build") == before
    (copy / "report/page.html").write_text("<html></html>")
    assert provenance.code_hash("report.build") != before


def test_a_pinned_stage_keeps_its_version_whatever_changes(package):
    (package / "stage.py").write_text("from nuclass_pipeline.data.tool import f\nSTAGE_VERSION = 3\n")
    assert version() == "v3"
    (package / "data/tool.py").write_text("def f():\n    return 2\n")
    assert version() == "v3"


def test_real_stages_are_followed_through_their_imports():
    assert {"data.xenium.read", "data.xenium.matrix", "io", "schemas", "errors"} <= provenance.closure("data.xenium.read")
    with pytest.raises(ModuleNotFoundError):
        provenance.code_version("no.such.module")


def test_content_is_what_files_hold_and_not_when_they_were_written(tmp_path):
    for name, text in (("a", "one"), ("b", "one"), ("c", "two")):
        (tmp_path / name).write_text(text)
    os.utime(tmp_path / "c", (0, 0))
    found = {name: content(tmp_path / name) for name in "abc"}
    assert found["a"] == found["b"] != found["c"]
    assert content([tmp_path / "a"], []) == found["a"]
    assert content(tmp_path / "none") == content()


def git(folder, *words):
    subprocess.run(["git", "-C", folder, "-c", "user.name=x", "-c", "user.email=x", *words], check=True, capture_output=True)


@pytest.fixture
def record(package, tmp_path, monkeypatch):
    """A repository with the package, and a function that records a run in it."""
    (tmp_path / "src").mkdir()
    (tmp_path / "nuclass_pipeline").rename(tmp_path / "src/nuclass_pipeline")
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "src/nuclass_pipeline")
    monkeypatch.chdir(tmp_path)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "src")
    git(tmp_path, "commit", "-qm", "first")
    weights = tmp_path / "weights"
    weights.mkdir()
    for name in ("labels.tsv", "mine.csv", "cells.parquet", "weights/model.safetensors", "weights/config.json"):
        (tmp_path / name).write_text(name)

    def write():
        provenance.record_run(
            tables=[tmp_path / "labels.tsv"],
            annotations=[tmp_path / "mine.csv"],
            sources=[tmp_path / "cells.parquet"],
            predictions=[tmp_path / "not-read"],
            config={"run": "mine", "local": {"backbone": {"weights": str(weights)}}, "programs": {"library": None}},
            config_file=tmp_path / "config.yaml",
            manifest=tmp_path / "manifest.json",
            encoders=[{"name": "mine", "licence": "MIT", "files": [str(weights / "model.safetensors")]}, {"name": "tiny", "files": []}],
        )
        return json.loads((tmp_path / "manifest.json").read_text())

    return write


def test_the_manifest_has_the_hash_of_everything_that_was_read(record, tmp_path):
    found = record()["inputs"]
    names = ["labels.tsv", "mine.csv", "cells.parquet", "weights/config.json", "weights/model.safetensors"]
    assert found == {str(tmp_path / name): hashlib.sha256(name.encode()).hexdigest() for name in names}


def test_the_manifest_has_licence_and_hash_of_each_encoder(record):
    mine, tiny = record()["encoders"]
    assert (mine["licence"], mine["sha256"]) == ("MIT", [hashlib.sha256(b"weights/model.safetensors").hexdigest()])
    assert tiny["sha256"] == []


def test_code_without_a_commit_is_a_warning_and_configuration_is_not(record, tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config/slides.tsv").write_text("slide")
    clean = record()
    assert (clean["dirty"], clean["warnings"], len(clean["commit"])) == (False, [], 40)
    (tmp_path / "src/nuclass_pipeline/stage.py").write_text("changed = 1")
    dirty = record()
    assert (dirty["dirty"], dirty["commit"]) == (True, clean["commit"])
    assert dirty["warnings"] == [provenance.UNCOMMITTED]


def test_the_version_names_the_commit_and_its_changes(record, tmp_path, monkeypatch):
    clean = provenance.describe_version()
    assert re.fullmatch(rf"{re.escape(__version__)}, commit [0-9a-f]{{12}}", clean)
    (tmp_path / "src/nuclass_pipeline/stage.py").write_text("changed = 1")
    assert provenance.describe_version() == f"{clean}, with changes that no commit holds"
    # An environment within another project, which ignores it.
    (tmp_path / ".gitignore").write_text("env/")
    (tmp_path / "env/nuclass_pipeline").mkdir(parents=True)
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "env/nuclass_pipeline")
    assert provenance.describe_version() == __version__
    monkeypatch.setenv("PATH", "")
    assert provenance.describe_version() == __version__
