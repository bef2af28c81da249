"""The real server, in its own environment: a simulated CT goes in, a marked follow-up at its place comes out."""

from __future__ import annotations

import gzip
import json
import os
import random
import socket
import string
import subprocess
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import requests

from deploy.self_test import POINT, RECORD, draw_series

pytestmark = pytest.mark.hospital

ROOT = Path(__file__).resolve().parents[3]

PYTHON = ROOT / ".venv-label" / "bin" / "python"

HOSTILE = int(os.environ.get("NAMD_HOSTILE", "300"))


class Server:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        command = [PYTHON, "-m", "deploy.monai_label.serve", folder / "studies", "--port", str(self.port)]
        self.log = (folder / "log").open("wb")
        (folder / "tmp").mkdir()
        where = {"cwd": ROOT, "env": {**os.environ, "TMPDIR": str(folder / "tmp")}}
        self.process = subprocess.Popen([str(each) for each in command], stdout=self.log, stderr=self.log, **where)
        self.session = requests.Session()
        self.session.trust_env = False

    def ask(self, method: str, path: str, **sent) -> requests.Response:
        return self.session.request(method, self.url + path, timeout=120, **sent)

    def infer(self, output: str = "image", **params) -> requests.Response:
        asked = {"point": POINT, "record": RECORD, "num_runs": 2, **params}
        query = {"image": "ct", "output": output}
        return self.ask("POST", "/infer/namd", params=query, data={"params": json.dumps(asked)})

    def image(self, **params) -> nib.Nifti1Image:
        given = self.infer(**params)
        assert given.status_code == 200, given.text
        return nib.Nifti1Image.from_bytes(gzip.decompress(given.content))

    def wait(self) -> None:
        for _ in range(300):
            if self.process.poll() is not None:
                pytest.fail((self.folder / "log").read_text()[-2000:])
            try:
                if self.ask("GET", "/info/").ok:
                    return
            except requests.ConnectionError:
                time.sleep(0.3)
        pytest.fail("the server does not answer")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if not PYTHON.exists():
        pytest.fail("no .venv-label: run make test-deploy")
    folder = tmp_path_factory.mktemp("label")
    (folder / "studies").mkdir()
    itk = pytest.importorskip("SimpleITK", reason="no SimpleITK")
    draw_series(folder / "series")
    reader = itk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder / "series")))
    itk.WriteImage(reader.Execute(), str(folder / "ct.nii.gz"))
    server = Server(folder)
    try:
        server.wait()
        with (folder / "ct.nii.gz").open("rb") as file:
            given = server.ask("PUT", "/datastore/?image=ct", files={"file": ("ct.nii.gz", file)})
        assert given.status_code == 200 and given.json() == {"image": "ct"}, given.text
        yield server
    finally:
        server.process.terminate()
        server.process.wait(timeout=30)
        server.log.close()


@pytest.fixture(scope="module")
def follow_up(server):
    return server.image()


def test_the_server_says_what_it_is(server):
    told = server.ask("GET", "/info/").json()
    assert "research use only" in told["description"] and set(told["models"]) == {"namd"} and not told["trainers"]
    assert str(server.folder) not in json.dumps(told)


def test_the_crop_is_at_its_place_and_bears_the_mark(follow_up):
    assert b"SYNTHETIC" in follow_up.header["descrip"].item()
    middle = follow_up.affine @ [follow_up.shape[0] // 2, follow_up.shape[1] // 2, 0, 1]
    assert np.allclose(middle[:3] * [-1, -1, 1], POINT, atol=0.6)
    hu = np.asarray(follow_up.dataobj)
    assert hu[32, 32, 0] > hu[32, 2, 0] + 200 and hu.shape == (64, 64, 1)


def test_the_same_is_answered_to_the_same_question(server, follow_up):
    assert np.array_equal(server.image().dataobj, follow_up.dataobj)


def test_record_and_interval_have_an_effect(server, follow_up):
    other = server.image(record={"age": 80, "gender": 1, "sct_long_dia": 30, "sct_margins": 1, "diagemph": 1})
    assert np.abs(np.asarray(other.dataobj) - np.asarray(follow_up.dataobj)).max() > 5
    result = server.infer("json", interval_days=730, num_runs=1).json()
    assert result["interval_days"] == 730 and result["num_runs"] == 1 and result["synthetic"]


def test_clients_of_monai_label_get_both_parts(server):
    given = server.infer("all")
    assert given.headers["content-type"].startswith("multipart/form-data") and b"SYNTHETIC" in given.content


CLIENT = """
import json, sys
from monailabel.client import MONAILabelClient
url, place, params = sys.argv[1:]
client = MONAILabelClient(url, place)
assert not client.auth_enabled() and "namd" in client.info()["models"]
assert client.upload_image(place + "/ct.nii.gz", "sent") == {"image": "sent"}
file, result = client.infer("namd", "sent", json.loads(params))
print(json.dumps([file, result["synthetic"]]))
"""


def test_monai_labels_own_client_uploads_and_asks(server, follow_up):
    params = json.dumps({"point": POINT, "record": RECORD, "num_runs": 2})
    command = [str(PYTHON), "-c", CLIENT, server.url, str(server.folder), params]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr[-2000:]
    file, synthetic = json.loads(told.stdout.splitlines()[-1])
    assert synthetic and np.array_equal(nib.load(file).dataobj, follow_up.dataobj)


def test_what_is_wrong_is_said(server):
    for params, words in (
        ({"record": {"age": 630}}, "age: 630"),
        ({"record": {"weight": 70}}, "weight: no EHR feature"),
        ({"point": [0, 0, 999]}, "nodule outside the scan"),
        ({"models_dir": "/"}, "unknown parameters"),
    ):
        given = server.infer(**params)
        assert given.status_code == 422 and words in given.json()["detail"]


def test_hostile_requests_are_refused_and_leave_nothing(server):
    """Each a 4xx without a path or a trace; nothing that is written stays, and the server goes on answering."""

    def left() -> dict[Path, int | None]:  # a folder's time changes with a temporary file that is gone
        paths = (path for path in server.folder.rglob("*") if path.name != "log")
        return {path: path.stat().st_mtime_ns if path.is_file() else None for path in paths}

    draw, before = random.Random(0), left()
    for number in range(HOSTILE):
        method, path, sent = hostile(draw)
        given = server.ask(method, path, **sent)
        assert 400 <= given.status_code < 500, (number, method, path, given.status_code)
        assert str(server.folder) not in given.text and "Traceback" not in given.text and "root:" not in given.text
    assert left() == before
    assert server.infer("json", num_runs=1).status_code == 200
    log = (server.folder / "log").read_text()
    assert "Traceback" not in log and "sct_long_dia" not in log and "passwd" not in log


NAMES = ["/etc/passwd", "../../etc/passwd", "..%2f..%2fx", "ct/../ct", "\0", "x" * 5000, "file:///etc/passwd", "", "."]
VALUES = [None, True, -1, 1e300, "", "x" * 9000, [], {}, [[[]]], "/etc/passwd", "\0", "$import os", "nan", 10**400]
KEYS = ["image", "model", "models_dir", "config_file", "device", "session", "label", "result_path", "save_label"]


def hostile(draw: random.Random):
    """A request that cannot be answered with 2xx: method, address, what is sent."""
    good = {"point": list(POINT), "record": dict(RECORD), "num_runs": 1}
    kind = draw.randrange(8)
    if kind == 0:
        good[draw.choice(KEYS)] = draw.choice([*NAMES, *VALUES])
    elif kind == 1:
        good["record"][draw.choice(["age", "gender", "Doe^Jane", "__proto__"])] = draw.choice(VALUES[2:5] + VALUES[5:])
        good["record"]["Doe^Jane"] = 1
    elif kind == 2:
        good["point"] = [draw.choice([v for v in VALUES if v != -1]) for _ in range(draw.randrange(5))]
    elif kind == 3:
        return (
            "POST",
            f"/infer/namd?image={requests.utils.quote(draw.choice(NAMES))}",
            {"data": {"params": json.dumps(good)}},
        )
    elif kind == 4:
        text = "".join(draw.choice(string.printable) for _ in range(draw.randrange(200)))
        return "POST", "/infer/namd?image=ct", {"data": {"params": draw.choice(["[" * 9000, "{" + text, text + "}"])}}
    elif kind == 5:
        path = draw.choice(
            ["/proxy/dicom/x", "/logs/", "/train/", "/batch/infer/namd", "/session/", "/ohif/", "/wsi/x"]
        )
        return draw.choice(["GET", "POST", "PUT", "DELETE"]), path, {}
    elif kind == 6:
        content = draw.choice([b"", b"\x1f\x8b", os.urandom(2000), gzip.compress(b"\0" * 500_000)])
        name = draw.choice(["a.nii.gz", "a.py", "../a.nii.gz", "a.nii.gz\0.py"])
        address = f"/datastore/?image={requests.utils.quote(draw.choice([*NAMES, 'new']))}"
        return "PUT", address, {"files": {"file": (name, content)}}
    else:
        header = draw.choice([{"Host": "evil.example"}, {"Origin": "http://evil.example"}])
        return draw.choice(["GET", "POST"]), draw.choice(["/info/", "/infer/namd?image=ct"]), {"headers": header}
    return "POST", "/infer/namd?image=ct", {"data": {"params": json.dumps(good)}}
