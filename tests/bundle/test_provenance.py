"""What made a result is written down, and can be typed again."""

from __future__ import annotations

import json
import shlex
import sys
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from platform import python_version

import pytest
from ignite.engine import Engine, Events

from scripts import provenance
from scripts.provenance import FILE, Provenance, command_line, versions


def test_the_command_can_be_typed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["python", "-m", "monai.bundle", "run", "--config_file", "['a b.yaml','c.yaml']", "--seed", "1"]
    monkeypatch.setattr(sys, "orig_argv", arguments)
    assert shlex.split(command_line()) == arguments


def test_versions_are_those_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "PACKAGES", ("torch", "no-such-package"))
    assert versions() == {"python": python_version(), "torch": version("torch")}


def test_a_stage_names_its_last_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written before the first step, with the facts given, and anew where the stage is resumed."""
    folder = tmp_path / "run" / "classifier"

    def start(seed: int) -> dict:
        seen = []
        monkeypatch.setattr(sys, "orig_argv", ["python", f"start-{seed}"])
        engine = Engine(lambda engine, batch: None)
        Provenance(folder, seed=seed).attach(engine)
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: seen.append((folder / FILE).is_file()))
        engine.run([0])
        assert seen == [True]
        return json.loads((folder / FILE).read_text())

    first, second = start(1), start(2)
    assert (first["command"], first["seed"], second["command"], second["seed"]) == (
        "python start-1",
        1,
        "python start-2",
        2,
    )
    assert second["versions"] == versions()
    assert abs(datetime.fromisoformat(second["started"]) - datetime.now(UTC)) < timedelta(minutes=2)
    assert [path.name for path in folder.iterdir()] == [FILE]
