"""The configurations that are shipped: who gets in, and what goes through."""

from __future__ import annotations

import socket
import ssl

import pydicom
import pytest
import requests
from pydicom.uid import generate_uid

from deploy.worker import Archive, Destination
from tests.deploy.hospital.pacs import DICOM_PORT, PORT, TLS_PORT

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


def test_old_tls_is_refused_and_logs_name_nobody(nginx, web):
    web("reader").get(f"{nginx.url}/dicom-web/studies", params={"PatientID": "MRN-4711"})
    context = ssl.create_default_context(cafile=nginx.folder / "tls" / "ca.crt")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_connection(("127.0.0.1", TLS_PORT)) as plain, pytest.raises((ssl.SSLError, OSError)):
        context.wrap_socket(plain, server_hostname="127.0.0.1")
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
    assert orthanc.count() == before + (len(scan[1]) if stored else 0) and DICOM_PORT
