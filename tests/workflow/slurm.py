"""Programs with SLURM's names that run a job at once on this machine, so that a profile can be tried without a cluster."""

from pathlib import Path

PROGRAMS = {
    # Snakemake gives the job as --wrap, and reads the number of the job from what is printed.
    "sbatch": """
echo "$*" >> "$0.calls"
number=$(wc -l < "$0.calls")
for word in "$@"; do case "$word" in --wrap=*) job="${word#--wrap=}";; --chdir=*) cd "${word#--chdir=}";; esac; done
SLURM_JOB_ID=$number bash -c "$job" > "$0.$number.log" 2>&1 && state=COMPLETED || state=FAILED
echo "$number|$state" >> "$0.states"
echo "$number"
""",
    "srun": """
while [[ "$1" == -* ]]; do shift; done
exec "$@"
""",
    "squeue": """
cat "$(dirname "$0")/sbatch.states"
""",
    # Snakemake guesses the account from these two.
    "sacct": """
echo me
""",
    "sacctmgr": """
echo me
""",
    "sinfo": "",
    # How long squeue shows jobs that ended: without it, Snakemake reads their states from sacct.
    "scontrol": """
echo "MinJobAge               = 300 sec"
""",
    "scancel": "",
}


def write_slurm(folder: Path) -> None:
    """Write the programs into a folder, for PATH; `sbatch.calls` there gets a line for each job."""
    folder.mkdir()
    for name, text in PROGRAMS.items():
        path = folder / name
        path.write_text(f"#!/bin/bash\n{text}")
        path.chmod(0o755)
