"""SIGTERM, by which systemd, containers and people stop a program, ends it as an error would."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
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
