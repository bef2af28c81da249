"""Whether the program that is about to serve is the one that was installed, and nobody else can write it.

Configurations of a MONAI bundle are code: what stands behind a ``$`` is run. So they are held to what holds of code.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from scripts.errors import UserError, listed

ROOT = Path(__file__).resolve().parents[1]

TREES = ("bundle", "data_prep", "deploy")
"""Folders of the program: all that is imported or run out of its own files."""

MANIFEST = "SHA256SUMS"
"""Beside them, in the format of ``sha256sum``, written by ``make wheelhouse``; a development's checkout has none."""


class TrustError(UserError):
    """A file of the program that others may write, or that is not the one that was installed."""


def check_trusted(*files: Path, root: Path = ROOT) -> int:
    """Refuses to begin where somebody else could have decided what runs.

    Owner and mode of all files are looked at; their bytes where the installation has a :data:`MANIFEST`, but of
    ``__pycache__``, which Python writes.

    Args:
        files: further ones that are read, such as a worker's configuration.
        root: holds :data:`TREES`.

    Returns:
        How many files have the digest of the manifest; 0 where there is none.

    Raises:
        TrustError: the first that is not as expected.
    """
    found = [path for tree in TREES for path in sorted((root / tree).rglob("*"))]
    for path in (root, *(root / tree for tree in TREES), *found):
        _check_owner(path)
    for file in files:
        _check_owner(file.absolute().parent)
        _check_owner(file)
    if not (root / MANIFEST).is_file():
        return 0
    _check_owner(root / MANIFEST)
    names = {path.relative_to(root).as_posix() for path in found if path.is_file() and "__pycache__" not in path.parts}
    return _check_digests(root, names)


def _check_owner(path: Path) -> None:
    """Only root and the one who runs this may own or write a file that is trusted.

    Raises:
        TrustError: somebody else may, or there is no such file.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise TrustError(f"{path}: {error.strerror}; expected a file of the program.") from error
    if state.st_uid not in (0, os.geteuid()):
        raise TrustError(f"{path}: belongs to user {state.st_uid}, and it is code; expected root or who runs this.")
    sticky = stat.S_ISDIR(state.st_mode) and state.st_mode & stat.S_ISVTX
    if state.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky:
        raise TrustError(f"{path}: others than its owner may write it, and it is code. Run: chmod go-w {path}")


def _check_digests(root: Path, names: set[str]) -> int:
    """Whether files are those of the manifest, all of them and no others.

    Raises:
        TrustError: which are not.
    """
    lines = (root / MANIFEST).read_text(encoding="utf-8").splitlines()
    expected = {name[1:]: digest for digest, _, name in (line.partition(" ") for line in lines)}  # "digest  name"
    remedy = "Install this version again, and keep own configurations elsewhere."
    if absent := sorted(expected.keys() - names):
        raise TrustError(f"{root}: lacks {listed(absent)} of {MANIFEST}. {remedy}")
    if more := sorted(names - expected.keys()):
        raise TrustError(f"{root}: {listed(more)} was not installed ({MANIFEST}). {remedy}")
    for name in sorted(names):
        with (root / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected[name]:
                raise TrustError(f"{root / name}: is not what was installed ({MANIFEST}). {remedy}")
    return len(names)
