"""The configurations that are shipped: who gets in, and what goes through."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pydicom
import pytest
import requests
from pydicom.uid import generate_uid

from deploy.worker import Archive, Destination
from tests.deploy.hospital.pacs import PORT

pytestmark = pytest.mark.hospital


@pytest.fixture
def web(nginx):
    """A session by TLS, as a user."""

    def as_user(name, password="open"):
        session = requests.Session()
        session.trust_env, session.verify = False, str(nginx.folder / "tls" / "ca.crt")
        session.auth = (name, password) if name else None
        return session

    return as_user


@pytest.fixture
def scan(objects, tmp_path):
    """The drawn chest as a study of its own."""
    study, series = generate_uid(), generate_uid()
    for path in sorted(objects.series.iterdir()):
        item = pydicom.dcmread(path)
        item.StudyInstanceUID, item.SeriesInstanceUID, item.SOPInstanceUID = study, series, generate_uid()
        item.file_meta.MediaStorageSOPInstanceUID = item.SOPInstanceUID
        item.save_as(tmp_path / path.name)
    return study, sorted(tmp_path.glob("*.dcm"))


def test_nginx_takes_its_configuration(nginx):
    told = nginx.check()
    assert told.returncode == 0 and "successful" in told.stderr, told.stderr


def test_the_archive_is_open_to_nobody(orthanc):
    """Not without a password, and not by the one that Orthanc makes up where none is configured."""
    for auth in (None, ("orthanc", "orthanc"), ("alice", "orthanctest")):
        assert requests.get(f"http://127.0.0.1:{PORT}/system", auth=auth).status_code == 401


@pytest.mark.parametrize(
    ("user", "path", "status"),
    [
        (None, "/dicom-web/studies", 401),
        ("reader", "/dicom-web/studies", 200),
        ("reader", "/changes", 401),
        ("worker", "/changes", 200),
        ("worker", "/studies", 200),
        ("worker", "/dicom-web/servers", 404),
        ("worker", "/system", 404),
        ("worker", "/tools/execute-script", 404),
        ("worker", "/modalities", 404),
    ],
)
def test_what_each_user_may_ask(nginx, web, user, path, status):
    assert web(user).get(nginx.url + path).status_code == status
    if status == 200:
        assert web(user, "wrong").get(nginx.url + path).status_code == 401


def test_nothing_is_changed_but_by_storing(nginx, web):
    for method, path in (("DELETE", "/studies/a"), ("PUT", "/changes"), ("DELETE", "/dicom-web/studies/1.2")):
        assert web("worker").request(method, nginx.url + path).status_code == 403
    answer = web("worker").post(f"{nginx.url}/tools/lookup", b"1" * 70000)
    assert answer.status_code == 413


def test_a_result_is_stored_by_tls(nginx, scan):
    study, paths = scan
    password, ca = nginx.folder / "open", nginx.folder / "tls" / "ca.crt"
    archive = Archive(Destination(f"{nginx.url}/dicom-web", "worker", password, ca))
    uids = [str(pydicom.dcmread(path).SOPInstanceUID) for path in paths]
    content = {"objects": {path.name: {"sop_instance_uid": uid} for path, uid in zip(paths, uids, strict=True)}}
    assert archive.lacks(uids) == uids
    archive.deliver(paths[0].parent, content, study, "MRN-4711")
    assert archive.lacks(uids) == []
    with pytest.raises(requests.exceptions.SSLError):
        Archive(Destination(f"{nginx.url}/dicom-web", "worker", password)).lacks(uids)


class Echo(BaseHTTPRequestHandler):
    """Answers with the headers that it got, and how long the body was."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        length = int(self.headers.get("Content-Length", 0))
        body = json.dumps({**self.headers, "read": len(self.rfile.read(length))}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET


@pytest.fixture
def behind():
    """What stands where the door and the page do."""
    servers = [ThreadingHTTPServer(("127.0.0.1", port), Echo) for port in (8043, 8044)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield
    for server in servers:
        server.shutdown()
        server.server_close()


def test_the_page_is_told_who_asks_and_no_password(nginx, web, behind):
    forged = {"X-Remote-User": "chief", "Forwarded": "host=evil"}
    for path in ("/", "/static/page.js", "/api/cases/a/events"):
        assert web(None).get(nginx.url + path, headers=forged).status_code == 401
        told = web("reader").get(nginx.url + path, headers=forged).json()
        assert told["X-Remote-User"] == "reader" and told["Host"] == "127.0.0.1" and "Authorization" not in told
        assert told["Forwarded"] == "host=127.0.0.1;proto=https"
    assert web("reader").post(f"{nginx.url}/api/scans", bytes(3 << 20)).json()["read"] == 3 << 20


def test_the_door_gets_its_token_and_large_studies(nginx, web, behind):
    session = web(None)
    session.headers["Authorization"] = "Bearer token"
    told = session.post(f"{nginx.url}/requests", bytes(3 << 20)).json()
    assert told["Authorization"] == "Bearer token" and told["read"] == 3 << 20 and "X-Remote-User" not in told
    assert session.get(f"{nginx.url}/requests/17-ab").status_code == 200
    assert session.delete(f"{nginx.url}/requests/17-ab").status_code == 403
    assert session.get(f"{nginx.url}/requests/17-ab/x").status_code == 404


def test_logs_name_nobody(nginx, web):
    web("reader").get(f"{nginx.url}/dicom-web/studies", params={"PatientID": "MRN-4711"})
    logs = "".join((nginx.folder / name).read_text() for name in ("namd.log", "namd.error.log"))
    assert "reader GET 200" in logs and "4711" not in logs and "studies" not in logs


@pytest.mark.parametrize(
    ("sender", "how", "stored"),
    [
        ("SCANNER", {}, True),
        ("STRANGER", {}, False),
        ("SCANNER", {"called": "ANY"}, False),
        ("SCANNER", {"tls": False}, False),
    ],
)
def test_who_may_send_by_dicom(orthanc, scan, sender, how, stored):
    before = orthanc.count()
    assert orthanc.send(sender, *scan[1], **how) == stored
    assert orthanc.count() == before + (len(scan[1]) if stored else 0)
