"""Errors while crops are cut: what one scan has done to it is recorded, what ends the run says so."""

import errno

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from data_prep import cohort, workers
from data_prep.errors import DataError
from data_prep.images import crops
from data_prep.nlst import idc
from data_prep.unforeseen import told
from scripts.errors import UserError
from tests.data_prep.helpers import rows, stack, write_series

COUNT = 24
X, Y, Z = stack(1)[0]


@pytest.fixture
def table(tmp_path):
    """As many scans, one nodule each."""
    lines = []
    for number in range(COUNT):
        hu = np.random.default_rng(number).integers(-1000, 300, (3, 24, 24))
        write_series(tmp_path / "scans" / f"{number:02}", hu, stack(3))
        at = {"x": X + 6, "y": Y + 8, "z": Z, "split": "training"}
        lines.append(rows(patient_id=f"P{number}", image=f"scans/{number:02}", **at))
    pd.DataFrame(lines).to_csv(tmp_path / "cohort.csv", index=False)
    return tmp_path / "cohort.csv"


def failing(monkeypatch, error, when):
    """Cutting meets an error at the images for which ``when`` holds."""
    cut = crops.cut

    def sometimes(image, *arguments):
        if when(int(image.name)):
            raise error
        return cut(image, *arguments)

    monkeypatch.setattr(crops, "cut", sometimes)


def test_an_unforeseen_error_is_recorded_and_the_exit_status_says_so(table, tmp_path, monkeypatch, call):
    failing(monkeypatch, RuntimeError("of P7"), lambda number: number % 5 == 2)
    code, shown = call("cohort", table, "--out", tmp_path / "out", "--size", 16)
    assert code == 1 and "5 met an unforeseen error" in shown.out
    failures = pd.read_csv(tmp_path / "out" / "failures.csv")
    assert len(failures) == 5 and set(failures["fault"]) == {"unforeseen error"}
    assert failures["reason"].str.contains("RuntimeError").all() and "P7" not in failures.to_csv()
    assert len(list((tmp_path / "out" / "crops").iterdir())) == COUNT - 5


@pytest.mark.parametrize("error", [RuntimeError("always"), PermissionError(errno.EACCES, "Permission denied", "scan")])
def test_the_same_error_twenty_times_running_ends_the_run(table, tmp_path, monkeypatch, call, error):
    failing(monkeypatch, error, lambda number: number >= 3)
    code, shown = call("cohort", table, "--out", tmp_path / "out", "--size", 16)
    assert code == 2 and "20 images in a row met the same error" in shown.err and not (tmp_path / "out").exists()


def test_faults_of_the_images_end_nothing(table, tmp_path, call):
    for folder in sorted((tmp_path / "scans").iterdir())[2:]:
        (folder / "007.dcm").unlink()
        (folder / "014.dcm").unlink()
        (folder / "000.dcm").write_bytes(b"")
    code, shown = call("cohort", table, "--out", tmp_path / "out", "--size", 16)
    assert code == 0 and "unreadable header 22" in shown.out


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_ends_the_run(table, tmp_path, monkeypatch, call, number):
    written = []

    def full(crop, target):
        if len(written) == 4:
            raise OSError(number, "No space left on device")
        written.append(target)
        return save(crop, target)

    save = crops.save
    monkeypatch.setattr(crops, "save", full)
    code, shown = call("cohort", table, "--out", tmp_path / "out", "--size", 16)
    assert code == 2 and "cannot be written (No space left on device)" in shown.err
    assert len(written) == 4 and not (tmp_path / "out").exists()
    monkeypatch.setattr(crops, "save", save)
    code, shown = call("cohort", table, "--out", tmp_path / "out", "--size", 16)
    assert code == 0 and "20 cut, 4 reused" in shown.out


def test_no_permission_on_the_output_ends_the_run(table, tmp_path, monkeypatch, call):
    def refused(crop, target):
        raise PermissionError(errno.EACCES, "Permission denied", str(target))

    monkeypatch.setattr(crops, "save", refused)
    code, shown = call("cohort", table, "--out", tmp_path / "out", "--size", 16)
    assert code == 2 and "cannot be written (Permission denied)" in shown.err


def test_a_full_disk_of_a_worker_ends_the_run(table, tmp_path, monkeypatch):
    """The worker tells, and raises nothing: Dask would try again."""

    def full(crop, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(crops, "save", full)
    monkeypatch.setattr(cohort, "spread", lambda work, tasks, *_: workers.spread(work, tasks, None))
    with pytest.raises(DataError, match="No space left on device"):
        cohort.build(table, tmp_path / "out", size=16)


def test_series_of_one_folder_and_loss_are_told(table, tmp_path, call):
    """The column series_uid names one of two; crops of pixels compressed with loss are counted."""
    folder, uids = tmp_path / "both", []
    for number, tags in enumerate(({}, {"LossyImageCompression": "01"})):

        def edit(_, item, tags=tags):
            uids.append(str(item.SeriesInstanceUID))
            for tag, value in tags.items():
                setattr(item, tag, value)

        hu = np.full((3, 24, 24), -500 + number)
        hu[:, 0, 0] = 40
        for path in write_series(tmp_path / f"s{number}", hu, stack(3), edit=edit):
            folder.mkdir(exist_ok=True)
            path.rename(folder / f"{number}{path.name}")
    at = {"image": "both", "x": X + 6, "y": Y + 8, "z": Z, "split": "training"}
    lines = [rows(patient_id=f"P{n}", series_uid=uid, **at) for n, uid in enumerate(sorted(set(uids), key=uids.index))]
    pd.DataFrame(lines).to_csv(tmp_path / "two.csv", index=False)
    code, shown = call("cohort", tmp_path / "two.csv", "--out", tmp_path / "out", "--size", 16, "--keep-ids")
    assert code == 0 and "Compressed with loss (LossyImageCompression): 1 of" in shown.out
    values = [nib.load(path).dataobj[8, 8, 0] for path in sorted((tmp_path / "out" / "crops").iterdir())]
    assert values == [-500, -499]


class Source:
    """Stands for idc-index's client, which fails."""

    def __init__(self, error):
        self.error, self.asked = error, 0

    def download_from_selection(self, **_):
        self.asked += 1
        raise self.error


@pytest.mark.parametrize(
    ("error", "asked", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 1, "cannot be written"),
        (ConnectionError("no route"), 20, "20 images in a row met the same error"),
    ],
)
def test_fetching_ends_where_no_series_can_come(tmp_path, error, asked, words):
    series, source = pd.DataFrame({"series_uid": map(str, range(30)), "slices": 3, "size_mb": 0.0}), Source(error)
    with pytest.raises(DataError, match=words):
        idc.fetch(series, tmp_path, source)
    assert source.asked == asked and not list(tmp_path.iterdir())


def test_what_a_user_can_mend_is_told_and_nothing_else():
    """Of the bundle's errors too, as those of a record."""
    assert told(DataError("row 3")) == "row 3" and told(UserError("age")) == "age"
    assert told(OSError(errno.ENOSPC, "No space left", "out")) == "out: cannot be written or read (No space left)."
    assert told(OSError(errno.ENOENT, "gone")) is None and told(KeyError("c")) is None
