"""Flags: plain sentences that say where a case is not like those of training, or where its result is not to be trusted.

Thresholds are the 1st and 99th percentile of the training cases, as :mod:`scripts.results.publish` publishes them, and
the constants below. A number whose percentiles were not published is not compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from scripts.arrays import Array
from scripts.data.spacing import TOLERANCE
from scripts.data.transforms import to_hu
from scripts.ehr.features import EHR_FEATURES, FEATURES, RELATIVES, validate
from scripts.evaluation.nodules.growth import DIAMETER_CHANGE, Sizes
from scripts.results.growth import CUT, NOT_FOUND
from scripts.results.reference import Reference

DIFFERENCE_MM, DIFFERENCE_SHARE = 5.0, 0.5
"""Difference of the measured long diameter from the recorded one, in mm or as a share of it, that is flagged."""

INTERVAL_DAYS = 15.0
"""Days about training's intervals that are not flagged: reports round intervals to months."""

OF_INTERVAL = "The interval, "
"""How the flag of an interval that training did not have begins."""

SPREAD = 0.1
"""Standard deviation, over runs, of the judge's probability from which runs disagree."""

DISAGREEING = 0.1
"""Share of runs that grow, and of runs that shrink, from which runs disagree."""

DISSOLVED_HU = 200.0
"""Mean absolute difference from the baseline from which generated images hardly show the same place."""

HU_SLACK = 50.0
"""HU beyond training's percentiles that are not flagged: scanners and noise differ by as much."""

HU_NUMBERS = {"hu_mean": "mean", "hu_5": "5th percentile", "hu_95": "95th percentile"}
"""Numbers of a crop's HU, clipped to the window, and what they are called."""


@dataclass(frozen=True)
class Case:
    """What flags are made from.

    Attributes:
        ehr: the record.
        interval_days: to the follow-up; None where nothing was said.
        crop: the baseline (H, W) in [-1, 1].
        pixel_mm: mm between pixels along both axes (2,).
        size: of the nodule at baseline, one run and one case.
        latent: of the baseline, pooled (D,); None without an autoencoder.
        change_hu: mean absolute difference of generated images from the baseline, median over runs.
    """

    ehr: Mapping[str, Any]
    interval_days: float | None
    crop: Array
    pixel_mm: Array
    size: Sizes
    latent: Array | None
    change_hu: float = 0.0


def flags(
    case: Case, reference: Reference, said: Mapping[str, Mapping[str, Any]], size: Mapping[str, Any], num_runs: int
) -> list[str]:
    """All flags of a case.

    Args:
        said: of :meth:`scripts.results.probabilities.Readers.probabilities`.
        size: of :func:`scripts.results.growth.growth`.
    """
    parts = (
        of_record(case, reference),
        of_size(case, size),
        of_image(case, reference),
        of_interval(case, reference),
        of_generated(case),
        of_runs(said, size, num_runs),
    )
    return [sentence for part in parts for sentence in part]


def of_record(case: Case, reference: Reference) -> Iterator[str]:
    """Features that are missing, or unlike those of training."""
    known = validate(case.ehr)
    missing = [name for name in EHR_FEATURES if name not in known]
    words = [FEATURES[name].description for name in missing if name not in RELATIVES]
    if relatives := [RELATIVES[name] for name in missing if name in RELATIVES]:
        words.append(f"lung cancer in {_listed(relatives, 'or')}")
    if words:
        yield f"The record lacks {_listed(words)}."
    common = reference.content.get("training", {}).get("codes", {})
    for name, value in known.items():
        feature = FEATURES[name]
        if feature.codes:
            if name in common and value not in common[name]:
                yield f"Under 1 % of the training records have this {feature.description}: {feature.codes[int(value)]}."
        elif outside := _outside(value, reference.percentiles(name)):
            yield f"The {feature.description}, {value:g} {feature.unit}, is {outside.format(feature.unit)}."


def of_size(case: Case, size: Mapping[str, Any]) -> Iterator[str]:
    """A nodule that is not found or larger than the crop, and a recorded diameter that is another."""
    field = float(np.min(case.pixel_mm * case.crop.shape))
    recorded = validate(case.ehr).get("sct_long_dia")
    if recorded is not None and recorded >= field:
        yield (
            f"The recorded long diameter, {recorded:g} mm, is larger than the crop, {field:.1f} mm a side: the nodule "
            "is not seen whole, and what is generated of it means nothing."
        )
    if "not_measurable" in size:
        yield f"Growth is not measured: {size['not_measurable']}."
    if not case.size.found[0, 0] or case.size.cut[0, 0]:
        return
    measured = float(case.size.long[0, 0])
    if recorded is not None and abs(measured - recorded) > min(DIFFERENCE_MM, DIFFERENCE_SHARE * recorded):
        yield (
            f"The long diameter is recorded as {recorded:g} mm and measured as {measured:.1f} mm in the crop: is it "
            "this nodule, and this slice?"
        )


def of_image(case: Case, reference: Reference) -> Iterator[str]:
    """Spacing, HU and latent, against those of training."""
    if limits := reference.percentiles("pixel_mm"):
        low, high = limits[0] * (1 - TOLERANCE), limits[1] * (1 + TOLERANCE)
        if (case.pixel_mm < low).any() or (case.pixel_mm > high).any():
            sides = " x ".join(f"{side:.3g}" for side in case.pixel_mm)
            yield (
                f"Pixels are {sides} mm, those of training {_span(limits, '.3g')} mm: the nodule looks larger or "
                "smaller to the networks than it is."
            )
    for name, value in hu_numbers(case.crop).items():
        if outside := _outside(value, reference.percentiles(name), HU_SLACK):
            yield f"The {HU_NUMBERS[name]} of the crop's HU, {value:.0f}, is {outside.format('HU')}: are these HU?"
    distance = None if case.latent is None else reference.distance(case.latent)
    limit = (reference.content.get("latents") or {}).get("distance_99")  # null where training cases were too few
    if distance is not None and limit is not None and distance > limit:
        yield (
            f"The crop is unlike those of training: its latent lies {distance:.1f} from their mean (Mahalanobis), and "
            f"99 % of theirs within {limit:.1f}."
        )


def of_interval(case: Case, reference: Reference) -> Iterator[str]:
    """An interval that training did not have."""
    limits = reference.percentiles("interval_days")
    if case.interval_days is not None and limits is not None:
        low, high = limits[0] - INTERVAL_DAYS, limits[1] + INTERVAL_DAYS
        if not low <= case.interval_days <= high:
            yield (
                f"{OF_INTERVAL}{case.interval_days:g} days, is outside that of training, {_span(limits, '.0f')} days: "
                "the weights never saw such a follow-up."
            )


def of_generated(case: Case) -> Iterator[str]:
    """Images that do not show the baseline's surroundings any more."""
    if case.change_hu >= DISSOLVED_HU:
        yield (
            "The generated images hardly show the same place: they differ from the baseline by "
            f"{case.change_hu:.0f} HU on average. Look at them first."
        )


def of_runs(said: Mapping[str, Mapping[str, Any]], size: Mapping[str, Any], num_runs: int) -> Iterator[str]:
    """Runs that disagree with each other, or that show no nodule."""
    spread = said["generated"].get("runs", {}).get("sd")
    if spread is not None and spread >= SPREAD:
        yield f"The runs disagree: the judge's probability has a standard deviation of {spread:.2f} over them."
    if found := size.get("lung_rads"):
        grow, shrink = found["share_of_runs_that_grow"], found["share_of_runs_that_shrink"]
        if min(grow, shrink) >= DISAGREEING:
            yield (
                f"The runs disagree: in {grow:.0%} of them the nodule grows by more than {DIAMETER_CHANGE:g} mm in 12 "
                f"months, in {shrink:.0%} it shrinks by as much."
            )
    for name, words in (("runs_not_found", NOT_FOUND), ("runs_cut", CUT)):
        if (count := size[name]) and words not in size.get("not_measurable", ""):
            yield f"In {count} of {num_runs} runs {words}."


def hu_numbers(crop: Array) -> dict[str, float]:
    """:data:`HU_NUMBERS` of a crop in [-1, 1]."""
    hu = to_hu(np.asarray(crop, dtype=np.float64))
    low, high = np.percentile(hu, [5, 95])
    return {"hu_mean": float(hu.mean()), "hu_5": float(low), "hu_95": float(high)}


def _outside(value: float, limits: tuple[float, float] | None, slack: float = 0.0) -> str | None:
    """In words, that a value is outside training's percentiles; ``{}`` stands for the unit."""
    if limits is None or limits[0] - slack <= value <= limits[1] + slack:
        return None
    return f"outside what 98 % of the training cases have, {_span(limits, 'g')} {{}}"


def _span(limits: tuple[float, float], form: str) -> str:
    first, last = (format(round(limit, 4), form) for limit in limits)
    return first if first == last else f"{first} to {last}"


def _listed(words: list[str], last: str = "and") -> str:
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
