"""From many series to a dataset: nothing lost, nothing twice, nobody named."""

import csv
import json
import sys
from pathlib import Path

import nibabel as nib
import pytest

from data_prep.check import examine
from data_prep.cohort import build

sys.path.insert(0, str(Path(__file__).parent))  # the benchmark uses it too
import thousand  # noqa: E402

SIZE = 16


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
    """A thousand series, and the dataset."""
    folder = tmp_path_factory.mktemp("thousand")
    table, expected = thousand.write(folder, size=SIZE)
    summary = build(table, folder / "out", size=SIZE)
    return folder, expected, summary


def test_every_good_one_is_taken_and_every_bad_one_named(made):
    folder, expected, summary = made
    taken, failures, datalist = whose(folder / "out")
    assert len(expected) == 334 and set(expected.values()) == {fault for fault, _ in thousand.KINDS.values()}
    assert len(failures) == len(set(failures)) and dict(failures) == expected
    good = {f"scans/{number:04d}" for number in range(1000)} - set(expected)
    assert len(taken) == len(set(taken)) and set(taken) == good
    assert summary.written == 666 and summary.entries["unpaired"] == 666 and summary.faults.total() == 334
    for image, case in zip(taken, datalist["unpaired"], strict=True):
        crop = nib.load(folder / "out" / case["image"])
        assert crop.dataobj[SIZE // 2, SIZE // 2, 0] == int(image[-4:])
    assert examine(folder / "out").findings == [f"{split}: no cases." for split in ("training", "validation", "test")]
