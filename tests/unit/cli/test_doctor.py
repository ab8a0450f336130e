"""`nuclass doctor` and `nuclass --version` on this machine."""

import io
from dataclasses import replace
from importlib import import_module

import pytest
import typer
from rich.console import Console

from nuclass_pipeline import __version__
from nuclass_pipeline.cli.machine import assess
from tests import ROOT
from tests.unit.cli.test_machine import LAPTOP
from tests.unit.test_cli import nuclass

module = import_module("nuclass_pipeline.cli.doctor")


def test_this_machine_is_read(monkeypatch):
    monkeypatch.chdir(ROOT)
    machine = module.read_machine()
    assert machine.python >= (3, 11)
    assert 0 < machine.free <= machine.memory
    assert 1 <= machine.usable <= machine.cores
    assert machine.snakemake_fits
    assert machine.project
    assert machine.profile == ""
    assert not machine.torch_error
    assert set(machine.weights) == {"uni2-h", "dinov3-vitl16"}


@pytest.mark.parametrize(("disk", "code"), [(50, 0), (0.1, 1)])
def test_the_exit_code_is_about_the_demo(monkeypatch, capsys, disk, code):
    monkeypatch.chdir(ROOT)
    machine = replace(module.read_machine(), disk=disk)
    monkeypatch.setattr(module, "read_machine", lambda: machine)
    if code:
        with pytest.raises(typer.Exit) as ended:
            module.doctor()
        assert ended.value.exit_code == 1
    else:
        module.doctor()
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"This machine can run: {'nothing' if code else 'labels'}")


@pytest.mark.parametrize("width", [30, 40, 60, 80])
def test_no_text_is_cut_on_a_narrow_screen(width):
    findings = assess(replace(LAPTOP, driver="Tesla K80", disk=12, weights={"uni2-h": "resources/weights/" + "x" * 50}))
    screen = Console(file=io.StringIO(), width=width, markup=False)
    module.show(findings, screen)
    lines = screen.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    shown = "".join("".join(lines).split())
    assert "…" not in shown
    if width < module.NARROW:
        assert all("".join(f"{finding.what}:{finding.verdict}{finding.found}".split()) in shown for finding in findings)
    else:
        assert all(word in shown for finding in findings for word in finding.what.split())


def test_a_broken_profile_is_named(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert module._profile_problem() == ""
    module.PROFILE.parent.mkdir(parents=True)
    for text in ("cores: [\n", "no-such-option: 1\n"):
        module.PROFILE.write_text(text)
        assert module._profile_problem().startswith("profiles/default/config.yaml: ")
    module.PROFILE.write_text("rerun-incomplete: true\n")
    assert module._profile_problem() == ""


def test_the_version_names_the_commit(tmp_path):
    done = nuclass("--version", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith(f"nuclass {__version__}")
    assert len(done.stdout.splitlines()) == 1
