"""A page whose networks are a stand-in, and browsers that ask it."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from deploy.case import Predictor
from deploy.page import example, reading
from deploy.page.app import make_app
from deploy.page.refusal import Refusal
from deploy.page.settings import Settings
from tests.deploy.results import RESULT, write_result
from tests.deploy.scans import POINT, RECORD, write_chest

ADDRESS = "http://127.0.0.1:8044"


@pytest.fixture(scope="session")
def chest(tmp_path_factory) -> Path:
    """The drawn chest, its files named as a scanner's."""
    return write_chest(tmp_path_factory.mktemp("chest") / "series")


@pytest.fixture(scope="session")
def made(chest, tmp_path_factory) -> Path:
    """What a prediction of it leaves."""
    out = tmp_path_factory.mktemp("made") / "out"
    folder = write_result(out, chest, POINT)
    for name in ("mean", "std"):
        shutil.copy(folder / "samples.nii.gz", folder / f"{name}.nii.gz")
    return out


class StandIn(Predictor):
    """In place of networks: copies a result, and waits where it is told to."""

    def __init__(self, made: Path) -> None:
        super().__init__(num_runs=3)
        self.made, self.asked, self.go = made, [], threading.Event()
        self.go.set()
        self.error: Exception | None = None

    def predict(self, series, point, record, out, *, interval_days, progress):
        self.asked.append((series, point, dict(record), interval_days))
        progress(0.25)
        while not self.go.wait(0.02):
            progress(0.5)
        if self.error:
            raise self.error
        shutil.copytree(self.made, out)
        result = {**RESULT, "interval_days": interval_days}
        (out / "nodule" / "result.json").write_text(json.dumps(result))
        return result


@pytest.fixture
def predictor(made) -> StandIn:
    return StandIn(made)


@pytest.fixture
def quick(monkeypatch, chest):
    """Reads scans in this process, and has the drawn chest as the example."""

    def read(folder: Path):
        if (told := reading.read(folder))["refused"]:
            raise Refusal(422, told["refused"])
        return told

    def make(folder: Path):
        shutil.copytree(chest, folder / reading.GIVEN)
        return {**reading.read(folder), "suggested": {"point": list(POINT), "record": RECORD}}

    monkeypatch.setattr(reading, "guarded", read)
    monkeypatch.setattr(example, "make", make)


@pytest.fixture
def browser(quick, predictor, tmp_path, monkeypatch):
    """Opens pages: each call is a browser of its own that has opened the page; the first call's settings hold."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    opened: list[TestClient] = []

    def open_page(**settings) -> TestClient:
        if not opened:
            app = make_app(Settings(**settings), predictor)
            opened.append(TestClient(app, base_url=ADDRESS, raise_server_exceptions=False).__enter__())
            client = opened[0]
        else:
            client = TestClient(opened[0].app, base_url=ADDRESS, raise_server_exceptions=False)
            client.portal = opened[0].portal  # one event loop, as one server has
        client.get("/")
        return client

    yield open_page
    predictor.go.set()
    if opened:
        opened[0].__exit__(None, None, None)


def asked(loaded: dict, **changed) -> dict:
    """A case of a scan that was loaded."""
    return {"scan": loaded["id"], "point": list(POINT), "record": RECORD, **changed}


def events(client: TestClient, case: dict, what: str = "") -> list[dict]:
    """All that is told of a job until it ends."""
    with client.stream("GET", f"/api/cases/{case['id']}/events{what}") as stream:
        return [json.loads(line.removeprefix("data: ")) for line in stream.iter_lines() if line.startswith("data")]


def finished(client: TestClient, **changed) -> dict:
    """A case of the example, as it was asked for, when it is done."""
    scan = client.post("/api/scans/example").json()
    case = client.post("/api/cases", json=asked(scan, **changed)).json()
    assert events(client, case)[-1]["state"] == "done"
    return case
