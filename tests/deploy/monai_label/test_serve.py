"""The addresses of MONAI Label's protocol, with an app that only notes what reaches it."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import sys
import tempfile
import types
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from deploy.monai_label import serve
from deploy.monai_label.serve import MODEL, make_server

testclient = pytest.importorskip("starlette.testclient", reason="no client for tests")


class App:
    """As MONAI Label's, without a network."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, []

    def info(self):
        return {"name": "NAMD", "models": {MODEL: {}}, "datastore": {"path": str(self.folder)}}

    def datastore(self):
        return self

    def list_images(self):
        return [path.name.removesuffix(".nii.gz") for path in self.folder.glob("*.nii.gz")]

    def add_image(self, name, file, _):
        (self.folder / f"{name}.nii.gz").write_bytes(Path(file).read_bytes())
        return name

    def infer(self, request):
        self.asked.append(request)
        file = self.folder / "result"
        file.write_bytes(b"an image")
        return {"file": str(file), "params": {"synthetic": "yes"}}


@pytest.fixture
def app(tmp_path):
    return App(tmp_path)


@pytest.fixture
def client(app):
    return testclient.TestClient(make_server(app, ["testserver"]), raise_server_exceptions=False)


@pytest.fixture(scope="module")
def scan():
    """A small NIfTI file's bytes."""
    image = nib.Nifti1Image(np.full((40, 40, 6), -800, np.int16), np.diag([-2.0, -2.0, 2.0, 1.0]))
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes())


def put(client, name, content, filename="ct.nii.gz"):
    return client.put("/datastore/", params={"image": name}, files={"file": (filename, io.BytesIO(content))})


def test_a_scan_is_put_in_and_asked_about(client, app, scan):
    assert put(client, "ct-1", scan).json() == {"image": "ct-1"}
    assert (app.folder / "ct-1.nii.gz").read_bytes() == scan
    assert client.get("/datastore/").json()["images"] == ["ct-1"]
    told = client.get("/info/").text
    assert "NAMD" in told and "ct-1" in told and str(app.folder) not in told
    params = {"point": [1, 2, 3], "record": {"age": 61}}
    given = client.post(f"/infer/{MODEL}", params={"image": "ct-1"}, data={"params": json.dumps(params)})
    assert app.asked == [{**params, "image": "ct-1", "model": MODEL}]
    assert given.headers["content-type"].startswith("multipart/form-data")
    assert b"an image" in given.content and b'{"synthetic": "yes"}' in given.content
    assert not (app.folder / "result").exists()


def test_what_clients_add_of_their_own_has_no_effect(client, app, scan):
    """As ``MONAILabelClient`` sends an image, and asks."""
    sent = {"files": {"file": ("/tmp/a b.nii.gz", scan)}, "data": {"params": '{"client_id": null}'}}
    assert client.put("/datastore/?image=ct", **sent).json() == {"image": "ct"}
    assert client.put("/datastore/?image=ct", **{**sent, "data": {"path": "/etc"}}).status_code == 400
    params = {"point": [1, 2, 3], "client_id": None, "result_extension": ".nrrd", "result_dtype": "uint8"}
    client.post(f"/infer/{MODEL}?image=ct", data={"params": json.dumps(params)})
    assert app.asked == [{"point": [1, 2, 3], "image": "ct", "model": MODEL}]


@pytest.mark.parametrize(("output", "content"), [("image", b"an image"), ("json", b'{"synthetic":"yes"}')])
def test_either_half_of_the_answer_is_given_alone(client, app, output, content):
    given = client.post(f"/infer/{MODEL}", params={"image": "ct-1", "output": output}, data={"params": "{}"})
    assert given.content == content and not (app.folder / "result").exists()


HOSTILE = {
    "another model": ("POST", "/infer/other", {}, 404),
    "a path as image to upload": ("PUT", "/datastore/?image=../../a", {"files": {"file": ("a.nii.gz", b"x")}}, 422),
    "another kind of file": ("PUT", "/datastore/?image=a", {"files": {"file": ("a.py", b"x")}}, 422),
    "no scan": ("PUT", "/datastore/?image=a", {"files": {"file": ("a.nii.gz", b"x")}}, 422),
    "a model among the parameters": ("POST", f"/infer/{MODEL}?image=a", {"data": {"params": '{"model": "a"}'}}, 422),
    "an image among the parameters": ("POST", f"/infer/{MODEL}?image=a", {"data": {"params": '{"image": "/"}'}}, 422),
    "parameters that are none": ("POST", f"/infer/{MODEL}?image=a", {"data": {"params": "[]"}}, 422),
    "a session": ("POST", f"/infer/{MODEL}?image=a&session_id=1", {}, 422),
    "an image twice": ("POST", f"/infer/{MODEL}?image=a&image=b", {}, 422),
    "no image": ("POST", f"/infer/{MODEL}", {}, 404),
    "a page of another server": ("GET", "/info/", {"headers": {"Origin": "https://evil.example"}}, 403),
    "another name of this server": ("GET", "/info/", {"headers": {"Host": "evil.example"}}, 400),
    "too large": ("POST", f"/infer/{MODEL}?image=a", {"data": {"params": "x" * 70000}}, 413),
    "training": ("POST", "/train/", {}, 404),
    "MONAI Label's proxy": ("GET", "/proxy/dicom/", {}, 404),
    "its log": ("GET", "/logs/", {}, 404),
    "removing": ("DELETE", "/datastore/", {}, 405),
}


@pytest.mark.parametrize(("method", "address", "sent", "status"), HOSTILE.values(), ids=HOSTILE)
def test_all_else_is_refused(client, app, method, address, sent, status):
    given = client.request(method, address, **sent)
    assert given.status_code == status and str(app.folder) not in given.text and "Traceback" not in given.text
    assert not app.asked and not list(app.folder.iterdir())


def test_only_so_many_wait(app, monkeypatch):
    monkeypatch.setattr(serve, "MOST_WAITING", 0)
    client = testclient.TestClient(make_server(app, ["testserver"]))
    assert client.post(f"/infer/{MODEL}?image=a", data={"params": "{}"}).status_code == 429


def test_what_is_temporary_goes_when_it_is_stopped(monkeypatch, tmp_path):
    """Also of an inference that runs then, and comes to no end."""
    made = []

    class Running:
        def run(self) -> None:
            made.append(Path(tempfile.mkdtemp()))
            (made[0] / "ehr.json").touch()
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("deploy.trust.check_trusted", lambda: None)
    monkeypatch.setitem(sys.modules, "deploy.monai_label.main", types.SimpleNamespace(App=lambda *_, **__: None))
    monkeypatch.setattr("deploy.serving.make_server", lambda *_: Running())
    monkeypatch.setattr(sys, "argv", ["serve", str(tmp_path / "studies")])
    with pytest.raises(SystemExit) as stopped:
        serve.main()
    assert stopped.value.code == 143 and made[0].is_relative_to(tmp_path) and not [*(tmp_path / "tmp").iterdir()]
