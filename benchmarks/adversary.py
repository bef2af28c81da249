"""Data preparation against the adversary of the tests: many examples, and what became of them by corruption.

    python benchmarks/adversary.py --count 100000 --valid 10000 [--seconds 600] [--seed 0] [--record counts.json]

Prints a table in Markdown and, of outcomes that must not be, the examples: ``judged`` makes each again.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from scripts.files import write_json

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.adversary.corruption import KINDS, Example, drawn  # noqa: E402
from tests.adversary.judge import NAMED, RIGHT, Verdict, judged  # noqa: E402


@contextmanager
def silenced() -> Iterator[None]:
    """Nothing on stderr, whoever writes there: libraries say much of such files."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


@dataclass
class Tally:
    """What became of the examples so far; the next are those after them.

    Attributes:
        seed: of all examples.
        valid, corrupted: how many were tried.
        counts: of each outcome, by input and corruption.
        bad: examples whose outcome must not be, in words.
    """

    seed: int
    valid: int = 0
    corrupted: int = 0
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    bad: list[str] = field(default_factory=list)

    def example(self, corrupted: bool) -> Example:
        """The next one."""
        rng = Random(f"{self.seed} {corrupted} {self.corrupted if corrupted else self.valid}")
        kind = rng.choices([*KINDS], [*KINDS.values()])[0]
        return drawn(kind, rng) if corrupted else Example(kind, (), rng.getrandbits(32))

    def add(self, example: Example, verdict: Verdict) -> None:
        """Counts it."""
        self.valid += not example.names
        self.corrupted += bool(example.names)
        for name in example.names or ("(none)",):
            row = self.counts.setdefault(f"{example.kind} | {name}", {})
            row[verdict.outcome] = row.get(verdict.outcome, 0) + 1
        if verdict.outcome not in ((RIGHT, NAMED) if example.names else (RIGHT,)):
            self.bad.append(f"{example}: {verdict.outcome}: {verdict.detail}")


def tried(example: Example) -> Verdict:
    """The verdict on an example, in a folder of its own."""
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with TemporaryDirectory(dir=place) as folder, silenced():
        return judged(example, Path(folder))


def show(tally: Tally) -> None:
    """Prints the counts."""
    print(f"{tally.valid:,} valid and {tally.corrupted:,} corrupted examples, {len(tally.bad)} faults\n")
    print("| input | corruption | examples | right | refused by name | faults |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    order = [*KINDS]
    for row, outcomes in sorted(tally.counts.items(), key=lambda item: (order.index(item[0].split()[0]), item[0])):
        good, total = (outcomes.get(RIGHT, 0), outcomes.get(NAMED, 0)), sum(outcomes.values())
        print(f"| {row} | {total:,} | {good[0]:,} | {good[1]:,} | {total - sum(good)} |")
    for line in tally.bad[:40]:
        print(line)


def main(
    count: int = 100_000,
    valid: int = 10_000,
    seconds: float = float("inf"),
    seed: int = 0,
    record: Annotated[Path | None, typer.Option(help="Of the counts; a run with one goes on where it stopped.")] = None,
) -> None:
    """Tries valid inputs, then corrupted ones."""
    tally, begin = Tally(seed), time.monotonic()
    if record and record.is_file():
        tally = Tally(**json.loads(record.read_text()))
    while (tally.valid < valid or tally.corrupted < count) and time.monotonic() < begin + seconds:
        example = tally.example(corrupted=tally.valid >= valid)
        tally.add(example, tried(example))
        if record and (tally.valid + tally.corrupted) % 100 == 0:
            write_json(record, asdict(tally))
    if record:
        write_json(record, asdict(tally))
    show(tally)
    raise SystemExit(bool(tally.bad))


if __name__ == "__main__":
    typer.run(main)
