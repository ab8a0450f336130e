"""`python -m benchmarks.wrong_inputs`: runs the cases and prints one line each, and a table by kind."""

import argparse
import importlib
import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

KINDS = ("runs", "sheets", "bundles", "registration", "images", "patches", "models", "archives", "downloads", "texts")
LOADED = (
    "snakemake.cli",
    "nuclass_pipeline.cli",
    "nuclass_pipeline.data.check",
    "nuclass_pipeline.data.xenium.read",
    "nuclass_pipeline.data.xenium.download",
    "nuclass_pipeline.data.registration.stage",
    "nuclass_pipeline.data.segmentation.stage",
    "nuclass_pipeline.data.image.pyramid",
    "nuclass_pipeline.data.trio.stage",
    "nuclass_pipeline.evaluate.predict",
    "nuclass_pipeline.train.gate",
    "nuclass_pipeline.train.local",
    "nuclass_pipeline.config.run",
    "nuclass_pipeline.labeling.overrides",
)
"""Loaded once, before the processes of the cases are forked."""


def main() -> int:
    """Run the cases that the command line names; the exit code is 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="*", default=KINDS, choices=KINDS)
    parser.add_argument("--names", nargs="*", default=[""], help="only cases whose name contains one of these")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder for phantoms and failed cases, kept and used again")
    parser.add_argument("--table", type=Path, help="TSV to write")
    parser.add_argument("--list", action="store_true", help="count the cases and run none")
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    # Before anything of the package is imported, because libraries read the variables once.
    from benchmarks.wrong_inputs.case import Case
    from benchmarks.wrong_inputs.phantoms import make_phantoms
    from benchmarks.wrong_inputs.runner import run_cases
    from benchmarks.wrong_inputs.verdicts import Outcome

    cases: list[Case] = []
    for kind in options.kinds:
        cases += importlib.import_module(f"benchmarks.wrong_inputs.cases.{kind}").CASES
    repeated = [name for name, count in Counter((case.kind, case.name) for case in cases).items() if count > 1]
    assert not repeated, repeated
    cases = [case for case in cases if any(part in case.name for part in options.names)]
    if options.list:
        print(Counter(case.kind for case in cases), len(cases))
        return 0
    for module in LOADED:
        importlib.import_module(module)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="wrong-inputs-"))
    make_phantoms(folder / "phantoms")
    header = ("kind", "name", "wrong", "expects", "verdict", "message", "cpu_s", "wall_s", "peak_mb")
    rows: list[str] = []

    def report(outcome: Outcome) -> None:
        case = outcome.case
        message = outcome.message.replace(str((folder / "cases").resolve()), "…")
        message = " ".join(message.split())
        numbers = (f"{outcome.cpu_s:.1f}", f"{outcome.wall_s:.1f}", f"{outcome.peak_mb:.0f}")
        rows.append("\t".join((case.kind, case.name, case.wrong, case.expects, outcome.verdict, message, *numbers)))
        mark = "  " if outcome.right else "✗ "
        print(f"{mark}{case.kind}\t{case.name}\t{outcome.verdict}\t{message}\t{numbers[0]}\t{numbers[2]}", flush=True)
        if options.table:
            options.table.write_text("\n".join(["\t".join(header), *sorted(rows)]) + "\n")

    outcomes = run_cases(cases, (folder / "phantoms").resolve(), (folder / "cases").resolve(), options.jobs, report)
    _summary(outcomes)
    if not options.keep:
        shutil.rmtree(folder)
    return int(not all(outcome.right for outcome in outcomes))


def _summary(outcomes: list) -> None:  # type: ignore[type-arg]
    verdicts = ("answered", "warned", "accepted", "silent", "traceback", "escaped", "wrong")
    print("\t".join(("kind", "tried", *verdicts, "killed or timeout", "slow (> 10 s)", "over 2 GB")))
    kinds = list(dict.fromkeys(outcome.case.kind for outcome in outcomes))
    for kind in [*kinds, "all"]:
        found = [outcome for outcome in outcomes if kind in ("all", outcome.case.kind)]
        counts = Counter(outcome.verdict for outcome in found)
        ended = sum(counts[verdict] for verdict in ("killed", "timeout", "memory", "slow", "broken case"))
        slow, large = sum(outcome.cpu_s > 10 for outcome in found), sum(outcome.peak_mb > 2000 for outcome in found)
        print("\t".join(map(str, (kind, len(found), *(counts[verdict] for verdict in verdicts), ended, slow, large))))


if __name__ == "__main__":
    sys.exit(main())
