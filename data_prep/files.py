"""Files and folders that are written: never over what the same command reads, nor by two runs at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from data_prep.errors import DataError


def refuse_overwriting(written: Iterable[Path], read: Iterable[Path]) -> None:
    """Refuses to replace a file that is read, or a folder that such a file lies in, by whatever path.

    Raises:
        DataError: a path of ``written`` is there, and is or holds one of ``read``.
    """
    targets = {path.resolve(): path for path in written if path.exists()}
    for source in read if targets else ():
        place = source.resolve()
        if over := next((path for each, path in targets.items() if place.is_relative_to(each)), None):
            raise DataError(f"{over}: would be written over {source}, which is read. Name another --out.")


@contextmanager
def one_writer(target: Path, wait: bool = False) -> Iterator[None]:
    """A context in which no other run writes ``target``, so that what it leaves unfinished beside it is its own.

    The lock is the operating system's, which no killed process leaves behind. Its file is hidden, lies beside
    ``target`` and goes at the end.

    Args:
        target: file or folder.
        wait: for another run to end, instead of refusing.

    Raises:
        DataError: another run is within, and ``wait`` is false.
    """
    place = target.absolute()
    path = place.with_name(f".lock-{place.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(path).acquire(blocking=wait)
    except Timeout as error:
        raise DataError(
            f"{target}: another run is writing it. Wait until that has ended, or name another --out."
        ) from error
    with held:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is held; who opened it meanwhile finds it gone, and tries anew
