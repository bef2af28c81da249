"""Connections that end, whatever a client does with them."""

import asyncio
import contextlib
import socket
import threading
import time

import pytest

serving = pytest.importorskip("deploy.serving", reason="pip install namd[page]", exc_type=ImportError)

LIMIT_S, STEP_S = 0.5, 0.05

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"


@pytest.fixture(scope="module")
def connect():
    """Opens connections to a server whose answer takes longer than headers may."""
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def answer(_):
        await asyncio.sleep(2 * LIMIT_S)
        return PlainTextResponse("good")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving, "HEADERS_S", LIMIT_S)
        server = serving.make_server(Starlette(routes=[Route("/", answer)]), "127.0.0.1", 0)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        address = server.servers[0].sockets[0].getsockname()
        yield lambda: socket.create_connection(address, 10)
        server.should_exit = True
        thread.join(10)


def ends(connection, content=b""):
    """Seconds until it is closed, while bytes are sent one at a time; and all that came."""
    begun, got, left = time.monotonic(), b"", list(content)
    connection.settimeout(STEP_S)
    while time.monotonic() - begun < 10:
        try:
            with contextlib.suppress(TimeoutError):
                if not (part := connection.recv(1 << 16)):
                    break
                got += part
            if left:
                connection.send(bytes([left.pop(0)]))
        except ConnectionError:
            break
    return time.monotonic() - begun, got


@pytest.mark.parametrize("content", [b"", GET + b"X: " + b"x" * 9000], ids=["silent", "slow"])
def test_headers_that_do_not_come_end_a_connection(connect, content):
    with connect() as connection:
        seconds, got = ends(connection, content)
    assert LIMIT_S * 0.9 < seconds < 5 and got == b""


def test_an_answer_may_take_longer_and_others_may_follow(connect):
    with connect() as connection:
        for _ in range(2):
            connection.sendall(GET + b"\r\n")
            got = b""
            while not got.endswith(b"good"):
                got += connection.recv(1 << 16)
            assert got.startswith(b"HTTP/1.1 200 ") and b"server:" not in got
            time.sleep(LIMIT_S / 2)
        seconds, got = ends(connection, GET + b"X: " + b"x" * 9000)
    assert seconds < 5 and got == b""


def test_a_body_that_nobody_reads_ends_a_connection(connect):
    with connect() as connection:
        connection.sendall(GET + b"Content-Length: 9000\r\n\r\n")
        seconds, got = ends(connection, b"x" * 9000)
    assert 2 * LIMIT_S < seconds < 5 and got.endswith(b"good")
