"""What a site sets: where requests lie, the archives that results may go to, and those that are asked for requests."""

from __future__ import annotations

import re
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
class Server:
    """A server that a site names.

    Attributes:
        url: of its root; a destination's is that of DICOMweb, such as ``https://pacs.hospital/dicom-web``.
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
class Destination(Server):
    """An archive that speaks DICOMweb and may get results."""


@dataclass(frozen=True)
class Source(Server):
    """An Orthanc that is asked what came in, by its own interface; reports there ask for series there.

    Attributes:
        destination: where results go; None: they stay in the spool.
        ae_titles: of the senders whose reports are taken; empty: all.
        modality, description: of the series that may be asked for, by reports or by HTTP; a regular expression that is
            found in SeriesDescription.
    """

    destination: str | None = None
    ae_titles: tuple[str, ...] = ()
    modality: str = "CT"
    description: str = ""


@dataclass(frozen=True)
class Config:
    """A worker's settings.

    Attributes:
        spool: folder of requests and results, on one file system.
        destinations: by name; a request may name one of them, and no other place gets anything.
        sources: by name; what comes into them is looked through for requests.
        tokens: files of the HTTP door's tokens, by who has them; who has none is not let in.
        metrics: file for node_exporter's textfile collector; None: none.
        secret, models_dir: of :func:`deploy.dicom_case.ask` and :class:`deploy.case.Predictor`; None: the usual ones.
        with_slice: also make the slice that viewers take for CT.
        settings: of ``inference.yaml``, such as ``solver``.
        attempts: after so many a request is put among the dead; those that a server's absence ended do not count, and
            are made for a day.
        wait_s: before the second one; twice as long before each next, half an hour at most.
        poll_s: between two looks into the inbox.
        await_days: after so many a request whose series did not come, and what lies in the inbox without a request, is
            put among the dead.
        keep_days: after so many days what was answered is removed, and dead requests and results; None: never.
        least_free_mb: with less room on the spool's disk, nothing is taken or made.
    """

    spool: Path
    destinations: Mapping[str, Destination] = field(default_factory=dict)
    sources: Mapping[str, Source] = field(default_factory=dict)
    tokens: Mapping[str, Path] = field(default_factory=dict)
    metrics: Path | None = None
    secret: Path | None = None
    models_dir: Path | None = None
    with_slice: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    attempts: int = 8
    wait_s: float = 30.0
    poll_s: float = 5.0
    await_days: float = 7.0
    keep_days: float | None = None
    least_free_mb: float = 1024.0


NUMBERS = ("attempts", "wait_s", "poll_s", "await_days", "keep_days", "least_free_mb")

TABLES = ("settings", "destinations", "sources", "tokens")

PLACES = ("spool", "secret", "models_dir", "metrics")


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
    for key in (key for key in NUMBERS if key in content):
        _check_number(f"{path}: {key}", content[key], whole=key == "attempts")
        if not 0 <= content[key] < 1e9:
            raise ConfigError(f"{path}: {key} = {content[key]}; expected 0 or more.")
    if not isinstance(content.get("with_slice", False), bool):
        raise ConfigError(f"{path}: with_slice = {content['with_slice']}; expected true or false.")
    tables: dict[str, Any] = {key: content.get(key, {}) for key in TABLES}
    if odd := [key for key, table in tables.items() if not isinstance(table, dict)]:
        raise ConfigError(f"{path}: {odd[0]} is no table.")
    if wrong := tables["settings"].keys() - {*SETTINGS}:
        raise ConfigError(f"{path}: settings has {', '.join(sorted(wrong))}; expected of {', '.join(SETTINGS)}.")
    for key in tables["settings"].keys() - {"solver"}:
        _check_number(f"{path}: settings.{key}", tables["settings"][key], whole=key != "guidance_scale")
    places: dict[str, Any] = {key: Path(str(content[key])).expanduser() for key in PLACES if key in content}
    servers: dict[str, Any] = {
        key: {name: _server(f"{path}: {key}.{name}", kind, told) for name, told in tables[key].items()}
        for key, kind in (("destinations", Destination), ("sources", Source))
    }
    for name, source in servers["sources"].items():
        if not re.fullmatch(r"[\w.-]+", name):  # of a file, and of a label in metrics
            raise ConfigError(f"{path}: sources.{name!r}; expected a name of letters, digits, '.', '-' and '_'.")
        if source.destination is not None and source.destination not in servers["destinations"]:
            raise ConfigError(f"{path}: sources.{name}: destination is no table of destinations.")
    tokens = {name: Path(str(file)).expanduser() for name, file in tables["tokens"].items()}
    for name, file in tokens.items():
        if not file.is_file():
            raise ConfigError(f"{path}: tokens.{name}: {file} is not there.")
    return Config(**{**content, **places, **servers, "tokens": tokens})


def _check_number(where: str, value: Any, whole: bool) -> None:
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise ConfigError(f"{where} = {value!r}; expected a {'whole ' * whole}number.")


def _server(where: str, kind: type[Server], told: Any) -> Server:
    fields = kind.__dataclass_fields__
    if not isinstance(told, dict) or told.keys() - {*fields} or not isinstance(told.get("url"), str):
        raise ConfigError(f"{where}: expected url, and of {', '.join(fields)} what is needed.")
    address = urlsplit(told["url"])
    if address.scheme not in ("http", "https") or not address.hostname or address.username:
        raise ConfigError(f"{where}: url is no http or https address without user and password.")
    if "user" in told and address.scheme == "http" and address.hostname not in LOOPBACK:
        raise ConfigError(f"{where}: a password would go unencrypted; expected https.")
    if ("user" in told) != ("password_file" in told):
        raise ConfigError(f"{where}: expected both user and password_file, or neither.")
    content = {**told, "url": told["url"].rstrip("/")}
    for key in ("password_file", "ca_file"):
        if key in told:
            content[key] = Path(str(told[key])).expanduser()
            if not content[key].is_file():
                raise ConfigError(f"{where}: {content[key]} is not there.")
    titles = content.get("ae_titles", [])
    if not isinstance(titles, list) or not all(isinstance(title, str) for title in titles):
        raise ConfigError(f"{where}: ae_titles is no list of texts.")
    try:
        re.compile(content.get("description", ""))
    except (TypeError, re.error) as error:
        raise ConfigError(f"{where}: description is no regular expression.") from error
    return kind(**{**content, **({"ae_titles": tuple(titles)} if titles else {})})
