"""The flow counts right, whatever is excluded."""

import itertools

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.nlst.flow import Flow, draw, neighbours

KEYS = [(pid, nodule, year) for pid in range(4) for nodule in "ab" for year in range(3)]


def table_of(keys):
    table = pd.DataFrame(sorted(keys), columns=["pid", "nodule_id", "study_yr"])
    return table.astype({"pid": int, "nodule_id": str, "study_yr": int}).assign(series_uid="s")


@settings(max_examples=40)
@given(st.sets(st.sampled_from(KEYS), min_size=1), st.integers(0, 2**32 - 1), st.booleans())
def test_what_is_left_and_what_is_left_out_are_all(keys, seed, any_interval):
    rng = np.random.default_rng(seed)
    table, flow = table_of(keys), Flow(any_interval)
    flow.box("all", table)
    left = table
    for reason in ("one", "two"):
        left = flow.exclude(left, pd.Series(rng.uniform(size=len(left)) < 0.3, left.index), reason)
    flow.box("left", left)
    (_, before), (_, after) = flow.boxes
    for unit, count in before.items():
        assert count - sum(lost[unit] for _, lost in flow.exclusions[0]) == after[unit]
    out = pd.concat([left, *flow.left_out])[["pid", "nodule_id", "study_yr"]]
    assert sorted(map(tuple, out.to_numpy().tolist())) == sorted(keys)


@given(st.sets(st.sampled_from(KEYS), min_size=1))
def test_pairs_by_going_through_them_all(keys):
    by_hand = {False: 0, True: 0}
    for _, group in itertools.groupby(sorted(keys), key=lambda key: key[:2]):
        years = [year for *_, year in group]
        by_hand[True] += len(years) - 1
        by_hand[False] += sum(year + 1 in years for year in years)
    for any_interval, count in by_hand.items():
        assert neighbours(table_of(keys), any_interval).sum() == count


def test_the_diagram_is_the_same_file_again(tmp_path):
    flow = Flow()
    flow.box("all", table_of(KEYS))
    flow.exclude(table_of(KEYS), pd.Series([True] + [False] * (len(KEYS) - 1)), "a reason with < and &")
    flow.end("Training", table_of(KEYS[1:]))
    for name in ("a.svg", "b.svg", "c.png"):
        draw(flow, tmp_path / name, "title", "SIMULATED")
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text() and (tmp_path / "c.png").stat().st_size > 5000
    assert "1 (pairs: 1): a reason with &lt; and &amp;" in text and "4 participants, 8 nodules" in text
