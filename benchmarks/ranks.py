"""How much faster do two ranks generate on two cores than one on one, a thread each?

    python benchmarks/ranks.py DATASET [--section test] [--pairs 3] [--num-runs 20] [--batch-size 4]

``inference.yaml`` with ``multi_gpu.yaml`` under ``torchrun``, the weights in the bundle, by one process and by two in
turn. "Generating" is the evaluator's run, from all ranks' start to all ranks' end; "command" is the whole of it, with
imports, opening of the language model and results, which one rank writes. CPU seconds are of all processes together:
where those of two ranks exceed those of one by much, others used the machine, or its two cores share what they compute
with. The load is that of the minute before each command.
"""

from __future__ import annotations

import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "bundle" / "configs"
TIMED = """
evaluator::val_handlers: "$@handlers + [timing.Timing()]"
+imports:
- $import ranks as timing
"""


class Timing:
    """Ignite handler that prints on rank 0 how long all ranks took together."""

    def attach(self, engine: object) -> None:
        import ignite.distributed as idist
        from ignite.engine import Engine, Events

        assert isinstance(engine, Engine)

        @engine.on(Events.STARTED)
        def start() -> None:
            idist.barrier()
            self.start = time.perf_counter()

        @engine.on(Events.COMPLETED)
        def end() -> None:
            idist.barrier()
            if idist.get_rank() == 0:
                print(f"generating: {time.perf_counter() - self.start:.2f}", flush=True)


class Measured(NamedTuple):
    """Seconds of one call."""

    generating: float
    command: float
    cpu: float


def generate(ranks: int, dataset: Path, options: dict[str, object]) -> Measured:
    """One call of inference into a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        overlay = Path(folder) / "timed.yaml"
        overlay.write_text(TIMED)
        files = [str(CONFIGS / "inference.yaml"), str(CONFIGS / "multi_gpu.yaml"), str(overlay)]
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
        command = [*launch, "-m", "monai.bundle", "run", "inference", "--config_file", str(files)]
        options = {"dataset_dir": dataset.absolute(), "output_dir": folder, **options}
        command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
        path = os.pathsep.join(map(str, (ROOT / "bundle", ROOT / "benchmarks")))
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        result = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    found = re.search(r"generating: (\S+)", result.stdout)
    if result.returncode or not found:
        sys.exit(result.stdout[-2000:] + result.stderr[-2000:])
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(float(found[1]), seconds, cpu)


def main(
    dataset: Annotated[Path, typer.Argument(help="A dataset folder of data_prep.")],
    section: Annotated[str, typer.Option()] = "test",
    pairs: Annotated[int, typer.Option(min=1, help="How often each is measured.")] = 3,
    num_runs: Annotated[int, typer.Option(min=1)] = 20,
    batch_size: Annotated[int, typer.Option(min=1, help="Cases at once in each process.")] = 4,
) -> None:
    """Prints seconds by one rank and by two, and their ratios."""
    options = {"section": section, "num_runs": num_runs, "batch_size": batch_size}
    ratios: dict[str, list[float]] = {"generating": [], "command": []}
    print("| ranks | generating, s | command, s | CPU, s | load before |\n|---:|---:|---:|---:|---:|")
    for _ in range(pairs):
        measured = []
        for ranks in (1, 2):
            load = os.getloadavg()[0]
            each = generate(ranks, dataset, options)
            measured.append(each)
            print(f"| {ranks} | {each.generating:.1f} | {each.command:.1f} | {each.cpu:.1f} | {load:.1f} |", flush=True)
        for name, values in ratios.items():
            values.append(getattr(measured[0], name) / getattr(measured[1], name))
    for name, values in ratios.items():
        middle = statistics.median(values)
        print(f"{name}: two ranks are {middle:.2f} times as fast ({min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    typer.run(main)
