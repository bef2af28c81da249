"""Files that are written: never over what the same command reads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

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
