"""Requests as folders that are renamed from one state to the next: a request is in exactly one of them, always.

The study is what must not be lost, and a queue in a database or of a library would hold its name alone; a rename within
one file system is whole or not at all, whenever the process is killed. (After a power failure the file system's own
journal counts.)

| folder | what lies there |
| --- | --- |
| ``inbox/NAME`` | a study; it is taken once it has a request.json or a request.dcm, which therefore is put there last |
| ``work/ID`` | ``study``, and ``state.json``: attempts, when the next may begin, why the last failed |
| ``results/KEY`` | ``out`` and ``dicom`` of a case, made once however often it is asked for |
| ``done/ID`` | ``state.json`` alone |
| ``dead/ID`` | as ``work``, with the reason |
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.files import read_mapping, write_json

REQUESTS = ("request.json", "request.dcm")

FOLDERS = ("inbox", "work", "results", "done", "dead")


@dataclass(frozen=True)
class Item:
    """A request that was taken.

    Attributes:
        folder: in ``work``; its name tells nothing of a patient.
    """

    folder: Path

    @property
    def study(self) -> Path:
        return self.folder / "study"

    @property
    def request(self) -> Path:
        """The file that asks; the first where there are two."""
        return next(self.study / name for name in REQUESTS if (self.study / name).is_file())

    @property
    def state(self) -> dict[str, Any]:
        path = self.folder / "state.json"
        return read_mapping(path) if path.is_file() else {"attempts": 0, "not_before": 0.0}

    def note(self, **told: Any) -> None:
        """Adds to the state, on disk before this returns."""
        write_json(self.folder / "state.json", {**self.state, **told})


class Spool:
    """The folders of one worker.

    Args:
        root: holds them; they are made where they are not, and only their owner may look into them.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in FOLDERS:
            (root / name).mkdir(parents=True, exist_ok=True, mode=0o700)

    def take(self) -> None:
        """Takes what is whole in the inbox, and clears what a killed process left."""
        for folder in (self.root / "done").iterdir():
            shutil.rmtree(folder / "study", ignore_errors=True)
        for folder in (self.root / "work").iterdir():
            if not (folder / "study").is_dir() and not (folder / "state.json").exists():
                folder.rmdir()
        for study in sorted((self.root / "inbox").iterdir()):
            if study.is_dir() and not study.is_symlink() and any((study / name).is_file() for name in REQUESTS):
                folder = self.root / "work" / f"{time.time_ns()}-{secrets.token_hex(4)}"
                folder.mkdir(mode=0o700)
                os.rename(study, folder / "study")

    def due(self) -> Iterator[Item]:
        """Requests whose time has come, the oldest first."""
        for folder in sorted((self.root / "work").iterdir()):
            if (item := Item(folder)).study.is_dir() and item.state["not_before"] <= time.time():
                yield item

    def result(self, key: str) -> Path:
        """The folder of a case's result."""
        return self.root / "results" / key

    def finish(self, item: Item, **told: Any) -> None:
        """A request that was answered; its study is removed here, not at the archive that it came from."""
        item.note(**told)
        done = self.root / "done" / item.folder.name
        os.rename(item.folder, done)
        shutil.rmtree(done / "study")

    def bury(self, item: Item, reason: str) -> None:
        """A request that cannot be answered, with its study, for people to look at."""
        item.note(reason=reason)
        os.rename(item.folder, self.root / "dead" / item.folder.name)

    def status(self) -> dict[str, int]:
        """How many lie in each state."""
        return {name: sum(path.is_dir() for path in (self.root / name).iterdir()) for name in FOLDERS}
