"""A spool on a disk that is full, for real: nothing is lost, half-written or counted, at whatever byte it ends."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess

import pytest

from deploy import dicom_case
from deploy.dicom_out import OBJECTS, open_source, write_objects
from deploy.request import IDENTITY
from deploy.worker import Config, Worker
from scripts.files import whole_folder
from tests.deploy.scans import POINT, RECORD

pytestmark = pytest.mark.hospital

SIZE_MB = 24


@pytest.fixture
def disk(tmp_path):
    """A small one of its own (in the mount namespace of ``make test-deploy``)."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=700", "none", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def worker(disk, tmp_path, objects, monkeypatch):
    """One that copies a result instead of generating it, and tries once."""

    def predict(predictor, series, point, record, out, dicom, *, with_slice, **options):
        with whole_folder(out) as folder:
            for path in (path for path in objects.case_dir.parent.rglob("*") if path.is_file()):
                (folder / path.relative_to(objects.case_dir.parent)).parent.mkdir(exist_ok=True)
                shutil.copyfile(path, folder / path.relative_to(objects.case_dir.parent))
        asked = dicom_case.ask(predictor, series, point, record, **options)
        write_objects(open_source(series, point), out / "nodule", dicom, asked.key, with_slice)

    monkeypatch.setattr(dicom_case, "predict", predict)
    config = Config(disk / "spool", secret=tmp_path / "secret", attempts=1, least_free_mb=0, poll_s=0)
    return Worker(config)


def test_nothing_is_lost_however_little_room_is_left(worker, disk, objects, caplog):
    caplog.set_level(logging.INFO)
    item = objects.slice()
    content = {key: item[key].value for key in IDENTITY} | {"point": POINT, "record": RECORD}
    spool, failed = worker.spool, 0
    for number, left_kb in enumerate((0, 4, 8, 12, 40, 300, 700, 2000)):
        study = spool.root / "inbox" / f"Doe {number}"
        shutil.copytree(objects.series, study)
        (study / "request.json").write_text(json.dumps({**content, "interval_days": 100 + number}))
        fill(disk, left_kb)
        worker.run(once=True)
        failed += spool.status()["done"] == number
        assert spool.status()["dead"] == 0, (spool.root / "audit.jsonl").read_text()
        (disk / "filler").unlink()
        worker.run(once=True)
        assert spool.status() == {"inbox": 0, "work": 0, "results": 1, "done": number + 1, "dead": 0}
        (result,) = (spool.root / "results").iterdir()
        assert {path.stem for path in (result / "dicom").glob("*.dcm")} == {*OBJECTS}
        assert not [*spool.root.rglob(".partial-*")]
        shutil.rmtree(result)
    lines = [json.loads(line) for line in (spool.root / "audit.jsonl").read_text().splitlines()]
    assert len({line["id"] for line in lines if line["event"] == "done"}) == 8
    assert failed > 3 and "no room" in caplog.text and "Doe" not in caplog.text


def fill(disk, left_kb):
    """Leaves so much room."""
    size = shutil.disk_usage(disk).free - left_kb * 1024
    with (disk / "filler").open("wb") as file:
        file.write(bytes(size))
