"""What a site sets: where requests lie, and the archives that results may go to."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from deploy.dicom_out.keys import SETTINGS
from scripts.errors import UserError

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Hosts to which a password may go without TLS."""


class ConfigError(UserError):
    """A configuration with an unknown key, or a value that is none."""


@dataclass(frozen=True)
class Destination:
    """An archive that speaks DICOMweb.

    Attributes:
        url: of its DICOMweb root, such as ``https://pacs.hospital/dicom-web``.
        user: for HTTP Basic; None: nobody asks.
        password_file: holds the password.
        ca_file: certificates that are trusted; None: the system's.
    """

    url: str
    user: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None

    @property
    def password(self) -> str:
        return self.password_file.read_text(encoding="utf-8").strip() if self.password_file else ""


@dataclass(frozen=True)
class Config:
    """A worker's settings.

    Attributes:
        spool: folder of requests and results, on one file system.
        destinations: by name; a request may name one of them, and no other place gets anything.
        secret, models_dir: of :func:`deploy.dicom_case.ask` and :class:`deploy.case.Predictor`; None: the usual ones.
        with_slice: also make the slice that viewers take for CT.
        settings: of ``inference.yaml``, such as ``solver``.
        attempts: after so many a request is put among the dead.
        wait_s: before the second one; twice as long before each next.
        poll_s: between two looks into the inbox.
    """

    spool: Path
    destinations: Mapping[str, Destination] = field(default_factory=dict)
    secret: Path | None = None
    models_dir: Path | None = None
    with_slice: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    attempts: int = 8
    wait_s: float = 30.0
    poll_s: float = 5.0


def read_config(path: Path) -> Config:
    """A configuration from a TOML file: the attributes of :class:`Config`, with a table for each destination.

    Raises:
        ConfigError: by key, what is wrong.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not readable TOML ({error}).") from error
    unknown = content.keys() - {*Config.__dataclass_fields__}
    if unknown or not isinstance(content.get("spool"), str):
        raise ConfigError(f"{path}: expected spool, and of {', '.join(Config.__dataclass_fields__)} what is needed.")
    kinds: dict[str, Any] = {"with_slice": bool, "attempts": int, "wait_s": (int, float), "poll_s": (int, float)}
    for key, kind in kinds.items():
        if key in content and (not isinstance(content[key], kind) or content[key] < 0):
            raise ConfigError(f"{path}: {key} = {content[key]}; expected a number, or of with_slice true or false.")
    tables: dict[str, Any] = {key: content.get(key, {}) for key in ("settings", "destinations")}
    if odd := [key for key, table in tables.items() if not isinstance(table, dict)]:
        raise ConfigError(f"{path}: {odd[0]} is no table.")
    if wrong := tables["settings"].keys() - {*SETTINGS}:
        raise ConfigError(f"{path}: settings has {', '.join(sorted(wrong))}; expected of {', '.join(SETTINGS)}.")
    places: dict[str, Any] = {}
    for key in ("spool", "secret", "models_dir"):
        if key in content:
            places[key] = Path(str(content[key])).expanduser()
    destinations = {name: _destination(path, name, told) for name, told in tables["destinations"].items()}
    return Config(**{**content, **places, "destinations": destinations})


def _destination(path: Path, name: str, told: Any) -> Destination:
    fields = Destination.__dataclass_fields__
    if not isinstance(told, dict) or told.keys() - {*fields} or not isinstance(told.get("url"), str):
        raise ConfigError(f"{path}: destinations.{name}: expected url, and of {', '.join(fields)} what is needed.")
    address = urlsplit(told["url"])
    if address.scheme not in ("http", "https") or not address.hostname or address.username:
        raise ConfigError(f"{path}: destinations.{name}: url is no http or https address without user and password.")
    if "user" in told and address.scheme == "http" and address.hostname not in LOOPBACK:
        raise ConfigError(f"{path}: destinations.{name}: a password would go unencrypted; expected https.")
    if ("user" in told) != ("password_file" in told):
        raise ConfigError(f"{path}: destinations.{name}: expected both user and password_file, or neither.")
    files: dict[str, Path] = {}
    for key in ("password_file", "ca_file"):
        if key in told:
            files[key] = Path(str(told[key])).expanduser()
    if absent := [str(file) for file in files.values() if not file.is_file()]:
        raise ConfigError(f"{path}: destinations.{name}: {absent[0]} is not there.")
    return Destination(told["url"].rstrip("/"), told.get("user"), files.get("password_file"), files.get("ca_file"))
