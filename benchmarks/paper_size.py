"""The run of the paper on a stand-in: its slides as phantoms, `--scale` times their cells, frozen small encoders, from bundles to tables.

    python benchmarks/paper_size.py [--scale 0.1] [--cores 2] [--memory-gb 20] [--work results/paper_size]

Prints for each rule: jobs, minutes, measured and predicted peak, and the peak that the formulas of docs/sizes.md give for all cells of the
paper. That is empty for rules with encoders, because the encoders of the paper are larger than those here. The phantoms are of lung or
pancreas, whatever organ their row names, so the scores of this run mean nothing.
"""

import argparse
import os
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import yaml
from stage import measure

from nuclass_pipeline.config.memory.formulas import PEAKS
from nuclass_pipeline.config.memory.jobs import WITH_ENCODERS
from nuclass_pipeline.config.memory.sizes import SlideSize
from nuclass_pipeline.config.run import Run, load_run

ROOT = Path(__file__).parents[1]
PAPER = ROOT / "config/paper.yaml"
PHANTOMS = ("lung", "pancreas")
PAPER_CELLS = 2_000_000
"""Cells of the paper's slides, about; those without a number in the slide sheet share what the others leave."""
ENCODER = {"name": "tiny-vit", "image_px": 112, "freeze": True}
CHANGES = {
    "compute": {"gpu": 0, "threads": 2, "hours": 2, "precision": "32-true", "workers": 0, "cache_gb": 2},
    "local": {"backbone": ENCODER, "freeze_backbone_epochs": 0, "optim": {"max_epochs": 2, "warmup_steps": 50}},
    "global": {"context": ENCODER, "optim": {"max_epochs": 2, "warmup_steps": 50}},
    "gate": {"optim": {"max_epochs": 2, "warmup_steps": 50}},
}
"""What differs from `paper.yaml`: no GPU, small encoders with random weights, and few epochs, because epochs take time and no memory."""
HEADER = ("rule", "jobs", "minutes", "peak_mb", "predicted_mb", "paper_mb")


def main() -> None:
    """Write the slides, run, and print what each rule took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=0.1)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--memory-gb", type=int, default=20)
    parser.add_argument("--work", type=Path, default=Path("results/paper_size"))
    options = parser.parse_args()
    work = options.work.resolve()
    run_file = write_study(work, options.scale)
    names = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(work), "--configfile", str(run_file)]
    limits = ["--cores", str(options.cores), "--resources", f"mem_mb={1000 * options.memory_gb}"]
    if code := subprocess.run([sys.executable, "-m", "snakemake", *limits, *names], check=False).returncode:
        raise SystemExit(code)
    # Results are looked for below the working directory.
    os.chdir(work)
    run = load_run(yaml.safe_load(run_file.read_text()), root=work)
    rows = list(rule_rows(run, work, options.scale))
    print(f"{sum(run.size(slide).cells for slide in run.slides):,} cells on {len(run.slides)} slides")
    print(pd.DataFrame(rows, columns=HEADER).to_string(index=False))


def write_study(work: Path, scale: float) -> Path:
    """Write the bundles that are missing, the slide sheet and the run file; return the run file."""
    config = yaml.safe_load(PAPER.read_text())
    names = [*config["study"]["train"], *config["study"]["heldout"]]
    sheet = pd.read_csv(ROOT / config["slides"], sep="\t", dtype=str, keep_default_na=False).set_index("slide").loc[names]
    for number, (slide, cells) in enumerate(cells_of(sheet, scale).items()):
        folder = work / "bundles" / slide
        if not (folder / "outs/experiment.xenium").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            measure(make_phantom, folder, PHANTOMS[number % len(PHANTOMS)], number, cells)
        paths = {"bundle": "outs", "image": "he.ome.tif", "alignment": "alignment.csv"}
        sheet.loc[slide, list(paths)] = [str(folder / path) for path in paths.values()]
        sheet.loc[slide, "cells"] = str(cells)
    sheet[["bundle_url", "image_url", "alignment_url"]] = ""
    sheet.to_csv(work / "slides.tsv", sep="\t")
    for section, changes in CHANGES.items():
        config[section] = merge(config[section], changes)
    run_file = work / "run.yaml"
    run_file.write_text(
        yaml.safe_dump(config | {"slides": str(work / "slides.tsv"), "labels": str(ROOT / config["labels"])}, sort_keys=False)
    )
    return run_file


def cells_of(sheet: pd.DataFrame, scale: float) -> dict[str, int]:
    """Return the cells of each slide of the stand-in."""
    known = pd.to_numeric(sheet["cells"].replace("", None)).astype(float)
    shared = (PAPER_CELLS - known.sum()) / known.isna().sum()
    return {slide: round(scale * cells) for slide, cells in known.fillna(shared).items()}


def merge(section: dict, changes: dict) -> dict:
    """Return a section with changes; a network is exchanged whole."""
    inner = {key: merge(section[key], value) for key, value in changes.items() if key == "optim"}
    return section | changes | inner


def make_phantom(folder: Path, organ: str, seed: int, cells: int) -> None:
    from nuclass_pipeline.config.synthetic import SyntheticConfig
    from nuclass_pipeline.phantom import make_slide

    outputs = {"manifest": folder / "outs/experiment.xenium", "image": folder / "he.ome.tif", "alignment": folder / "alignment.csv"}
    (folder / "outs").mkdir(exist_ok=True)
    make_slide(organ=organ, seed=seed, config=SyntheticConfig(cells=cells), truth=folder / "truth.parquet", **outputs)


def rule_rows(run: Run, work: Path, scale: float) -> list[tuple[object, ...]]:
    """Return a row for each rule, by measured peak."""
    took = defaultdict(list)
    for path in (work / run.folders["benchmarks"]).glob("**/*.tsv"):
        rule = path.parent.name if path.parent.name != run.config.run else path.stem
        took[rule].append((path.stem.split("."), pd.read_csv(path, sep="\t", na_values="-")))
    rows = []
    for rule, jobs in took.items():
        # NaN for rules whose jobs all end before Snakemake measures them.
        peak_mb = pd.concat([table["max_rss"] for _, table in jobs]).max() * 2**20 / 1e6
        minutes = sum(table["s"].sum() for _, table in jobs) / 60
        jobs_of = [wildcards for wildcards, _ in jobs]
        paper_mb = "" if rule in WITH_ENCODERS else predicted(run, rule, jobs_of, 1 / scale)
        peak = "" if np.isnan(peak_mb) else round(peak_mb)
        rows.append((rule, len(jobs), f"{minutes:.1f}", peak, predicted(run, rule, jobs_of, 1), paper_mb))
    return sorted(rows, key=lambda row: -(row[3] or 0))


def predicted(run: Run, rule: str, jobs: list[list[str]], by: float) -> int | str:
    """Return the largest peak that the formulas give, MB, for slides `by` times as large; nothing for rules that do not grow."""
    if rule not in PEAKS and rule not in WITH_ENCODERS:
        return ""
    larger = Larger(run.config, run.catalogue, run.sources)
    larger.by = by
    names = ("slide", "encoder", "px", "key") if rule == "embed_windows" else ("slide",)
    wildcards = [SimpleNamespace(variant="base", seed=run.seeds[0], **dict(zip(names, parts, strict=False))) for parts in jobs]
    return round(max(larger.peak_mb(rule, one) for one in wildcards))


class Larger(Run):
    """The run with slides `by` times as large."""

    by = 1.0

    def size(self, slide: str) -> SlideSize:
        found = super().size(slide)
        return replace(found, cells=round(self.by * found.cells), counts=round(self.by * found.counts), area_mm2=self.by * found.area_mm2)


if __name__ == "__main__":
    main()
