"""Data preparation against the adversary of the tests: many examples, and what became of them by corruption.

    python benchmarks/adversary.py --count 100000 --valid 10000 [--seconds 600] [--seed 0]

Prints a table in Markdown and, of outcomes that must not be, the examples: ``judged`` makes each again.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import typer

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


def verdicts(examples: Iterator[Example], until: float) -> Iterator[tuple[Example, Verdict]]:
    """What becomes of examples, as long as there is time."""
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None
    for example in examples:
        with TemporaryDirectory(dir=place) as folder, silenced():
            verdict = judged(example, Path(folder))
        yield example, verdict
        if time.monotonic() > until:
            return


def main(count: int = 100_000, valid: int = 10_000, seconds: float = float("inf"), seed: int = 0) -> None:
    """Tries valid inputs, then corrupted ones."""
    rng, begin = Random(seed), time.monotonic()
    kinds = [*KINDS], [*KINDS.values()]
    plain = (Example(rng.choices(*kinds)[0], (), rng.getrandbits(32)) for _ in range(valid))
    spoilt = (drawn(rng.choices(*kinds)[0], rng) for _ in range(count))
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    bad: list[tuple[Example, Verdict]] = []
    total: Counter[bool] = Counter()
    for examples, until in ((plain, begin + seconds / 10), (spoilt, begin + seconds)):
        for example, verdict in verdicts(examples, until):
            total[bool(example.names)] += 1
            for name in example.names or ("(none)",):
                counts[example.kind, name][verdict.outcome] += 1
            wanted = (RIGHT, NAMED) if example.names else (RIGHT,)
            if verdict.outcome not in wanted:
                bad.append((example, verdict))
    seconds = time.monotonic() - begin
    print(f"{total[False]:,} valid and {total[True]:,} corrupted examples in {seconds:.0f} s, {len(bad)} faults\n")
    print("| input | corruption | examples | right | refused by name | faults |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    order = {kind: number for number, kind in enumerate(KINDS)}
    for (kind, name), outcomes in sorted(counts.items(), key=lambda item: (order[item[0][0]], item[0][1])):
        good = outcomes[RIGHT], outcomes[NAMED]
        print(
            f"| {kind} | {name} | {outcomes.total():,} | {good[0]:,} | {good[1]:,} | {outcomes.total() - sum(good)} |"
        )
    for example, verdict in bad[:40]:
        print(f"{example}: {verdict.outcome}: {verdict.detail}")
    raise SystemExit(bool(bad))


if __name__ == "__main__":
    typer.run(main)
