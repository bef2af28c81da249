"""Requests are answered once, tried again where that can help, and buried with a reason that names nobody."""

import json
import logging
import shutil
from pathlib import Path

import pydicom
import pytest

from deploy import dicom_case
from deploy.dicom_out import open_source, write_objects
from deploy.request import IDENTITY, RequestError
from deploy.worker import Config, Destination, Worker, guard
from deploy.worker.deliver import DeliveryError, RefusedError
from scripts.errors import UserError
from tests.deploy.scans import POINT, RECORD


class Archive:
    """Stands for an archive; ``wrong`` is what it raises, one a delivery."""

    def __init__(self):
        self.held, self.wrong, self.delivered = set(), [], []

    def lacks(self, uids):
        return [uid for uid in uids if uid not in self.held]

    def deliver(self, folder, content, study_uid, patient_id):
        if self.wrong:
            raise self.wrong.pop()
        self.delivered.append((folder, study_uid, patient_id))
        self.held |= {entry["sop_instance_uid"] for entry in content["objects"].values()}


@pytest.fixture
def worker(tmp_path, objects, monkeypatch):
    """A worker that copies a result instead of generating it, and counts how often."""
    config = Config(
        tmp_path / "spool", {"archive": Destination("http://localhost")}, secret=tmp_path / "secret", wait_s=0
    )
    made = Worker(config)
    made.archives, made.generated = {"archive": Archive()}, []

    def predict(predictor, series, point, record, out, dicom, *, with_slice, **options):
        made.generated.append(options)
        shutil.copytree(objects.case_dir.parent, out, dirs_exist_ok=True)
        asked = dicom_case.ask(predictor, series, point, record, **options)
        write_objects(open_source(series, point), out / "nodule", dicom, asked.key, with_slice)

    def guarded(study, request):  # in this process
        if told := guard.refused(study, request):
            raise RequestError(told)

    monkeypatch.setattr(dicom_case, "predict", predict)
    monkeypatch.setattr("deploy.worker.work.guarded", guarded)
    return made


@pytest.fixture
def ask(worker, objects):
    """Puts a request with the drawn chest into the inbox."""

    def put(name="Doe", **changed):
        study = worker.spool.root / "inbox" / name
        shutil.copytree(objects.series, study)
        item = objects.slice()
        content = {key: item[key].value for key in IDENTITY} | {"point": POINT, "record": RECORD}
        (study / "request.json").write_text(json.dumps(content | {"destination": "archive"} | changed))

    return put


def test_a_request_is_answered_and_delivered(worker, ask, objects):
    ask()
    worker.run(once=True)
    assert worker.spool.status() == {"inbox": 0, "work": 0, "results": 1, "done": 1, "dead": 0}
    ((folder, study, patient),) = worker.archives["archive"].delivered
    item = pydicom.dcmread(folder / "report.dcm")
    assert (item.StudyInstanceUID, item.PatientID) == (study, patient) == (objects.slice().StudyInstanceUID, "MRN-4711")
    assert not (folder / "slice.dcm").exists()


def test_the_same_request_is_generated_once(worker, ask):
    """Asked for twice, and a third time when the result was removed here but is at the archive."""
    for name in ("first", "second"):
        ask(name)
        worker.run(once=True)
    assert len(worker.generated) == 1 and worker.spool.status()["done"] == 2
    shutil.rmtree(next((worker.spool.root / "results").iterdir()))
    ask("third")
    worker.run(once=True)
    assert len(worker.generated) == 1 and worker.spool.status()["done"] == 3


def test_an_archive_that_fails_is_tried_again_with_the_same_bytes(worker, ask):
    ask()
    archive = worker.archives["archive"]
    archive.wrong = [DeliveryError("no"), ConnectionError("no")]
    for _ in range(3):
        worker.run(once=True)
    assert worker.spool.status()["done"] == 1 and len(worker.generated) == 1
    (folder,) = (worker.spool.root / "done").iterdir()
    assert json.loads((folder / "state.json").read_text())["attempts"] == 3


def test_waits_grow_and_end_with_the_dead(worker, ask, monkeypatch):
    object.__setattr__(worker.config, "attempts", 3)
    object.__setattr__(worker.config, "wait_s", 100.0)
    ask()
    worker.archives["archive"].wrong = [DeliveryError("no")] * 9
    now, waits = [1e6], []
    monkeypatch.setattr("time.time", lambda: now[0])
    for _ in range(3):
        worker.run(once=True)
        if worker.spool.status()["dead"]:
            break
        (path,) = (worker.spool.root / "work").glob("*/state.json")
        waits.append(json.loads(path.read_text())["not_before"] - now[0])
        worker.run(once=True)  # too early
        now[0] += waits[-1]
    assert waits == [100, 200] and worker.spool.status()["dead"] == 1
    (state,) = (worker.spool.root / "dead").glob("*/state.json")
    assert json.loads(state.read_text())["reason"] == "DeliveryError: attempt 3 of 3"


def test_what_ends_the_process_each_time_is_buried(worker, ask, monkeypatch):
    ask()

    def killed(*_):
        raise SystemExit

    monkeypatch.setattr(worker, "_answer", killed)
    for _ in range(worker.config.attempts):
        with pytest.raises(SystemExit):
            worker.run(once=True)
    worker.run(once=True)
    assert worker.spool.status()["dead"] == 1 and worker.spool.status()["work"] == 0


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"PatientID": "MRN-4712"}, "PatientID is not that of the series"),
        ({"StudyInstanceUID": "1.2.3"}, "StudyInstanceUID is not"),
        ({"FrameOfReferenceUID": "1.2.3"}, "FrameOfReferenceUID is not"),
        ({"destination": "http://elsewhere"}, "none of the site's 1"),
        ({"point": [0, 0, 999]}, "nodule outside the scan"),
        ({"record": {"age": 630}}, "record"),
        ({"SeriesInstanceUID": "1.2.3"}, "another series"),
    ],
)
def test_what_is_wrong_is_buried_at_once_with_a_reason(worker, ask, caplog, changed, words):
    caplog.set_level(logging.INFO)
    ask(**changed)
    worker.run(once=True)
    (dead,) = (worker.spool.root / "dead").iterdir()
    reason = json.loads((dead / "state.json").read_text())["reason"]
    assert words in reason and not worker.generated and (dead / "study").is_dir()
    told = reason + caplog.text + (worker.spool.root / "audit.jsonl").read_text()
    assert not any(value in told for value in ("Doe", "MRN-", "elsewhere", str(worker.spool.root)))


def test_a_delivery_that_would_do_harm_is_buried(worker, ask):
    ask()
    worker.archives["archive"].wrong = [RefusedError("delivery: another PatientID")]
    worker.run(once=True)
    assert worker.spool.status()["dead"] == 1


def test_without_a_destination_the_result_stays(worker, ask):
    ask(destination=None)
    (path,) = (worker.spool.root / "inbox").glob("*/request.json")
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if v is not None}))
    worker.run(once=True)
    assert worker.spool.status()["done"] == 1 and not worker.archives["archive"].delivered
    assert list((worker.spool.root / "results").glob("*/dicom/report.dcm"))


def test_one_worker_a_spool(worker):
    from filelock import FileLock

    with FileLock(worker.config.spool / ".lock"), pytest.raises(UserError, match="another worker"):
        Worker(worker.config).run(once=True)
    assert Path(worker.config.spool).is_dir()
