"""Zip files that no tool makes of a folder of slices, harmless: each breaks one of our limits."""

from __future__ import annotations

import io
import stat
import warnings
import zipfile
from collections.abc import Callable, Mapping

Files = Mapping[str, bytes]

CENTRAL, LOCAL = b"PK\x01\x02", b"PK\x03\x04"
"""What begins a member's entry in the list at the end, and the member."""


def pack(*files: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    """A zip file; a name may stand twice."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, data in files:
            archive.writestr(name, data)
    return content.getvalue()


def patched(data: bytes, begins: bytes, at: int, value: bytes) -> bytes:
    """With some bytes of every entry replaced."""
    found, content = -1, bytearray(data)
    while (found := data.find(begins, found + 1)) >= 0:
        content[found + at : found + at + len(value)] = value
    return bytes(content)


def linked(target: str) -> tuple[zipfile.ZipInfo, bytes]:
    """A symbolic link."""
    link = zipfile.ZipInfo("slice.dcm")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return link, target.encode()


def locked(data: bytes) -> bytes:
    """With the flag of a password, though nothing is encrypted."""
    return patched(patched(data, CENTRAL, 8, b"\x01"), LOCAL, 6, b"\x01")


HOSTILE: dict[str, Callable[[Files], bytes]] = {
    "too many members": lambda files: pack(*files.items(), *((f"{number}.dcm", b"") for number in range(5001))),
    "too large": lambda files: patched(pack(*files.items()), CENTRAL, 24, b"\xf0\xff\xff\xff"),
    "an archive within": lambda files: pack(*files.items(), ("more.zip", pack(*files.items()))),
    "an archive by another name": lambda files: pack(*files.items(), ("more.dcm", pack(*files.items()))),
    "an absolute path": lambda files: pack(*files.items(), ("/tmp/namd-hostile.dcm", b"x")),
    "a parent's path": lambda files: pack(*files.items(), ("a/../../namd-hostile.dcm", b"x")),
    "a parent's path as Windows writes it": lambda files: pack(*files.items(), ("..\\namd-hostile.dcm", b"x")),
    "a drive": lambda files: pack(*files.items(), ("C:namd-hostile.dcm", b"x")),
    "a link": lambda files: pack(*files.items(), linked("/etc/passwd")),
    "a name twice": lambda files: pack(*files.items(), *files.items()),
    "a password": lambda files: locked(pack(*files.items())),
    "cut": lambda files: pack(*files.items())[:-30],
    "without its list": lambda files: pack(*files.items()).partition(CENTRAL)[0],
    "an unknown compression": lambda files: patched(pack(*files.items()), CENTRAL, 10, b"\x63"),
    "no zip": lambda files: b"PK" * 50,
}
"""By what is wrong, such a zip file of some files."""
