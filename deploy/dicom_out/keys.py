"""By what a result is known again before it is made: a digest of all that it follows from, and of a site's secret."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from data_prep import BUNDLE
from data_prep.cutting import Centre
from scripts.errors import UserError

FORMAT = 2
"""Of the objects; raised where the same result would give others."""

SECRET = Path("~/.config/namd/secret")
"""Where a site's secret is kept unless it is told otherwise."""

SHORTEST = 16
"""Bytes of a secret."""

SETTINGS = ("num_runs", "num_steps", "solver", "seed", "guidance_scale")
"""Of inference.yaml, what samples depend on."""


class SecretError(UserError):
    """A site's secret that cannot be read or is none."""


def read_secret(path: Path | None = None) -> bytes:
    """A site's secret, made at first use: without it, nobody can tell from a UID which record it was made from.

    Args:
        path: of the file; None: :data:`SECRET`.

    Raises:
        SecretError: the file is too short, or readable by others.
    """
    file = (path or SECRET).expanduser()
    if not file.exists():
        _make_secret(file)
    content = file.read_bytes().strip()
    if len(content) < SHORTEST:
        raise SecretError(
            f"{file}: {len(content)} bytes; expected a secret of {SHORTEST} or more. Remove it or fill it."
        )
    if file.stat().st_mode & 0o077:
        raise SecretError(f"{file}: others may read it; expected its owner alone. Run: chmod 600 {file}")
    return content


def _make_secret(file: Path) -> None:
    """Writes a secret, whole or not at all; another process may be faster, and then it is that one's."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile(dir=file.parent) as new:  # which only its owner may read
        new.write(secrets.token_hex(32).encode())
        new.flush()
        os.fsync(new.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(new.name, file)


def case_key(
    secret: bytes,
    models_dir: Path,
    identifiers: Mapping[str, str],
    point: Centre,
    record: Mapping[str, Any],
    interval_days: float,
    settings: Mapping[str, Any],
) -> str:
    """The digest of a case, from which its UIDs are derived: the same case, the same UIDs, at one site.

    Args:
        secret: of :func:`read_secret`.
        models_dir: holds the weights and what single cases are compared with.
        identifiers: of patient, study, series and slice, see :class:`deploy.dicom_out.source.Source`.
        point: mm, LPS.
        record: see :func:`scripts.ehr.features.validate`.
        interval_days: from the scan to the follow-up.
        settings: of ``inference.yaml``; what is not given is its own.
    """
    told = yaml.safe_load((BUNDLE / "configs" / "inference.yaml").read_text(encoding="utf-8"))
    content = {
        "format": FORMAT,
        "weights": _digest_folder(models_dir),
        "identifiers": dict(identifiers),
        "point": [round(float(each), 3) for each in point],
        "record": {name: float(value) for name, value in sorted(record.items())},
        "interval_days": float(interval_days),
        "settings": {name: settings.get(name, told[name]) for name in SETTINGS},
    }
    return hmac.new(secret, json.dumps(content, sort_keys=True).encode(), hashlib.sha256).hexdigest()


def _digest_folder(folder: Path) -> str:
    """SHA-256 over the names and contents of what a result is made by, packed copies left out."""
    digest = hashlib.sha256()
    for path in sorted(each for each in folder.rglob("*") if each.suffix in (".safetensors", ".json", ".txt", ".csv")):
        with path.open("rb") as file:
            digest.update(f"{path.relative_to(folder)} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()
