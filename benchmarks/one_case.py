"""How long from a DICOM folder, a point and a record to a result, beyond the import of monai.bundle?

    python benchmarks/one_case.py SCAN --point 49.02,27.98,-198.59 --ehr EHR.json [--repeats 5] [--threads 2]

Each repeat is a process of its own, with the weights in the bundle and default settings. CPU time is told beside the
clock's, since on a machine that others use too the clock says little.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parents[1]

CASE = """
import json, sys, time
from pathlib import Path

import monai.bundle

wall, cpu = time.perf_counter(), time.process_time()
from data_prep.single import point_of
from deploy.case import predict

scan, point, ehr, out = sys.argv[1:]
predict(Path(scan), point_of(point), json.loads(Path(ehr).read_bytes()), Path(out))
print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]))
"""


def main(
    scan: Annotated[Path, typer.Argument()],
    point: Annotated[str, typer.Option()],
    ehr: Annotated[Path, typer.Option()],
    repeats: Annotated[int, typer.Option(min=1)] = 5,
    threads: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    """Prints the clock's and the CPU's seconds of each repeat, and their medians."""
    path = os.pathsep.join([str(ROOT / "bundle"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
    times = []
    for _ in range(repeats):
        with TemporaryDirectory() as folder:
            command = [sys.executable, "-c", CASE, scan, point, ehr, Path(folder) / "out"]
            done = subprocess.run(
                list(map(str, command)), env=environment, check=True, stdout=subprocess.PIPE, text=True
            )
        times.append(json.loads(done.stdout.splitlines()[-1]))
        print("{:.2f} s by the clock, {:.2f} s of CPU".format(*times[-1]), flush=True)
    print("median: {:.2f} s by the clock, {:.2f} s of CPU".format(*map(median, zip(*times, strict=True))))


if __name__ == "__main__":
    typer.run(main)
