"""What the door lets in, and how little it answers."""

import io
import json
import threading
import time
import zipfile

import pytest
import requests

from deploy.worker import Config, Source, Spool

module = pytest.importorskip("deploy.worker.door", reason="pip install namd[page]", exc_type=ImportError)

ZIP, JSON = {"Content-Type": "application/zip"}, {"Content-Type": "application/json"}


@pytest.fixture
def door(tmp_path):
    """Its spool, and a call of it as somebody; it listens to loopback in a thread of its own."""
    tokens = {}
    for name in ("radiology", "research"):
        tokens[name] = tmp_path / name
        tokens[name].write_text(f"token of {name}\n")
    (tmp_path / "empty").write_text("\n")
    tokens["empty"] = tmp_path / "empty"
    sources = {"main": Source("https://pacs")}
    config = Config(tmp_path / "spool", tokens=tokens, sources=sources, least_free_mb=0)
    server = module.make_server(module.make_app(config), "127.0.0.1", 0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]

    def call(method, path, who="radiology", **options):
        headers = {**options.pop("headers", {}), **({"Authorization": f"Bearer token of {who}"} if who else {})}
        return requests.request(method, f"http://127.0.0.1:{port}{path}", headers=headers, timeout=10, **options)

    yield Spool(tmp_path / "spool"), call
    server.should_exit = True
    thread.join(10)


def upload():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("request.json", json.dumps({"PatientID": "MRN-4711"}))
    return content.getvalue()


def test_a_zip_waits_unread_under_a_number(door):
    spool, call = door
    answer = call("POST", "/requests", data=upload(), headers=ZIP)
    assert answer.status_code == 202 and answer.json().keys() == {"number", "state"}
    (item,) = spool.waiting()
    assert item.folder.name == answer.json()["number"] and item.state["by"] == "door radiology"
    assert (item.study / module.UPLOAD).read_bytes() == upload()
    path = f"/requests/{item.folder.name}"
    assert call("GET", path).json()["state"] == "waiting"
    assert call("GET", path, "research").status_code == 404
    spool.bury(item, "PatientID of somebody")
    assert call("GET", path).json() == {"number": item.folder.name, "state": "dead"}


def test_a_request_alone_names_where_its_series_is(door):
    spool, call = door
    assert call("POST", "/requests?source=main", data=b"{}", headers=JSON).status_code == 202
    (item,) = spool.waiting()
    assert item.request.read_bytes() == b"{}" and item.state["fetch"] == {"source": "main"}


@pytest.mark.parametrize(
    ("path", "who", "headers", "status"),
    [
        ("/requests", None, ZIP, 401),
        ("/requests", "nobody", ZIP, 401),
        ("/requests", "", ZIP, 401),
        ("/requests", "radiology", {}, 415),
        ("/requests", "radiology", JSON, 422),
        ("/requests?source=main", "radiology", ZIP, 422),
        ("/requests?source=other", "radiology", JSON, 422),
        ("/requests/1", "radiology", ZIP, 405),
        ("/docs", "radiology", ZIP, 404),
    ],
)
def test_what_is_not_let_in(door, path, who, headers, status):
    spool, call = door
    answer = call("POST", path, who, data=upload(), headers=headers)
    assert answer.status_code == status
    assert "MRN" not in answer.text and spool.waiting() == [] and not [*(spool.root / "incoming").iterdir()]


@pytest.mark.parametrize("told", [True, False])
def test_too_much_is_refused(door, monkeypatch, told):
    spool, call = door
    monkeypatch.setitem(module.KINDS, "application/zip", (module.UPLOAD, 100))
    data = bytes(101) if told else iter([bytes(60), bytes(60)])
    assert call("POST", "/requests", data=data, headers=ZIP).status_code == 413
    assert spool.waiting() == [] and not [*(spool.root / "incoming").iterdir()]


def test_a_full_disk_is_said(door, monkeypatch):
    spool, call = door
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    assert call("POST", "/requests", data=upload(), headers=ZIP).status_code == 507
    assert spool.waiting() == []


def test_no_way_out_of_the_spool(door):
    _, call = door
    for number in ("..", "%2e%2e%2finbox", "..%2f..%2fetc%2fpasswd", "a" * 5000):
        assert call("GET", f"/requests/{number}").status_code in (404, 405)
