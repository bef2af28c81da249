"""From the inbox to Orthanc: once, whatever is killed on the way; and the original stays readable."""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import generate_uid

from deploy.dicom_out import OBJECTS
from deploy.request import IDENTITY
from deploy.worker import Archive, Spool, read_config
from tests.deploy.hospital.pacs import ROOT
from tests.deploy.scans import POINT, RECORD

pytestmark = pytest.mark.hospital

STUDIES, KILLS, RESTARTS = int(os.environ.get("NAMD_STUDIES", "12")), 5, 2

SLICES = range(-5, 5)
"""Of a study: where they lie, counted from the middle of the three that are drawn; the outer ones are repeated."""


@pytest.fixture
def site(orthanc, tmp_path, objects):
    """A worker's configuration, and how to put a study with another patient's or study's number into its inbox."""
    (tmp_path / "worker.toml").write_text(
        f'spool = "{tmp_path}/spool"\nsecret = "{tmp_path}/secret"\nwait_s = 0.5\npoll_s = 0.1\nattempts = 60\n'
        f'[destinations.archive]\nurl = "{orthanc.url}"\nuser = "namd"\npassword_file = "{orthanc.folder}/password"\n'
    )
    config = read_config(tmp_path / "worker.toml")
    spool = Spool(config.spool)

    def ask(number: int, patient: str, study: str) -> list[Path]:
        folder, series, frame = tmp_path / "new" / str(number), generate_uid(), generate_uid()
        folder.mkdir(parents=True)
        drawn = sorted(map(pydicom.dcmread, objects.series.iterdir()), key=lambda each: each.ImagePositionPatient[2])
        for place in SLICES:
            item = copy.deepcopy(drawn[max(-1, min(place, 1)) + 1])
            item.ImagePositionPatient[2] = drawn[1].ImagePositionPatient[2] + 2 * place
            item.InstanceNumber = place + len(SLICES)
            item.PatientID, item.StudyInstanceUID, item.SeriesInstanceUID = patient, study, series
            item.FrameOfReferenceUID, item.SOPInstanceUID = frame, generate_uid()
            item.file_meta.MediaStorageSOPInstanceUID = item.SOPInstanceUID
            item.save_as(folder / f"{item.InstanceNumber}.dcm")
        content = {key: item[key].value for key in IDENTITY} | {"point": POINT, "record": RECORD}
        (folder / "request.json").write_text(json.dumps(content | {"destination": "archive"}))
        kept = shutil.copytree(folder, tmp_path / "kept" / str(number))
        os.rename(folder, spool.root / "inbox" / str(number))
        return sorted(kept.glob("*.dcm"))

    return config, spool, ask


@pytest.fixture
def worker(site, tmp_path, objects):
    """Starts one, as a process of its own."""
    (tmp_path / "made").mkdir()
    started = []

    def start() -> subprocess.Popen:
        script = ROOT / "tests" / "deploy" / "hospital" / "copying.py"
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'bundle'}"}
        arguments = [tmp_path / "worker.toml", objects.case_dir, tmp_path / "made"]
        with (tmp_path / "log").open("ab") as log:
            command = [sys.executable, str(script), *map(str, arguments)]
            started.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def until(finished, seconds: float = 300.0) -> None:
    """Waits."""
    end = time.monotonic() + seconds
    while not finished():
        assert time.monotonic() < end, "nothing more happens"
        time.sleep(0.1)


def held(orthanc, study: str) -> list[str]:
    """SOP classes of what the archive shows of a study."""
    return [each["00080016"]["Value"][0] for each in orthanc.get(f"studies/{study}/instances", includefield="00080016")]


def test_nobody_gets_in_without_a_password(orthanc):
    orthanc.session.auth, known = None, orthanc.session.auth
    try:
        assert orthanc.session.get(f"{orthanc.url}/studies").status_code == 401
    finally:
        orthanc.session.auth = known


def test_a_result_arrives_beside_its_scan_and_another_patients_is_refused(orthanc, site, worker):
    config, spool, ask = site
    archive, study = Archive(config.destinations["archive"]), generate_uid()
    scan = ask(1, "MRN-4711", study)
    assert len(archive._store(scan)) == len(SLICES)
    worker()
    until(lambda: spool.status()["done"] == 1)
    assert len(held(orthanc, study)) == len(SLICES) + len(OBJECTS)
    before = orthanc.count()
    other = ask(2, "MRN-4712", study)
    until(lambda: spool.status()["dead"] == 1)
    (state,) = (spool.root / "dead").glob("*/state.json")
    assert "another PatientID" in state.read_text() and "471" not in json.loads(state.read_text())["reason"]
    assert orthanc.count() == before and len(other) == len(SLICES)
    series = pydicom.dcmread(scan[0]).SeriesInstanceUID
    answer = orthanc.session.get(f"{orthanc.url}/studies/{study}/series/{series}")  # WADO-RS
    assert answer.status_code == 200 and answer.content.count(b"DICM") == len(SLICES)


@pytest.mark.timeout(600 + 60 * STUDIES)
def test_kills_and_restarts_lose_and_repeat_nothing(orthanc, site, worker, tmp_path):
    """Every study's result is there once, and was made once, though worker and archive go down at random."""
    _, spool, ask = site
    before, studies = orthanc.count(), [generate_uid() for _ in range(STUDIES)]
    for number, study in enumerate(studies):
        ask(number, f"MRN-{number}", study)

    def later() -> int:
        return (tmp_path / "log").read_text().count(" later: ")

    draw, process, begun = random.Random(STUDIES), worker(), time.monotonic()
    events = ["kill"] * KILLS + ["restart"] * RESTARTS
    draw.shuffle(events)
    for number, event in enumerate(events):
        due = (number + draw.random()) * STUDIES / len(events)
        until(lambda due=due: spool.status()["done"] >= int(due), 1200)
        time.sleep(draw.random() * 0.5)
        if event == "restart":
            before_stop = later()
            orthanc.stop()
            if spool.status()["done"] < STUDIES - 1:  # until a delivery has met nobody
                until(lambda before=before_stop: later() > before)
            orthanc.start()
        else:
            process.kill()
            process.wait()
            process = worker()
    until(lambda: spool.status()["done"] + spool.status()["dead"] == STUDIES, 3600)
    print(f"{STUDIES} studies in {time.monotonic() - begun:.0f} s")
    assert spool.status() == {"inbox": 0, "work": 0, "results": STUDIES, "done": STUDIES, "dead": 0}
    assert [len(held(orthanc, study)) for study in studies] == [len(OBJECTS)] * STUDIES
    assert orthanc.count() == before + STUDIES * len(OBJECTS)
    made = {path.name for path in (tmp_path / "made").iterdir()}
    assert made <= {path.name for path in (spool.root / "results").iterdir()}
    told = (tmp_path / "log").read_text() + (spool.root / "audit.jsonl").read_text()
    assert "MRN-" not in told and "Doe" not in told
