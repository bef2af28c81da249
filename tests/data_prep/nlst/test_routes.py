"""The routes from open data to pairs: on a phantom's scans (simulated), on the real tables, and on a real scan."""

import json
import zipfile

import numpy as np
import pandas as pd
import pydicom
import pytest

from data_prep.contract import read_cohort
from data_prep.images import crops
from data_prep.nlst import study, tables
from tests.data_prep.nlst import routes

ROUTES = ("luna25", "stmixer", "tracking")


@pytest.fixture(scope="module")
def paths(phantom, trial, tmp_path_factory):
    """The tables of all routes for the phantom's scans, which are simulated."""
    return {**routes.write(phantom, tmp_path_factory.mktemp("routes")), "tracking": trial / "tracking.parquet"}


def made(phantom, paths, route, out, **changed):
    found = (
        {"canc": tables.find(phantom / "tables")["canc"]} if route != "tracking" else tables.find(phantom / "tables")
    )
    beside = [path for name, path in paths.items() if name != route]
    return study.make(out, study.Options(**{"coordinates": paths[route], "tables": found, "beside": beside, **changed}))


@pytest.mark.parametrize("route", ROUTES)
def test_a_dry_run_says_what_a_route_gives(phantom, trial, paths, tmp_path, route, capsys):
    summary = made(phantom, paths, route, tmp_path, index=trial / "index.parquet")
    positions = pd.read_csv(phantom / "tables" / "positions.csv")
    flow = json.loads((tmp_path / "flow.json").read_text())
    last = flow["stages"][-1]
    own = read_cohort(phantom / "cohort.csv").drop_duplicates(["patient_id", "nodule_id"])
    assert last["findings"] == len(positions) and last["participants"] == positions["pid"].nunique()
    assert last["malignant"] == own["malignant"].sum() and last["pairs"] > 0 and last["malignant_pairs"] > 0
    assert flow["series"] == positions["image"].nunique() and summary.size_mb == 1.5 * flow["series"]
    assert {agreement["matched"] for agreement in flow["agreement"] if agreement["comparable"]} == {len(positions)}
    assert all(agreement["links"] == agreement["same"] for agreement in flow["agreement"])
    assert flow["features_known"]["age"] == len(positions) and (tmp_path / "flow.svg").is_file()


def test_the_routes_give_the_same_crops(phantom, trial, paths, tmp_path):
    """Each from its own table to the cohort, in mm from what each has: mm, or voxels and headers."""
    cut = {}
    for route in ROUTES:
        made(phantom, paths, route, tmp_path / route, dicom=trial / "dicom")
        cohort = read_cohort(tmp_path / route / "cohort.csv")
        cohort = cohort.assign(nodule=cohort["nodule_id"].str.split("_").str[-1])
        for row in cohort.itertuples():
            crop = crops.cut(tmp_path / route / row.image, (row.x, row.y, row.z), 32)
            cut.setdefault((row.patient_id, row.nodule, row.study_yr), []).append(crop)
    assert len(cut) == len(pd.read_csv(phantom / "tables" / "positions.csv"))
    for first, *others in cut.values():
        assert len(others) == 2
        for other in others:
            assert np.array_equal(first.affine, other.affine) and np.array_equal(first.dataobj, other.dataobj)


def test_days_come_from_tables_and_never_from_dates(phantom, trial, paths, tmp_path):
    alone = {name: path for name, path in paths.items() if name == "luna25"}
    for name, given in (("alone", alone), ("beside", paths)):
        made(phantom, given, "luna25", tmp_path / name, index=trial / "index.parquet")
    days = {name: pd.read_csv(tmp_path / name / "cohort.csv") for name in ("alone", "beside")}
    assert days["alone"]["days_from_baseline"].isna().all()
    first = days["beside"].groupby("patient_id")["study_yr"].transform("min")
    expected = days["beside"]["study_yr"].map(routes.DAY) - first.map(routes.DAY)
    assert days["beside"]["days_from_baseline"].tolist() == expected.tolist()


def test_attributes_come_through_the_tracking_table(phantom, trial, paths, tmp_path):
    """By the geometry that STMixer's boxes tell: LUNA25 has mm, the tracking table voxels and the trial's numbers."""
    found = tables.find(phantom / "tables")
    summary = made(phantom, paths, "luna25", tmp_path, index=trial / "index.parquet", tables=found)
    cohort, own = pd.read_csv(tmp_path / "cohort.csv"), pd.read_csv(phantom / "cohort.csv")
    key = ["patient_id", "nodule_id", "study_yr"]
    both = cohort.merge(own, on=key, suffixes=("", "_own"), validate="one_to_one")
    for name in ("sct_long_dia", "sct_epi_loc", "sct_margins", "age", "gender"):
        assert both[name].astype(float).equals(both[f"{name}_own"].astype(float)) and both[name].notna().any(), name
    assert summary.flow.boxes[-1][1]["findings"] == len(own)
    without = {name: path for name, path in paths.items() if name not in ("tracking", "stmixer")}
    summary = made(phantom, without, "luna25", tmp_path, index=trial / "index.parquet", tables=found)
    assert summary.known["sct_long_dia"] == 0 and "sct_long_dia" in summary.gaps


def test_a_source_whose_outcome_the_trial_contradicts(phantom, paths, tmp_path):
    table = pd.read_csv(paths["luna25"])
    healthy = sorted(set(table["PatientID"]) - set(pd.read_csv(phantom / "tables" / "canc.csv")["pid"]))[0]
    table.loc[table["PatientID"] == healthy, "label"] = 1
    table.to_csv(tmp_path / "luna25.csv", index=False)
    summary = made(phantom, {"luna25": tmp_path / "luna25.csv"}, "luna25", tmp_path / "out")
    lost = dict(entry for taken in summary.flow.exclusions for entry in taken)
    assert lost["its outcome is another in the trial's tables than in the source"]["participants"] == 1


def test_a_participant_is_in_one_section_only(phantom, trial, paths, tmp_path):
    for route in ROUTES:
        made(phantom, paths, route, tmp_path / route, index=trial / "index.parquet")
        cohort = pd.read_csv(tmp_path / route / "cohort.csv")
        assert (cohort.groupby("patient_id")["split"].nunique() == 1).all()
        assert cohort["source"].str.contains("doi 10.7937/TCIA.HMQ8-J677; where the nodules are: ").all()


# --- the real tables


@pytest.fixture(scope="module")
def real(shared_data):
    growth = shared_data / "nlst" / "nlstt_growth"
    return {
        "tracking": shared_data / "nlst" / "nodule_tracking.parquet",
        "stmixer": growth / "stmixer_dataset_part_2301.csv",
        "luna25": next((shared_data / "luna25").glob("*.csv")),
        **{f"days{number}": path for number, path in enumerate(sorted(growth.glob("stmixer_growth*.csv")))},
    }


def test_the_real_luna25_and_stmixer(shared_data, real, tmp_path):
    found = tables.find(shared_data / "nlst")
    counted = {}
    for route in ("luna25", "stmixer"):
        beside = [path for name, path in real.items() if name != route]
        options = study.Options(coordinates=real[route], tables=found, beside=beside)
        counted[route] = study.make(tmp_path / route, options)
    print({route: (summary.flow.as_json(), [*map(str, summary.agreements)]) for route, summary in counted.items()})


# --- the real scan: a cancer in one place, by three sources

SCAN = "dicom/nlst_101287_T0"
PID = 101287


@pytest.fixture(scope="module")
def scan(shared_data, tmp_path_factory):
    """The series in a folder of its own."""
    folder = tmp_path_factory.mktemp("nlst")
    zipfile.ZipFile(next((shared_data / SCAN).glob("*.zip"))).extractall(folder / "series")
    return folder


def readers_box(path, series):
    """The box of the SR in pixels, as a row of a table of one's own; by pydicom alone."""
    report = pydicom.dcmread(path)
    found = []

    def walk(item, reference):
        for child in item.get("ContentSequence", []):
            if child.ValueType == "SCOORD":
                image = child.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
                found.append((np.array(child.GraphicData).reshape(-1, 2), image))
            walk(child, reference)

    walk(report, None)
    return found


def test_the_real_scan_gives_one_crop_by_every_route(scan, shared_data, real, tmp_path):
    print(readers_box(shared_data / SCAN / "SR_sybil_box.dcm", scan)[:3])
