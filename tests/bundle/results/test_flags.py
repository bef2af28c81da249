"""Flags: each where it belongs, and none for a case like those of training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scripts.data.transforms import from_hu
from scripts.ehr.features import FEATURES
from scripts.evaluation.nodules.growth import Sizes, measure
from scripts.results.flags import Case, flags
from scripts.results.growth import CUT, growth
from scripts.results.reference import Reference
from tests.bundle.results.conftest import disc

RECORD = {name: next(iter(feature.codes), 60) for name, feature in FEATURES.items()}
RECORD |= {"sct_long_dia": 12.0, "sct_perp_dia": 12.0}
PERCENTILES = {"age": [55.0, 75.0], "sct_long_dia": [4.0, 30.0], "sct_perp_dia": [3.0, 25.0], "pixel_mm": [1.0, 1.0]}
PERCENTILES |= {"interval_days": [365.0, 365.0], "hu_mean": [-850.0, -500.0], "hu_5": [-1000.0, -800.0]}
PERCENTILES |= {"hu_95": [-800.0, 100.0]}
REFERENCE = Reference(
    {
        "training": {"percentiles": PERCENTILES, "codes": {"sct_margins": [1, 2], "sct_pre_att": [1]}},
        "latents": {"distance_99": 3.0},
    },
    mean=np.zeros(2),
    covariance=np.eye(2),
)
CROP = from_hu(disc(6.0, np.random.default_rng(0)))
AGREED = {"generated": {"runs": {"sd": 0.02}}}


def size_of(*crops: np.ndarray) -> Sizes:
    return measure(np.stack(crops)[:, None, None].astype(np.float32), np.ones((1, 2)))


CASE = Case(RECORD, 365, CROP, np.ones(2), size_of(CROP), np.array([1.0, 1.0]))


def found(
    case: Case = CASE, said: dict[str, Any] | None = None, runs: tuple[float, ...] = (6.0, 6.0, 6.0)
) -> list[str]:
    crops = [from_hu(disc(radius, np.random.default_rng(1))) for radius in runs]
    return flags(case, REFERENCE, said or AGREED, growth(case.size, size_of(*crops), 365), len(runs))


def test_a_case_like_those_of_training_has_none() -> None:
    assert found() == []
    few = {"latents": None, "training": {"n": 9, "percentiles": {}, "codes": {}}, "growth": None}
    for reference in (Reference(), Reference(few)):
        assert flags(CASE, reference, AGREED, growth(CASE.size, CASE.size, 365), 1) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"age": None, "gender": None}, "The record lacks age and gender."),
        (
            {"age": None, "famfather": None, "famchild": None},
            "The record lacks age and lung cancer in father or child.",
        ),
        ({"age": 90}, "The age, 90 years, is outside what 98 % of the training cases have, 55 to 75 years."),
        ({"sct_margins": 3}, "Under 1 % of the training records have this margins: poorly defined."),
    ],
)
def test_records(change: dict[str, Any], sentence: str) -> None:
    assert found(replace(CASE, ehr=RECORD | change)) == [sentence]


@pytest.mark.parametrize(("recorded", "flagged"), [(9.0, False), (17.5, False), (18.5, True), (8.5, True)])
def test_a_recorded_diameter_that_is_another(recorded: float, flagged: bool) -> None:
    """About 13 mm are measured of these pixels: over 5 mm, or over half of what is recorded."""
    assert float(CASE.size.long[0, 0]) == pytest.approx(13, abs=0.2)
    sentences = found(replace(CASE, ehr=RECORD | {"sct_long_dia": recorded}))
    assert len(sentences) == flagged
    assert not flagged or f"recorded as {recorded:g} mm and measured as 1" in sentences[0]


def test_a_mass_wider_than_the_crop() -> None:
    """Of 73 mm in a crop of 32: neither is its size measured nor its growth."""
    crop = np.full((32, 32), 0.5)
    mass = replace(CASE, ehr=RECORD | {"sct_long_dia": 73}, crop=crop, size=size_of(crop))
    sentences = found(mass)
    assert "The recorded long diameter, 73 mm, is larger than the crop, 32.0 mm a side" in "".join(sentences)
    assert f"Growth is not measured: in the baseline {CUT}." in sentences
    nothing = np.full((32, 32), -0.8)
    empty = "".join(found(replace(CASE, crop=nothing, size=size_of(nothing))))
    assert "no nodule is found at the centre" in empty and "recorded" not in empty


def test_pixels_and_densities() -> None:
    (sentence,) = found(replace(CASE, pixel_mm=np.array([0.9, 0.96])))
    assert sentence.startswith("Pixels are 0.9 x 0.96 mm, those of training 1 mm")
    unsigned = replace(CASE, crop=from_hu(disc(6.0, np.random.default_rng(0)) + 1024))
    assert [s for s in found(unsigned) if s.endswith("are these HU?")][0].startswith(
        "The mean of the crop's HU, 197, is"
    )
    assert found(replace(CASE, crop=from_hu(disc(6.0, np.random.default_rng(0)) + 40))) == [], "as scanners differ"


@pytest.mark.parametrize(("days", "flagged"), [(None, False), (352, False), (380, False), (381, True), (90, True)])
def test_intervals(days: float | None, flagged: bool) -> None:
    sentences = found(replace(CASE, interval_days=days))
    assert len(sentences) == flagged
    assert not flagged or f"The interval, {days} days, is outside that of training, 365 days" in sentences[0]


def test_a_latent_far_from_trainings() -> None:
    assert found(replace(CASE, latent=np.array([3.0, 0.0]))) == []
    (sentence,) = found(replace(CASE, latent=np.array([3.0, 4.0])))
    assert "its latent lies 5.0 from their mean (Mahalanobis), and 99 % of theirs within 3.0" in sentence


def test_images_that_have_dissolved() -> None:
    assert found(replace(CASE, change_hu=199.0)) == []
    (sentence,) = found(replace(CASE, change_hu=307.2))
    assert "they differ from the baseline by 307 HU on average" in sentence


def test_runs_that_disagree() -> None:
    (sentence,) = found(said={"generated": {"runs": {"sd": 0.15}}})
    assert sentence.startswith("The runs disagree: the judge's probability has a standard deviation of 0.15")
    (sentence,) = found(runs=(4.0, 6.0, 8.0))
    assert "in 33% of them the nodule grows by more than 1.5 mm in 12 months, in 33% it shrinks" in sentence
    assert "In 1 of 3 runs no nodule is found at the centre of the crop." in found(runs=(6.0, 6.0, -1.0))
