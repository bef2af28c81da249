"""Who is let in, and what every answer says."""

import pytest
from starlette.testclient import TestClient

from deploy.page import gate
from tests.deploy.page.conftest import ADDRESS

TOKEN = "a-token-of-the-site"


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    return path


def test_every_answer_has_its_headers(browser):
    client = browser()
    for path in ("/", "/static/main.js", "/api/form", "/nowhere"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy and "unsafe" not in policy and "http" not in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *(("127.0.0.1:8044", 200), ("localhost:8044", 200), ("page.hospital", 200), ("PAGE.hospital:443", 200)),
        *(
            ("evil.example", 421),
            ("127.0.0.1:8043", 421),
            ("127.0.0.1.evil.example:8044", 421),
            ("", 421),
            ("[", 421),
            ("127.0.0.1", 421),
        ),
        *(("127.0.0.1:x", 421), ("evil@127.0.0.1:8044 ", 421), ("127.0.0.1:99999", 421)),
    ],
)
def test_other_names_of_this_machine_are_not_served(browser, host, status):
    assert browser(served_as=("Page.hospital",)).get("/", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": ADDRESS}, 201),
        ({}, 201),
        ({"Origin": "http://127.0.0.1:8000"}, 403),
        ({"Origin": "https://127.0.0.1:8044"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_other_pages_cannot_ask(browser, headers, status):
    assert browser().post("/api/scans/example", headers=headers).status_code == status


def test_cookies_are_out_of_reach_of_scripts_and_other_sites(browser):
    client = browser()
    cookie = TestClient(client.app, base_url=ADDRESS).get("/").headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Secure" not in cookie


@pytest.mark.parametrize("cookie", ["", "x", "a.1.b", "a.b.c", "..", "\xff.1.\xff", "a" * 9000])
def test_cookies_that_the_page_did_not_give_are_none(browser, cookie):
    client = browser()
    client.cookies.clear()
    answer = client.get("/api/session", headers={"Cookie": f"{gate.COOKIE}={cookie}".encode("latin-1")})
    assert answer.status_code == 401


def test_cookies_grow_old(browser, monkeypatch):
    client = browser()
    assert client.get("/api/session").status_code == 200
    now = gate.time.time()
    monkeypatch.setattr(gate.time, "time", lambda: now + gate.COOKIE_S + 1)
    assert client.get("/api/session").status_code == 401


def test_whoever_knows_the_token_is_let_in(browser, token_file):
    client = browser(token_file=token_file)
    answer = client.get("/", follow_redirects=False)
    assert answer.status_code == 303 and answer.headers["location"] == "/login" and "set-cookie" not in answer.headers
    assert client.get("/login").status_code == 200 and client.get("/static/main.js").status_code == 401
    assert client.get("/api/session").status_code == client.post("/api/scans/example").status_code == 401
    for wrong in ("", TOKEN + "x", TOKEN[:-1], "\udcff"):
        answer = client.post("/login", content=f"token={wrong}".encode("utf-8", "replace"), follow_redirects=False)
        assert answer.headers["location"] == "/login?wrong" and "set-cookie" not in answer.headers
    assert client.post("/login", data={"token": TOKEN}, follow_redirects=False).headers["location"] == "/"
    assert client.get("/api/session").status_code == 200


def test_tokens_cannot_be_tried_without_end(browser, token_file):
    client = browser(token_file=token_file)
    answers = [client.post("/login", data={"token": "x"}, follow_redirects=False).status_code for _ in range(12)]
    assert answers == [303] * gate.LOGINS_PER_MINUTE + [429, 429]


def test_a_proxy_says_who_asks(browser):
    proxy = {"X-Remote-User": "jane", "Host": "page.hospital"}
    client = browser(proxy_header="X-Remote-User", proxy_from=("testclient",), served_as=("page.hospital",))
    assert client.get("/").status_code == client.get("/", headers={"X-Remote-User": " "}).status_code == 401
    cookie = client.get("/", headers=proxy).headers["set-cookie"]
    assert "; Secure" in cookie
    value = {"Cookie": cookie.split(";")[0]}
    assert client.get("/api/session", headers={**proxy, **value}).status_code == 200
    assert client.get("/api/session", headers={**proxy, **value, "X-Remote-User": "john"}).status_code == 401
    assert client.get("/api/session", headers={"Host": "page.hospital", **value}).status_code == 401
    answer = client.post("/api/scans/example", headers={**proxy, **value, "Origin": "https://page.hospital"})
    assert answer.status_code == 201


def test_who_is_not_the_proxy_cannot_say_who_asks(browser):
    client = browser(
        proxy_header="X-Remote-User", served_as=("page.hospital",)
    )  # from loopback, which TestClient is not
    assert client.get("/", headers={"X-Remote-User": "jane", "Host": "page.hospital"}).status_code == 401


def test_large_requests_are_refused_by_their_own_word(browser):
    client = browser(upload_mb=1)
    long = {"Content-Length": str(10**9)}
    assert client.post("/api/scans", content=b"", headers=long).status_code == 413
    assert client.post("/api/cases", content=b"", headers={"Content-Length": str(1 << 17)}).status_code == 413
    assert client.post("/api/cases", content=b"", headers={"Content-Length": "-1"}).status_code == 413
    assert client.post("/api/cases", content=iter([b"{}"])).status_code == 411


def test_requests_are_counted(browser, monkeypatch):
    monkeypatch.setattr(gate, "PER_MINUTE", 5)
    client = browser()
    assert [client.get("/api/form").status_code for _ in range(7)] == [200] * 5 + [429] * 2
    assert browser().get("/api/form").status_code == 200  # of another session


def test_what_nobody_foresaw_is_told_without_its_words(browser, monkeypatch, caplog):
    def fails():
        raise RuntimeError("Doe^Jane")

    client = browser()
    monkeypatch.setattr("deploy.page.shown.form", fails)
    answer = client.get("/api/form")
    assert answer.status_code == 500 and "nobody foresaw" in answer.json()["fault"]
    assert "RuntimeError at test_gate.py" in caplog.text and "Doe" not in caplog.text + answer.text
