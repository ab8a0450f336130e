"""Real H&E with a labelled point for each cell, through the whole workflow: import, split by case, features, both paths, gate, predictions.

    python -m benchmarks.real_tissue --m2c FOLDER --ocelot FOLDER --seeds 0 1 2

Each data set is divided into folds by case. Each fold is a run of Snakemake that holds out one slide. The held-out cells of all folds are
scored together, with intervals by resampling cases. The probes are fitted on the training slides of the same fold.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from benchmarks.real_tissue.costs import read_costs
from benchmarks.real_tissue.folds import Fold, import_folds, run_folds
from benchmarks.real_tissue.scores import Heldout, compare, pool_folds
from benchmarks.real_tissue.tables import HEADER, cost_rows, print_table, score_rows, write_markdown
from nuclass_pipeline.data.points.layouts import LAYOUTS
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import require

SETS = ("m2c", "ocelot")
SUBSETS = ("train", "gate", "val")
MIN_DRAWS = 500
COST_HEADER: tuple[str, ...] = ("quantity", "value", "unit")


def main() -> None:
    """Run the benchmark; a mistake of the user ends it with one line."""
    try:
        _run(_parse())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in SETS:
        parser.add_argument(f"--{name}", type=Path, metavar="FOLDER", help=f"folder of {name}, laid out as docs/data.md says")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the division into folds, a table for each")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--draws", type=int, default=1000, help=f"resamples of the cases, at least {MIN_DRAWS}")
    parser.add_argument("--probe-subsets", nargs="+", default=list(SUBSETS), choices=SUBSETS, help="what the probes are fitted on")
    parser.add_argument("--work", type=Path, default=Path("results/real_tissue"), help="folder for all files, kept and used again")
    parser.add_argument("--cores", default="all")
    return parser.parse_args()


def _run(options: argparse.Namespace) -> None:
    sources = {name: getattr(options, name) for name in SETS if getattr(options, name)}
    if not sources:
        raise UserError("bench-real", "--m2c, --ocelot", "no folder is given", "Name one or both: make bench-real BRCA=… OCELOT=…")
    if options.draws < MIN_DRAWS:
        raise UserError("bench-real", "--draws", f"{options.draws} resamples are too few", f"Use {MIN_DRAWS} or more.")
    # All of them first, because a run takes long.
    for name, source in sources.items():
        LAYOUTS[name](require(source, f"Name the folder of {name}."), None)
    for name, source in sources.items():
        _run_set(name, source, options)


def _run_set(name: str, source: Path, options: argparse.Namespace) -> None:
    """Run all divisions of a data set, and print and write their scores and what they took."""
    divisions = {seed: _run_division(name, source, seed, options) for seed in options.seeds}
    pooled = [one for _, one in divisions.values()]
    classes = len(next(iter(divisions.values()))[0][0].run.config.study.classes)
    groups = {f"fold seed {seed}": [one] for seed, (_, one) in divisions.items()}
    if len(pooled) > 1:
        groups[f"mean of {len(pooled)} fold seeds"] = pooled
    about = f"{name}: {len(pooled[0].truth):,} cells, {len(set(pooled[0].case))} cases, {options.folds} folds by case"
    scores = {title: compare(group, classes, options.draws) for title, group in groups.items()}
    costs = {seed: read_costs(folds, one) for seed, (folds, one) in divisions.items()}
    parts = [(f"{about}, {title}", score_rows(frame), HEADER) for title, frame in scores.items()]
    parts += [(f"{name}: cost, fold seed {seed}", cost_rows(frame), COST_HEADER) for seed, frame in costs.items()]
    for title, rows, header in parts:
        print_table(title, rows, header)
    print(f"The probes are fitted on the subsets {', '.join(options.probe_subsets)} of the training slides.")
    made = [options.work / f"{name}{end}" for end in (".tsv", "-cost.tsv", ".md")]
    pd.concat([frame.assign(folds=title) for title, frame in scores.items()]).to_csv(made[0], sep="\t", index=False)
    pd.concat([frame.assign(seed=seed) for seed, frame in costs.items()]).to_csv(made[1], sep="\t", index=False)
    write_markdown(made[2], parts)
    print(f"written: {', '.join(map(str, made))}")


def _run_division(name: str, source: Path, seed: int, options: argparse.Namespace) -> tuple[list[Fold], Heldout]:
    folds = import_folds(source, name, options.work / f"{name}-seed-{seed}", options.folds, seed)
    run_folds(folds, options.cores)
    return folds, pool_folds(folds, options.probe_subsets)


if __name__ == "__main__":
    main()
