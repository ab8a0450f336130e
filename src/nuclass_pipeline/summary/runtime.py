"""Time and memory of a run by rule, from the benchmark files of its jobs."""

import csv
from pathlib import Path

import pandas as pd

from nuclass_pipeline.io import write_table
from nuclass_pipeline.schemas import RUNTIME


def summarize_runtime(*, benchmarks: Path | str, runtime: Path) -> None:
    """Write the jobs, the times and the peak memory of each rule; a rule without a benchmark file has no row.

    Parameters
    ----------
    benchmarks
        Folder with the files of Snakemake, `<rule>.tsv` or `<rule>/<wildcards>.tsv`. It may be absent, since it need not move with results.
    runtime
        Table `RUNTIME`, the rules with the longest times first.
    """
    folder = Path(benchmarks)
    files = sorted(folder.rglob("*.tsv"))
    jobs = [_read_job(path).assign(rule=path.relative_to(folder).parts[0].removesuffix(".tsv")) for path in files]
    rows = pd.concat(jobs) if jobs else pd.DataFrame(columns=["s", "max_rss", "cpu_time", "rule"], dtype=object)
    sums = rows.groupby("rule").agg(jobs=("s", "size"), seconds=("s", "sum"), cpu_seconds=("cpu_time", "sum"), peak_mb=("max_rss", "max"))
    table = sums.reset_index().astype({"jobs": int, "seconds": float, "cpu_seconds": float, "peak_mb": float})
    write_table(table.sort_values("seconds", ascending=False, ignore_index=True), runtime, RUNTIME)


def _read_job(path: Path) -> pd.DataFrame:
    """Return the rows of a benchmark file; a short job was never sampled, and has no memory."""
    # A line at a time, because a job that is killed leaves a file without rows, or a part of a row.
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    table = pd.DataFrame(rows, columns=["s", "max_rss", "cpu_time"], dtype=object)
    return pd.DataFrame({name: pd.to_numeric(values, errors="coerce") for name, values in table.items()})
