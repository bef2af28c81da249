"""Sources held against each other: which nodule is which, and what does not agree is not paired."""

import pandas as pd
import pytest

from data_prep.nlst import agreement
from data_prep.nlst.coordinates import FINDINGS, checked
from data_prep.nlst.flow import Flow


def source(*rows, **common):
    """Findings; a row is pid, year, nodule, series, x, y, z."""
    columns = ["pid", "study_yr", "nodule_id", "series_uid", "x", "y", "z"]
    table = pd.DataFrame(rows, columns=columns).reindex(columns=list(FINDINGS)).assign(**common)
    return checked(table, "source")


LESIONS = source(
    (1, 0, "1", "1.100", 10.0, 0.0, -50.0),
    (1, 1, "1", "1.101", 14.0, 40.0, 900.0),
    (1, 0, "2", "1.100", -60.0, 20.0, -80.0),
    (1, 1, "2", "1.101", -57.0, 58.0, 868.0),
)
"""One patient who lay 40 mm lower and was scanned from another height in the second scan."""


def severed(findings, others=None, linked=True):
    held, agreements = agreement.hold(findings, others or {}, linked)
    return dict(zip(zip(held["nodule_id"], held["study_yr"], strict=True), held["severed"], strict=True)), agreements


def test_nodules_that_moved_with_the_patient_stay_paired():
    assert not any(severed(LESIONS)[0].values())


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ((-120.0, 58.0, 868.0), True),  # 67 mm to the side, the other not
        ((-57.0, 58.0, 990.0), True),  # 122 mm towards the head
        ((-57.0, -10.0, 868.0), True),  # 68 mm towards the front
        ((-50.0, 68.0, 850.0), False),  # as breath may move it
    ],
)
def test_a_lesion_that_moved_otherwise_is_not_paired(place, reason):
    moved = LESIONS.copy()
    moved.loc[3, ["x", "y", "z"]] = place
    reasons = severed(moved)[0]
    assert (
        bool(reasons["2", 1]) == reason
        and reasons["2", 1] == reason * "it moved otherwise than the patient's other nodules"
    )
    assert not any(severed(moved, linked=False)[0].values()), "a site's own nodules are the site's"


@pytest.mark.parametrize(("x", "reason"), [(49.0, ""), (-31.0, "it lies far to the side of where it lay before")])
def test_a_lesion_that_is_alone_is_held_against_the_side(x, reason):
    alone = LESIONS[:2].copy()
    alone.loc[1, "x"] = x
    assert severed(alone)[0]["1", 1] == reason


def test_of_three_the_one_that_moved_otherwise_is_found():
    third = source((1, 0, "3", "1.100", 50.0, 0.0, -50.0), (1, 1, "3", "1.101", 53.0, 38.0, 990.0))
    reasons = severed(pd.concat([LESIONS, third], ignore_index=True))[0]
    assert {key for key, reason in reasons.items() if reason} == {("3", 1)}


def test_another_source_that_has_two_nodules_there_parts_them():
    other = source((1, 0, "a", "1.100", 11.0, 0.0, -50.0), (1, 1, "b", "1.101", 14.0, 41.0, 900.0))
    reasons, (agreed,) = severed(LESIONS, {"another table": other})
    assert reasons["1", 1] == "another nodule than in the scan before, by another table" and not reasons["2", 1]
    assert (agreed.scans, agreed.findings, agreed.comparable, agreed.matched) == (2, 4, 4, 2)
    assert (agreed.links, agreed.same) == (1, 0)
    reasons, (agreed,) = severed(LESIONS, {"another table": other.assign(nodule_id="a")})
    assert not reasons["1", 1] and (agreed.links, agreed.same) == (1, 1)


def test_two_that_lie_close_to_each_other_are_not_told_apart():
    other = source((1, 0, "a", "1.100", 12.0, 0.0, -50.0), (1, 0, "b", "1.100", 5.0, 0.0, -50.0))
    _, (agreed,) = severed(LESIONS, {"another table": other})
    assert agreed.matched == 0


def test_voxels_are_held_against_mm_by_the_geometry_that_another_source_tells():
    uid, exam = "1.2.12345000090123", "1" + "0" + "1234590123"
    lesion = source((1, 0, "1", uid, 10.0, 0.0, -50.0), candidates=-1)
    voxel = {"exam": exam, "column": 221.0, "row": 200.0, "slice": 9.0}
    tracked = source((1, 0, "7", None, None, None, None), sct_ab_num=4, size=8.0, **voxel)
    tells = source((1, 0, "f", uid, 99.0, 99.0, 0.0), pixel_mm=0.5, left=-100.0, front=-100.0)
    held, agreements = agreement.hold(lesion, {"tracked": tracked, "boxes": tells}, linked=True)
    assert held["sct_ab_num"].tolist() == [4] and [each.matched for each in agreements] == [1, 0]
    held, (agreed,) = agreement.hold(lesion, {"tracked": tracked}, linked=True)
    assert held["sct_ab_num"].isna().all() and (agreed.findings, agreed.comparable) == (1, 0)


def test_what_another_source_knows_is_taken_and_what_is_known_is_kept():
    other = source((1, 0, "a", "1.100", 11.0, 0.0, -50.0), sct_ab_num=4, noted_malignant=1, noted_gender=2)
    mine = LESIONS.assign(candidates=-1.0, noted_gender=1.0)
    held, _ = agreement.hold(mine, {"another table": other}, linked=True)
    first = held.iloc[0]
    assert (first.sct_ab_num, first.candidates, first.noted_malignant, first.noted_gender) == (4, 1, 1, 1)
    assert held["sct_ab_num"].notna().sum() == 1 and held["candidates"].tolist() == [1, -1, -1, -1]


def test_the_flow_counts_what_is_doubted_and_what_is_not_paired():
    rows = [(pid, year, "1", f"1.{pid}{year}", 0.0, 0.0, 0.0) for pid in (1, 2, 3) for year in (0, 1, 2)]
    table = source(*rows).sort_values(["pid", "nodule_id", "study_yr"]).reset_index(drop=True)
    table["severed"] = ["", "far", "", "", "", "other", "", "", ""]
    table.loc[8, "doubt"] = "outside"
    flow = Flow()
    flow.box("all", table)
    left = agreement.applied(table, flow)
    flow.box("left", left)
    assert left["nodule_id"].tolist() == ["1", "1.2", "1.2", "1", "1", "1.2", "1", "1"]
    assert dict(flow.exclusions[0])["not paired: far"]["pairs"] == 1
    told = pd.concat(flow.left_out)[["pid", "study_yr", "reason"]].to_numpy().tolist()
    assert told == [[3, 2, "outside"], [1, 1, "not paired: far"], [2, 2, "not paired: other"]]
    (_, before), (_, after) = flow.boxes
    for unit, count in before.items():
        assert count - sum(lost[unit] for _, lost in flow.exclusions[0]) == after[unit]
