"""What tables beside a source note of participants takes the place of what the trial's tables do not tell."""

import numpy as np
import pandas as pd
import pytest

from data_prep.errors import DataError
from data_prep.nlst import noted, tables
from data_prep.nlst.choices import Attributes
from data_prep.nlst.coordinates import FINDINGS, checked
from data_prep.nlst.flow import Flow
from data_prep.nlst.join import join


def findings(**columns):
    """Two participants, the first at T0 and T1."""
    table = pd.DataFrame(
        {"pid": [1, 1, 2], "study_yr": [0, 1, 0], "nodule_id": "1", "image": "s", "x": 1, "y": 2, "z": 3}
    )
    return checked(table.assign(candidates=-1, **columns).reindex(columns=list(FINDINGS)), "source")


NOTED = {"noted_age": [60, 60, 65], "noted_gender": [1, 1, 2], "noted_day": [10, 380, np.nan]}


def test_what_prsn_tells_is_kept_and_what_it_lacks_is_taken():
    prsn = pd.DataFrame({"pid": [1, 2, 3], "age": [61, None, 70], "scr_days0": [12, 5, 0]})
    trial = noted.completed(tables.check({"prsn": prsn}), findings(**NOTED))
    made = trial["prsn"].set_index("pid")
    assert made["age"].tolist() == [61, 65, 70] and made["gender"].fillna(0).tolist() == [1, 2, 0]
    assert made["scr_days0"].tolist() == [12, 5, 0] and made["scr_days1"].fillna(0).tolist() == [380, 0, 0]


def test_without_tables_there_are_those_that_sources_note():
    trial = noted.completed(tables.Trial({}), findings(**NOTED, noted_malignant=[1, 1, 0]))
    assert trial["prsn"]["pid"].tolist() == [1, 2] and trial["canc"]["pid"].tolist() == [1]
    assert trial.has("prsn", "age", "gender", "scr_days1") and not trial.has("prsn", "diagemph") and trial["ctab"].empty
    table = join(trial, findings(**NOTED, noted_malignant=[1, 1, 0]), Flow(), Attributes.NONE)
    assert table["malignant"].tolist() == [1, 1, 0] and table["age"].tolist() == [60, 61, 65]
    assert table["days"].fillna(-1).tolist() == [10, 380, -1]


def test_a_cancer_without_ctab_leaves_the_outcome_open():
    """Whether a participant's nodule is the only one is told by ctab alone."""
    trial = noted.completed(tables.check({"canc": pd.DataFrame({"pid": [1]})}), findings())
    assert join(trial, findings(), Flow(), Attributes.NONE)["malignant"].fillna(-1).tolist() == [-1, -1, 0]


def test_where_readers_attributes_are_needed_an_unknown_abnormality_is_left_out_by_name():
    trial, flow = noted.completed(tables.check({"canc": pd.DataFrame({"pid": [1]})}), findings()), Flow()
    assert join(trial, findings(), flow, Attributes.BOTH).empty
    assert [reason for reason, _ in flow.exclusions[1]] == [
        "which abnormality of the trial's readers it is is not known"
    ]


def test_parts_of_one_source_are_read_together_and_unknown_tables_are_refused(tmp_path):
    row = {"pid": 1, "study_yr": 0, "nodule_id": 1, "series_uid": "1.2", "x": 1, "y": 2, "z": 3}
    for part in (0, 1):
        pd.DataFrame([{**row, "study_yr": part}]).to_csv(tmp_path / f"{part}.csv", index=False)
    sources, people = noted.read([tmp_path / "0.csv", tmp_path / "1.csv"])
    assert people is None and [len(source) for source in sources.values()] == [2]
    (tmp_path / "x.csv").write_text("id,day\n1,2\n")
    with pytest.raises(DataError, match="no source of coordinates that is known"):
        noted.read([tmp_path / "x.csv"])
