"""Two pieces of work timed in alternation, and the ratio of their times with its interval."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table
from scipy.stats import quantile_test

SECONDS = "seconds: "
"""What a line begins with by which a server answers."""

Work = Callable[[], float]
"""Does a piece of work once, and returns the seconds that it took."""


@dataclass(frozen=True)
class Ratio:
    """The seconds of two pieces of work, and of the ratios of their pairs the median and its 95 % interval."""

    question: str
    before: float
    now: float
    median: float
    low: float
    high: float
    pairs: int


def compare(question: str, before: Work, now: Work, pairs: int = 10) -> Ratio:
    """``now`` over ``before``, in pairs whose order alternates, after one turn of each that does not count.

    The interval is of the order statistics (scipy's ``quantile_test``), which assumes nothing of the distribution.
    """
    before(), now()
    times = []
    for index in range(pairs):
        if index % 2:
            second, first = now(), before()
        else:
            first, second = before(), now()
        times.append((first, second))
    ratios = [second / first for first, second in times]
    interval = quantile_test(ratios, p=0.5).confidence_interval(0.95)
    seconds = (median(first for first, _ in times), median(second for _, second in times))
    return Ratio(question, *seconds, median(ratios), float(interval.low), float(interval.high), pairs)


def print_ratios(title: str, ratios: Sequence[Ratio], names: tuple[str, str] = ("before", "now")) -> None:
    """A table with a row for each ratio."""
    table = Table("work", *(f"{name}, s" for name in names), "ratio", "95 % interval", "pairs", title=title)
    for each in ratios:
        interval = f"{each.low:.3f} to {each.high:.3f}"
        seconds = [f"{value:.3f}" for value in (each.before, each.now)]
        table.add_row(each.question, *seconds, f"{each.median:.3f}", interval, str(each.pairs))
    Console(width=120).print(table)


def timed(work: Callable[[], Any]) -> Work:
    """``work`` with a clock."""

    def run() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return run


class Server:
    """A process that does its work each time it is called; it runs :func:`serve`, or answers as that does."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], folder: Path) -> None:
        self.process = subprocess.Popen(
            command, env=environment, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self) -> float:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith(SECONDS):
                return float(line.removeprefix(SECONDS))
        raise SystemExit(f"{' '.join(self.process.args)} ended with status {self.process.wait()}")  # type: ignore[arg-type]

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def wait_for_turn() -> bool:
    """In a server: waits until it is asked to work; False where it never will be again."""
    return bool(sys.stdin.readline())


def answer(seconds: float) -> None:
    """In a server: the answer to being asked."""
    print(f"{SECONDS}{seconds}", flush=True)


def serve(work: Work) -> None:
    """Answers each time it is asked, until nobody asks any more."""
    while wait_for_turn():
        answer(work())
