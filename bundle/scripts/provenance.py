"""What made a result: the command line, the seed and the versions of what took part."""

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

PACKAGES = ("monai", "torch", "numpy", "scikit-learn", "transformers", "peft", "lpips", "stlpips-pytorch")


def command_line() -> str:
    """This process's, as it can be typed again."""
    return shlex.join(sys.orig_argv)


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide what comes out."""
    found = {"python": python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


class Provenance:
    """Ignite handler: writes ``folder/provenance.json`` when a stage starts; a resumed stage names the last start.

    Args:
        folder: of the stage.
        facts: JSON-serialisable, such as the seed.
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
