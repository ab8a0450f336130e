import pytest

from nuclass_pipeline import provenance


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
    provenance._tree.cache_clear()
    provenance._version.cache_clear()


def version():
    provenance._tree.cache_clear()
    provenance._version.cache_clear()
    return provenance.code_version("stage")


def test_code_counts_and_comments_do_not(package):
    before = version()
    (package / "data/tool.py").write_text('"""A tool."""\n\n\ndef f():  # why\n    """Return one."""\n    return 1\n')
    assert version() == before
    (package / "data/tool.py").write_text("def f():\n    return 2\n")
    assert version() != before


def test_a_pinned_stage_keeps_its_version_whatever_changes(package):
    (package / "stage.py").write_text("from nuclass_pipeline.data.tool import f\nSTAGE_VERSION = 3\n")
    assert version() == "v3"
    (package / "data/tool.py").write_text("def f():\n    return 2\n")
    assert version() == "v3"


def test_real_stages_are_followed_through_their_imports():
    assert {"data.xenium.read", "data.xenium.matrix", "io", "schemas", "errors"} <= provenance.closure("data.xenium.read")
    with pytest.raises(ModuleNotFoundError):
        provenance.code_version("no.such.module")
