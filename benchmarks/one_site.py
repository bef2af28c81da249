"""How long from a site's dataset with a test section alone to its evaluation page, in two commands?

    python benchmarks/one_site.py .../lidc_progression/cohort.csv OUT [--pairs 300] [--solver dpmpp] [--threads 2]

Pairs of whole patients of a cohort table, in random order, all put into the test section; then inference and evaluation
with the weights in the bundle and default settings. What is timed are the processes whole, imports included. CPU time
(of all threads, user and system) is told beside the clock's, since on a machine that others use too the clock says
little. OUT may hold an earlier run's dataset; predictions of the same solver are not made again.
"""

from __future__ import annotations

import os
import resource
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

ROOT = Path(__file__).resolve().parents[1]
NODULE = ["patient_id", "nodule_id"]


def site(table: Path, pairs: int, seed: int = 0) -> pd.DataFrame:
    """The rows of so many nodules, those of a patient together, every one in the test section."""
    rows = pd.read_csv(table)
    for column in ("image", "mask"):
        rows[column] = [str((table.parent / path).absolute()) for path in rows[column]]
    patients = rows["patient_id"].drop_duplicates().sample(frac=1, random_state=seed)
    nodules = rows[NODULE].drop_duplicates().set_index("patient_id").loc[patients].reset_index().head(pairs)
    return rows.merge(nodules, on=NODULE).assign(split="test")


def timed(command: list[str], environment: dict[str, str]) -> None:
    """Runs a command and prints its seconds by the clock and of CPU; ends where it fails."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    code = subprocess.run(command, env=environment, check=False).returncode
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    load = os.getloadavg()[1]
    print(
        f"{wall:.0f} s by the clock, {cpu:.0f} s of CPU, load {load:.1f}, exit {code}: {shlex.join(command[1:])}",
        flush=True,
    )
    if code:
        raise typer.Exit(code)


def main(
    table: Annotated[Path, typer.Argument()],
    out: Annotated[Path, typer.Argument()],
    pairs: Annotated[int, typer.Option(min=1)] = 300,
    solver: Annotated[str, typer.Option(help="ddim or dpmpp")] = "ddim",
    num_steps: Annotated[int, typer.Option(min=1)] = 50,
    threads: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    """Prints the seconds of the dataset's making, of inference and of evaluation."""
    path = os.pathsep.join([str(ROOT / "bundle"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
    out.mkdir(parents=True, exist_ok=True)
    site(table, pairs).to_csv(out / "site.csv", index=False)
    python, dataset, run = sys.executable, str(out / "dataset"), str(out / solver)
    timed([python, "-m", "data_prep", "cohort", str(out / "site.csv"), "--out", dataset], environment)
    bundle = [python, "-m", "monai.bundle", "run", "--dataset_dir", dataset, "--output_dir", run, "--config_file"]
    sampling = ["--solver", solver, "--num_steps", str(num_steps)]
    timed([*bundle, str(ROOT / "bundle/configs/inference.yaml"), *sampling], environment)
    timed([*bundle, str(ROOT / "bundle/configs/evaluate.yaml")], environment)


if __name__ == "__main__":
    typer.run(main)
