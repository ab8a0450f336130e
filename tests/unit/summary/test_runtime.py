import numpy as np
import pytest

from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import RUNTIME
from nuclass_pipeline.summary.runtime import summarize_runtime

HEAD = "s\th:m:s\tmax_rss\tmax_vms\tcpu_time\n"


def write(folder, name, text):
    path = folder / f"{name}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_jobs_are_summed_by_rule_and_the_longest_is_first(tmp_path):
    folder = tmp_path / "benchmarks"
    write(folder, "draw", f"{HEAD}30.5\t0:00:30\t-\t-\t-\n")
    write(folder, "train_local/seed-0", f"{HEAD}60\t0:01:00\t2048\t9\t50\n")
    # Two rows, as `repeat` writes them; and a job that was never sampled.
    write(folder, "train_local/seed-1", f"{HEAD}120\t0:02:00\t1024\t9\t100\n10\t0:00:10\tNA\t9\tNA\n")
    summarize_runtime(benchmarks=folder, runtime=tmp_path / "runtime.parquet")
    table = read_table(tmp_path / "runtime.parquet", RUNTIME)
    assert table.iloc[0].tolist() == ["train_local", 3, 190.0, 150.0, 2048.0]
    assert table.iloc[1].tolist()[:4] == ["draw", 1, 30.5, 0.0]
    assert np.isnan(table["peak_mb"][1])


@pytest.mark.parametrize("text", ["", HEAD, "\n", "x\n1\n", f"{HEAD}5\n"])
def test_a_file_that_a_killed_job_leaves_is_no_error(tmp_path, text):
    write(tmp_path / "b", "read_cells/a", text)
    write(tmp_path / "b", "draw", f"{HEAD}30\t0:00:30\t1\t1\t1\n")
    summarize_runtime(benchmarks=tmp_path / "b", runtime=tmp_path / "runtime.parquet")
    table = read_table(tmp_path / "runtime.parquet", RUNTIME).set_index("rule")
    assert table["seconds"].get("draw") == 30
    assert table["seconds"].get("read_cells", 0) in (0, 5)


def test_a_run_without_benchmark_files_has_no_rows(tmp_path):
    summarize_runtime(benchmarks=tmp_path / "absent", runtime=tmp_path / "runtime.parquet")
    assert len(read_table(tmp_path / "runtime.parquet", RUNTIME)) == 0
