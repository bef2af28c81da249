"""data_prep/README.md: every command in it runs, and its tables are what the code says."""

import re
import shlex
import shutil
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from data_prep import cohort, sections, workers
from data_prep.nlst import idc, study
from data_prep.phantom import cohort as phantoms
from data_prep.template import COLUMN_HEADINGS, FEATURE_HEADINGS, columns, features, markdown
from tests.data_prep.helpers import Bucket, stack, write_series
from tests.data_prep.nlst import routes

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "data_prep" / "README.md").read_text()
COMMANDS = re.findall(r"^ {4}(?=python|pip)(.*)$", README, re.MULTILINE)
BLOCKS = dict(re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL))

SCAN, PLACE = "1.2.3", (12.0, -20.0, 6.0)
ANNOTATIONS = {
    "lidc.csv": {"patient_id": 1, "series_instance_uid": SCAN, "nodule_id": 1, "diameter": 8},
    "annotations.csv": {"seriesuid": SCAN, "diameter_mm": 8},
    "luna25.csv": {"patientid": 1, "seriesinstanceuid": SCAN, "studydate": 19990102, "lesionid": 1, "label": 0},
    "dlcs.csv": {"patient-id": 1, "nodule_id": 1, "ct_nifti_file": SCAN, "malignant_lbl": 0},
    "ward.csv": {"MRN": 1, "Nodule": 1, "SeriesInstanceUID": SCAN, "Margin": "smooth", "ScanDate": "2020-02-03"},
}


@pytest.fixture
def place(phantom, trial, tmp_path, monkeypatch):
    """A folder with all that the commands name; simulating, downloading and Dask are replaced by what is at hand."""
    shutil.copy(trial / "tracking.parquet", tmp_path / "nodule_tracking.parquet")
    (tmp_path / "TABLES").symlink_to(phantom / "tables")
    (tmp_path / "SERIES").symlink_to(trial / "dicom")
    (tmp_path / "IMAGES").mkdir()
    write_series(tmp_path / "SCAN", np.full((3, 64, 64), -800), stack(3, origin=(-60.0, 0.0, 110.0)))
    (tmp_path / "IMAGES" / f"{SCAN}.nii.gz").touch()
    for name, row in ANNOTATIONS.items():
        axes = {"lidc.csv": "{}", "ward.csv": "Centre{}"}.get(name, "coord{}")
        centre = {axes.format(axis): value for axis, value in zip("xyz", PLACE, strict=True)}
        pd.DataFrame([{**row, **centre}]).to_csv(tmp_path / name, index=False)
    scans = pd.read_csv(phantom / "cohort.csv").head(6)
    scans = scans.assign(image=[str(phantom / image) for image in scans["image"]], malignancy_rating=3)
    scans.to_csv(tmp_path / "baselines.csv", index=False)
    routes.write(phantom, tmp_path, {"luna25": pd.read_csv(tmp_path / "luna25.csv")})
    (tmp_path / "ward.yaml").write_text(BLOCKS["yaml"])
    monkeypatch.setattr(phantoms, "make", lambda out, *_: shutil.copytree(phantom, out))
    monkeypatch.setattr(idc, "client", lambda: Bucket(trial / "dicom", lost=None))
    monkeypatch.setattr(study, "installed_index", lambda needed: trial / "index.parquet")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fill(table: Path, phantom: Path) -> None:
    """Fills the template in with the phantom's cohort."""
    rows = pd.read_csv(phantom / "cohort.csv")
    rows["image"] = [str(phantom / image) for image in rows["image"]]
    rows.reindex(columns=pd.read_csv(table).columns).to_csv(table, index=False)


@pytest.mark.documents
def test_every_command_runs(place, phantom, call, monkeypatch):
    """In the order of the README and from one folder, so that later commands find what earlier ones have made."""
    spread_over = []

    def in_this_process(work, tasks, lost, workers, scheduler):
        spread_over.append((workers, scheduler))
        return map(work, tasks)

    monkeypatch.setattr(cohort, "spread", in_this_process)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for command in COMMANDS:
        program, *arguments = shlex.split(command, comments=True)
        if program == "pip":
            (extra,) = re.findall(r"\[(\w+)\]", arguments[-1])
            assert arguments[:2] == ["install", "-e"] and extra in extras
            continue
        assert arguments[:2] == ["-m", "data_prep"]
        code, shown = call(*arguments[2:])
        assert code == 0, f"{command}\n{shown.out}{shown.err}"
        if "template" in command:
            fill(place / "my_cohort.csv", phantom)
    assert {(8, None), (1, "tcp://node:8786")} <= set(spread_over)
    for dataset in ("dataset", "nlst_dataset", "simulated"):
        assert (place / dataset / "datasheet.md").is_file()
    assert (place / "dataset.key.json").is_file() and not (place / "simulated.key.json").exists()
    converted = [pd.read_csv(path) for path in sorted(place.glob("*_cohort.csv")) if path.name != "my_cohort.csv"]
    assert len(converted) == 5 and all(len(table) == 1 and table["image"].notna().all() for table in converted)


def test_the_script_for_slurm_prints_the_address(monkeypatch):
    asked = {}

    class SLURMCluster:
        scheduler_address = "tcp://10.0.0.1:8786"

        def __init__(self, **options):
            asked.update(options)

        def scale(self, jobs):
            asked["jobs"] = jobs

    monkeypatch.setitem(sys.modules, "dask_jobqueue", SimpleNamespace(SLURMCluster=SLURMCluster))
    shown = []
    exec(BLOCKS["python"], {"input": shown.append})
    assert shown == [SLURMCluster.scheduler_address] and asked["jobs"] > 1


def test_its_tables_and_numbers_are_those_of_the_code():
    assert markdown(COLUMN_HEADINGS, columns()) in README, "see data_prep.template.columns"
    assert markdown(FEATURE_HEADINGS, features()) in README, "see data_prep.template.features"
    assert f"{workers.WORKER_MEMORY.replace('GiB', ' GiB')} of memory" in README
    shares = " : ".join(f"{share:.0%}".rstrip("%") for share in sections.SHARES.values())
    assert shares in README
