"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def write_atomically(target: Path, *, keep_unfinished: bool = False) -> Iterator[Path]:
    """Gives a temporary path beside ``target``; what the block makes there, a file or a folder, becomes ``target``.

    Args:
        target: file or folder to write; an older one is replaced at the end.
        keep_unfinished: leave the temporary path where the block fails, so that the next run can go on from it.
    """
    target = target.absolute()
    # The temporary name ends as the target does: writers choose the format by the suffix.
    temporary = target.with_name(f".partial-{target.name}")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not keep_unfinished:
        remove(temporary)
    try:
        yield temporary
    except BaseException:
        if not keep_unfinished:
            remove(temporary)
        raise
    if temporary.is_file():
        temporary.replace(target)
        return
    # A folder cannot replace one that is not empty: the old one steps aside first.
    old = target.with_name(f".old-{target.name}")
    remove(old)
    if target.exists():
        target.rename(old)
    temporary.rename(target)
    remove(old)


def remove(path: Path) -> None:
    """Removes a file or a folder with all in it; nothing happens where there is none."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    """Writes a text file, whole or not at all, with the same bytes on every system."""
    with write_atomically(target) as path:
        path.write_text(text, encoding="utf-8", newline="\n")


def write_json(target: Path, content: dict[str, Any]) -> None:
    """Writes JSON for people and programs: indented, keys in the order given."""
    write_text(target, json.dumps(content, indent=1, allow_nan=False) + "\n")
