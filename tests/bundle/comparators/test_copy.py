"""Nothing changes: the follow-up is the baseline, and a copy of its own."""

from __future__ import annotations

import torch

from scripts.comparators.contract import Condition
from scripts.comparators.copy import CopyBaseline
from scripts.diffusion.noise import CaseNoise


def test_the_follow_up_is_a_copy_of_the_baseline() -> None:
    baseline = torch.rand(2, 1, 8, 8) * 2 - 1
    sample = CopyBaseline().sample(baseline, [Condition({}, None)] * 2, CaseNoise(baseline, 0))
    assert torch.equal(sample, baseline)
    sample.zero_()
    assert baseline.any(), "what is done to the sample is not done to the baseline"
