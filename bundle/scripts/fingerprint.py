"""Digests by which weights are known again, wherever they lie and however often they were written, and records.

How a thing was made is a *record*, a dictionary of these digests and of settings. Training writes it into checkpoints
and published weights, inference into predictions, evaluation into metrics.json; whoever uses the thing compares.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub.constants import HF_HOME

from scripts.errors import UserError
from scripts.files import write_text

if TYPE_CHECKING:
    from torch import Tensor

UNCOMPARED = frozenset({"version", "commit"})
"""Entries of a record that say who made a thing and not how: they are written down and never compared."""

LARGE = 1 << 28
"""Bytes of weights from which on their digest is kept."""

DIGESTS = Path(HF_HOME) / "namd" / "digests"
"""Where digests are kept."""

WEIGHTS = (".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt")
"""Suffixes of files that hold weights."""

_ROOT = Path(__file__).resolve().parents[1]


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and values, in the order of the names.

    Floating-point values are compared as float32, so a network and its file in half precision, which opens as the same
    network, have one digest.

    >>> import torch
    >>> first, second = {"a": torch.zeros(2), "b": torch.ones(1)}, {"b": torch.ones(1), "a": torch.zeros(2).half()}
    >>> digest_tensors(first) == digest_tensors(second) != digest_tensors({"a": torch.zeros(1, 2), "b": torch.ones(1)})
    True
    """
    return _digest((name, partial(tensors.__getitem__, name)) for name in sorted(tensors))


def digest_weights(path: str | Path) -> str:
    """The digest of a weights file, or of all weights in a folder; of safetensors that of :func:`digest_tensors`.

    Names in a folder begin with the subfolder, not with the file, so it does not matter into how many files weights are
    divided. Of other formats the bytes are taken. The digest of :data:`LARGE` weights is kept, since reading them takes
    long, until one of their files is written, moved or replaced.

    Raises:
        UserError: a safetensors file is damaged.
    """
    path = Path(path)
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.suffix in WEIGHTS)
    states = [(str(file.absolute()), file.stat()) for file in files]
    if sum(state.st_size for _, state in states) < LARGE:
        return _read_weights(path, files)
    text = "\n".join(f"{name} {s.st_dev} {s.st_ino} {s.st_size} {s.st_mtime_ns} {s.st_ctime_ns}" for name, s in states)
    kept = DIGESTS / hashlib.sha256(text.encode()).hexdigest()
    if kept.is_file():
        return kept.read_text(encoding="utf-8")
    digest = _read_weights(path, files)
    # A file that was written just now could be written again within the clock's resolution.
    if all(time.time() - state.st_ctime > 2 for _, state in states):
        with contextlib.suppress(OSError):  # a home that is read-only
            write_text(kept, digest)
    return digest


def _read_weights(path: Path, files: Sequence[Path]) -> str:
    """The digest of weights in ``files``, which ``path`` is or holds."""
    from safetensors import SafetensorError, safe_open

    parts: list[tuple[str, Callable[[], Any]]] = []
    for file in files:
        place = "" if file == path else file.parent.relative_to(path).as_posix().removeprefix(".")
        if file.suffix == ".safetensors":
            try:
                opened = safe_open(file, framework="pt", device="cpu")
            except SafetensorError as error:
                raise UserError(
                    f"{file}: not a readable safetensors file ({error}). Copy or train it again."
                ) from error
            parts += [(f"{place}/{key}".lstrip("/"), partial(opened.get_tensor, key)) for key in opened.keys()]  # noqa: SIM118
        else:
            parts.append((place, partial(Path, file)))
    return _digest(sorted(parts, key=lambda part: part[0]))


def _digest(parts: Iterable[tuple[str, Callable[[], Tensor | Path]]]) -> str:
    """SHA-256 of named tensors and files, each opened when its turn comes."""
    digest = hashlib.sha256()
    for name, open_it in parts:
        content = open_it()
        if isinstance(content, Path):
            digest.update(f"{name} {content.stat().st_size}\n".encode())
            with content.open("rb") as file:
                while block := file.read(1 << 24):
                    digest.update(block)
        else:
            digest.update(f"{name} {tuple(content.shape)}\n".encode())
            digest.update(_values(content))
    return digest.hexdigest()


def _values(tensor: Tensor) -> Any:
    """The bytes of a tensor's values, of floating-point numbers up to 32 bits those of float32."""
    import torch

    values = tensor.detach().cpu()
    values = values.float() if values.is_floating_point() and values.itemsize < 4 else values
    return values.contiguous().reshape(-1).view(torch.uint8).numpy().data


def leaves(content: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Name, with ``::``, and value of everything in nested dictionaries and lists.

    >>> dict(leaves({"a": 1, "b": {"c": [2, 3], "d": {}}}))
    {'a': 1, 'b::c::0': 2, 'b::c::1': 3, 'b::d': {}}
    """
    inner = content.items() if isinstance(content, Mapping) else enumerate(content) if isinstance(content, list) else ()
    found = [leaf for key, value in inner for leaf in leaves(value, f"{name}::{key}".removeprefix("::"))]
    yield from found or [(name, content)]


def differences(was: Mapping[str, Any], now: Mapping[str, Any], may_change: Iterable[str] = ()) -> list[str]:
    """In words, what differs between two records, apart from :data:`UNCOMPARED`.

    >>> was, now = {"seed": 1, "settings": {"rate": 0.1, "workers": 2}}, {"seed": 1, "settings": {"rate": 0.2}}
    >>> differences(was, now, may_change=["workers"])
    ['rate was 0.1, is 0.2']

    Args:
        may_change: last parts of names that are not compared either.
    """
    one, other = dict(leaves(was)), dict(leaves(now))
    ignored = {*UNCOMPARED, *may_change}
    names = [name for name in one | other if name.split("::")[-1] not in ignored and one.get(name) != other.get(name)]
    return [f"{name.removeprefix('settings::')} was {_shown(one, name)}, is {_shown(other, name)}" for name in names]


def comparable(record: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a record that are compared, all but :data:`UNCOMPARED`."""
    return {name: value for name, value in record.items() if name not in UNCOMPARED}


def _shown(record: Mapping[str, Any], name: str) -> str:
    """A value in a message: a digest by its beginning, None where there is none."""
    value = record.get(name)
    return value[:12] if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) else repr(value)


@cache
def code_version() -> dict[str, str | None]:
    """``version`` of the bundle and git's ``commit``, "-dirty" after changes; None outside a repository."""
    version = json.loads((_ROOT / "configs" / "metadata.json").read_text(encoding="utf-8"))["version"]
    git = ["git", "--no-optional-locks", "-C", str(_ROOT)]
    git += ["describe", "--always", "--dirty", "--exclude", "*", "--abbrev=12"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        commit = ""
    return {"version": version, "commit": commit or None}
