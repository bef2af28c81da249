"""What a site sets of the page, and what it may not: passwords and records go nowhere unencrypted."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.errors import UserError

LOOPBACK = ("127.0.0.1", "localhost", "::1")

SHORTEST = 16
"""Letters of a token."""


class SettingsError(UserError):
    """Options under which the page is not served."""


@dataclass(frozen=True)
class Settings:
    """Of the page.

    Attributes:
        host, port: where it listens.
        served_as: further names under which it is reached, as through a proxy.
        token_file: holds what whoever asks has to know; None: nothing.
        proxy_header: in which a reverse proxy says who asks, such as X-Remote-User; None: there is no proxy.
        proxy_from: addresses of that proxy.
        certificate, key: files for HTTPS.
        models_dir: holds the weights; None: the bundle's.
        secret: file of the site's secret, from which DICOM's UIDs follow; None: its usual place.
        sampling: of ``inference.yaml``, such as ``solver``.
        keep_minutes: without a request, after which a session is deleted.
        upload_mb: of one scan.
    """

    host: str = "127.0.0.1"
    port: int = 8044
    served_as: tuple[str, ...] = ()
    token_file: Path | None = None
    proxy_header: str | None = None
    proxy_from: tuple[str, ...] = ("127.0.0.1", "::1")
    certificate: Path | None = None
    key: Path | None = None
    models_dir: Path | None = None
    secret: Path | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    keep_minutes: float = 60.0
    upload_mb: int = 1024

    def __post_init__(self) -> None:
        """Raises:
        SettingsError: the page would be open to others than it says, or send secrets unencrypted."""
        if self.host not in LOOPBACK and not _is_address(self.host):
            raise SettingsError(f"--host {self.host}: expected an address, such as 127.0.0.1.")
        if self.token_file and self.proxy_header:
            raise SettingsError("--token_file and --proxy_header: expected one of both.")
        if (self.certificate is None) != (self.key is None):
            raise SettingsError("--certificate and --key: expected both, or neither.")
        for path in (self.certificate, self.key):
            if path is not None and not path.is_file():
                raise SettingsError(f"{path}: no such file.")
        if self.host not in LOOPBACK:
            if not (self.token_file or self.proxy_header):
                raise SettingsError(f"--host {self.host}: others could ask; expected --token_file or --proxy_header.")
            if self.token_file and self.certificate is None:
                raise SettingsError(
                    f"--host {self.host}: the token and records would go unencrypted. Give --certificate and --key, or "
                    "listen on 127.0.0.1 behind a proxy with TLS."
                )
        self.token()

    def token(self) -> str:
        """What the token's file holds; empty where there is none.

        Raises:
            SettingsError: the file is not there, too short, or readable by others.
        """
        if self.token_file is None:
            return ""
        try:
            content = self.token_file.read_text(encoding="ascii").strip()
            mode = self.token_file.stat().st_mode
        except (OSError, ValueError) as error:
            raise SettingsError(f"{self.token_file}: not readable as plain letters.") from error
        if len(content) < SHORTEST:
            raise SettingsError(f"{self.token_file}: {len(content)} letters; expected {SHORTEST} or more.")
        if mode & 0o077:
            raise SettingsError(f"{self.token_file}: others may read it. Run: chmod 600 {self.token_file}")
        return content

    @property
    def names(self) -> frozenset[str]:
        """Names that the header Host may have."""
        return frozenset((*LOOPBACK, self.host, *(name.lower() for name in self.served_as)))

    @property
    def secure(self) -> bool:
        """Whether browsers reach it by HTTPS: its own, or the proxy's."""
        return self.certificate is not None or (self.proxy_header is not None)

    @property
    def most_bytes(self) -> int:
        return self.upload_mb << 20


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
