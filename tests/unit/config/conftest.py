import copy

import pytest
import yaml

from nuclass_pipeline.config.run import load_run
from nuclass_pipeline.errors import UserError
from tests import ROOT

SHEET = "slide\tkind\torgan\tbundle\timage\talignment\n"


@pytest.fixture
def demo():
    return yaml.safe_load((ROOT / "config/demo.yaml").read_text())


def edited(raw, path, value):
    raw = copy.deepcopy(raw)
    *folders, key = path.split(".")
    section = raw
    for folder in folders:
        section = section.setdefault(folder, {})
    section[key] = value
    return raw


@pytest.fixture
def refused(demo):
    """Return a function that changes one key of the demo and returns the error, which is one line."""

    def run(path, value):
        with pytest.raises(UserError) as caught:
            load_run(edited(demo, path, value), root=ROOT, file="config/demo.yaml")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return run


class Own:
    """A study of one's own: slides `a` (train) and `b` (held out) of the lung, each with an H&E and a bundle, in a folder."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "config").mkdir()
        for name in ("labels.tsv", "markers.tsv"):
            (folder / "config" / name).write_bytes((ROOT / "config" / name).read_bytes())
        self.raw = {"run": "own", "study": {"train": ["a"], "heldout": ["b"]}}
        tiny = {"name": "tiny-resnet"}
        self.raw |= {"local": {"backbone": tiny}, "global": {"context": tiny}}
        self.rows = {name: ["xenium", "lung", f"{name}/outs", f"{name}/he.tif", f"{name}/m.csv"] for name in "ab"}
        for name in "ab":
            self.write(f"{name}/outs/experiment.xenium", "{}")
            self.write(f"{name}/outs/cell_feature_matrix.h5", f"counts of {name}")
            self.write(f"{name}/he.tif", f"image of {name}")
            self.write(f"{name}/m.csv", "1,0,0\n0,1,0\n0,0,1\n")

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    def load(self):
        rows = ["\t".join([name, *row]) for name, row in self.rows.items()]
        self.write("config/slides.tsv", SHEET + "\n".join(rows) + "\n")
        return load_run(self.raw, root=self.folder)

    def refused(self):
        with pytest.raises(UserError) as caught:
            self.load()
        assert "\n" not in str(caught.value)
        return str(caught.value)


@pytest.fixture
def own(tmp_path):
    return Own(tmp_path)
