"""Which files an image is read from, and by what it is known that they are still the same."""

from __future__ import annotations

from pathlib import Path

from data_prep.images.index import files_in
from data_prep.images.metaimage import data_files

Stamp = tuple[tuple[str, int, int, int, int], ...]
"""Of each file: name, size, inode, times of its last writing and of its last change of any kind."""


def files_of(image: Path) -> list[Path]:
    """The files of a series' folder and of those below it, or an image's own file and those that its header names."""
    if not image.is_dir():
        return [image, *data_files(image)]
    return [*files_in(image, deep=True)]


def stamp(image: Path) -> Stamp:
    """What the file system says of an image's files, without reading them.

    While it stays the same, no file was written, replaced, exchanged or renamed. A copy has another one, so where it
    differs only the content can tell.
    """
    found = []
    for path in files_of(image):
        try:
            state = path.stat()
        except OSError:  # whoever reads the image says so
            found.append((path.name, -1, -1, -1, -1))
        else:
            found.append((path.name, state.st_size, state.st_ino, state.st_mtime_ns, state.st_ctime_ns))
    return tuple(found)
