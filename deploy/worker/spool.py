"""Requests as folders that are renamed from one state to the next: a request is in exactly one of them, always.

The study is what must not be lost, and a queue in a database or of a library would hold its name alone; a rename within
one file system is whole or not at all, whenever the process is killed. (After a power failure the file system's own
journal counts.)

| folder | what lies there |
| --- | --- |
| ``inbox/NAME`` | a study; it is taken once it has a request.json or a request.dcm, which therefore is put there last |
| ``incoming`` | what an archive or the HTTP door is bringing |
| ``work/ID`` | ``study``, and ``state.json``: who asked, attempts, when the next may begin, why the last failed |
| ``results/KEY`` | ``out`` and ``dicom`` of a case, made once however often it is asked for |
| ``done/ID`` | ``state.json`` alone |
| ``dead/ID`` | as ``work``, with the reason |
"""

from __future__ import annotations

import contextlib
import logging
import os
import pwd
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.files import read_mapping, remove, write_json

logger = logging.getLogger(__name__)

REQUESTS = ("request.json", "request.dcm")

FOLDERS = ("inbox", "work", "results", "done", "dead")

INCOMING = "incoming"

KEPT = ("results", "done", "dead")
"""What stays until :meth:`Spool.purge`."""

LEFT_S = 86400.0
"""After so long, what is unfinished was left by a process that is no more."""


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
        return {"attempts": 0, "not_before": 0.0} | (read_mapping(path) if path.is_file() else {})

    def note(self, **told: Any) -> None:
        """Adds to the state, on disk before this returns."""
        write_json(self.folder / "state.json", {**self.state, **told})


class Spool:
    """The folders of one worker.

    Args:
        root: holds them; they are made where they are not. Only their owner may look into them, but for the inbox,
            whose mode stays as it is set.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in (*FOLDERS, INCOMING):
            (root / name).mkdir(exist_ok=True, mode=0o700)
            if name != "inbox":
                (root / name).chmod(0o700)

    def take(self) -> None:
        """Takes what is whole in the inbox, and clears what killed processes left."""
        for folder in (self.root / "done").iterdir():
            shutil.rmtree(folder / "study", ignore_errors=True)
        for folder in (*(self.root / INCOMING).iterdir(), *(self.root / "work").iterdir()):
            unfinished = folder.parent.name == INCOMING or not (folder / "study").is_dir()
            if unfinished and time.time() - _last_change(folder) > LEFT_S:
                remove(folder)
        for study in sorted((self.root / "inbox").iterdir()):
            found = next((study / name for name in REQUESTS if (study / name).is_file()), None)
            if found and study.is_dir() and not study.is_symlink():
                try:
                    self.put(study, by=f"user {_owner(found)}")
                except PermissionError:  # a folder that is moved must be writable
                    logger.warning("a study in the inbox cannot be moved: its owner has to let the worker write it")

    def put(self, study: Path, mark: str = "", **told: Any) -> str:
        """Moves a study with its request to what is to be answered.

        Args:
            study: on the same file system.
            mark: of hexadecimal digits, by which :meth:`knows` it again; empty: none.
            told: of its state, such as ``by``, who asked.

        Returns:
            The request's number.
        """
        item = Item(self.root / "work" / f"{time.time_ns()}-{mark or secrets.token_hex(8)}")
        item.folder.mkdir(mode=0o700)
        try:
            item.note(**told)
            os.rename(study, item.study)
        except OSError:
            shutil.rmtree(item.folder, ignore_errors=True)
            raise
        return item.folder.name

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """A new folder for what is being brought; it is removed at the end unless it was :meth:`put`."""
        folder = self.root / INCOMING / secrets.token_hex(8)
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def knows(self, mark: str) -> bool:
        """Whether a request with this mark was taken."""
        return any(any((self.root / name).glob(f"*-{mark}")) for name in ("work", "done", "dead"))

    def find(self, number: str) -> tuple[str, dict[str, Any]] | None:
        """Where a request lies, and its state; None where there is none of this number."""
        for name in ("work", "done", "dead", "work"):  # it may be moved meanwhile
            if number in {path.name for path in (self.root / name).iterdir()}:
                state = Item(self.root / name / number).state
                if "by" in state:
                    return name, state
        return None

    def due(self) -> Iterator[Item]:
        """Requests whose time has come, the oldest first."""
        for item in self.waiting():
            if item.state["not_before"] <= time.time():
                yield item

    def waiting(self) -> list[Item]:
        """All requests to be answered, the oldest first."""
        return [Item(path) for path in sorted((self.root / "work").iterdir()) if (path / "study").is_dir()]

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

    def purge(self, days: float) -> dict[str, int]:
        """Removes what was answered, what is dead, and results, once nothing of them has changed for some days.

        Returns:
            How many of each.
        """
        oldest, removed = time.time() - days * 86400, dict.fromkeys(KEPT, 0)
        for name in KEPT:
            for folder in (self.root / name).iterdir():
                if _last_change(folder) < oldest:
                    remove(folder)
                    removed[name] += 1
        return removed

    def status(self) -> dict[str, int]:
        """How many lie in each state."""
        found = {name: sum(path.is_dir() for path in (self.root / name).iterdir()) for name in FOLDERS}
        return {**found, "work": len(self.waiting())}


def _last_change(folder: Path) -> float:
    """When a folder, or what lies directly in it, was changed; now, if it is being removed."""
    try:
        return max(path.lstat().st_mtime for path in (folder, *(folder.iterdir() if folder.is_dir() else ())))
    except FileNotFoundError:
        return time.time()


def _owner(path: Path) -> str:
    """The name of a file's owner, or the number where there is none."""
    number = path.stat().st_uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
