"""How long from a DICOM folder, a point and a record to a result, beyond the import of monai.bundle?

    python benchmarks/one_case.py SCAN --point 49.02,27.98,-198.59 --ehr EHR.json [--solver dpmpp --num-steps 12]

Each repeat is a process of its own, with the weights in the bundle; in it the case is predicted once, then again by the
weights that are open. Of these warm ones, reading the scan (which is in both) is told too. CPU time is told beside the
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
from data_prep.single import cut_single, point_of
from deploy.case import SIZE, Predictor
from deploy.flags import flags

scan, point, ehr, out, warm, settings = sys.argv[1:]
asked = Path(scan), point_of(point), json.loads(Path(ehr).read_bytes())
predictor = Predictor(**json.loads(settings))


def tell(what):
    global wall, cpu
    print(json.dumps([what, time.perf_counter() - wall, time.process_time() - cpu]), flush=True)
    wall, cpu = time.perf_counter(), time.process_time()


predictor.predict(*asked, Path(out) / "first")
tell("first")
for number in range(int(warm)):
    predictor.predict(*asked, Path(out) / str(number))
    tell("warm")
    flags(*asked, cut_single(*asked[:2], SIZE))
    cut_single(*asked[:2], SIZE)
    tell("of it reading")
"""


def main(
    scan: Annotated[Path, typer.Argument()],
    point: Annotated[str, typer.Option()],
    ehr: Annotated[Path, typer.Option()],
    repeats: Annotated[int, typer.Option(min=1)] = 3,
    warm: Annotated[int, typer.Option(min=1)] = 4,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    solver: Annotated[str, typer.Option(help="ddim or dpmpp")] = "ddim",
    num_steps: Annotated[int, typer.Option(min=1)] = 50,
) -> None:
    """Prints the medians of the clock's and the CPU's seconds, and the clock's least and greatest."""
    path = os.pathsep.join([str(ROOT / "bundle"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
    settings = json.dumps({"solver": solver, "num_steps": num_steps})
    times: dict[str, list[tuple[float, float]]] = {}
    for _ in range(repeats):
        with TemporaryDirectory() as folder:
            command = [sys.executable, "-c", CASE, str(scan), point, str(ehr), folder, str(warm), settings]
            done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        for line in done.stdout.splitlines():
            if line.startswith("["):
                what, *seconds = json.loads(line)
                times.setdefault(what, []).append(tuple(seconds))
    for what, pairs in times.items():
        wall, cpu = zip(*pairs, strict=True)
        print(f"{what}: {median(wall):.2f} s ({min(wall):.2f} to {max(wall):.2f}), {median(cpu):.2f} s of CPU")


if __name__ == "__main__":
    typer.run(main)
