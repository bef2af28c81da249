"""A stranger's zip file is unpacked within limits: what no tool makes of a folder of slices is refused by name."""

from __future__ import annotations

import re
import shutil
import stat
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from data_prep.unforeseen import NO_ROOM
from scripts.errors import UserError

NESTED = re.compile(r"\.(zip|jar|7z|rar|tar|tgz|bz2|xz|zst|(?<!\.nii\.)gz)$", re.IGNORECASE)
"""Ends of names of archives; a NIfTI file may be compressed."""

ZIP = b"PK\x03\x04"
"""Begins a zip file, whatever its name is."""

LOCKED = 1
"""Of a member's flags: it needs a password."""


class ArchiveError(UserError):
    """A zip file that is not unpacked; the message goes on after its name, and has no name of a member."""


def unpack(path: Path, folder: Path, named: Callable[[int, str], str | None], most_files: int, most_bytes: int) -> None:
    """Writes the files in a zip file to a folder, flat and under our own names.

    Args:
        path: of the zip file.
        folder: is there.
        named: the name of a member's file, from its number and its name; None: it is passed over.
        most_files, most_bytes: of all members.

    Raises:
        ArchiveError: what is wrong with it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check(members, most_files, most_bytes)
            files = [member for member in members if not member.is_dir()]
            for number, member in enumerate(files):
                if (name := named(number, member.filename)) is not None:
                    _write(archive, member, folder / name)
    except (ArchiveError, MemoryError):
        raise
    except Exception as error:  # zipfile and the decoders raise what they like
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise
        raise ArchiveError("is damaged or of an unusual kind; pack it again.") from error


def _check(members: Sequence[zipfile.ZipInfo], most_files: int, most_bytes: int) -> None:
    """Refuses what can be told from the list of members alone."""
    names = [member.filename for member in members]
    if len(members) > most_files or sum(member.file_size for member in members) > most_bytes:
        raise ArchiveError(f"has more than {most_files} files or {most_bytes} bytes.")
    if len({*names}) < len(names):
        raise ArchiveError("has a name twice.")
    for member in members:
        if _leads_away(member.filename):
            raise ArchiveError("has names that lead out of it.")
        if member.flag_bits & LOCKED:
            raise ArchiveError("is locked by a password; pack it without one.")
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ArchiveError("has links or special files.")
        if NESTED.search(member.filename):
            raise ArchiveError("has an archive in it; pack the files themselves.")


def _leads_away(name: str) -> bool:
    parts = PurePosixPath(name.replace("\\", "/"))
    return parts.is_absolute() or ".." in parts.parts or re.match(r"[A-Za-z]:", name) is not None


def _write(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    """Writes a member, of which no more is read than the size that it says."""
    opened = archive.open  # bytes
    try:
        with opened(member) as packed, target.open("xb") as file:
            if (head := packed.read(len(ZIP))) == ZIP:
                raise ArchiveError("has an archive in it; pack the files themselves.")
            file.write(head)
            shutil.copyfileobj(packed, file)
    except FileExistsError as error:
        raise ArchiveError("has a request twice.") from error
