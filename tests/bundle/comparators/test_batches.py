"""Batches keep each case's record and interval as they are, gaps and all."""

from __future__ import annotations

import torch
from monai.data import MetaTensor

from scripts.comparators.batches import ConditionBatch, PairBatch
from scripts.comparators.contract import Condition
from tests.bundle.comparators.toy import discs


def test_conditions_follow_the_cases_through_any_order() -> None:
    cases = [
        {"case_id": "a", "ehr": {"age": 60}, "interval_days": 365},
        {"case_id": "b", "ehr": {}, "interval_days": None},
    ]
    prepare = ConditionBatch(cases)
    batch = {"case_id": ["b", "a"], "image": MetaTensor(torch.zeros(2, 1, 8, 8)), "report": ["", ""]}
    image, target, args, kwargs = prepare(batch)
    assert image.shape == (2, 1, 8, 8) and target is None and args == ()
    assert kwargs == {"condition": [Condition({}, None), Condition({"age": 60}, 365)]}


def test_pairs_are_tensors_whose_padding_is_unknown() -> None:
    pairs = discs(3)
    prepare = PairBatch(pairs.cases())
    real = torch.ones(3, 1, 16, 16, dtype=torch.bool)
    real[1, :, :4] = False
    batch = pairs.batch() | {"follow_up": MetaTensor(pairs.follow_up), "follow_up_real": real}
    baseline, follow_up, _, kwargs = prepare(batch)
    assert type(follow_up) is torch.Tensor and torch.equal(baseline, pairs.baseline)
    assert torch.equal(follow_up.isnan(), ~real) and torch.equal(follow_up[real], pairs.follow_up[real])
    assert kwargs["condition"] == pairs.conditions
