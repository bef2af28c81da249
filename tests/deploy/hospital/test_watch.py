"""Reports and scans that come into Orthanc from modalities: what is taken, once, whatever came first."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pydicom
import pytest
from pydicom.uid import generate_uid

from deploy.dicom_out.write import quiet
from deploy.request import check_identity
from deploy.request_sr import make_request_sr, read_request_sr
from deploy.worker import Source, Spool, Watch
from deploy.worker.guard import guarded
from tests.deploy.scans import POINT, RECORD

pytestmark = pytest.mark.hospital


@pytest.fixture
def source(orthanc, tmp_path):
    known = {"user": "namd", "password_file": orthanc.folder / "password"}
    return Source(orthanc.root, **known, destination="archive", ae_titles=("PLANNING",))


@pytest.fixture
def watch(source, tmp_path):
    """One that has seen all that other tests left."""
    watch = Watch("orthanc", source, Spool(tmp_path / "spool"))
    watch.look()
    for item in watch.spool.waiting():
        watch.spool.finish(item)
    return watch


@pytest.fixture
def study(objects, tmp_path):
    """The drawn chest as a new study, and a report that asks for its nodule."""
    (tmp_path / "scan").mkdir()
    series, frame, uid = generate_uid(), generate_uid(), generate_uid()
    for path in sorted(objects.series.iterdir()):
        item = pydicom.dcmread(path)
        item.StudyInstanceUID, item.SeriesInstanceUID, item.FrameOfReferenceUID = uid, series, frame
        item.SOPInstanceUID = item.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        item.SeriesDescription = "Chest 1.0 lung"
        item.save_as(tmp_path / "scan" / path.name)
    with quiet():
        make_request_sr(item, POINT, RECORD, 180).save_as(tmp_path / "report.dcm")
    return sorted((tmp_path / "scan").iterdir()), tmp_path / "report.dcm"


def looks(watch, wanted, seconds=20.0):
    """Looks until so many requests are due, or for longer than Orthanc takes to call a series stable."""
    end = time.monotonic() + (seconds if wanted else 6.0)
    while time.monotonic() < end and (len([*watch.spool.due()]) < wanted or not wanted):
        watch.look()
        time.sleep(0.2)
    assert len(due := [*watch.spool.due()]) == wanted
    return due


@pytest.mark.parametrize("first", ["scan", "report"])
def test_a_report_is_taken_with_the_series_that_it_means(orthanc, watch, study, first):
    scan, report = study
    sent = [("SCANNER", scan), ("PLANNING", [report])]
    for sender, paths in sent if first == "scan" else sent[::-1]:
        assert orthanc.send(sender, *paths)
        time.sleep(2.5)
        watch.look()
        alone = (sender, first) == ("PLANNING", "report")
        assert ("a series that it names and the rule of its source allows" in watch.spool.waits()) == alone
    (item,) = looks(watch, 1)
    told = item.state
    assert (told["by"], told["destination"], told["fetch"]["source"]) == ("AE PLANNING", "archive", "orthanc")
    watch.fetch(told["fetch"]["series"], item.study)
    assert len([*(item.study / "series").iterdir()]) == 3
    request = read_request_sr(item.request)
    assert request.point == POINT and request.record == RECORD and request.interval_days == 180
    check_identity(request, item.study)
    guarded(item.study, item.request)


def test_nothing_is_taken_twice(orthanc, watch, source, study):
    """Not by a worker that starts anew, not with its number lost, and not when the request was answered."""
    scan, report = study
    assert orthanc.send("SCANNER", *scan) and orthanc.send("PLANNING", report)
    (item,) = looks(watch, 1)
    Watch("orthanc", source, watch.spool).look()
    (watch.spool.root / "changes-orthanc.json").unlink()
    Watch("orthanc", source, watch.spool).look()
    assert len(watch.spool.waiting()) == 1
    watch.spool.finish(item)
    (watch.spool.root / "changes-orthanc.json").write_text(json.dumps({"last": 10**9, "waiting": []}))
    watch.look()
    assert watch.spool.waiting() == []


def test_what_the_rule_does_not_name_is_not_taken(orthanc, watch, source, study):
    scan, report = study
    assert orthanc.send("SCANNER", *scan) and orthanc.send("OTHER", report)
    looks(watch, 0)
    rules = {"a": {"description": "soft"}, "b": {"modality": "MR"}, "c": {"description": "lung$"}}
    for name, rule in rules.items():
        Watch(name, replace(source, ae_titles=(), **rule), watch.spool).look()
        assert ("AE OTHER" in [item.state["by"] for item in watch.spool.due()]) == (name == "c")


def test_what_was_not_stable_when_orthanc_ended_is_taken(orthanc, watch, study):
    scan, report = study
    assert orthanc.send("SCANNER", *scan) and orthanc.send("PLANNING", report)
    watch.look()
    orthanc.stop()
    orthanc.start()
    looks(watch, 1)
