"""From series to crops: bytes and time of one crop, of a thousand series, and of two workers against one.

    python benchmarks/scale.py crop [--dicom FOLDER]
    python benchmarks/scale.py thousand
    python benchmarks/scale.py workers

The script makes all data itself and reads them from the page cache. Needs the extra `dask`; `workers` also `dicom`.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from data_prep.cohort import build
from data_prep.cutting import Recipe, Scan, Wanted, cut_scan
from data_prep.identity import Names
from data_prep.images import crops
from data_prep.images.dicom import open_series
from data_prep.workers import spread

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.data_prep import thousand as series  # noqa: E402
from tests.data_prep.helpers import bytes_read, compress, stack, write_series  # noqa: E402

app = typer.Typer(add_completion=False)
console = Console()
SLICES, SIZE = 150, 512


def measured(work: Callable[[], object], times: int = 5) -> tuple[float, int]:
    """Median seconds, and bytes read."""
    seconds, start = [], bytes_read()
    for _ in range(times):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds)), (bytes_read() - start) // times


@app.command()
def crop(dicom: Annotated[Path | None, typer.Option(help="A series; left out: one is made.")] = None) -> None:
    """One crop of a series of 150 slices against MONAI's LoadImage of the whole."""
    from monai.transforms import LoadImage

    warnings.filterwarnings("ignore")
    with TemporaryDirectory() as scratch:
        folder = dicom or Path(scratch)
        if dicom is None:
            hu = np.random.default_rng(0).integers(-1000, 400, (SLICES, SIZE, SIZE), dtype=np.int16)
            write_series(folder, hu, stack(SLICES), edit=lambda n, item: setattr(item, "InstanceNumber", n + 1))
        whole = open_series(folder)
        centre = whole.origins[len(whole.paths) // 2] + whole.axes @ (np.array([200, 200, 0]) * whole.spacing)
        pixels = 2 * len(whole.paths) * whole.shape[0] * whole.shape[1]

        def cut() -> None:
            crops._cached_series.cache_clear()
            crops.cut(folder, centre, 128)

        load = LoadImage(image_only=True)
        load(folder), cut()
        ours, theirs = measured(cut), measured(lambda: load(folder))
    table = Table("", "seconds", "MB read", "of the pixels", title=f"{len(whole.paths)} slices of {whole.shape}")
    for name, (seconds, size) in (("crop", ours), ("LoadImage", theirs)):
        table.add_row(name, f"{seconds:.3f}", f"{size / 1e6:.2f}", f"{size / pixels:.1%}")
    console.print(table, f"The crop takes {ours[0] / theirs[0]:.1%} of the time of the whole.")


@app.command()
def thousand(
    count: int = 1000,
    slices: int = SLICES,
    size: int = 64,
    workers: Annotated[str, typer.Option(help="Numbers of workers, one run each.")] = "1,2",
) -> None:
    """A thousand series, a third of them broken, through the whole route."""
    table = Table("workers", "seconds", "series a second", "taken", "named", "as they should be")
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        cohort, expected = series.write(folder, count, slices, size)
        for number in map(int, workers.split(",")):
            out, begin = folder / f"out{number}", time.perf_counter()
            made = build(cohort, out, size=32, workers=number)
            seconds = time.perf_counter() - begin
            cases = json.loads((folder / f"out{number}.key.json").read_text())["cases"]
            lines = (out / "failures.csv").read_text().splitlines()[1:]
            named = {cases[line.split(",")[0]]["image"]: line.split(",")[1] for line in lines}
            taken = [
                cases[case["case_id"]]["image"] for case in json.loads((out / "datalist.json").read_text())["unpaired"]
            ]
            right = named == expected and len(taken) == len(set(taken)) == count - len(expected) == made.written
            right &= len(lines) == len(named) and not set(taken) & set(named)
            row = number, f"{seconds:.1f}", f"{count / seconds:.0f}", len(taken), len(named), "yes" if right else "NO"
            table.add_row(*map(str, row))
    console.print(table)


@app.command()
def workers(count: int = 80, nodules: int = 8, times: int = 3, syntax: str = "JPEGLSLossless") -> None:
    """Two Dask workers against one, where decoding is the work, read from the page cache."""
    from distributed import Client, LocalCluster

    seconds: dict[int, list[float]] = {1: [], 2: []}
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        hu = np.random.default_rng(0).normal(-600, 150, (8, SIZE, SIZE)).round().clip(-1024, 3071)
        paths = write_series(folder / "scan", hu, stack(8))
        for path in paths:
            compress(path, syntax)
        names = [[f"crops/{n}_{k}.nii.gz" for k in range(nodules)] for n in range(count)]
        scans = [Scan(folder / "scan", tuple(Wanted(name, (0.0, 0.0, 106.0)) for name in each)) for each in names]
        (folder / "out" / "crops").mkdir(parents=True)
        for _ in range(times):
            for number, taken in seconds.items():
                options = {"threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
                with LocalCluster(n_workers=number, **options) as cluster, Client(cluster) as client:
                    client.wait_for_workers(number)
                    for target in (folder / "out" / "crops").iterdir():
                        target.unlink()
                    work = partial(cut_scan, recipe=Recipe(folder / "out", folder / "none", 128, None, Names("x")))
                    client.run(work, scans[0])  # imports
                    begin = time.perf_counter()
                    done = [*spread(work, scans[1:], lambda *_: [], scheduler=cluster.scheduler_address)]
                    taken.append(time.perf_counter() - begin)
                    assert not any(result.fault for results in done for result in results), done[0]
                    peak = max(client.run(lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss).values()) / 1024
    table = Table("workers", "seconds", "the others", "scans a second")
    for number, taken in seconds.items():
        table.add_row(
            str(number), f"{min(taken):.2f}", str(np.round(sorted(taken)[1:], 2)), f"{count / min(taken):.1f}"
        )
    ratio = min(seconds[1]) / min(seconds[2])
    console.print(table, f"Two are {ratio:.2f} times as fast as one. Peak memory of a worker: {peak:.0f} MB.")


if __name__ == "__main__":
    app()
