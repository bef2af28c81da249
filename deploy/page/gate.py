"""Who is let in: every request passes here before anything of it is read, and every answer gets its headers here.

- **Host** must be a name that the page is served under, so that no other name can be pointed at it (DNS rebinding).
- **Origin** of what changes anything must be the page's own (cross-site requests, also from other ports of this host).
- **Who asks**: on loopback anybody; else whoever knows the token, or whom a reverse proxy names in a header.
- **Session**: a random cookie, HttpOnly and SameSite=Strict, signed with a key of this process, and for one user alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
import time
from collections import deque
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from data_prep.unforeseen import UnforeseenError
from deploy.page.refusal import Refusal
from deploy.page.settings import LOOPBACK, Settings

logger = logging.getLogger(__name__)

COOKIE = "namd_session"

COOKIE_S = 12 * 3600.0
"""Seconds after which a cookie is no longer taken."""

OPEN_PATHS = ("/login", "/static/page.css", "/health")
"""What is seen without a token."""

MOST_BODY = 1 << 16
"""Bytes of a request that is no upload."""

PATIENCE_S = 30.0
"""For a body to arrive."""

PER_MINUTE, LOGINS_PER_MINUTE = 1200, 10
"""Requests of one session, and attempts at the token from one address."""

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
"""Of every answer."""


class Gate:
    """ASGI middleware about the page.

    Args:
        app: the page.
        settings: of the site.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self.settings = app, settings
        self.token = settings.token()
        self._key = secrets.token_bytes(32)
        self._seen: dict[str, deque[float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # no websockets here
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                if "set_cookie" in scope:
                    headers.append("set-cookie", scope["set_cookie"])
            await send(message)

        try:
            app: ASGIApp = await self._admit(scope, receive)
        except Refusal as refusal:
            app = refusal.response()
        try:
            await app(scope, receive, send_with_headers)
        except ClientDisconnect:
            return
        except Exception as error:  # whose words may hold values; the answer was begun, or says 500
            logger.error("a request failed: %s", UnforeseenError(Path("request"), error).cause)

    async def _admit(self, scope: Scope, receive: Receive) -> ASGIApp:
        """What answers a request: the page, or a way to the token's form.

        Raises:
            Refusal: neither.
        """
        headers, path, method = Headers(scope=scope), scope["path"], scope["method"]
        self._check_host(headers)
        if method not in ("GET", "POST", "DELETE"):
            raise Refusal(405, "Expected GET, POST or DELETE.")
        if method != "GET":
            self._check_origin(headers)
        _check_length(headers, path, self.settings.most_bytes)
        address = scope["client"][0] if scope.get("client") else ""
        user = self._user(headers, address)
        session = self._session_of(headers, user)
        if self.token and method == "POST" and path == "/login":
            return await self._login(Request(scope, receive), address, scope)
        if session is None and self.token and path not in OPEN_PATHS:
            if path == "/":
                return RedirectResponse("/login", 303)
            raise Refusal(401, "Expected the site's token. Open the page and log in.")
        if session is None and path == "/":
            session = self._new_session(scope, user)
        if path.startswith("/api/"):
            if session is None:
                raise Refusal(401, "Expected a session. Open the page first, with cookies.")
            self._count(session, PER_MINUTE)
        scope["namd_session"] = session
        return self.app

    def _check_host(self, headers: Headers) -> None:
        hosts = headers.getlist("host")
        try:
            parts = urlsplit(f"//{hosts[0]}" if len(hosts) == 1 else "//")
            name, port = parts.hostname, parts.port
        except ValueError:
            name = port = None
        expected = self.settings.port if name in LOOPBACK else None
        if name not in self.settings.names or (expected and (port or 80) != expected):
            raise Refusal(421, "This page is not served under that name.")

    def _check_origin(self, headers: Headers) -> None:
        """Browsers send Origin with all that is no GET; programs that send none have no cookies of others either."""
        origin, host = headers.get("origin"), headers.get("host", "")
        schemes = ("https",) if self.settings.secure else ("http",)
        if origin is not None and origin not in [f"{scheme}://{host}" for scheme in schemes]:
            raise Refusal(403, "This request comes from another page.")
        if headers.get("sec-fetch-site", "same-origin") != "same-origin":
            raise Refusal(403, "This request comes from another page.")

    def _user(self, headers: Headers, address: str) -> str:
        """Whom the proxy names; empty where there is none."""
        if self.settings.proxy_header is None:
            return ""
        users = headers.getlist(self.settings.proxy_header)
        if address not in self.settings.proxy_from or len(users) != 1 or not users[0].strip():
            raise Refusal(401, "Expected to be asked through the site's proxy, which says who you are.")
        return users[0].strip()

    def _signed(self, random: str, issued: str, user: str) -> str:
        return hmac.new(self._key, "\0".join((random, issued, user)).encode(), hashlib.sha256).hexdigest()

    def _session_of(self, headers: Headers, user: str) -> str | None:
        """The session that a cookie of ours names; None where there is none, or an old one, or another user's."""
        cookies: SimpleCookie = SimpleCookie()
        try:
            cookies.load(headers.get("cookie", "")[:8192])
            random, issued, mac = cookies[COOKIE].value.split(".")
            age = time.time() - int(issued)
        except (CookieError, KeyError, ValueError):
            return None
        good = hmac.compare_digest(mac.encode(), self._signed(random, issued, user).encode())
        return random if good and 0 <= age < COOKIE_S else None

    def _new_session(self, scope: Scope, user: str) -> str:
        """A new session, whose cookie goes with the answer."""
        random, issued = secrets.token_hex(24), str(int(time.time()))
        value = f"{random}.{issued}.{self._signed(random, issued, user)}"
        secure = "; Secure" if self.settings.secure else ""
        scope["set_cookie"] = f"{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict{secure}"
        return random

    async def _login(self, request: Request, address: str, scope: Scope) -> Response:
        """Takes the token of the form."""
        self._count(f"login {address}", LOGINS_PER_MINUTE)
        body = await read_body(request)
        given = parse_qs(body.decode("ascii", "replace"), max_num_fields=4).get("token", [""])[0]
        if not hmac.compare_digest(given.encode(), self.token.encode()):
            return RedirectResponse("/login?wrong", 303)
        self._new_session(scope, "")
        return RedirectResponse("/", 303)

    def _count(self, who: str, most: int) -> None:
        """Raises:
        Refusal: more than so many in this minute."""
        now = time.monotonic()
        if len(self._seen) > 4096:
            self._seen = {name: times for name, times in self._seen.items() if times and now - times[-1] < 60}
        times = self._seen.setdefault(who, deque(maxlen=most + 1))
        times.append(now)
        if len(times) > most and now - times[0] < 60:
            raise Refusal(429, "Too many requests in a minute. Wait a little.")


async def read_body(request: Request) -> bytes:
    """The body of a request that is no upload.

    Raises:
        Refusal: it is too large, or does not come.
    """
    body = b""
    try:
        async with asyncio.timeout(PATIENCE_S):
            async for piece in request.stream():
                body += piece
                if len(body) > MOST_BODY:
                    raise Refusal(413, f"Too large: expected at most {MOST_BODY} bytes.")
    except TimeoutError as error:
        raise Refusal(408, "The request stopped on its way. Try again.") from error
    return body


def _check_length(headers: Headers, path: str, most_upload: int) -> None:
    """Refuses what is too large by its own word, before it is sent, and what has a body of no known length."""
    most = most_upload if path == "/api/scans" else MOST_BODY
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()) or len(length) > 15 or int(length) > most:
        raise Refusal(413, f"Too large: expected at most {most} bytes.")
    if "transfer-encoding" in headers:
        raise Refusal(411, "Expected Content-Length.")
