"""Requests are answered once, tried again where that can help, and buried with a reason that names nobody."""

import errno
import itertools
import json
import logging
import os
import re
import shutil
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
import requests

from deploy import dicom_case
from deploy.dicom_out import open_source, write_objects
from deploy.request import IDENTITY, RequestError
from deploy.worker import Config, Destination, Source, Worker, guard
from deploy.worker.deliver import AbsentError, DeliveryError, RefusedError
from scripts.errors import UserError
from tests.deploy.scans import POINT, RECORD, edit_slices


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


class Watch:
    """Stands for an Orthanc that holds the drawn chest; ``wrong`` is what it raises, one a call."""

    def __init__(self, series):
        self.series, self.wrong, self.fetched = series, [], []

    def look(self):
        if self.wrong:
            raise self.wrong.pop()

    def fetch(self, series_uid, study):
        self.fetched.append(series_uid)
        shutil.copytree(self.series, study / "series", dirs_exist_ok=True)


@pytest.fixture
def worker(tmp_path, objects, monkeypatch):
    """A worker that copies a result instead of generating it, and notes what was to be generated."""
    config = Config(
        tmp_path / "spool",
        {"archive": Destination("http://localhost")},
        {"main": Source("http://localhost")},
        secret=tmp_path / "secret",
        wait_s=0,
        least_free_mb=0,
    )
    made = Worker(config)
    made.archives, made.generated = {"archive": Archive()}, []
    made.watches = {"main": Watch(objects.series)}

    def predict(predictor, series, point, record, out, dicom, *, with_slice, **options):
        made.generated.append((point, record, options))
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


def test_what_was_asked_for_is_what_is_generated(worker, ask, objects):
    """The request's point, record, interval and series."""
    series = objects.slice().SeriesInstanceUID
    ask(interval_days=180, SeriesInstanceUID=series)
    worker.run(once=True)
    ((point, record, options),) = worker.generated
    assert (point, record) == (POINT, RECORD)
    assert options == {"interval_days": 180, "series_uid": series, "secret": worker.config.secret}


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


def test_a_corrected_patient_gets_no_objects_of_the_old_one(worker, ask):
    """The archive corrected the PatientID, and the same series is asked for again."""
    ask("first")
    worker.run(once=True)
    ask("second", PatientID="MRN-4712")
    edit_slices(worker.spool.root / "inbox" / "second", PatientID="MRN-4712")
    worker.run(once=True)
    *_, (folder, _, patient) = worker.archives["archive"].delivered
    assert {pydicom.dcmread(path).PatientID for path in folder.glob("*.dcm")} == {patient} == {"MRN-4712"}


def test_an_archive_that_fails_is_tried_again_with_the_same_bytes(worker, ask):
    ask()
    archive = worker.archives["archive"]
    archive.wrong = [DeliveryError("no"), ConnectionError("no")]
    for _ in range(3):
        worker.run(once=True)
    assert worker.spool.status()["done"] == 1 and len(worker.generated) == 1
    (folder,) = (worker.spool.root / "done").iterdir()
    assert json.loads((folder / "state.json").read_text())["attempts"] == 3


def test_each_request_that_it_begins_is_a_sign_of_life(worker, ask, monkeypatch):
    for name in ("first", "second"):
        ask(name)
    begun, beat = [], worker.spool.root / "beat"

    def answer(_):
        begun.append(worker.spool.silent_s() < 60 and beat.stat().st_mode & 0o077 == 0)
        os.utime(beat, (0, 0))

    monkeypatch.setattr(worker, "answer", answer)
    worker.run(once=True)
    assert begun == [True, True] and worker.spool.silent_s() > 1e6


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"models_dir": Path("nowhere")}, "nowhere: no unet_conditional.safetensors; expected finished weights"),
        ({"settings": {"solver": "dpm"}}, "solver is 'dpm', expected ddim or dpmpp"),
        ({"settings": {"num_runs": 0}}, "num_runs is 0, expected 1 or more"),
        ({"settings": {"num_steps": 1000}}, "num_steps is 1000, expected 1 to 999"),
        ({}, "secret: others may read it; .* Run: chmod 600"),
    ],
)
def test_a_worker_that_could_answer_nothing_does_not_begin(worker, changed, words):
    if not changed:
        worker.config.secret.chmod(0o644)
    with pytest.raises(UserError, match=words) as caught:
        Worker(replace(worker.config, **changed))
    assert "\n" not in str(caught.value)


def test_a_fault_of_the_site_is_told_in_words(worker, ask, caplog):
    ask()
    worker.config.secret.chmod(0o644)
    worker.run(once=True)
    (item,) = worker.spool.waiting()
    assert "others may read it" in item.state["reason"] and "others may read it" in caplog.text


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
    assert json.loads(state.read_text())["reason"] == "no: attempt 3 of 3"


def test_a_server_that_is_away_is_tried_for_a_day(worker, ask, monkeypatch):
    object.__setattr__(worker.config, "wait_s", 100.0)
    ask()
    errors = itertools.cycle([requests.ConnectionError, requests.ReadTimeout, AbsentError])

    def away(_):
        raise next(errors)("no")

    monkeypatch.setattr(worker, "_answer", away)
    now, waits = [1e6], []
    monkeypatch.setattr("time.time", lambda: now[0])
    while True:
        worker.run(once=True)
        if worker.spool.status()["dead"]:
            break
        (item,) = worker.spool.waiting()
        waits.append(item.state["not_before"] - now[0])
        assert [*worker.spool.waits()] == ["another attempt"]
        now[0] += waits[-1]
    assert waits[:6] == [100, 200, 400, 800, 1600, 1800] and {*waits[5:]} == {1800}
    assert 86400 <= sum(waits) < 86400 + 1800
    assert audit(worker)[0]["reason"].endswith(": tried again for a day")


def test_what_is_dead_is_delivered_after_all_to_where_it_was_to_go(worker, objects):
    item = objects.slice()
    content = {key: item[key].value for key in IDENTITY} | {"point": POINT, "record": RECORD}
    with worker.spool.staging() as folder:
        (folder / "request.json").write_text(json.dumps(content))
        fetch = {"source": "main", "series": "1.2.3"}
        worker.spool.put(folder, by="AE PLANNING", destination="archive", fetch=fetch)
    archive = worker.archives["archive"]
    archive.wrong = [DeliveryError("no")] * worker.config.attempts
    for _ in range(worker.config.attempts):
        worker.run(once=True)
    assert worker.spool.status()["dead"] == 1 and not archive.delivered
    worker.spool.retry(*worker.spool.dead().values())
    worker.run(once=True)
    assert worker.spool.status()["done"] == 1 and len(archive.delivered) == 1 and len(worker.generated) == 1
    assert [(line["event"], line["by"]) for line in audit(worker)] == [("dead", "AE PLANNING"), ("done", "AE PLANNING")]


def test_a_damaged_state_is_buried_and_others_are_answered(worker, ask):
    ask("Doe")
    worker.spool.take()
    (item,) = worker.spool.waiting()
    (item.folder / "state.json").write_text("")
    ask("Roe")
    worker.run(once=True)
    assert worker.spool.status() == {"inbox": 0, "work": 0, "results": 1, "done": 1, "dead": 1}
    (state,) = (worker.spool.root / "dead").glob("*/state.json")
    assert "was damaged" in json.loads(state.read_text())["reason"]


@pytest.mark.parametrize("held", [True, False])
def test_a_result_whose_list_is_damaged_is_made_again_where_it_is_not_delivered(worker, ask, held):
    ask("first")
    worker.run(once=True)
    (index,) = (worker.spool.root / "results").glob("*/dicom/objects.json")
    index.write_text("")
    if not held:
        worker.archives["archive"].held.clear()
    ask("second")
    worker.run(once=True)
    assert worker.spool.status()["done"] == 2 and len(worker.generated) == (1 if held else 2)


def test_a_study_that_cannot_be_removed_stops_nobody(worker, ask, monkeypatch, caplog):
    """When it was answered, when what is old is removed, and until its folders can be written."""
    caplog.set_level(logging.INFO)
    object.__setattr__(worker.config, "keep_days", 30)
    theirs, real = ["Doe^Jane"], shutil.rmtree

    def rmtree(path, ignore_errors=False, **options):
        if not any([*Path(path).rglob(name)] for name in theirs):
            real(path, ignore_errors, **options)
        elif not ignore_errors:
            raise PermissionError(errno.EACCES, "Permission denied", f"{path}/Doe^Jane")

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    for name in ("Doe", "Roe"):
        ask(name)
    (worker.spool.root / "inbox" / "Doe" / "Doe^Jane").mkdir()
    worker.run(once=True)
    assert worker.spool.status()["done"] == 2 and len([*(worker.spool.root / "done").glob("*/study")]) == 1
    now = time.time() + 31 * 86400
    monkeypatch.setattr("time.time", lambda: now)
    ask("third")
    worker.run(once=True)
    assert worker.spool.status() == {"inbox": 0, "work": 0, "results": 0, "done": 2, "dead": 0}
    assert "'done': 1" in caplog.text and "/study cannot be removed" in caplog.text and "Doe" not in caplog.text
    theirs.clear()
    worker.run(once=True)
    assert not [*(worker.spool.root / "done").glob("*/study")]


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


def test_what_a_killed_worker_left_is_removed_and_no_fault_of_a_study(worker, ask, objects, monkeypatch):
    """A series that was half brought, and half a result, also of a case that is not asked for again."""
    ask()
    worker.spool.take()
    (item,) = worker.spool.waiting()
    monkeypatch.setattr(guard, "MOST_FILES", len([*item.study.iterdir()]))
    for place in (item.study / ".partial-99-9-series", worker.spool.result("ab") / ".partial-99-9-out"):
        shutil.copytree(objects.series, place)
    (worker.spool.result("ab") / ".old-99-9-dicom").mkdir()
    worker.run(once=True)
    assert worker.spool.status()["done"] == 1 and not [*worker.spool.result("ab").iterdir()]
    assert not [*worker.spool.root.rglob(".partial-*")]


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


def audit(worker):
    return [json.loads(line) for line in (worker.spool.root / "audit.jsonl").read_text().splitlines()]


def test_who_asked_for_what_is_kept(worker, ask, monkeypatch):
    """On disk, too."""
    ask("Doe")
    ask("Roe", PatientID="MRN-4712")
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    worker.run(once=True)
    lines = audit(worker)
    assert synced.count(str(worker.spool.root / "audit.jsonl")) == 2
    assert {line["event"] for line in lines} == {"done", "dead"} and len({line["id"] for line in lines}) == 2
    assert all(line["by"].startswith("user ") and line["time"] for line in lines)
    (done,) = (line for line in lines if line["event"] == "done")
    assert len(done["key"]) == 64 and done["destination"] == "archive"
    assert worker.outcomes == {"done": 1, "dead": 1, "later": 0}


@pytest.mark.parametrize("named", [True, False])
def test_a_series_is_brought_from_where_it_is(worker, objects, named):
    """By the number that a report's evidence has, or that the request itself names."""
    item = objects.slice()
    content = {key: item[key].value for key in IDENTITY} | {"point": POINT, "record": RECORD}
    if named:
        content["SeriesInstanceUID"] = item.SeriesInstanceUID
    with worker.spool.staging() as folder:
        (folder / "request.json").write_text(json.dumps(content))
        fetch = {"source": "main"} | ({} if named else {"series": "1.2.3"})
        worker.spool.put(folder, by="AE PLANNING", destination="archive", fetch=fetch)
    worker.run(once=True)
    assert worker.spool.status()["done"] == 1 and len(worker.archives["archive"].delivered) == 1
    assert worker.watches["main"].fetched == [item.SeriesInstanceUID if named else "1.2.3"]
    assert audit(worker)[0]["by"] == "AE PLANNING"


@pytest.mark.parametrize(("source", "words"), [("main", "SeriesInstanceUID missing"), ("other", "source is none")])
def test_a_series_that_nobody_can_bring(worker, objects, source, words):
    item = objects.slice()
    content = {key: item[key].value for key in IDENTITY} | {"point": POINT, "record": RECORD}
    with worker.spool.staging() as folder:
        (folder / "request.json").write_text(json.dumps(content))
        worker.spool.put(folder, by="door a", fetch={"source": source})
    worker.run(once=True)
    assert words in audit(worker)[0]["reason"]


def test_what_waited_too_long_for_its_series_is_buried_with_the_reason(worker, monkeypatch):
    with worker.spool.staging() as folder:
        (folder / "request.json").write_text("{}")
        worker.spool.put(folder, by="AE PLANNING", awaits="its series to be whole", fetch={"source": "main"})
    worker.run(once=True)
    assert worker.spool.status()["work"] == 1 and not worker.watches["main"].fetched
    now = time.time() + 8 * 86400
    monkeypatch.setattr("time.time", lambda: now)
    worker.run(once=True)
    (line,) = audit(worker)
    assert line["event"] == "dead" and line["by"] == "AE PLANNING" and worker.spool.status()["dead"] == 1
    assert line["reason"] == "request: waited 7 days for its series to be whole."


def test_an_upload_is_unpacked_and_answered(worker, objects):
    item = objects.slice()
    content = {key: item[key].value for key in IDENTITY} | {"point": POINT, "record": RECORD, "destination": "archive"}
    with worker.spool.staging() as folder:
        with zipfile.ZipFile(folder / guard.UPLOAD, "w") as archive:
            archive.writestr("Doe/request.json", json.dumps(content))
            for path in objects.series.iterdir():
                archive.write(path, f"Doe/{path.name}")
        worker.spool.put(folder, by="door radiology")
    worker.run(once=True)
    assert worker.spool.status()["done"] == 1 and len(worker.archives["archive"].delivered) == 1


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DeliveryError("the source answered 401"), "source main: the source answered 401"),
        (KeyError("Doe^Jane"), "source main: KeyError"),
        (TypeError("Doe^Jane"), "source main: TypeError"),
    ],
)
def test_a_source_that_does_not_answer_keeps_nobody_waiting(worker, ask, caplog, error, words):
    ask()
    worker.watches["main"].wrong = [error]
    metrics = worker.spool.root / "nowhere" / "namd.prom"
    object.__setattr__(worker.config, "metrics", metrics)
    worker.run(once=True)
    assert f"metrics: {metrics}: No such file" in caplog.text
    assert worker.spool.status()["done"] == 1 and words in caplog.text and "Doe" not in caplog.text


def test_when_a_source_last_answered_is_told(worker):
    metrics = worker.spool.root / "namd.prom"
    object.__setattr__(worker.config, "metrics", metrics)
    worker.watches["main"].wrong = [DeliveryError("no")]

    def told():
        worker.run(once=True)
        (line,) = re.findall(r'last_answer_timestamp_seconds\{source="main"\} (.*)', metrics.read_text())
        return float(line)

    assert [told(), told()] == [0, 0] and told() == pytest.approx(time.time(), abs=60)


# --- a full disk, and what is kept


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device", "/srv/Doe^Jane")


def test_too_little_room_stops_the_work_before_it_begins(worker, ask, caplog):
    ask()
    object.__setattr__(worker.config, "least_free_mb", 1e8)
    worker.run(once=True)
    assert worker.spool.status() == {"inbox": 1, "work": 0, "results": 0, "done": 0, "dead": 0}
    assert "no room" in caplog.text and not worker.generated
    object.__setattr__(worker.config, "least_free_mb", 0)
    worker.run(once=True)
    assert worker.spool.status()["done"] == 1


def test_no_write_that_fails_on_a_full_disk_loses_or_counts_anything(worker, ask, monkeypatch, caplog):
    """Each write of the worker's own in turn: the first, the second, .. of what is renamed or appended."""
    real, left = os.replace, [0]

    def replace(*paths, **options):
        left[0] -= 1
        return full() if left[0] == 0 else real(*paths, **options)

    monkeypatch.setattr(Path, "replace", lambda path, target: replace(path, target))
    object.__setattr__(worker.config, "attempts", 1)
    for number in range(1, 30):
        ask(f"Doe {number}")
        left[0] = number
        worker.run(once=True)
        if left[0] > 0:
            break
        worker.run(once=True)
        assert worker.spool.status() == {"inbox": 0, "work": 0, "results": 1, "done": number, "dead": 0}
    assert number > 2 and "no room" in caplog.text and "Doe" not in caplog.text
    assert len({line["id"] for line in audit(worker)}) == number


@pytest.mark.parametrize("told", ["plainly", "wrapped", "not at all"])
def test_a_result_that_has_no_room_is_made_again(worker, ask, monkeypatch, told):
    ask()
    real, usage = dicom_case.predict, shutil.disk_usage(worker.spool.root)

    def predict(*_, **__):
        if told == "not at all":
            monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
            raise ValueError("unknown file extension")
        try:
            full()
        except OSError as error:
            if told == "wrapped":
                raise RuntimeError("MONAI's") from error
            raise

    object.__setattr__(worker.config, "attempts", 1)
    object.__setattr__(worker.config, "least_free_mb", 0.1)
    monkeypatch.setattr(dicom_case, "predict", predict)
    worker.run(once=True)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert worker.spool.status()["work"] == 1 and worker.spool.status()["dead"] == 0
    monkeypatch.setattr(dicom_case, "predict", real)
    worker.run(once=True)
    assert worker.spool.status()["done"] == 1


def test_a_line_of_the_audit_is_whole_or_not_there(worker, ask, monkeypatch):
    ask("first")
    worker.run(once=True)
    before = (worker.spool.root / "audit.jsonl").read_bytes()
    ask("second")
    opened = Path.open

    class Half:
        """A file on a disk that becomes full in the middle of a line."""

        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data):
            return self.file.write(data[: len(data) // 2])

    def half(path, mode="r", *rest, **options):
        file = opened(path, mode, *rest, **options)
        return Half(file) if path.name == "audit.jsonl" and "a" in mode else file

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", half)
        worker.run(once=True)
    assert (worker.spool.root / "audit.jsonl").read_bytes() == before and worker.spool.status()["work"] == 1
    worker.run(once=True)
    assert len(audit(worker)) == 2 and worker.spool.status()["done"] == 2


def test_what_is_old_is_removed_once_a_day(worker, ask, monkeypatch):
    object.__setattr__(worker.config, "keep_days", 30)
    object.__setattr__(worker.config, "metrics", worker.spool.root / "namd.prom")
    ask()
    worker.run(once=True)
    now = time.time() + 31 * 86400
    monkeypatch.setattr("time.time", lambda: now)
    worker.run(once=True)
    assert worker.spool.status() == {"inbox": 0, "work": 0, "results": 0, "done": 0, "dead": 0}
    assert 'namd_requests{state="done"} 0' in worker.config.metrics.read_text() and len(audit(worker)) == 1
    purged = []
    monkeypatch.setattr(worker.spool, "purge", purged.append)
    worker.run(once=True)
    assert purged == []
