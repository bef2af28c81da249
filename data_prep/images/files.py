"""Which files an image is read from, and by what it is known that they are still the same."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from data_prep.images.metaimage import data_files

FileState = tuple[str, int, int, int, int]
"""A file's name, its size, inode, and times of its last writing and of its last change of any kind."""

GONE = (-1, -1, -1, -1)
"""The state of what is not there, as where a link leads nowhere."""

Stamp = tuple[FileState, ...]
"""The state of each file of an image."""


def files_in(folder: Path, deep: bool = False) -> Iterator[FileState]:
    """The files of a folder, each once whatever links lead to it, by name; neither hidden ones nor DICOMDIR.

    Links that lead nowhere are among them.

    Args:
        folder: where; links to folders are followed.
        deep: those of the folders below it too, named with the way to them (``a/b.dcm``).
    """
    yield from _files_in(str(folder), "", deep, set())


def _files_in(root: str, way: str, deep: bool, seen: set[tuple[int, int]]) -> Iterator[FileState]:
    below = []
    with os.scandir(os.path.join(root, way)) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if entry.name.startswith(".") or entry.name.upper() == "DICOMDIR":
            continue
        state = _state(entry)
        if state is None:
            yield way + entry.name, *GONE
            continue
        if (state.st_dev, state.st_ino) in seen:
            continue
        seen.add((state.st_dev, state.st_ino))
        if not stat.S_ISDIR(state.st_mode):
            yield way + entry.name, *_facts(state)
        elif deep:
            below.append(f"{way}{entry.name}/")
    for further in below:
        yield from _files_in(root, further, deep, seen)


def _state(file: Path | os.DirEntry[str]) -> os.stat_result | None:
    """What the file system says of a file; None where it is not there. Whoever reads the image says so."""
    try:
        return file.stat()
    except OSError:
        return None


def _facts(state: os.stat_result) -> tuple[int, int, int, int]:
    return state.st_size, state.st_ino, state.st_mtime_ns, state.st_ctime_ns


def stamp(image: Path) -> Stamp:
    """What the file system says of an image's files, without reading them.

    They are those of a series' folder and of those below it, or an image's own file and those that its header names.
    While their state stays the same, no file was written, replaced, exchanged or renamed. A copy has another one, so
    where it differs only the content can tell.
    """
    if image.is_dir():
        return tuple(files_in(image, deep=True))
    found = []
    for path in (image, *data_files(image)):
        state = _state(path)
        found.append((path.name, *(_facts(state) if state else GONE)))
    return tuple(found)
