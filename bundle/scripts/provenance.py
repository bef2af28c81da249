"""Provenance of a result: command line, start time, seed and versions of packages."""

from __future__ import annotations

import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any

from ignite.engine import Engine, Events

from scripts.files import write_json

FILE = "provenance.json"
"""Name of the file in a stage's folder."""

PACKAGES = ("monai", "torch", "numpy", "scikit-learn", "transformers", "peft", "lpips", "stlpips-pytorch")
"""Packages whose versions are recorded."""


def command_line() -> str:
    """The command that started this process, quoted for the shell."""
    return shlex.join(sys.orig_argv)


def versions() -> dict[str, str]:
    """Versions of Python and of those :data:`PACKAGES` that are installed."""
    found = {"python": python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


class Provenance:
    """Ignite handler that writes ``folder/provenance.json`` when a stage starts, and again when it is resumed.

    Args:
        folder: of the stage.
        facts: further entries, JSON-serialisable, such as the seed.
    """

    def __init__(self, folder: str | Path, **facts: Any) -> None:
        self.folder = Path(folder)
        self.facts = facts

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        started = datetime.now(UTC).isoformat(timespec="minutes")
        facts = {"command": command_line(), "started": started, **self.facts, "versions": versions()}
        write_json(self.folder / FILE, facts)
