"""From many series to a dataset: nothing lost, nothing twice, nobody named."""

import csv
import json

import nibabel as nib
import pytest

from data_prep.check import examine
from data_prep.cohort import build
from data_prep.errors import DataError
from data_prep.workers import spread
from tests.data_prep import thousand

SIZE, COUNT = 16, 210
"""Pixels along a side; series, of which a third are broken, each kind five times."""


def whose(out):
    """What the key tells of a dataset: images that were taken, and the fault of those that were not."""
    cases = json.loads(out.with_name(f"{out.name}.key.json").read_text())["cases"]
    datalist = json.loads((out / "datalist.json").read_text())
    taken = [cases[case["case_id"]]["image"] for case in datalist["unpaired"]]
    with open(out / "failures.csv") as file:
        failures = [(cases[row["case"]]["image"], row["fault"]) for row in csv.DictReader(file)]
    return taken, failures, datalist


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The series, and the dataset."""
    folder = tmp_path_factory.mktemp("series")
    table, expected = thousand.write(folder, COUNT, size=SIZE)
    summary = build(table, folder / "out", size=SIZE)
    return folder, expected, summary


def test_every_good_one_is_taken_and_every_bad_one_named(made):
    folder, expected, summary = made
    taken, failures, datalist = whose(folder / "out")
    assert len(expected) == 70 and set(expected.values()) == {fault for fault, _ in thousand.KINDS.values()}
    assert len(failures) == len(set(failures)) and dict(failures) == expected
    good = {f"scans/{number:04d}" for number in range(COUNT)} - set(expected)
    assert len(taken) == len(set(taken)) and set(taken) == good
    assert summary.written == summary.entries["unpaired"] == 140 and summary.faults.total() == 70
    for image, case in zip(taken, datalist["unpaired"], strict=True):
        crop = nib.load(folder / "out" / case["image"])
        assert crop.dataobj[SIZE // 2, SIZE // 2, 0] == int(image[-4:])
    assert examine(folder / "out").findings == [
        f"section {split}: no cases." for split in ("training", "validation", "test")
    ]


def test_a_second_run_takes_all_from_the_first(made):
    folder, _, _ = made
    before = contents(folder / "out")
    again = build(folder / "cohort.csv", folder / "out", size=SIZE)
    assert again.written == 0 and again.reused == 140 and again.faults.total() == 70
    assert contents(folder / "out") == before


def contents(out):
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


@pytest.mark.processes
def test_workers_make_the_same_dataset(made, tmp_path):
    """On this machine and, by its address, on a cluster."""
    distributed = pytest.importorskip("distributed", reason="no Dask (pip install distributed)")
    table, _ = thousand.write(tmp_path, count=60, size=SIZE)
    build(table, tmp_path / "alone", size=SIZE, name="x")
    options = {"size": SIZE, "name": "x", "key": tmp_path / "alone.key.json"}
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        build(table, tmp_path / "dask", scheduler=cluster.scheduler_address, **options)
    assert contents(tmp_path / "dask") == contents(tmp_path / "alone")
    build(table, tmp_path / "two", workers=2, **options)
    assert contents(tmp_path / "two") == contents(tmp_path / "alone")


@pytest.mark.processes
def test_a_lost_worker_costs_its_scan_only():
    """Such as one that takes more memory than a worker has."""
    pytest.importorskip("distributed", reason="no Dask (pip install distributed)")

    def work(task):
        if task == 3:
            import os

            os._exit(9)
        return task

    done = spread(work, range(8), lambda task, error: f"{task}: {type(error).__name__}", workers=2)
    assert set(done) == {0, 1, 2, 4, 5, 6, 7, "3: KilledWorker"}


def test_no_scheduler_is_named(made):
    pytest.importorskip("distributed", reason="no Dask (pip install distributed)")
    with pytest.raises(DataError, match="no scheduler there"):
        list(spread(str, [1], lambda *_: "", scheduler="nonsense://1"))
