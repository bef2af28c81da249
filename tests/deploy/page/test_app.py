"""What a browser is given, from a scan to a result, and what it is not."""

import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.page import app as module
from deploy.page import reading
from deploy.page.sessions import Store
from tests.deploy.page.conftest import asked, events, finished
from tests.deploy.page.test_jobs import until
from tests.deploy.scans import POINT, RECORD


def test_from_a_folder_of_dicom_to_a_result(browser, predictor, chest):
    client = browser()
    files = [("files", (f"series/{path.name}", path.read_bytes())) for path in sorted(chest.iterdir())]
    loaded = client.post("/api/scans", files=files)
    scan = loaded.json()
    assert loaded.status_code == 201 and scan["dicom"] and not scan["simulated"] and scan["shape"] == [256, 256, 3]
    answer = client.post("/api/cases", json=asked(scan, interval_days=182.0))
    case = answer.json()
    assert answer.status_code == 202 and "Follow-up after 6 months." in case["report"]
    told = events(client, case)
    assert told[-1] == {"state": "done", "place": 0, "fraction": 1.0, "reason": ""}
    ((series, point, record, days),) = predictor.asked
    assert series.is_dir() and point == POINT and record == RECORD and days == 182
    shown = client.get(f"/api/cases/{case['id']}").json()
    assert shown["methods"][0]["calibrated"] == "42 %" and shown["methods"][0]["best"] and shown["num_runs"] == 3
    assert "Malignant" in shown["headline"] and "Research use only" in shown["warning"] and shown["flags"]
    planes = np.frombuffer(client.get(f"/api/cases/{case['id']}/images").content, "<i2").reshape(6, 64, 64)
    assert np.array_equal(planes[5] - planes[3], np.full((64, 64), 12))  # the third run less the first


def test_slices_are_those_of_the_scan(browser):
    client = browser()
    scan = client.post("/api/scans/example").json()
    plane = np.frombuffer(client.get(f"/api/scans/{scan['id']}/slices/1").content, "<i2").reshape(256, 256)
    column, row = (round((POINT[axis] - scan["origin"][axis]) / scan["spacing"][axis]) for axis in (0, 1))
    assert plane[row, column] == 30 and plane[row, column + 8] == -850  # the nodule, and lung beside it
    assert client.get(f"/api/scans/{scan['id']}/slices/3").status_code == 404


def test_sessions_do_not_see_each_other(browser):
    first, second = browser(), browser()
    case = finished(first)
    assert first.cookies["namd_session"] != second.cookies["namd_session"]
    for path in ("", "/images", "/events", "/download/pdf"):
        assert first.get(f"/api/cases/{case['id']}{path}").status_code == 200
        assert second.get(f"/api/cases/{case['id']}{path}").status_code == 404
    assert second.get(f"/api/scans/{case['scan']}/slices/0").status_code == 404
    assert second.delete(f"/api/cases/{case['id']}").status_code == 404
    assert second.post("/api/cases", json=asked({"id": case["scan"]})).status_code == 404
    assert second.get("/api/session").json() == {"scans": [], "cases": []}
    assert [each["id"] for each in first.get("/api/session").json()["cases"]] == [case["id"]]


def test_who_waits_sees_the_place(browser, predictor):
    predictor.go.clear()
    clients = [browser() for _ in range(3)]
    cases = [
        client.post("/api/cases", json=asked(client.post("/api/scans/example").json())).json() for client in clients
    ]
    places = [client.get("/api/session").json()["cases"][0]["place"] for client in clients]
    assert places == [0, 1, 2] and cases[2]["place"] == 2
    clients[1].delete(f"/api/cases/{cases[1]['id']}")  # who takes a case back lets the others move up
    assert clients[2].get("/api/session").json()["cases"][0]["place"] == 1
    predictor.go.set()
    assert events(clients[2], cases[2])[-1]["state"] == "done"
    assert len(predictor.asked) == 2


def test_what_goes_wrong_is_told_without_its_words(browser, predictor, tmp_path):
    client = browser()
    predictor.error = RuntimeError(f"{tmp_path} Doe^Jane")
    scan = client.post("/api/scans/example").json()
    told = events(client, client.post("/api/cases", json=asked(scan)).json())[-1]
    assert told["state"] == "failed" and "nobody foresaw" in told["reason"] and "Doe" not in str(told)


def test_sizes_at_several_times(browser, predictor):
    client = browser()
    case = finished(client)
    assert client.get(f"/api/cases/{case['id']}/events?what=course").status_code == 404
    assert client.post(f"/api/cases/{case['id']}/course").status_code == 202
    fractions = [each["fraction"] for each in events(client, case, "?what=course")]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert [days for *_, days in predictor.asked] == [365, 182, 730]
    course = client.get(f"/api/cases/{case['id']}").json()["course"]
    assert [time["interval_days"] for time in course["times"]] == [182, 365, 730]
    assert client.post(f"/api/cases/{case['id']}/course").status_code == 409


def test_downloads(browser):
    client = browser(secret=None)
    case = finished(client)
    nifti = client.get(f"/api/cases/{case['id']}/download/nifti")
    assert "attachment" in nifti.headers["content-disposition"]
    assert "samples.nii.gz" in zipfile.ZipFile(io.BytesIO(nifti.content)).namelist()
    assert client.get(f"/api/cases/{case['id']}/download/pdf").content.startswith(b"%PDF")
    assert client.get(f"/api/cases/{case['id']}/download/model").status_code == 404


def test_all_is_deleted_when_asked(browser, tmp_path):
    client = browser()
    case = finished(client)
    assert list(tmp_path.rglob("samples.nii.gz"))
    assert client.delete("/api/session").status_code == 200
    assert client.get(f"/api/cases/{case['id']}").status_code == 404
    assert not list(tmp_path.rglob("samples.nii.gz"))


@pytest.mark.parametrize("moment", ["it waits", "it comes", "it is read"])
def test_an_upload_whose_session_is_forgotten_meanwhile_is_refused_and_not_kept(
    browser, chest, tmp_path, monkeypatch, moment
):
    client, known = browser(), []
    new_folder, receive, guarded = Store.new_folder, module.receive, reading.guarded

    def forget(now):
        if now == moment:
            store, session = known[0]
            store.remove(session.token)

    def waits(*told):
        known.append(told)
        forget("it waits")
        return new_folder(*told)

    async def comes(*told):
        forget("it comes")
        return await receive(*told)

    def reads(folder):
        told = guarded(folder)
        forget("it is read")
        folder.mkdir(parents=True, exist_ok=True)  # as what is in the middle of writing does
        return told

    monkeypatch.setattr(Store, "new_folder", waits)
    monkeypatch.setattr(module, "receive", comes)
    monkeypatch.setattr(reading, "guarded", reads)
    files = [("files", (path.name, path.read_bytes())) for path in sorted(chest.iterdir())]
    answer = client.post("/api/scans", files=files)
    assert answer.status_code == 404 and "was deleted" in answer.json()["fault"]
    (folder,) = tmp_path.glob("*/sessions")
    assert not [*folder.iterdir()]


def test_a_case_whose_session_is_forgotten_meanwhile_is_refused_and_not_made(browser, predictor, tmp_path, monkeypatch):
    client = browser()
    predictor.go.clear()
    scan, stores, add, told = client.post("/api/scans/example").json(), [], module.Work.add, Store.get
    monkeypatch.setattr(Store, "get", lambda store, token: (stores.append(store), told(store, token))[1])

    def late(work, session, case):
        stores[-1].remove(session.token)
        add(work, session, case)

    monkeypatch.setattr(module.Work, "add", late)
    assert client.post("/api/cases", json=asked(scan)).status_code == 404
    predictor.go.set()
    (folder,) = tmp_path.glob("*/sessions")
    until(lambda: not [*folder.iterdir()])


def test_a_download_of_a_case_that_is_removed_meanwhile_is_refused_and_not_kept(browser, tmp_path, monkeypatch):
    client = browser()
    case = finished(client)

    def download(found, *_):
        assert client.delete("/api/session").status_code == 200
        (found.folder / "dicom").mkdir(parents=True)
        return b"objects"

    monkeypatch.setattr(module.downloads, "download", download)
    answer = client.get(f"/api/cases/{case['id']}/download/dicom")
    assert answer.status_code == 404 and "was removed" in answer.json()["fault"]
    (folder,) = tmp_path.glob("*/sessions")
    assert not [*folder.iterdir()]


def test_nothing_is_left_at_the_end(quick, predictor, tmp_path, monkeypatch):
    from starlette.testclient import TestClient

    from deploy.page.app import make_app
    from deploy.page.settings import Settings

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with TestClient(make_app(Settings(), predictor), base_url="http://127.0.0.1:8044") as client:
        client.get("/")
        finished(client)
        (folder,) = tmp_path.iterdir()
        assert folder.stat().st_mode & 0o077 == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"record": {"age": 630}}, "age"),
        ({"record": {"Doe^Jane": 1}}, "1 unknown features"),
        ({"record": [1]}, "record"),
        ({"point": [0, 0]}, "point"),
        ({"point": [0, 0, "x"]}, "point"),
        ({"interval_days": 0}, "interval_days"),
        ({"Doe^Jane": "/tmp"}, "request: Extra inputs"),
        ({"num_runs": 1000}, "Extra inputs"),
        ({"config_file": "evil.yaml", "models_dir": "/tmp"}, "Extra inputs"),
        ({"scan": "../../etc"}, "No such scan"),
    ],
)
def test_a_case_is_of_a_scan_a_point_a_record_and_an_interval_alone(browser, predictor, changed, words):
    client = browser()
    answer = client.post("/api/cases", json=asked(client.post("/api/scans/example").json(), **changed))
    assert answer.status_code in (404, 422) and words in answer.json()["fault"] and not predictor.asked
    assert "Doe" not in answer.text


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30), st.lists(st.integers(), max_size=4)
)
PARTS = st.sampled_from(
    [
        "api",
        "cases",
        "scans",
        "example",
        "slices",
        "0",
        "-1",
        "..",
        "%2e%2e",
        "etc",
        "passwd",
        "static",
        "login",
        "%00",
        "x" * 300,
    ]
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["GET", "POST", "DELETE", "PUT", "PATCH", "OPTIONS", "HEAD", "TRACE"]),
    parts=st.lists(PARTS, max_size=6),
    body=st.one_of(
        st.binary(max_size=200),
        st.dictionaries(st.sampled_from(["scan", "point", "record", "interval_days", "models_dir", "x"]), JUNK).map(
            lambda content: json.dumps(content).encode()
        ),
    ),
    headers=st.dictionaries(
        st.sampled_from(["Origin", "Content-Type", "Range", "X-Remote-User", "Sec-Fetch-Site"]),
        st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), max_size=40),
        max_size=3,
    ),
)
def test_hostile_requests_are_refused(hostile, method, parts, body, headers):
    client, root, before = hostile
    answer = client.request(method, "/" + "/".join(parts), content=body, headers=headers)
    harmless = answer.request.url.path in ("/", "/login", "/api/scans/example") and answer.status_code in (200, 201)
    assert 400 <= answer.status_code < 500 or harmless, answer.text
    assert str(root) not in answer.text and "Traceback" not in answer.text
    assert {path.name for path in root.iterdir()} == before


@pytest.fixture
def hostile(browser, tmp_path):
    client = browser()
    return client, tmp_path, {path.name for path in tmp_path.iterdir()}
