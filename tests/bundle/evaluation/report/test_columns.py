"""What each key means."""

from __future__ import annotations

from scripts.evaluation import clinical
from scripts.evaluation.nodules import forecasts
from scripts.evaluation.report.columns import CALIBRATION, LATENTS
from tests.bundle.evaluation.page import Page


def test_meaning_of_every_key_is_in_both_files(outcome):
    _, result, folder = outcome
    flat = " ".join(Page((folder / "report.html").read_text()).text.split())
    assert "not a sampling error" in result["definitions"]["std"] and "over runs, how far seeds differ" in flat
    keys = {"mean", "std", "ci95", "p", "p_delong_clustered", "p_delong_independent", "auroc_difference", "kid"}
    keys |= {"change_pearson", "change_spearman"}
    keys |= {"gap", "contrasts", "real_halves", *clinical.DEFINITIONS, *forecasts.DEFINITIONS}
    assert keys | {"calibration", "regret", *CALIBRATION, *LATENTS} == result["definitions"].keys()
    assert "ECE ↓: no interval, for resampling cases biases the calibration error upwards." in flat
    shown = ("kid", "p", "p_delong_independent", *CALIBRATION, *LATENTS)
    assert all(result["definitions"][key] in flat for key in shown)
    assert result["bootstrap"] == {"unit": "patient", "resamples": 50, "stratified": True, "seed": 0}
