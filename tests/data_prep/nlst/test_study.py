"""The whole way of ``python -m data_prep nlst``, on a phantom's scans and on the real tables."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from data_prep.contract import read_cohort
from data_prep.errors import DataError
from data_prep.nlst import coordinates, idc, preset, study, tables
from data_prep.nlst.choices import Attributes, Preset
from data_prep.nlst.flow import Flow
from data_prep.phantom.stand_in import simulate
from tests.data_prep.helpers import Bucket


def options(phantom, trial, **changed):
    found = tables.find(phantom / "tables")
    return study.Options(**{"coordinates": trial / "tracking.parquet", "tables": found, **changed})


def test_dry_run(phantom, trial, tmp_path):
    summary = study.make(tmp_path, options(phantom, trial, index=trial / "index.parquet"))
    cohort, manifest = pd.read_csv(tmp_path / "cohort.csv"), pd.read_csv(tmp_path / "manifest.csv")
    assert len(cohort) == len(pd.read_csv(phantom / "tables" / "positions.csv"))
    assert set(cohort["image"]) == set(manifest["series_uid"]) and summary.size_mb == 1.5 * len(manifest)
    assert {"column", "row", "slice"} <= set(cohort) and "x" not in cohort
    lines = (tmp_path / "manifest.s5cmd").read_text().splitlines()
    assert len(lines) == len(manifest) and lines[0].startswith("cp s3://idc-open-data/")
    flow = json.loads((tmp_path / "flow.json").read_text())
    assert flow["stages"][0]["findings"] == len(cohort) and flow["stages"][0]["excluded"] == []
    assert sum(part["findings"] for part in flow["cohort"]) == len(cohort)
    assert (tmp_path / "flow.svg").read_text().count("participants") >= 3
    assert len(pd.read_csv(tmp_path / "left_out.csv")) == 0
    assert {path.name for path in tmp_path.iterdir()} == set(study.WRITTEN)


def test_baselines_without_a_follow_up(phantom, trial, tmp_path):
    """Of each nodule the last finding, to be forecast from, with what is known then and the outcome."""
    asked = options(phantom, trial, index=trial / "index.parquet", prospective=True)
    study.make(tmp_path, asked)
    cohort = pd.read_csv(tmp_path / "cohort.csv")
    own = (
        pd.read_csv(phantom / "cohort.csv")
        .sort_values("study_yr")
        .groupby(["patient_id", "nodule_id"], as_index=False)
        .tail(1)
    )
    both = cohort.merge(own, on=["patient_id", "nodule_id", "study_yr"], validate="one_to_one", suffixes=("", "_own"))
    assert len(both) == len(cohort) == len(own) and cohort["study_yr"].nunique() > 1
    for name in ("sct_long_dia", "age", "malignant"):
        assert np.array_equal(both[name], both[f"{name}_own"], equal_nan=True)
    assert set(cohort["split"]) == {"predict"}
    flow = json.loads((tmp_path / "flow.json").read_text())
    assert flow["prospective"] and [part["label"] for part in flow["cohort"]] == ["Without a follow-up, to forecast"]
    excluded = next(stage for stage in flow["stages"] if stage["label"] == "On scans that can be used")["excluded"]
    assert [each["reason"] for each in excluded] == ["a later scan shows the nodule again"]
    with pytest.raises(DataError, match="takes baselines, no pairs"):
        study.make(tmp_path, replace(asked, preset=Preset.PAPER))


def test_voxels_to_millimetres(phantom, trial, tmp_path):
    """The cohort is the phantom's own, every centre to half a voxel of where the phantom put it."""
    study.make(tmp_path, options(phantom, trial, dicom=trial / "dicom"))
    made, own = read_cohort(tmp_path / "cohort.csv"), read_cohort(phantom / "cohort.csv")
    key = ["patient_id", "nodule_id", "study_yr"]
    both = made.merge(own, on=key, suffixes=("", "_own"), validate="one_to_one")
    assert len(both) == len(made) == len(own)
    for axis, half in (("x", 0.4), ("y", 0.4), ("z", 1.3)):
        assert (both[axis] - both[f"{axis}_own"]).abs().max() < half + 0.01
    assert both["malignant"].equals(both["malignant_own"]) and both["sct_long_dia"].equals(both["sct_long_dia_own"])


def test_own_boxes_by_instance_number(phantom, trial, tmp_path):
    """The same places told as NLSTx does: slice by InstanceNumber, which here counts from the head."""
    tracked = pd.read_parquet(trial / "tracking.parquet")
    index = pd.read_parquet(trial / "index.parquet").set_index("PatientID")
    series = coordinates.read(trial / "tracking.parquet")
    last = tracked["exam"].str[-10:]
    uids = {
        uid.rsplit(".", 1)[1]: (uid, n) for uid, n in zip(index.SeriesInstanceUID, index.instanceCount, strict=True)
    }
    facts = [next(value for name, value in uids.items() if name[:5] + name[-5:] == exam) for exam in last]
    own = pd.DataFrame(
        {
            "PID": tracked["pid"],
            "study_yr": tracked["exam_idx"],
            "nodule_id": tracked["nodule_group"],
            "sct_ab_num": series["sct_ab_num"],
            "series_uid": [uid for uid, _ in facts],
            "instance": [count for _, count in facts] - tracked["center_k"],
            "box_x": tracked["center_j"] - 4,
            "box_y": tracked["center_i"] - 3,
            "box_width": 9,
            "box_height": 7,
        }
    )
    own.to_csv(tmp_path / "own.csv", index=False)
    for name, source in (("own", tmp_path / "own.csv"), ("tracked", trial / "tracking.parquet")):
        study.make(tmp_path / name, options(phantom, trial, coordinates=source, dicom=trial / "dicom"))
    made = [pd.read_csv(tmp_path / name / "cohort.csv")[["x", "y", "z"]] for name in ("own", "tracked")]
    assert np.allclose(*made)


def test_a_series_that_cannot_be_used_is_named_and_the_others_are_taken(phantom, trial, tmp_path):
    shutil.copytree(trial / "dicom", tmp_path / "dicom")
    broken, gone = sorted((tmp_path / "dicom").iterdir())[:2]
    sorted(broken.iterdir())[5].unlink()
    shutil.rmtree(gone)
    study.make(tmp_path / "out", options(phantom, trial, dicom=tmp_path / "dicom"))
    left = pd.read_csv(tmp_path / "out" / "left_out.csv")
    absent = left[left["reason"] == "its series is not among those there are"]
    unusable = left[left["series_uid"] == broken.name]
    assert len(absent) and len(unusable) and "missing slices" in unusable["detail"].iloc[0]
    assert len(left) == len(absent) + len(unusable)
    assert len(read_cohort(tmp_path / "out" / "cohort.csv")) == len(pd.read_csv(phantom / "cohort.csv")) - len(left)


def test_fetching_goes_on_where_it_stopped(phantom, trial, tmp_path, monkeypatch):
    uids = sorted(path.name for path in (trial / "dicom").iterdir())
    bucket = Bucket(trial / "dicom", lost=uids[0])
    monkeypatch.setattr(idc, "client", lambda: bucket)
    chosen = options(phantom, trial, dicom=tmp_path / "dicom", fetch=True, index=trial / "index.parquet")
    study.make(tmp_path / "out", chosen)
    left = pd.read_csv(tmp_path / "out" / "left_out.csv")
    assert set(left["series_uid"]) == {uids[0]} and "3 files came" in left["detail"][0]
    assert sorted(bucket.asked) == uids and not (tmp_path / "dicom" / uids[0]).exists()
    bucket.asked, bucket.lost = [], None
    study.make(tmp_path / "out", chosen)
    assert bucket.asked == uids[:1] and len(pd.read_csv(tmp_path / "out" / "left_out.csv")) == 0


def test_a_disk_that_is_too_small(tmp_path):
    series = pd.DataFrame({"series_uid": ["1"], "slices": [1], "size_mb": [1e12]})
    with pytest.raises(DataError, match="GB are needed for 1 series"):
        idc.fetch(series, tmp_path, None)


def test_tables_that_are_missing_are_asked_for_and_only_simulated_when_told(phantom, trial, tmp_path):
    tables_left = {"canc": phantom / "tables" / "canc.csv"}
    with pytest.raises(DataError) as caught:
        study.make(tmp_path / "out", options(phantom, trial, tables=tables_left))
    assert all(text in str(caught.value) for text in ("--prsn", "--ctab", "--stand-in"))
    assert not (tmp_path / "out").exists()
    summary = study.make(tmp_path / "out", options(phantom, trial, tables=tables_left, stand_in=simulate))
    cohort = pd.read_csv(tmp_path / "out" / "cohort.csv")
    assert (
        cohort["simulated"].str.startswith("SIMULATED").all() and "SIMULATED" in (tmp_path / "out/flow.svg").read_text()
    )
    assert summary.gaps["diagemph"] == "not in this release of prsn" and "sct_long_dia" not in summary.gaps


def test_coordinates_of_no_known_kind_and_faults_of_known_ones(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("pid,year\n1,0\n")
    with pytest.raises(DataError, match="no source of coordinates"):
        coordinates.read(path)
    path.write_text("pid,study_yr,nodule_id,image,x,y,z\n1,0,a,s,1,2,3\n1,0,a,s,1,2,3\n2,x,b,,1,,3\n")
    with pytest.raises(DataError) as caught:
        coordinates.read(path)
    for text in (
        "row 3, columns pid, study_yr, nodule_id: this nodule comes again",
        "row 4, column study_yr: no number",
    ):
        assert text in str(caught.value)
    assert "row 4, expected series_uid or image" in str(caught.value) and "row 4, expected x, y, z or" in str(
        caught.value
    )


def people(count, malignant, years=(0, 1, 2)):
    """Nodules as :func:`join` gives them: one a person, ``malignant`` of them."""
    rows = pd.MultiIndex.from_product([range(count), years], names=["pid", "study_yr"]).to_frame(index=False)
    rows["malignant"] = (rows["pid"] < malignant).astype(float)
    return rows.assign(nodule_id="1", sct_pre_att=1, sct_long_dia=10, series_uid="s")


def selected(table, seed):
    flow = Flow()
    flow.box("all", table)
    return preset.select(table.reset_index(drop=True), flow, seed)


def test_the_papers_size_by_our_rule():
    thrice, twice, masses = people(800, 250), people(700, 0, (1, 2)), people(20, 0)
    masses["sct_long_dia"] = 40
    for number, part in enumerate((thrice, twice, masses)):
        part["pid"] += 1000 * number
    table = pd.concat([thrice, twice, masses])
    chosen = selected(table, seed=3)
    first = chosen.drop_duplicates("pid")
    training = first["split"] != "test"
    assert first[training]["malignant"].value_counts().to_dict() == {0: 611, 1: 165}
    assert first[~training]["malignant"].value_counts().to_dict() == {0: 397, 1: 53}
    assert first["split"].value_counts()["validation"] == 97
    pairs = chosen.groupby(chosen["split"] == "test").size() - [776, 450]
    assert pairs.tolist() == [1121, 450]
    assert chosen["pid"].max() < 2000, "masses are not indeterminate"
    assert selected(table, seed=3).equals(chosen) and not selected(table, seed=4).equals(chosen)


def test_a_small_cohort_keeps_the_papers_proportions():
    first = selected(people(300, 109), seed=0).drop_duplicates("pid")
    counts = first.groupby(["malignant", first["split"] == "test"]).size()
    assert counts[1.0].tolist() == [82, 26] and counts[0.0].tolist() == [116, 75]


def test_the_real_tables(shared_data, tmp_path):
    """All consecutive pairs of the tracking table are found; prsn and ctab are not at hand and stand-ins."""
    source = shared_data / "nlst"
    chosen = study.Options(
        coordinates=source / "nodule_tracking.parquet",
        tables=tables.find(source),
        attributes=Attributes.BOTH,
        preset=Preset.PAPER,
        stand_in=simulate,
    )
    flow = study.make(tmp_path, chosen).flow
    assert flow.boxes[0][1] == {"participants": 9447, "nodules": 32176, "findings": 50380, "pairs": 17876}
    lost = sum(lost["findings"] for taken in flow.exclusions for _, lost in taken)
    assert lost + sum(counts["findings"] for _, counts in flow.ends) == 50380
    assert len(coordinates.read(source / "nlstx_dataset.csv")) == 1232
