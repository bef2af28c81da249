"""How the door and the page are served: HTTP/1.1 by uvicorn, nothing logged of a request, a limit for its headers."""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS_S = 15.0
"""For the headers of a request to come; as nginx has it in deploy/config/nginx.conf."""


class HeadersInTime(H11Protocol):
    """Closes a connection on which no request is whole in time.

    uvicorn has a limit for silence between two requests alone, so that a byte now and then, or silence from the
    beginning, would keep a connection for ever.
    """

    deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._limit()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._limit()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unlimit()
        super().connection_lost(exc)

    def _limit(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:  # a request is being answered
            self._unlimit()
        elif self.deadline is None:
            self.deadline = self.loop.call_later(HEADERS_S, self.transport.close)

    def _unlimit(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None


def make_server(app: ASGIApp, host: str, port: int, **more: Any) -> uvicorn.Server:
    """A server that is not yet run.

    Args:
        more: of :class:`uvicorn.Config`.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_level="error",
        ws="none",
        timeout_keep_alive=10,
        timeout_graceful_shutdown=3,
        h11_max_incomplete_event_size=1 << 14,
        http=HeadersInTime,
        loop="asyncio",
        **more,
    )
    return uvicorn.Server(config)
