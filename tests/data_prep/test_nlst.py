import pandas as pd
import pytest

from data_prep.errors import DataError
from data_prep.nlst import join

PERSON = {
    "PID": [1, 2, 3],
    "Age": [60, 61, 62],
    "gender": [1, 2, 1],
    "DIAGEMPH": [".M", 0, 1],
    **{f"fam{name}": [0, 0, 1] for name in ("father", "mother", "brother", "sister", "child")},
    "scr_days0": [10, 20, 5],
    "scr_days1": [380, ".N", 370],
}
NODULES = {"sct_pre_att": 1, "sct_epi_loc": 1, "sct_long_dia": 8, "sct_perp_dia": ".S", "sct_margins": 2}
SITES = {"locrup": [1, 0, 0], "locrmid": 0, "locrlow": 0, "loclup": 0, "loclin": 0, "locllow": 0}


def tables(**person):
    seen = [(1, 0, 1), (1, 1, 2), (2, 0, 1), (3, 0, 1), (3, 0, 2)]
    keys = pd.DataFrame(seen, columns=["pid", "study_yr", "sct_ab_num"])
    ctab = keys.rename(columns={"study_yr": "STUDY_YR"}).assign(sct_ab_desc=51, **NODULES)
    ctab.loc[4, "sct_epi_loc"] = 6
    emphysema = {"pid": 1, "STUDY_YR": 0, "sct_ab_num": 9, "sct_ab_desc": 59}
    positions = keys.assign(nodule_id=[1, 1, 1, 1, 2], image="s", x=1, y=2, z=3)
    return {
        "prsn": pd.DataFrame(PERSON).assign(**person),
        "ctab": pd.concat([ctab, pd.DataFrame([emphysema])]),
        "canc": pd.DataFrame({"pid": [1, 3], "candx_days": [400, 500]}),
        "positions": positions,
    }


def test_join_by_number_within_a_year_and_nodule_over_years():
    cohort = join(**tables())
    assert list(cohort["patient_id"]) == ["1", "1", "2", "3", "3"]
    assert list(cohort["study_yr"]) == ["0", "1", "0", "0", "0"]
    assert list(cohort["age"]) == ["60", "61", "61", "62", "62"]
    assert cohort["days_from_baseline"].tolist() == ["0", "370", "0", "0", "0"]
    assert cohort["diagemph"].isna().tolist() == [True, True, False, False, False]
    assert cohort["sct_perp_dia"].isna().all()


def test_outcome_without_sites_is_unknown_where_a_patient_has_two_nodules():
    outcomes = join(**tables())["malignant"]
    assert outcomes[:3].tolist() == ["1", "1", "0"] and outcomes[3:].isna().all()


def test_outcome_by_lobe():
    sites = {**SITES, "locrup": [1, 0, 0], "locllow": [0, 0, 1]}
    assert join(**tables(**sites))["malignant"].tolist() == ["1", "1", "0", "0", "1"]


def test_a_release_without_family_history_is_named():
    given = tables()
    given["prsn"] = given["prsn"].drop(columns=["famchild", "DIAGEMPH"])
    with pytest.raises(DataError, match="prsn: column diagemph is missing") as caught:
        join(**given)
    assert "prsn: column famchild is missing" in str(caught.value)
