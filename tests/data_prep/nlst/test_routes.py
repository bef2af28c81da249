"""The routes from open data to pairs: on a phantom's scans (simulated), on the real tables, and on a real scan."""

import json
import zipfile

import numpy as np
import pandas as pd
import pydicom
import pytest

from data_prep import sources
from data_prep.contract import read_cohort
from data_prep.images import crops
from data_prep.nlst import study, tables
from data_prep.nlst.choices import Attributes
from data_prep.phantom.stand_in import simulate
from tests.data_prep.nlst import routes

ROUTES = ("luna25", "stmixer", "tracking")
ATTRIBUTES = ("sct_long_dia", "sct_epi_loc", "sct_margins", "age", "gender")


@pytest.fixture(autouse=True)
def undrawn(request, monkeypatch):
    """The diagram takes longer than all else; one test looks at it."""
    if "dry_run" not in request.node.name:
        monkeypatch.setattr(study, "draw", lambda *_: None)


@pytest.fixture(scope="module")
def paths(phantom, trial, tmp_path_factory):
    """The tables of all routes for the phantom's scans, which are simulated."""
    return {**routes.write(phantom, tmp_path_factory.mktemp("routes")), "tracking": trial / "tracking.parquet"}


def made(phantom, paths, route, out, **changed):
    beside = [path for name, path in paths.items() if name != route]
    given = {"coordinates": paths[route], "tables": tables.find(phantom / "tables"), "beside": beside}
    return study.make(out, study.Options(**{**given, **changed}))


@pytest.mark.parametrize("route", ROUTES)
def test_a_dry_run_says_what_a_route_gives(phantom, trial, paths, tmp_path, route):
    summary = made(phantom, paths, route, tmp_path, index=trial / "index.parquet")
    own, cohort = pd.read_csv(phantom / "cohort.csv"), pd.read_csv(tmp_path / "cohort.csv")
    flow = json.loads((tmp_path / "flow.json").read_text())
    last, nodules = flow["stages"][-1], own.drop_duplicates(["patient_id", "nodule_id"])
    assert last["findings"] == len(own) and last["participants"] == own["patient_id"].nunique()
    assert last["malignant"] == nodules["malignant"].sum() and last["pairs"] > 0 and last["malignant_pairs"] > 0
    assert flow["series"] == own["image"].nunique() and summary.size_mb == 1.5 * flow["series"]
    assert {agreement["matched"] for agreement in flow["agreement"] if agreement["comparable"]} == {len(own)}
    assert all(agreement["links"] == agreement["same"] for agreement in flow["agreement"])
    assert (cohort.groupby("patient_id")["split"].nunique() == 1).all(), "a participant is in one section only"
    assert cohort["source"].str.contains("doi 10.7937/TCIA.HMQ8-J677; where the nodules are: ").all()
    assert (tmp_path / "flow.svg").is_file()
    cohort["nodule_id"] = cohort["nodule_id"].astype(str).str.split("_").str[-1].astype(int)
    both = cohort.merge(own, on=["patient_id", "nodule_id", "study_yr"], suffixes=("", "_own"), validate="one_to_one")
    for name in ATTRIBUTES:  # joined through the tracking table, which has the trial's numbers
        assert both[name].astype(float).equals(both[f"{name}_own"].astype(float)) and both[name].notna().any(), name


def test_the_routes_give_the_same_crops(phantom, trial, paths, tmp_path):
    """Each from its own table to the cohort, in mm from what each has: mm, or voxels and headers."""
    cut = {}
    for route in ROUTES:
        beside = [paths["tracking"]] if route == "luna25" else []
        made(phantom, paths, route, tmp_path / route, dicom=trial / "dicom", beside=beside)
        cohort = read_cohort(tmp_path / route / "cohort.csv")
        cohort = cohort.assign(nodule=cohort["nodule_id"].str.split("_").str[-1])
        assert cohort["sct_long_dia"].notna().any() == (route != "stmixer"), (
            "by the headers, mm and voxels are compared"
        )
        for row in cohort[:12].itertuples():
            crop = crops.cut((tmp_path / route / row.image).resolve(), (row.x, row.y, row.z), 32)
            cut.setdefault((row.patient_id, row.nodule, row.study_yr), []).append(crop)
    assert len(cut) == 12
    for first, *others in cut.values():
        assert len(others) == 2
        for other in others:
            assert np.array_equal(first.affine, other.affine) and np.array_equal(first.dataobj, other.dataobj)


def test_luna25_alone_has_neither_days_nor_attributes_and_says_so(phantom, trial, paths, tmp_path):
    """Its dates are one a round for everybody, so no days come from them; STMixer's tables of days tell."""
    for name, beside in (("alone", []), ("days", [paths["days"]])):
        options = {"index": trial / "index.parquet", "beside": beside, "tables": {}}
        summary = made(phantom, paths, "luna25", tmp_path / name, **options)
        cohort = pd.read_csv(tmp_path / name / "cohort.csv")
        assert summary.known["age"] == len(cohort) and summary.known["sct_long_dia"] == 0 and "cancer" not in cohort
        assert summary.gaps["sct_long_dia"] == "no table ctab was given" and "age" not in summary.gaps
        expected = cohort["study_yr"].map(routes.DAY)
        expected -= expected.groupby(cohort["patient_id"]).transform("min")
        assert cohort["days_from_baseline"].fillna(-1).tolist() == (expected.tolist() if beside else [-1] * len(cohort))


def test_a_series_of_another_participant_is_left_out(phantom, trial, paths, tmp_path):
    table = pd.read_csv(paths["luna25"])
    first = table["PatientID"] == table["PatientID"].min()
    stranger = table[~first & table["StudyDate"].isin(table.loc[first, "StudyDate"])].iloc[0]
    changed = table.index[first][0]
    table.loc[changed, "SeriesInstanceUID"] = stranger["SeriesInstanceUID"]
    table.to_csv(tmp_path / "luna25.csv", index=False)
    only = {"luna25": tmp_path / "luna25.csv"}
    summary = made(phantom, only, "luna25", tmp_path / "out", index=trial / "index.parquet")
    lost = dict(entry for taken in summary.flow.exclusions for entry in taken)
    assert lost["its series is another participant's"]["findings"] == 1
    assert summary.flow.boxes[-1][1]["findings"] == len(table) - 1


def test_a_source_whose_outcome_the_trial_contradicts(phantom, paths, tmp_path):
    table = pd.read_csv(paths["luna25"])
    healthy = sorted(set(table["PatientID"]) - set(pd.read_csv(phantom / "tables" / "canc.csv")["pid"]))[0]
    table.loc[table["PatientID"] == healthy, "label"] = 1
    table.to_csv(tmp_path / "luna25.csv", index=False)
    summary = made(phantom, {"luna25": tmp_path / "luna25.csv"}, "luna25", tmp_path / "out")
    lost = dict(entry for taken in summary.flow.exclusions for entry in taken)
    assert lost["its outcome is another in the trial's tables than in the source"]["participants"] == 1


# --- the real tables


@pytest.fixture(scope="module")
def real(shared_data):
    growth = shared_data / "nlst" / "nlstt_growth"
    return {
        "tracking": shared_data / "nlst" / "nodule_tracking.parquet",
        "stmixer": growth / "stmixer_dataset_part_2301.csv",
        "luna25": next((shared_data / "luna25").glob("*.csv")),
        **{path.stem: path for path in sorted(growth.glob("*growth_nodule_*.csv"))},
    }


REAL = {
    "luna25": (
        (2120, 6163, 2334),
        (2120, 6162, 2271, 195),
        {"the tracking table": (87, 78), "STMixer's boxes": (87, 87)},
    ),
    "stmixer": (
        (1041, 3714, 2413),
        (1041, 3710, 2370, 58),
        {"the tracking table": (471, 457), "LUNA25's annotations": (85, 85)},
    ),
}
"""Participants, findings and pairs of the real tables; the same and malignant pairs of the cohort; how many pairs
other sources know, and have too."""


@pytest.mark.parametrize("route", REAL)
def test_the_real_tables_give_real_pairs(shared_data, real, tmp_path, route):
    beside = [path for name, path in real.items() if name != route]
    options = study.Options(coordinates=real[route], tables=tables.find(shared_data / "nlst"), beside=beside)
    summary = study.make(tmp_path, options)
    source, cohort, agreement = REAL[route]
    first, last = summary.flow.boxes[0][1], summary.flow.boxes[-1][1]
    assert tuple(first[unit] for unit in ("participants", "findings", "pairs")) == source
    assert tuple(last[unit] for unit in ("participants", "findings", "pairs", "malignant_pairs")) == cohort
    assert {each.other: (each.links, each.same) for each in summary.agreements} == agreement
    table = pd.read_csv(tmp_path / "cohort.csv")
    assert table["days_from_baseline"].notna().mean() > 0.4
    assert (table.groupby("patient_id")["split"].nunique() == 1).all() and np.isnan(summary.size_mb)
    assert "no table ctab was given" in summary.gaps["sct_margins"] and summary.series == table["series_uid"].nunique()


def test_converting_the_real_luna25(real, tmp_path):
    counts = sources.convert("luna25", real["luna25"], tmp_path / "cohort.csv", beside=[real["stmixer"]])
    assert (counts["taken"], counts["no image"]) == (6163, 0)
    assert counts["pairs of a lesion in consecutive rounds"] == 2334 - 37 - 17
    assert counts["pairs not paired: it moved otherwise than the patient's other nodules"] == 37
    table = pd.read_csv(tmp_path / "cohort.csv")
    assert table["age"].between(55, 77).all() and table["malignant"].sum() == 555 and "cancer" not in table


# --- the real scan: one cancer, by the tracking table, LUNA25 and a reader's box

SCAN, PID = "dicom/nlst_101287_T0", 101287
VOXEL = {"column": 292, "row": 300, "slice": 124}
"""Of the tracking table; slices count from the feet."""
LUNA25_MM = (4.22, 2.66, 1181.63)


@pytest.fixture(scope="module")
def scan(shared_data, tmp_path_factory):
    """A folder with the series, and its headers from the feet to the head."""
    folder = tmp_path_factory.mktemp("nlst")
    zipfile.ZipFile(next((shared_data / SCAN).glob("*.zip"))).extractall(folder / "dicom")
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in folder.rglob("*.dcm")]
    return folder, sorted(headers, key=lambda header: header.ImagePositionPatient[2])


def readers_box(report, headers):
    """The reader's box in the slice that holds LUNA25's point: first pixel and size, and the slice's number."""
    near = min(headers, key=lambda header: abs(header.ImagePositionPatient[2] - LUNA25_MM[2]))
    for group in pydicom.dcmread(report).ContentSequence[-1].ContentSequence:
        for item in group.get("ContentSequence", []):
            if item.ValueType == "SCOORD":
                image = item.ContentSequence[0].ReferencedSOPSequence[0]
                if image.ReferencedSOPInstanceUID == near.SOPInstanceUID:
                    corners = np.array(item.GraphicData).reshape(-1, 2)
                    (left, top), (width, height) = corners.min(axis=0), np.ptp(corners, axis=0)
                    box = {"box_x": left, "box_y": top, "box_width": width, "box_height": height}
                    return {"instance": int(near.InstanceNumber), **box}
    raise AssertionError("no box in that slice")


def place_of(scan, tmp_path, name, source):
    """The row of the cohort that a route gives for the scan, and its crop."""
    folder, _ = scan
    source_path = tmp_path / f"{name}.{'parquet' if name == 'tracking' else 'csv'}"
    write = source.to_parquet if name == "tracking" else source.to_csv
    write(source_path, index=False)
    (tmp_path / "canc.csv").write_text(f"pid,candx_days,lc_topog\n{PID},150,C34.1\n")  # as in the trial's
    options = study.Options(
        coordinates=source_path,
        tables={"canc": tmp_path / "canc.csv"},
        dicom=folder / "dicom",
        attributes=Attributes.NONE,
        stand_in=simulate,
    )
    study.make(tmp_path / name, options)
    (row,) = read_cohort(tmp_path / name / "cohort.csv").itertuples()
    return (row.x, row.y, row.z), crops.cut((tmp_path / name / row.image).resolve(), (row.x, row.y, row.z), 128)


def in_mm(headers, column, row, slice):
    """By hand: the first pixel's place and the spacing."""
    header = headers[slice]
    across, down = header.PixelSpacing[1], header.PixelSpacing[0]
    x, y, z = map(float, header.ImagePositionPatient)
    return x + column * across, y + row * down, z


def test_the_real_scan_gives_one_crop_by_every_route(shared_data, scan, tmp_path):
    """The tracking table's voxel, told as every kind of source tells places, is one point and one crop."""
    _, headers = scan
    point, uid = in_mm(headers, **VOXEL), headers[0].SeriesInstanceUID
    x, y, z = point
    tracked = pd.read_parquet(shared_data / "nlst" / "nodule_tracking.parquet")
    tracked = tracked[(tracked["pid"].astype(str) == str(PID)) & (tracked["center_k"] == VOXEL["slice"])]
    own = {"pid": PID, "study_yr": 0, "nodule_id": 1, "series_uid": uid}
    box = {"box_x": VOXEL["column"] - 4, "box_width": 9, "box_y": VOXEL["row"] - 2, "box_height": 5}
    places = {"x": x, "y": y, "z": z}
    spacing = {"dx_voxel": 10, "dy_voxel": 10, "dz_voxel": 3, "dx_world": 5.4, "dy_world": 5.4, "dz_world": 6}
    voxel = {"cx_voxel": VOXEL["column"], "cy_voxel": VOXEL["row"], "cz_voxel": VOXEL["slice"]}
    told = {
        "tracking": tracked,
        "own": pd.DataFrame([{**own, **places}]),
        "boxes": pd.DataFrame([{**own, **box, "instance": headers[VOXEL["slice"]].InstanceNumber}]),
        "luna25": luna25(uid, point),
        "stmixer": pd.DataFrame(
            [
                {
                    **{"pid": PID, "seriesid": uid, "study_year": 0, "nodid": 1, **spacing, **voxel},
                    **{f"c{axis}_world": value for axis, value in places.items()},
                }
            ]
        ),
    }
    made = {name: place_of(scan, tmp_path, name, source) for name, source in told.items()}
    expected = made["tracking"][1]
    for name, (place, crop) in made.items():
        assert np.allclose(place, point, atol=1e-3), name
        assert np.array_equal(crop.affine, expected.affine) and np.array_equal(crop.dataobj, expected.dataobj), name
    middle = expected.affine @ [64, 64, 0, 1]
    assert np.abs(middle[:3] * [-1, -1, 1] - point).max() < 0.5 * 0.54


def luna25(uid, point):
    row = {"PatientID": PID, "SeriesInstanceUID": uid, "StudyDate": 19990102, "LesionID": 1, "label": 1}
    return pd.DataFrame([{**row, **{f"Coord{axis}": value for axis, value in zip("XYZ", point, strict=True)}}])


def test_luna25_and_the_reader_mean_one_place_and_the_tracking_table_lies_in_the_readers_box(
    shared_data, scan, real, tmp_path
):
    _, headers = scan
    row = pd.read_csv(real["luna25"])
    row = row[row["PatientID"] == PID]
    box = readers_box(shared_data / SCAN / "SR_sybil_box.dcm", headers)
    own = {"pid": PID, "study_yr": 0, "nodule_id": 1, "series_uid": headers[0].SeriesInstanceUID}
    place, crop = place_of(scan, tmp_path, "luna25", row)
    readers_place, readers_crop = place_of(scan, tmp_path, "reader", pd.DataFrame([{**own, **box}]))
    assert np.allclose(place, LUNA25_MM) and np.abs(np.subtract(place, readers_place)).max() < 1
    assert np.abs(crop.affine - readers_crop.affine).max() < 1 and crop.shape == readers_crop.shape
    assert box["box_x"] <= VOXEL["column"] < box["box_x"] + box["box_width"]
    assert box["box_y"] <= VOXEL["row"] < box["box_y"] + box["box_height"]
    hu = crop.get_fdata()
    assert hu[60:69, 60:69].mean() > -100 and (hu < -700).mean() > 0.1, "a solid nodule in the middle, and lung"
