"""What a job of the table's graph depends on: the code that its configurations call, and the digest of it."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

SCRIPTS = Path("bundle", "scripts")

ROOMS = ("ehr", "data", "networks", "conditioning", "weights", "diffusion", "training")
"""Rooms of the bundle that training runs."""

FILES = ("files", "losses", "ranks")
"""Single files beside them that it runs."""

COMPARATORS = "comparators"
"""The room that only configurations of compared methods call."""

SAMPLER = "predictions"
"""The file beside them that writes images."""


def code(configs: Iterable[str], *more: str) -> list[str]:
    """The Python files that a job with these configurations runs.

    Args:
        more: further single files of the bundle.
    """
    calls = any(f"scripts.{COMPARATORS}" in Path(path).read_text(encoding="utf-8") for path in configs)
    rooms = [*ROOMS, COMPARATORS] if calls else ROOMS
    found = [path for room in rooms for path in (SCRIPTS / room).rglob("*.py")]
    return sorted(map(str, [*found, *(SCRIPTS / f"{name}.py" for name in (*FILES, *more))]))


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
