import subprocess
import sys

import pytest

from nuclass_pipeline.config.compute import Compute
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.runtime import job, paths, pick_device


class Files(list):
    """A Snakemake list of files with names."""

    def items(self):
        return {"one": "a.txt", "many": ["b.txt", "c.txt"]}.items()


def test_names_of_a_rule_are_arguments_of_its_stage(tmp_path):
    found = paths(Files())
    assert (found["one"].name, [path.name for path in found["many"]]) == ("a.txt", ["b.txt", "c.txt"])


def test_hardware_comes_from_the_resources():
    resources = type("Resources", (), {"gpu": 1, "precision": "bf16-mixed", "workers": 3, "cache_gb": 7})
    assert Compute.of(resources) == Compute(gpu=1, precision="bf16-mixed", workers=3, cache_gb=7)


def run_job(tmp_path, body):
    imports = "import sys\nfrom nuclass_pipeline.runtime import job\nfrom nuclass_pipeline.errors import UserError\n"
    code = f"{imports}with job(sys.argv[1], 1):\n    {body}"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a/log")], capture_output=True, text=True, check=False)
    return done, (tmp_path / "a/log").read_text()


def test_a_users_mistake_is_one_line_on_the_terminal_and_in_the_log(tmp_path):
    done, log = run_job(tmp_path, "raise UserError('x.csv', 'col', 'is wrong', 'Mend it.')")
    assert done.returncode == 1
    assert done.stderr == "error: x.csv: col: is wrong. Mend it.\n"
    assert "x.csv: col: is wrong. Mend it." in log
    assert "Traceback" not in done.stderr + log


def test_a_bug_keeps_its_traceback_in_the_log(tmp_path):
    done, log = run_job(tmp_path, "1 / 0")
    assert done.returncode == 1
    assert "ZeroDivisionError" in log
    assert "Traceback" in log


def test_prints_go_to_the_log(tmp_path, capsys):
    with job(tmp_path / "log", 1):
        print("hello")
    first, last = (tmp_path / "log").read_text().splitlines()
    assert first == "hello"
    assert last.endswith("finished in 0.0 s")
    assert capsys.readouterr().out == ""


def test_a_gpu_that_is_not_there_is_said(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device(0) == "cpu"
    with pytest.raises(UserError, match=r"compute\.gpu: is 1, but torch finds no GPU"):
        pick_device(1)
