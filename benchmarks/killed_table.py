"""Does Table 1 end the same where its run was killed twice? Minutes and seconds may differ, nothing else.

    python benchmarks/killed_table.py runs/killed_table

`make table1 SIZE_NAME=demo FROM=nothing` twice on the phantom of the demo: once undisturbed, and once more in another
folder, killed twice with all its jobs, at random moments.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil

ROOT = Path(__file__).resolve().parents[1]
TIMES = {"minutes", "seconds"}
"""Columns of what a training took."""


def start(folder: Path) -> subprocess.Popen[bytes]:
    command = ["make", "table1", "SIZE_NAME=demo", "JOBS=2", "FROM=nothing", f"TABLE1={folder}"]
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL)


def kill(process: subprocess.Popen[bytes], folder: Path) -> None:
    """make, Snakemake, and the jobs, some of which Snakemake puts into sessions of their own."""
    os.killpg(process.pid, signal.SIGKILL)
    for each in psutil.process_iter(["cmdline"]):
        if any(str(folder) in word for word in each.info["cmdline"] or []) and each.pid != os.getpid():
            each.kill()
    process.wait()


def main(out: Path, seed: int = 0) -> None:
    whole, killed = out / "undisturbed", out / "killed"
    begin = time.monotonic()
    if start(whole).wait():
        sys.exit("make table1 failed")
    print(f"undisturbed: {time.monotonic() - begin:.0f} s", flush=True)
    moments = random.Random(seed)
    for _ in range(2):
        process, seconds = start(killed), moments.uniform(60, 240)
        time.sleep(seconds)
        kill(process, killed)
        print(f"killed after {seconds:.0f} s, {len(list((killed / 'benchmarks').glob('*')))} jobs done", flush=True)
    if start(killed).wait():
        sys.exit("make table1 failed after it was killed")
    folders = [folder / "evaluation" / "table1" for folder in (whole, killed)]
    ours, theirs = (pd.read_csv(folder / "table1.csv") for folder in folders)
    differ = [name for name in ours if not ours[name].equals(theirs[name])]
    contrasts = [(folder / "table1_contrasts.csv").read_bytes() for folder in folders]
    print(f"{len(ours)} rows, {len(ours.columns)} columns; differing columns: {', '.join(differ) or 'none'}")
    if set(differ) - TIMES or contrasts[0] != contrasts[1]:
        sys.exit("the tables differ")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
