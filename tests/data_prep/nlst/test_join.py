"""Findings and the trial's tables to the cohort: joins, outcomes, exclusions and their count."""

import base64
import gzip

import numpy as np
import pandas as pd
import pytest

from data_prep.errors import DataError
from data_prep.nlst import coordinates, tables
from data_prep.nlst.choices import Attributes
from data_prep.nlst.flow import Flow
from data_prep.nlst.join import cohort_table, join

PERSON = {
    "pid": [1, 2, 3],
    "age": [60, 61, 62],
    "gender": [1, 2, 1],
    "diagemph": [".M", 0, 1],
    **{f"fam{name}": [0, 0, 1] for name in ("father", "mother", "brother", "sister", "child")},
    "scr_days0": [10, 20, 5],
    "scr_days1": [380, ".N", 370],
}
NODULE = {"sct_pre_att": 1, "sct_epi_loc": 1, "sct_long_dia": 8, "sct_perp_dia": ".S", "sct_margins": 9}
SITES = {"locrup": [1, 0, 0], "locrmid": 0, "locrlow": 0, "loclup": 0, "loclin": 0, "locllow": 0}


def case(**changed):
    """Tables of three participants, and where their nodules are; ``changed`` replaces or adds to columns of prsn."""
    seen = [(1, 0, 1), (1, 1, 2), (2, 0, 1), (3, 0, 1), (3, 0, 2)]
    keys = pd.DataFrame(seen, columns=["pid", "study_yr", "sct_ab_num"])
    ctab = keys.assign(sct_ab_desc=51, **NODULE)
    ctab.loc[4, "sct_epi_loc"] = 6
    emphysema = {"pid": 1, "study_yr": 0, "sct_ab_num": 9, "sct_ab_desc": 59}
    given = {
        "prsn": pd.DataFrame(PERSON).assign(**changed),
        "ctab": pd.concat([ctab, pd.DataFrame([emphysema])]),
        "canc": pd.DataFrame({"pid": [1, 3], "candx_days": [400, 500]}),
    }
    return given, keys.assign(nodule_id=["1", "1", "1", "1", "2"], image="s", x=1, y=2, z=3)


def joined(given, places, attributes=Attributes.BASELINE):
    flow = Flow()
    findings = coordinates.checked(places.reindex(columns=list(coordinates.FINDINGS)), "places")
    return join(tables.check(given), findings, flow, attributes), flow


def reasons(flow):
    return {reason: lost["findings"] for taken in flow.exclusions for reason, lost in taken}


def test_join_by_number_within_a_year_and_nodule_over_years():
    cohort = cohort_table(joined(*case())[0], any_interval=False)
    assert cohort["patient_id"].tolist() == [1, 1, 2, 3, 3]
    assert cohort["study_yr"].tolist() == [0, 1, 0, 0, 0]
    assert cohort["age"].tolist() == [60, 61, 61, 62, 62]
    assert cohort["days_from_baseline"].tolist() == [0, 370, 0, 0, 0]
    assert cohort["diagemph"].isna().tolist() == [True, True, False, False, False]
    assert cohort["sct_perp_dia"].isna().all() and cohort["sct_margins"].isna().all()
    assert cohort["cancer"].tolist() == [1, 1, 0, 1, 1]


def test_outcome_without_sites_is_unknown_where_a_patient_has_two_nodules():
    outcomes = joined(*case())[0]["malignant"]
    assert outcomes[:3].tolist() == [1, 1, 0] and outcomes[3:].isna().all()


def test_outcome_by_lobe():
    sites = {**SITES, "locrup": [1, 0, 0], "locllow": [0, 0, 1]}
    assert joined(*case(**sites))[0]["malignant"].tolist() == [1, 1, 0, 0, 1]


def test_outcome_by_level_where_the_lobe_is_not_known():
    given, places = case()
    given["canc"]["lc_topog"] = ["C34.3", "C34.1"]
    outcomes = joined(given, places)[0]["malignant"].tolist()
    assert outcomes[:3] == [0, 0, 0], "an upper nodule and a lower cancer"
    assert np.isnan(outcomes[3]), "one of two nodules, in the cancer's level: left or right is not known"
    assert outcomes[4] == 0


def test_a_nodule_that_has_no_coordinates_counts_as_another():
    given, places = case()
    other = given["ctab"].iloc[[0]].assign(sct_ab_num=5)
    given["ctab"] = pd.concat([given["ctab"], other])
    assert joined(given, places)[0]["malignant"][:2].isna().all()


def test_a_cancer_without_a_lobe_leaves_the_outcome_open():
    nowhere = {name: [0, ".N", 0] for name in SITES}
    given, places = case(**nowhere)
    given["canc"]["lc_topog"] = "C34.9"
    assert joined(given, places)[0]["malignant"][3:].isna().all()


def test_exclusions_are_counted_with_their_reasons():
    given, places = case(rndgroup=[1, 1, 2])
    given["screen"] = pd.DataFrame({"pid": [2], "study_yr": [0], "ctdxqual": [3]})
    given["canc"].loc[0, "candx_days"] = 380
    stranger = places.iloc[[0]].assign(pid=99)
    table, flow = joined(given, pd.concat([places, stranger], ignore_index=True))
    assert reasons(flow) == {
        "participant is not in prsn": 1,
        "participant of the X-ray arm (rndgroup)": 2,
        "screen of no diagnostic quality (ctdxqual)": 1,
        "scan after the diagnosis of a lung cancer": 1,
    }
    assert table[["pid", "study_yr"]].to_numpy().tolist() == [[1, 0]]
    assert flow.boxes[0][1] == {"participants": 4, "nodules": 5, "findings": 6, "pairs": 1}
    assert sum(len(part) for part in flow.left_out) == 5


def test_a_screen_that_sas_marks_as_after_the_diagnosis():
    table, flow = joined(*case(scr_days1=[".E", ".N", 370]))
    assert reasons(flow) == {"scan after the diagnosis of a lung cancer": 1} and len(table) == 4


def test_days_that_do_not_rise_are_not_believed():
    table, _ = joined(*case(scr_days1=[10, 300, 370]))
    assert table["days"].isna().tolist() == [True, True, False, False, False]


@pytest.mark.parametrize(("attributes", "left"), [("both", 1), ("baseline", 2), ("none", 3)])
def test_which_findings_need_attributes(attributes, left):
    given, _ = case()
    years = pd.DataFrame({"pid": 2, "study_yr": [0, 1, 2], "nodule_id": "1", "image": "s", "x": 1, "y": 2, "z": 3})
    places = years.assign(sct_ab_num=[1, np.nan, 1])  # ctab knows only the first
    table, _ = joined(given, places, Attributes(attributes))
    assert table["study_yr"].tolist() == [0, 1, 2][:left]


def test_one_abnormality_goes_to_the_largest_finding():
    given, places = case()
    twins = pd.concat([places.iloc[[2]]] * 2, ignore_index=True).assign(nodule_id=["1", "2"], size=[5, 9])
    table, flow = joined(given, twins)
    assert table["nodule_id"].tolist() == ["2"]
    assert reasons(flow) == {"a larger finding fits the same abnormality": 1}


def test_pairs_of_any_interval_go_by_days():
    given, places = case(scr_days2=[750, 760, 770])
    given["ctab"] = pd.concat([given["ctab"], given["ctab"].iloc[[2]].assign(study_yr=2)])
    places = pd.concat([places, places.iloc[[2]].assign(study_yr=2)], ignore_index=True)
    cohort = cohort_table(joined(given, places)[0], any_interval=True)
    assert "study_yr" not in cohort
    assert cohort.loc[cohort["patient_id"] == 2, "days_from_baseline"].tolist() == [0, 740]


def test_features_that_a_release_lacks_are_named_and_stay_empty():
    given, places = case()
    given["prsn"] = given["prsn"].drop(columns=["famchild", "diagemph"])
    given["ctab"]["sct_pre_att"] = given["ctab"]["sct_pre_att"].replace(1, 5)  # no code of the trial's
    table, _ = joined(given, places)
    cohort = cohort_table(table, any_interval=False)
    gaps = tables.gaps(tables.check(given), cohort)
    assert gaps["diagemph"] == gaps["famchild"] == "not in this release of prsn"
    assert "5 cells of ctab are no code" in gaps["sct_pre_att"] and "age" not in gaps
    assert cohort[["diagemph", "famchild", "sct_pre_att"]].isna().all(axis=None)


def test_faults_of_all_tables_at_once():
    given, _ = case(age=["60", "old", "62"])
    given["ctab"] = given["ctab"].drop(columns="sct_ab_desc")
    given["canc"]["pid"] = [1, None]
    with pytest.raises(DataError) as caught:
        tables.check(given)
    for text in ("row 3, column age: 'old'", "column sct_ab_desc: missing", "row 3: pid is empty"):
        assert text in str(caught.value)


SAS7BDAT = (
    # ctab of three rows, made up, by ReadStat's writer (nothing in Python writes this format); gzip, base64
    "H4sICM0zB2sCA2N0YWIuc2FzN2JkYXQA7Zm/b9NQEMfv5acLESRVkDIgEbUMGSCy5RKBFImY2hRLSRrFDqKTO8ICLEgZKgESYwfEBH8AE2xsqE"
    "gRC2MlJgZGJiYmfpRQ4/i9F+cdMSmCSq14H8m6d1+/O59/5hwDRLz+eH/9RbGw/eqRAnNvtM3SqXxBXwBdJwmN0ClFgCQRdJ0s6lAsQjlJeB7H"
    "cMqX7aZlGq7hWG45DpjBKH5i3qC9/daYsCJ5uhAkX6iqS6rWOte8cfNOf0LXq5paVc9qWk2talpVw+n652tebUmQBs32rad8wfMfv3y/i+qUSC"
    "QSiUQikUgkEonkwPAkem8VeJZig8Q8HA/Muxx1K0lx3oDpJRR//Qi11xKi/mGO2gdcYC/sD5nuIj3F9E2kbynUXkH6BtMbqJ56jD7MTte3YvSN"
    "GL0eow8zv9dR+YxPF2Gaf89macrMlhqO3eo1Ddcyhf9TePw4T0OMX6T2+de70+NxuXz7rXHcjHiJRCI50Ox+90Nk/CGNp+E+/5v+DLNZOBr8nm"
    "bHHiUNw2BLO34CfF9sYoYsTx/lD1uGFAEF+flJXyHj3of7ZeRXkK8yP2ydFLFBYqX40Q/waaDVVlgdKtDWqh7sJe2AcqxzonY97Ncm+cFy3o6k"
    "Iv4WE36rca1OxzbBcXvmmrfWdZZdz7jktXstADY2LWc5HDdX2yueaRujccfqdkZj9r3Hu2p1HXu1DdMOMj/GKXR2/jW5rHhueX+VQf1WBh0jgu"
    "rDvo/mpdG8NLo2CdpP7LNbYOY9sLPHed/8v7unDhufA6ZdR18Cws6V+QW0vqAuCI1uMiY/zsufMStcyIvrT6DrxP/Pzsd+vY/+Kfw+SyD/GPLz"
    "yJ9HvrJve6qMnymjz+rRdnLh+OQet5wKKiW/PPGj18dk/KEJ+QlajAmZACAAAA=="
)


def test_upper_case_names_and_sas(tmp_path):
    """CDAS's kinds of files."""
    given, _ = case()
    given["prsn"].rename(columns=str.upper).to_csv(tmp_path / "nlst_780_PRSN_20210527.csv", index=False)
    (tmp_path / "ctab.sas7bdat").write_bytes(gzip.decompress(base64.b64decode(SAS7BDAT)))
    (tmp_path / "canc.csv").write_text("PID,LC_TOPOG\n1,C34.1\n")
    found = tables.find(tmp_path)
    assert set(found) == {"prsn", "ctab", "canc"}
    trial = tables.read(found)
    assert trial["prsn"]["scr_days1"].isna().tolist() == [False, True, False]
    assert trial["ctab"][["pid", "study_yr", "sct_ab_num"]].to_numpy().tolist() == [[1, 0, 1], [1, 1, 2], [2, 0, 1]]
    assert trial["ctab"]["sct_ab_desc"].tolist() == [51, 51, 59] and trial["canc"]["lc_topog"].tolist() == ["C34.1"]
    assert trial["ctab"]["sct_long_dia"].tolist()[:2] == [8, 9.5]
    assert trial["ctab"]["sct_perp_dia"].isna().tolist() == [False, True, True]  # SAS's .S


def test_two_files_for_one_table(tmp_path):
    for name in ("prsn.csv", "prsn_old.csv"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match="--prsn"):
        tables.find(tmp_path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("pid,age,scr_days0\n\n1,60,3\n,,\n2,6O,4\n", "row 5, column age: '6O'"),
        ("pid,age,scr_days0\n1,60,3\n2,61,4,5\n", "row 3: 4 cells, the header has 3"),
        ('pid;age;scr_days0\n1;60;"1,000"\n', "row 2, column scr_days0: '1,000' has a comma"),
        ("pid,age,scr_days0\n1.5,60,3\n", "row 2, column pid: '1.5': expected a whole number"),
        (
            "pid,age,scr_days0\n90071992547409931,60,3\n",
            "row 2, column pid: '90071992547409931': expected",
        ),
        ("pid,age,scr_days_0\n1,60,3\n", "column scr_days0: missing, but there is scr_days_0"),
        ("pid,age,scr_days0\n1,60,3\n\n01,60,3\n", "row 4: pid comes again"),
    ],
)
def test_rows_that_cannot_be_right(tmp_path, text, told):
    (tmp_path / "prsn.csv").write_text(text)
    with pytest.raises(DataError) as caught:
        tables.read({"prsn": tmp_path / "prsn.csv"})
    assert told in str(caught.value)


def test_a_round_that_the_trial_does_not_have(tmp_path):
    given, _ = case()
    given["ctab"]["study_yr"] = given["ctab"]["study_yr"] + 2
    with pytest.raises(DataError, match="row 3, column study_yr: .*3.*: expected 0, 1 or 2"):
        tables.check(given)


def test_a_scan_of_unknown_day_is_held_against_the_diagnosis_by_its_year():
    given, places = case(scr_days1=[".N", ".N", 370])
    given["canc"]["candx_days"] = [200, 500]
    table, flow = joined(given, places)
    assert reasons(flow) == {"scan after the diagnosis of a lung cancer": 1}
    assert table[table["pid"] == 1]["study_yr"].tolist() == [0]
