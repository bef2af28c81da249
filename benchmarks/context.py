"""How long does one context take, and how much memory, with a language model of MedGemma 1.5 4B's size?

    python benchmarks/context.py                            # as large as the paper's, in bfloat16, random weights
    python benchmarks/context.py --quantization 4bit        # in NF4; needs bitsandbytes
    python benchmarks/context.py --lora 8                   # low-rank adapters are trained with the prompts
    python benchmarks/context.py --llm google/medgemma-1.5-4b-it

M = 2 prompt sets of N = 8, and reports of the largest length. Weights are random, since neither time nor memory depends
on them. The model is first written to the temporary folder (7.8 GB) and opened like a real one, memory-mapped from its
file: "peak GB" counts the pages of the file, "of it anonymous" does not, since the system can drop them and read them
again. Each row is a process of its own: reading is the forward pass of inference and frozen prompts, once per report;
training is forward and backward to the prompts.
Exit status 1 where a row fails or exceeds the limit. Linux only.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, replace
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from full_size import end_first, peak, records, write_language_model
from processes import GB, run, start
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

WRITE = "write"
READING = "reading"
TRAINING = "training"


@dataclass(frozen=True)
class Task:
    """What one process measures; see the command line's options."""

    kind: str
    batch_size: int
    llm: str
    layers: int
    quantization: str | None
    lora: int
    repeats: int
    limit: float


def measure(task: Task) -> dict[str, Any]:
    """``opening`` and ``seconds`` a report, ``tokens`` of the longest, ``weights`` and ``peak`` bytes."""
    end_first()
    if task.kind == WRITE:
        write_language_model(task.llm, num_hidden_layers=task.layers)
        return {}
    from scripts.conditioning.conditioner import ReportConditioner
    from scripts.ehr.report import radiology_report

    start = time.perf_counter()
    lora = {"r": task.lora, "lora_alpha": 2 * task.lora} if task.lora else None
    conditioner = ReportConditioner(task.llm, standardise=False, quantization=task.quantization, lora=lora)
    opening = time.perf_counter() - start
    reports = [radiology_report(ehr, 365) for ehr in records(task.batch_size * (task.repeats + 1))]
    batches = [reports[start : start + task.batch_size] for start in range(0, len(reports), task.batch_size)]
    seconds = []
    for batch in batches:
        start = time.perf_counter()
        if task.kind == TRAINING:
            conditioner(batch).sum().backward()
        else:
            conditioner.encode(batch)
        seconds.append(time.perf_counter() - start)
    return {
        "opening": opening,
        "seconds": min(seconds[1:]) / task.batch_size,  # the first also reads the weights from the disk
        "tokens": max(len(ids) for ids in conditioner.tokenizer(reports).input_ids),
        "weights": sum(weight.nbytes for weight in conditioner.llm.parameters()),
        "peak": peak(),
    }


def main(
    llm: Annotated[str | None, typer.Option(help="A folder or an id in the cache; left out: random weights.")] = None,
    layers: Annotated[int, typer.Option(min=1, help="Layers of the random model; MedGemma has 34.")] = 34,
    quantization: Annotated[str | None, typer.Option(help="4bit, or left out.")] = None,
    lora: Annotated[int, typer.Option(min=0, help="Rank of the low-rank adapters; 0: none.")] = 0,
    batch_size: Annotated[list[int] | None, typer.Option(help="Reports at once; may be repeated.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timed batches, of which the fastest counts.")] = 2,
    limit: Annotated[float, typer.Option(min=1.0, help="Memory allowed, in GB.")] = 24.0,
) -> None:
    """Measure one context; exit 1 where a row fails or exceeds the memory allowed."""
    console = Console(width=110)
    model = llm or f"random weights of MedGemma's width, {layers} layers"
    options = f", {quantization}" * bool(quantization) + f", LoRA of rank {lora}" * bool(lora)
    table = Table("context", box=SIMPLE, title=f"{model}{options}, {os.environ.get('OMP_NUM_THREADS', 'all')} threads")
    for column in ("tokens", "opening, s", "seconds a report", "weights GB", "peak GB", "of it anonymous"):
        table.add_column(column, justify="right")
    fits = True
    with TemporaryDirectory(prefix="context_") as folder:
        task = Task(WRITE, 1, llm or folder, layers, quantization, lora, repeats, limit)
        if llm is None and "error" in (result := run(task, __file__)):
            sys.exit(f"The random model was not written: {result['error']}")
        for kind in (READING, TRAINING):
            for size in batch_size or [1, 8]:
                result = run(replace(task, kind=kind, batch_size=size), __file__)
                fits &= "error" not in result and result["peak"] <= limit * GB
                table.add_row(f"{kind}, batch {size}", *cells(result))
    console.print(table)
    raise typer.Exit(0 if fits else 1)


def cells(result: dict[str, Any]) -> list[str]:
    """The cells of a row, without its name."""
    if "error" in result:
        return ["-", "-", result["error"], "-", "-", "-"]
    seconds = [f"{result['opening']:.1f}", f"{result['seconds']:.2f}"]
    sizes = [f"{result[key] / GB:.1f}" for key in ("weights", "peak", "anonymous")]
    return [str(result["tokens"]), *seconds, *sizes]


if __name__ == "__main__":
    start(Task, measure, main)
