"""Requests as folders that are renamed from one state to the next: a request is in exactly one of them, always.

The study is what must not be lost, and a queue in a database or of a library would hold its name alone; a rename within
one file system is whole or not at all, whenever the process is killed. States are on disk before anything relies on
them. (After a power failure the file system's own journal counts for renames.)

| folder | what lies there |
| --- | --- |
| ``inbox/NAME`` | a study; it is taken once it has a request.json or a request.dcm, which therefore is put there last |
| ``incoming`` | what an archive or the HTTP door is bringing |
| ``work/ID`` | ``study``, and ``state.json``: who asked, attempts, when the next may begin, what the first awaits, .. |
| ``results/KEY`` | ``out`` and ``dicom`` of a case, made once however often it is asked for |
| ``done/ID`` | ``state.json`` alone |
| ``dead/ID`` | as ``work``, with the reason |
| ``taken`` | a file with the marks of all that archives brought, one a line, which stay |
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import pwd
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.unforeseen import NO_ROOM
from scripts.errors import UserError
from scripts.files import read_mapping, remove, write_json, write_text

logger = logging.getLogger(__name__)

REQUESTS, SERIES = ("request.json", "request.dcm"), "series"
"""In a study: the file that asks, and the folder for a series that is brought or unpacked."""

FOLDERS, INCOMING = ("inbox", "work", "results", "done", "dead"), "incoming"

REQUEST = "a request in its folder"
"""What lies in the inbox without one waits for."""

FRESH = {"attempts": 0, "failures": 0, "not_before": 0.0, "absent_since": 0.0}
"""State of a request that nothing was tried for."""

KEPT = ("results", "done", "dead")
"""What stays until :meth:`Spool.purge`."""

TAKEN = "taken"
"""The file of marks, which :meth:`Spool.purge` leaves."""

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
        """What is known of it; without ``by``, who asked, where its file is damaged or not there."""
        try:
            told = read_mapping(self.folder / "state.json")
        except UserError:
            told = {}
        return {**FRESH, "awaits": "", **told}

    @property
    def since(self) -> float:
        """When it came, or was put back, in seconds since 1970."""
        return self.state.get("since") or int(self.folder.name.split("-")[0]) / 1e9

    def note(self, **told: Any) -> None:
        """Adds to the state, on disk before this returns."""
        write_json(self.folder / "state.json", {**self.state, **told}, durable=True)


class Spool:
    """The folders of one worker.

    Args:
        root: holds them; they are made where they are not. Only their owner may look into them, but for the inbox,
            whose mode stays as it is set.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.stuck: set[Path] = set()  # what could not be removed, which is told once
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in (*FOLDERS, INCOMING):
            (root / name).mkdir(exist_ok=True, mode=0o700)
            if name != "inbox":
                (root / name).chmod(0o700)

    def beat(self) -> None:
        """Notes that the worker lives, on a full disk too."""
        (self.root / "beat").touch(mode=0o600)

    def silent_s(self) -> float:
        """Seconds since the last :meth:`beat`; infinite where there was none."""
        try:
            return max(time.time() - (self.root / "beat").stat().st_mtime, 0.0)
        except FileNotFoundError:
            return math.inf

    def take(self) -> None:
        """Takes what is whole in the inbox, and clears what killed processes left."""
        for folder in (self.root / "done").iterdir():
            self._remove(folder / "study")
        for folder in (*(self.root / INCOMING).iterdir(), *(self.root / "work").iterdir()):
            unfinished = folder.parent.name == INCOMING or not (folder / "study").is_dir()
            if unfinished and time.time() - _last_change(folder) > LEFT_S:
                self._remove(folder)
        for study in sorted((self.root / "inbox").iterdir()):
            if found := _request_in(study):
                self._take(study, found)

    def _take(self, path: Path, asks: Path, **told: Any) -> str | None:
        """Takes what lies in the inbox, in the name of the owner of the file that asks; its number, or None."""
        try:
            by = f"user {_owner(asks)}"
            if path.is_dir() and not path.is_symlink():
                _check_writable(path)
                return self.put(path, by=by, **told)
            with self.staging() as folder:
                os.rename(path, folder / path.name)
                return self.put(folder, by=by, **told)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise
            words = "a study in the inbox cannot be moved (%s): its owner has to let the worker write all its folders"
            logger.warning(words, error.strerror)
            return None

    def put(self, study: Path, mark: str = "", **told: Any) -> str:
        """Moves a study with its request to what is to be answered.

        Args:
            study: on the same file system.
            mark: of hexadecimal digits, by which :meth:`marked` finds it again; empty: none.
            told: of its state, such as ``by``, who asked; with ``awaits`` it is not due until that is noted as empty.

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

    def marked(self, mark: str) -> Item | None:
        """The request that was :meth:`put` with this mark, whether it waits, is done or dead."""
        found = (path for name in ("work", "done", "dead") for path in (self.root / name).glob(f"*-{mark}"))
        return next(map(Item, found), None)

    def keep_marks(self) -> None:
        """Begins the file of marks, with those that versions to 0.15.0 kept in the names of requests alone."""
        if not (self.root / TAKEN).exists():
            found = [path.name for name in ("work", "done", "dead") for path in (self.root / name).iterdir()]
            write_text(self.root / TAKEN, "".join(f"\n{name.partition('-')[2]}" for name in sorted(found)))

    def remember(self, mark: str) -> None:
        """Keeps a mark for as long as the spool is, whatever becomes of its request."""
        if not self.remembers(mark):
            with (self.root / TAKEN).open("a", encoding="ascii") as file:
                file.write(f"\n{mark}")  # a line that a full disk cut off spoils no other

    def remembers(self, *marks: str) -> bool:
        """Whether one of some marks is kept."""
        return not {*marks}.isdisjoint((self.root / TAKEN).read_text(encoding="ascii").split())

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
            state = item.state
            if not state["awaits"] and state["not_before"] <= time.time():
                yield item

    def waits(self) -> dict[str, tuple[int, float]]:
        """What is waited for: by how many, and since when the one that came first does, in seconds since 1970."""
        found = [(REQUEST, _last_change(path)) for path in self._without_request()]
        for item in self.waiting():
            state = item.state
            again = state["attempts"] or state["failures"]
            found.append((state["awaits"] or ("another attempt" if again else "its turn"), item.since))
        counts = Counter(what for what, _ in found)
        return {what: (counts[what], min(since for other, since in found if other == what)) for what in counts}

    def overdue(self, days: float) -> Iterator[tuple[Item, str]]:
        """What has waited so long for something that did not come, and for what; all of it is in ``work`` then."""
        oldest = time.time() - days * 86400
        for item in self.waiting():
            if (awaits := item.state["awaits"]) and item.since < oldest:
                yield item, awaits
        for path in [path for path in self._without_request() if _last_change(path) < oldest]:
            if number := self._take(path, path, awaits=REQUEST):
                yield Item(self.root / "work" / number), REQUEST

    def _without_request(self) -> list[Path]:
        """What lies in the inbox and is not taken."""
        return [path for path in sorted((self.root / "inbox").iterdir()) if not _request_in(path)]

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
        self._remove(done / "study")

    def bury(self, item: Item, reason: str) -> None:
        """A request that cannot be answered, with its study, for people to look at."""
        item.note(reason=reason)
        os.rename(item.folder, self.root / "dead" / item.folder.name)

    def dead(self) -> dict[str, Item]:
        """By number, dead requests that can be tried again: of which is known who asked, and which have a request."""
        items = [Item(path) for path in sorted((self.root / "dead").iterdir())]
        return {item.folder.name: item for item in items if "by" in (at := item.state) and at["awaits"] != REQUEST}

    def retry(self, item: Item) -> None:
        """Has a dead request answered as if it had just come, with all that is known of it; a series is fetched anew.

        Raises:
            UserError: the spool is another user's, who could not read what is written here.
        """
        if os.geteuid() != self.root.stat().st_uid:
            raise UserError(f"{self.root}: expected its owner to try again. Run this as user {_owner(self.root)}.")
        if "fetch" in item.state:
            remove(item.study / SERIES)
        item.note(**FRESH, since=time.time())
        os.rename(item.folder, self.root / "work" / item.folder.name)

    def purge(self, days: float) -> dict[str, int]:
        """Removes what is answered or dead, and results, once nothing of them changed for some days; says how many."""
        oldest, removed = time.time() - days * 86400, dict.fromkeys(KEPT, 0)
        for name in KEPT:
            for folder in (self.root / name).iterdir():
                if _last_change(folder) < oldest:
                    removed[name] += self._remove(folder)
        return removed

    def _remove(self, path: Path) -> bool:
        """Removes what can be removed of a folder, and says whether that was all; what stays is named by its number."""
        shutil.rmtree(path, ignore_errors=True)
        if (stays := path.exists()) and path not in self.stuck:
            self.stuck.add(path)
            told = path.relative_to(self.root)
            logger.error("%s cannot be removed: the worker has to be able to write all folders in it", told)
        return not stays

    def status(self) -> dict[str, int]:
        """How many lie in each state."""
        found = {name: sum(path.is_dir() for path in (self.root / name).iterdir()) for name in FOLDERS}
        return {**found, "work": len(self.waiting())}


def _request_in(study: Path) -> Path | None:
    """The file that asks in a folder of the inbox; None where there is none, or the folder is a link or closed."""
    with contextlib.suppress(PermissionError):
        return next((study / name for name in REQUESTS if not study.is_symlink() and (study / name).is_file()), None)
    return None


def _check_writable(study: Path) -> None:
    """Whether a study can be moved and, once it is answered, removed.

    Raises:
        PermissionError: of one of its folders; it names none.
    """
    inner = (Path(folder, name) for folder, names, _ in os.walk(study) for name in names)
    for path in (study, *inner):
        if not path.is_symlink() and not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _last_change(folder: Path) -> float:
    """When a folder, or what lies directly in it and may be seen, was changed; now, if it is being removed."""
    try:
        times = [folder.lstat().st_mtime]
        with contextlib.suppress(NotADirectoryError, PermissionError):
            times += [path.lstat().st_mtime for path in folder.iterdir()]
        return max(times)
    except FileNotFoundError:
        return time.time()


def _owner(path: Path) -> str:
    """The name of a file's owner, or the number where there is none."""
    number = path.lstat().st_uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
