"""What is temporary goes, however a program ends: it holds scans and records of patients."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STOPPED = 128 + signal.SIGTERM
"""Exit status of a program that was told to end."""


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Has SIGTERM end what runs within by a ``SystemExit``, so that what is temporary is removed; of the main thread.

    Python's own way with this signal is to end at once: what a ``finally`` would remove of a patient stays.
    """

    def end(*_: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would cut the removing off
        raise SystemExit(STOPPED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def own_folder(prefix: str) -> Path:
    """A new temporary folder of this process that only its owner may enter; what killed ones left of theirs is removed.

    A lock on the folder, which the system takes back however a process ends, tells that it is in use.

    Args:
        prefix: of the names of such folders.
    """
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with contextlib.suppress(OSError):  # of another user, in use, or gone
            os.close(_hold(path))
            shutil.rmtree(path)
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    with contextlib.suppress(OSError):  # a file system without locks, where such folders stay
        _hold(folder)
    return folder


def _hold(folder: Path) -> int:
    """Locks a folder of ours for as long as this process is, or its descriptor.

    Raises:
        OSError: it is in use, a link, or another user's.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise PermissionError(f"{folder} is another user's")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
