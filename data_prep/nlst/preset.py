"""A cohort as large as the paper's, by a rule of ours: the paper's own participants cannot be identified from it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from data_prep.nlst.flow import NODULE, Flow, neighbours

RULE = (
    "Our rule, not the paper's, whose participants are not published: solid, part-solid or ground-glass nodules, not "
    "calcified, 4 to 30 mm long at baseline (indeterminate), of known outcome, seen again a year later and before any "
    "diagnosis; per participant one nodule, a malignant one before others, then the longest; participants drawn by "
    "outcome with a seed: 776 to train and validate (165 with a malignant nodule) with 1,121 pairs, one in eight of "
    "them to validate, and 450 to test (53) with their first pair."
)
INDETERMINATE_MM = (4.0, 30.0)
ATTENUATIONS = (1, 2, 3)
TRAINING, TEST = {1: 165, 0: 611}, {1: 53, 0: 397}
TRAINING_PAIRS = 1121
VALIDATION_SHARE = 1 / 8


def select(table: pd.DataFrame, flow: Flow, seed: int) -> pd.DataFrame:
    """Chooses findings by :data:`RULE` and fills ``split``.

    Where there are too few participants with an outcome, they are dealt out in the paper's proportion.

    Args:
        table: what :func:`data_prep.nlst.join.join` returns.
        flow: notes what is left out; its pairs are of consecutive years.
        seed: of the draw.
    """
    nodule = [table[name] for name in NODULE]
    first = {name: table[name].groupby(nodule).transform("first") for name in ("sct_pre_att", "sct_long_dia")}
    table = flow.exclude(
        table,
        ~(first["sct_pre_att"].isin(ATTENUATIONS) & first["sct_long_dia"].between(*INDETERMINATE_MM)),
        "not indeterminate: 4 to 30 mm; solid, part-solid or ground glass",
    )
    table = flow.exclude(table, table["malignant"].isna(), "whether the nodule is malignant is not known")
    paired = neighbours(table, False)
    table = flow.exclude(table, ~(paired | _next(paired)), "no scan a year before or after")
    order = table.assign(length=table.groupby(NODULE)["sct_long_dia"].transform("first"))
    order = order.sort_values(["pid", "malignant", "length", "nodule_id"], ascending=[True, False, False, True])
    chosen = table["pid"].map(order.drop_duplicates("pid").set_index("pid")["nodule_id"])
    table = flow.exclude(table, table["nodule_id"] != chosen, "another nodule of the participant was taken")
    flow.box("Indeterminate nodules with a follow-up, one per participant", table)
    section = _draw(table, seed)
    table = flow.exclude(table, ~table["pid"].isin(section.index), "participant not drawn")
    table = table.assign(split=table["pid"].map(section))
    table = flow.exclude(table, _surplus(table, seed), "a later pair than the participant's first: not needed")
    flow.box("The paper's cohort by size, by our rule", table)
    return table


def _next(paired: pd.Series) -> pd.Series:
    """Which findings are the first of a pair whose second is marked."""
    return paired.shift(-1, fill_value=False)


def _draw(table: pd.DataFrame, seed: int) -> pd.Series:
    """The section of each participant who is drawn; enough of them with a second pair for the paper's number."""
    outcome = table.groupby("pid")["malignant"].first()
    pairs = neighbours(table, False).groupby(table["pid"]).sum()
    people = sum(TRAINING.values())
    rng = np.random.default_rng(seed)
    drawn: dict[int, str] = {}
    for value in (1, 0):
        order = rng.permutation(np.sort(outcome.index[outcome == value].to_numpy()))
        share = min(1.0, len(order) / (TRAINING[value] + TEST[value]))
        train, test = round(TRAINING[value] * share), round(TEST[value] * share)
        twice = order[pairs[order] > 1][: round((TRAINING_PAIRS - people) * train / people)]
        others = order[~np.isin(order, twice)]
        train -= len(twice)
        training = rng.permutation([*twice, *others[:train]])
        validation = round(len(training) * VALIDATION_SHARE)
        drawn |= dict.fromkeys(training[:validation].tolist(), "validation")
        drawn |= dict.fromkeys(training[validation:].tolist(), "training")
        drawn |= dict.fromkeys(others[train : train + test].tolist(), "test")
    return pd.Series(drawn, dtype=object)


def _surplus(table: pd.DataFrame, seed: int) -> pd.Series:
    """Findings after a participant's first pair: all in test; in training those beyond the paper's pairs."""
    paired = neighbours(table, False)
    number = paired.groupby(table["pid"]).cumsum()
    test = table["split"] == "test"
    people = table.loc[~test & (number == 2), "pid"].unique()
    spare = max(TRAINING_PAIRS - int(table.loc[~test, "pid"].nunique()), 0)
    keep = np.random.default_rng([seed, 1]).permutation(np.sort(people))[:spare]
    return (number > 1) & (test | ~table["pid"].isin(keep))
