"""One case as the evaluation page's case browser and the PDF page show it: images, probabilities, diameters.

Images are (H, W) in [-1, 1], x first as in NIfTI; R is the number of runs.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

from scripts.arrays import Array
from scripts.data.transforms import HU_PER_UNIT, MARK
from scripts.errors import UserError
from scripts.evaluation.judge import REAL, Method
from scripts.evaluation.nodules.growth import Growth
from scripts.evaluation.study import Study

SAMPLES = 4
"""Number of runs that are shown as images of their own."""

OUTCOMES = {0.0: "benign", 1.0: "malignant"}
"""Labels in words."""


@dataclass(frozen=True)
class Tile:
    """An image of a case with its title; `colour` names the colour map of a standard deviation, drawn from 0."""

    title: str
    image: Array
    synthetic: bool = False
    colour: str | None = None


@dataclass(frozen=True)
class CaseStudy:
    """All that is shown of one case.

    Attributes:
        case_id: of the datalist.
        outcome: benign, malignant or unknown.
        record: the report that the language model reads.
        baseline, follow_up: real images (H, W); of a patient without a follow-up the latter is None.
        samples: generated images (R, H, W).
        scores: the classifier's probabilities of malignancy for the samples (R,).
        real_scores: those for baseline and follow-up.
        long_mm: long diameters of the baseline, the samples (R,) and the follow-up, if they were measured; NaN where
            the nodule was not found or is larger than the crop.
        pixel_mm: width of a pixel of the baseline, which the samples share, and of the follow-up, if known.
        days: from baseline to follow-up, if known.
    """

    case_id: str
    outcome: str
    record: str
    baseline: Array
    follow_up: Array | None
    samples: Array
    scores: Array
    real_scores: tuple[float, float]
    long_mm: tuple[float, Array, float] | None = None
    pixel_mm: tuple[float, float] | None = None
    days: float | None = None

    def tiles(self) -> list[Tile]:
        """Baseline, mean, standard deviation, follow-up and some samples; of a single run no mean and deviation."""
        shown = [Tile(f"sample {run}", image, True) for run, image in enumerate(self.samples[:SAMPLES], start=1)]
        baseline = Tile("baseline", self.baseline)
        later = [] if self.follow_up is None else [Tile("follow-up (data set)", self.follow_up)]
        if len(self.samples) == 1:
            return [baseline, *shown, *later]
        mean = Tile(f"mean of {len(self.samples)} runs", self.samples.mean(axis=0), True)
        deviation = Tile("standard deviation", self.samples.std(axis=0), True, "magma")
        return [baseline, mean, deviation, *later, *shown]


def case_studies(study: Study, methods: Mapping[str, Method], growth: Growth | None, main: str) -> list[CaseStudy]:
    """All cases with images and probabilities of the method `main`, and sizes of `growth` if they were measured."""
    cases, generated = study.cases, methods[main]
    before, after = (methods[name].probabilities[0] for name in REAL)
    assert generated.images is not None

    def long_mm(index: int) -> tuple[float, Array, float] | None:
        if growth is None:
            return None
        first, runs, last = (growth.measured[name].measurable("long")[:, index] for name in (REAL[0], main, REAL[1]))
        return float(first[0]), runs, float(last[0])

    def pixel_mm(index: int) -> tuple[float, float] | None:
        if study.spacing is None:
            return None
        return float(study.spacing["baseline"][index, 0]), float(study.spacing["follow_up"][index, 0])

    return [
        CaseStudy(
            case_id=case_id,
            outcome=OUTCOMES.get(float(cases.labels[index]), "unknown"),
            record=cases.reports[index],
            baseline=study.baseline[index, 0],
            samples=generated.images[:, index, 0],
            follow_up=study.follow_up[index, 0],
            scores=generated.probabilities[:, index],
            real_scores=(float(before[index]), float(after[index])),
            long_mm=long_mm(index),
            pixel_mm=pixel_mm(index),
            days=None if np.isnan(cases.days[index]) else float(cases.days[index]),
        )
        for index, case_id in enumerate(cases.ids)
    ]


def chosen(case_ids: Sequence[str], wanted: Sequence[str] | str) -> list[str]:
    """The ids in `wanted`, or all of `case_ids` for "all".

    Raises:
        UserError: an id does not exist; the message names it.
    """
    if wanted == "all":
        return list(case_ids)
    asked = [wanted] if isinstance(wanted, str) else list(wanted)
    if unknown := [name for name in asked if name not in case_ids]:
        raise UserError(f"case_pages: no such case: {', '.join(unknown)}; the first of this section is {case_ids[0]}.")
    return asked


def spread_limit(studies: Sequence[CaseStudy]) -> float:
    """The standard deviation of the brightest colour, the same for all cases, so that they can be compared."""
    return max((float(study.samples.std(axis=0).max()) for study in studies), default=0.0) or 1.0


def sprite(study: CaseStudy, limit: float) -> bytes:
    """A case's tiles side by side as a lossless WebP file, marked as synthetic in its metadata.

    Args:
        limit: of `spread_limit`.
    """
    pictures = []
    for tile in study.tiles():
        scaled = tile.image / limit if tile.colour else (tile.image + 1) / 2
        colours = matplotlib.colormaps[tile.colour or "gray"](np.clip(scaled, 0, 1).T, bytes=True)
        pictures.append(colours[..., :3])
    image = Image.fromarray(np.concatenate(pictures, axis=1))
    exif = Image.Exif()
    exif[0x010E] = MARK  # ImageDescription
    buffer = io.BytesIO()
    image.save(buffer, format="webp", lossless=True, quality=60, exif=exif)  # a higher quality is much slower
    return buffer.getvalue()


def browser(studies: Sequence[CaseStudy]) -> dict[str, Any] | None:
    """The data of the evaluation page's case browser, JSON-serialisable; None where there is no case."""
    if not studies:
        return None
    limit = spread_limit(studies)
    return {
        "side": list(studies[0].baseline.shape),
        "tiles": [[tile.title, tile.synthetic] for tile in studies[0].tiles()],
        "brightest_hu": round(limit * HU_PER_UNIT),
        "cases": [
            {
                "id": study.case_id,
                "outcome": study.outcome,
                "record": study.record,
                "scores": [round(float(score), 4) for score in study.scores],
                "real": [round(score, 4) for score in study.real_scores],
                "long_mm": diameters(study),
                "course": course(study),
                "pixel_mm": study.pixel_mm,
                "sprite": base64.b64encode(sprite(study, limit)).decode(),
            }
            for study in studies
        ],
    }


def course(study: CaseStudy) -> dict[str, Any] | None:
    """Days to the follow-up and the long diameters in mm, for a figure of size over time.

    Returns:
        ``days``, ``baseline``, ``runs`` and ``follow_up``, of the last two what was measured; None without a measured
        baseline or without days.
    """
    if study.long_mm is None or study.days is None or not np.isfinite(study.long_mm[0]):
        return None
    baseline, runs, follow_up = study.long_mm
    return {
        "days": round(study.days),
        "baseline": round(baseline, 2),
        "runs": [round(float(value), 2) for value in runs if np.isfinite(value)],
        "follow_up": round(follow_up, 2) if np.isfinite(follow_up) else None,
    }


def diameters(study: CaseStudy) -> str | None:
    """The measured long diameters in words, the generated ones over runs that show one; None without measurements."""
    if study.long_mm is None:
        return None
    baseline, runs, follow_up = study.long_mm

    def mm(value: float) -> str:
        return f"{value:.1f} mm" if np.isfinite(value) else "not measurable"

    found = runs[np.isfinite(runs)]
    generated = mm(float(np.median(found))) if len(found) else "not measurable"
    if len(found) > 1:
        generated = f"median {generated} ({found.min():.1f} to {found.max():.1f})"
    if 0 < len(found) < len(runs):
        generated += f" in {len(found)} of {len(runs)} runs"
    return f"baseline {mm(baseline)}, generated {generated}, follow-up {mm(follow_up)}"
