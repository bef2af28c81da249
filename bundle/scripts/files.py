"""Writing files and folders atomically, so that an interrupted program leaves no half of one; reading mappings."""

from __future__ import annotations

import glob
import json
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


def read_mapping(path: str | os.PathLike, error: type[UserError] = UserError) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        error: class of the errors below.

    Raises:
        UserError: the file is not there, damaged, or holds something else.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as reason:
        raise error(f"{path}: not readable JSON ({reason}). Was it copied whole?") from reason
    if not isinstance(content, dict):
        raise error(f"{path}: holds {type(content).__name__}, expected a mapping. Was it copied whole?")
    return content


@contextmanager
def write_atomically(
    target: str | os.PathLike, *, keep_unfinished: bool = False, durable: bool = False
) -> Iterator[Path]:
    """A context with a temporary path beside ``target``; what is written there becomes ``target`` at its end.

    Args:
        target: file or folder to write; an older one is replaced.
        keep_unfinished: keep the temporary path when the block fails, so that the next run can continue from it.
        durable: of a file, have it on disk at the end, so that a power failure leaves the old one or the new one.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "notes.txt"
        >>> with write_atomically(target) as path:
        ...     _ = path.write_text("all of it")
        >>> target.read_text()
        'all of it'
    """
    target = Path(target).absolute()
    # The temporary name keeps the target's suffix, by which writers choose the format. It has the ids of process and
    # thread, so that two can write the same target; with keep_unfinished it has none, so that the next run finds it.
    mine = f"{os.getpid()}-{threading.get_native_id()}-"
    owner = "" if keep_unfinished else mine
    temporary = target.with_name(f".partial-{owner}{target.name}")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not keep_unfinished:
        remove(temporary)
    try:
        yield temporary
        if durable:
            sync(temporary)
    except BaseException:
        if not keep_unfinished:
            remove(temporary)
        raise
    if temporary.is_file():
        temporary.replace(target)
        if durable:
            sync(target.parent)
        return
    # A folder cannot replace one that is not empty: rename the old one first, once it is sure that there is a new one.
    temporary.lstat()
    old = target.with_name(f".old-{mine}{target.name}")
    remove(old)
    if target.exists():
        target.rename(old)
    temporary.rename(target)
    remove(old)


@contextmanager
def whole_folder(target: str | os.PathLike) -> Iterator[Path]:
    """:func:`write_atomically` for a folder: the temporary path is an empty folder."""
    with write_atomically(target) as folder:
        folder.mkdir()
        yield folder


def sync(path: Path) -> None:
    """Returns once a file's content, or a folder's list of names, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Removes a file, or a folder with its contents; does nothing where there is none."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_unfinished(target: str | os.PathLike) -> None:
    """Removes what killed processes left beside a target of :func:`write_atomically`; only where nobody writes it.

    What ``keep_unfinished`` keeps stays.
    """
    target = Path(target)
    for begin in (".partial", ".old"):
        for path in target.parent.glob(f"{begin}-[0-9]*-{glob.escape(target.name)}"):
            remove(path)


def write_bytes(target: str | os.PathLike, content: bytes) -> None:
    """Writes a file atomically."""
    with write_atomically(target) as path:
        path.write_bytes(content)


def write_text(target: str | os.PathLike, text: str) -> None:
    """Writes a text file in UTF-8 atomically, without translating line ends."""
    write_bytes(target, text.encode())


def write_json(
    target: str | os.PathLike, content: Mapping[str, Any], indent: int = 1, *, durable: bool = False
) -> None:
    """Writes indented JSON atomically, keys in the order given; NaN and infinity raise a ``ValueError``.

    Args:
        durable: see :func:`write_atomically`.
    """
    text = json.dumps(content, indent=indent, allow_nan=False) + "\n"
    with write_atomically(target, durable=durable) as path:
        path.write_bytes(text.encode())


def write_tensors(
    target: str | os.PathLike, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a safetensors file atomically, readable by every user of the machine."""
    from safetensors.torch import save_file

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with write_atomically(target) as path:
        save_file(contiguous, path, metadata=None if metadata is None else dict(metadata))
        path.chmod(0o644)  # safetensors creates files that only their owner may read
