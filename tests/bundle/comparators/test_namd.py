"""NAMD under the contract: the very samples of its own inferer."""

from __future__ import annotations

import torch

from scripts.comparators.contract import Condition
from scripts.comparators.namd import NAMD
from scripts.diffusion.noise import CaseNoise
from scripts.diffusion.sampler import ProgressionInferer
from scripts.ehr.report import radiology_report
from tests.bundle.diffusion.helpers import crops, toy


def test_samples_are_the_inferers_for_the_reports_of_the_records() -> None:
    baseline, records = crops(2, 8), [({"age": 60}, 365), ({"sct_long_dia": 12.0}, None)]
    method = NAMD(toy(), num_steps=4, guidance_scale=2.0)
    sample = method.sample(baseline, [Condition(*each) for each in records], CaseNoise(baseline, seed=23))
    inferer = ProgressionInferer(num_steps=4, num_runs=1, guidance_scale=2.0, seed=23)
    expected = inferer(baseline, toy(), [radiology_report(*each) for each in records])
    assert sample.shape == (2, 1, 8, 8)
    torch.testing.assert_close(sample, expected, atol=1e-6, rtol=0)
    assert not torch.allclose(sample, inferer(baseline, toy(), ["", ""]), atol=1e-4), "the record matters"
