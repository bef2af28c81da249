"""What a job of the table's graph depends on: the code that its configurations call, and the digest of it."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from glob import glob
from pathlib import Path

SCRIPTS = Path("bundle", "scripts")

TRAINING = ("ehr", "data", "networks", "conditioning", "weights", "diffusion", "training", "files", "losses", "ranks")
"""Rooms and single files of the bundle that every job runs."""

COMPARATORS = "comparators"
"""The room that only configurations call which name it."""

SAMPLING = ("predictions",)
"""What else writes images."""

JUDGING = ("evaluation", "results", "predictions", "pictures")
"""What else judges them."""


def code(configs: Iterable[str], *more: str) -> list[str]:
    """The Python files that a job with these configurations runs.

    Args:
        more: further rooms and single files of the bundle.
    """
    calls = any(f"scripts.{COMPARATORS}" in Path(path).read_text(encoding="utf-8") for path in configs)
    places = [SCRIPTS / name for name in (*TRAINING, *([COMPARATORS] if calls else []), *more)]
    found = [place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")] for place in places]
    return sorted(str(path) for paths in found for path in paths)


def cases(dataset: str) -> str:
    """The digest of a dataset: of its datalist and of every crop."""
    crops = glob("**/*.nii*", root_dir=dataset, recursive=True)
    return digest(f"{dataset}/{name}" for name in ("datalist.json", *crops))


def digest(paths: Iterable[str], *words: object) -> str:
    """Of the content of files, and of words; comments and layout of Python have no effect."""
    made = hashlib.sha256("\n".join(map(str, words)).encode())
    for path in sorted(paths):
        made.update(_content(path) if Path(path).is_file() else b"")
    return made.hexdigest()[:12]


def _content(path: str) -> bytes:
    return _program(path) if path.endswith(".py") else Path(path).read_bytes()


@cache
def _program(path: str) -> bytes:
    """A Python file as it is understood; it does not change while jobs are planned."""
    return ast.dump(ast.parse(Path(path).read_bytes())).encode()
