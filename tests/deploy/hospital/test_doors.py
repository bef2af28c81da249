"""The real door and the real page behind nginx, each a process of its own: by TLS and a password to the networks."""

from __future__ import annotations

import gzip
import io
import json
import os
import socket
import ssl
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import nibabel as nib
import pytest
import requests

from deploy.request import IDENTITY
from tests.deploy.hospital.pacs import ROOT, TLS_PORT
from tests.deploy.scans import POINT, RECORD

pytestmark = pytest.mark.hospital

HOST = "archive.hospital"
"""Under which the shipped configurations serve."""

QUICK = {"num_runs": 2, "solver": "dpmpp", "num_steps": 2}


class Site:
    """One machine's door, page and worker.

    Args:
        folder: of what they write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.started = folder, []
        settings = "\n".join(f"{name} = {json.dumps(value)}" for name, value in QUICK.items())
        (folder / "token").write_text("a token of radiology")
        (folder / "worker.toml").write_text(
            f'spool = "{folder}/spool"\nsecret = "{folder}/secret"\n[settings]\n{settings}\n'
            f'[tokens]\nradiology = "{folder}/token"\n'
        )

    def run(self, *arguments: str | Path) -> subprocess.Popen:
        """``python -m deploy`` with these."""
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'bundle'}:{ROOT}", "TMPDIR": str(self.folder)}
        command = [sys.executable, "-m", "deploy", *map(str, arguments)]
        with (self.folder / "log").open("ab") as log:
            self.started.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log))
        return self.started[-1]

    def listen(self, port: int, *arguments: str | Path) -> None:
        """Runs what serves, until it does."""
        process = self.run(*arguments)
        for _ in range(600):
            assert process.poll() is None, (self.folder / "log").read_text()[-2000:]
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.2)
        pytest.fail(f"nobody listens at {port}")


@pytest.fixture(scope="module")
def site(tmp_path_factory, nginx):
    """Door and page as nginx expects them."""
    site = Site(tmp_path_factory.mktemp("site"))
    sampling = [each for name, value in QUICK.items() for each in (f"--{name}", str(value))]
    try:
        site.listen(8043, "door", site.folder / "worker.toml")
        as_shipped = ["--served_as", HOST, "--proxy_header", "X-Remote-User"]
        site.listen(8044, "page", *as_shipped, "--secret", site.folder / "secret", *sampling)
        yield site
    finally:
        for process in site.started:
            process.terminate()
            process.wait(60)


@pytest.fixture
def ask(nginx, site):
    """Asks nginx by TLS, with a session's user, password and cookies."""

    def as_user(*auth):
        session = requests.Session()
        session.trust_env, session.verify, session.auth = False, str(nginx.folder / "tls" / "ca.crt"), auth or None
        session.headers.update({"Host": HOST, "Origin": f"https://{HOST}"})
        return lambda method, path, **more: session.request(method, nginx.url + path, timeout=300, **more)

    return as_user


def test_a_case_of_the_page(ask, site):
    """From the password to a follow-up by the networks; another user does not see it."""
    reader, other = ask("reader", "open"), ask("worker", "open")
    assert ask()("GET", "/").status_code == ask("reader", "wrong")("GET", "/").status_code == 401
    assert reader("POST", "/api/scans/example").status_code == 401  # no session yet
    for user in (reader, other):
        page = user("GET", "/")
        assert page.status_code == 200 and "Secure" in page.headers["Set-Cookie"] and "esearch use only" in page.text
    assert reader("POST", "/api/scans/example", headers={"Origin": "https://evil.example"}).status_code == 403
    scan = reader("POST", "/api/scans/example").json()
    case = reader("POST", "/api/cases", json={"scan": scan["id"], **scan["suggested"]}).json()
    told = reader("GET", f"/api/cases/{case['id']}/events").text.split("\n\n")
    assert json.loads(told[-2].removeprefix("data: "))["state"] == "done"
    assert reader("GET", f"/api/cases/{case['id']}").json()["num_runs"] == QUICK["num_runs"]
    given = reader("GET", f"/api/cases/{case['id']}/download/nifti").content
    assert given and other("GET", f"/api/cases/{case['id']}").status_code == 404
    with zipfile.ZipFile(io.BytesIO(given)) as archive:
        mean = nib.Nifti1Image.from_bytes(gzip.decompress(archive.read("mean.nii.gz")))
    assert b"SYNTHETIC" in mean.header["descrip"].item()


def test_a_request_of_the_door(ask, site, objects):
    """From the token to a result by the networks, of which the door says that it is there."""
    item, content, door = objects.slice(), io.BytesIO(), ask()
    asked = {key: item[key].value for key in IDENTITY} | {"point": POINT, "record": RECORD}
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("request.json", json.dumps(asked))
        for path in objects.series.iterdir():
            archive.write(path, path.name)
    token = {"Authorization": "Bearer a token of radiology"}
    sent = {"data": content.getvalue(), "headers": {**token, "Content-Type": "application/zip"}}
    assert door("POST", "/requests", **{**sent, "headers": {"Content-Type": "application/zip"}}).status_code == 401
    answer = door("POST", "/requests", **sent)
    assert answer.status_code == 202 and answer.json()["state"] == "waiting"
    where = f"/requests/{answer.json()['number']}"
    assert door("GET", where).status_code == 401
    assert site.run("worker", site.folder / "worker.toml", "--once").wait(540) == 0
    assert door("GET", where, headers=token).json()["state"] == "done", (site.folder / "log").read_text()[-2000:]
    (result,) = (site.folder / "spool" / "results").iterdir()
    assert json.loads((result / "out" / "nodule" / "result.json").read_text())["num_runs"] == QUICK["num_runs"]
    assert (result / "dicom" / "report.dcm").is_file()
    told = (site.folder / "log").read_text()
    assert "Doe" not in told and "4711" not in told and "Traceback" not in told


def test_headers_that_come_slowly_end_a_connection(nginx):
    context = ssl.create_default_context(cafile=str(nginx.folder / "tls" / "ca.crt"))
    with (
        socket.create_connection(("127.0.0.1", TLS_PORT)) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        begun = time.monotonic()
        connection.sendall(b"GET / HTTP/1.1\r\nX: ")
        connection.settimeout(1)
        while time.monotonic() - begun < 60:
            try:
                connection.sendall(b"x")
                if not connection.recv(1 << 16):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        assert 10 < time.monotonic() - begun < 45
