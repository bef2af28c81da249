"""What do checkpoints cost: written while training waits, by a thread from a copy, or by a forked process?

    python benchmarks/checkpoints.py [FOLDER] [--gigabytes 1] [--seconds-a-step 12.6] [--steps-an-epoch 107]

A network and AdamW's two averages, together of so many gigabytes, are changed in place step by step, as training does.
"waits" is :class:`scripts.training.Checkpoint`'s way: ``torch.save`` of the tensors where they are. "thread" copies
them first and writes the copy beside the steps, "fork" writes in a process that shares the memory until it is changed.
"lost" is how much longer as many steps take, "GB more" the anonymous memory of both processes beyond that of steps
alone. What is written is flushed to the disk within the time. Each way has a process of its own.

Then the share of time that is lost at full size (10.3 GB for ``last.pt``, 3.4 GB of them copied for a best epoch), for
a step of the length given: by writing every ten minutes, and by :data:`scripts.training.checkpointing.SHARE`. Linux.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from processes import GB, memory, run, start

WAYS = ("steps alone", "waits", "thread", "fork")
TEMPORARY = Path(tempfile.gettempdir())
FULL, BEST = 10.3, 3.4
"""Gigabytes at full size: 855 M parameters of 12 and of 4 bytes."""


@dataclass(frozen=True)
class Task:
    """What one process measures."""

    way: str
    folder: str
    gigabytes: float
    limit: float = 20.0


def measure(task: Task) -> dict[str, Any]:
    """``seconds`` of so many ``steps`` and a writing, of a ``copy``, and ``both``: bytes, with a forked process."""
    import torch

    from scripts.training.checkpointing import copied

    torch.set_num_threads(1)
    side = 2048
    count = max(3, round(task.gigabytes * GB / (4 * side * side)))
    state = {str(number): torch.full((side, side), float(number)) for number in range(count)}

    def step() -> None:
        for tensor in state.values():
            tensor.mul_(0.999)

    def write(tensors: dict[str, Any]) -> None:
        with tempfile.NamedTemporaryFile(dir=task.folder) as file:
            torch.save(tensors, file)
            file.flush()
            os.fsync(file.fileno())

    step()
    copy, seconds = {}, 0.0
    if task.way == "thread":
        copy = copied(state)
        start = time.perf_counter()
        copied(state, copy)  # as for every best epoch but the first
        seconds = time.perf_counter() - start
    start = time.perf_counter()
    writer: Any = None
    if task.way == "waits":
        write(state)
    elif task.way == "thread":
        copied(state, copy)
        writer = threading.Thread(target=write, args=(copy,))
    elif task.way == "fork":
        writer = multiprocessing.get_context("fork").Process(target=write, args=(state,))
    if writer:
        writer.start()
    anonymous = steps = 0
    while steps < STEPS or (writer and writer.is_alive()):
        step()
        steps += 1
        both = memory("/proc/self/status", "RssAnon")
        if task.way == "fork":  # what both share counts once
            both += memory(f"/proc/{writer.pid}/smaps_rollup", "Private_Dirty")
        anonymous = max(anonymous, both)
    return {"seconds": time.perf_counter() - start, "steps": steps, "copy": seconds, "both": anonymous}


STEPS = 20
"""At least, after or beside a writing."""


def main(
    folder: Annotated[Path, typer.Argument(help="Where to write.")] = TEMPORARY,
    gigabytes: Annotated[float, typer.Option(help="Of the state that is written.")] = 1.0,
    seconds_a_step: Annotated[float, typer.Option(help="Of a training step at full size.")] = 12.6,
    steps_an_epoch: Annotated[int, typer.Option(help="Of a training epoch.")] = 107,
) -> None:
    """Prints what each way costs, and what that is at full size."""
    from scripts.training.checkpointing import SHARE

    task = Task("", str(folder), gigabytes)
    found = {way: run(replace(task, way=way), __file__) for way in WAYS}
    alone = found["steps alone"]
    a_step = alone["seconds"] / alone["steps"]
    print(f"{gigabytes:g} GB, a step alone {a_step:.2f} s\n")
    print("| way | lost, s | of it a copy, s | GB more |\n|---|---:|---:|---:|")
    for way in WAYS[1:]:
        lost = found[way]["seconds"] - found[way]["steps"] * a_step
        more = (found[way]["both"] - alone["both"]) / GB
        print(f"| {way} | {lost:.2f} | {found[way]['copy']:.2f} | {more:.2f} |")
    waits = found["waits"]
    writing = (waits["seconds"] - waits["steps"] * a_step) / gigabytes
    copying = found["thread"]["copy"] / gigabytes * BEST
    last, epoch = writing * (FULL + BEST), seconds_a_step * steps_an_epoch
    every_ten, best = last / (600 + last), copying / epoch
    print(f"\nFull size, {1 / writing:.2f} GB/s: last.pt and best.pt take {last:.0f} s, a copy {copying:.1f} s.")
    print(f"Every ten minutes that is {every_ten:.2%} of the time; by SHARE {min(every_ten, SHARE):.2%} at most.")
    print(f"A copy in every epoch of {epoch:.0f} s: {best:.2%}. Together {min(every_ten, SHARE) + best:.2%} at most.")


if __name__ == "__main__":
    start(Task, measure, main)
