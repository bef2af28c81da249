"""What is published beside the weights so that a single case can be judged: aggregates, never a case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from scripts.arrays import Array
from scripts.comparators.published import PUBLISHED
from scripts.errors import UserError
from scripts.evaluation.statistics.calibration import log_odds_of
from scripts.files import read_mapping
from scripts.fingerprint import differences, digest_weights

FORMAT = 1
"""Of reference.json."""

REFERENCE, LATENTS = "reference.json", "reference.safetensors"
"""Files in models_dir: calibration, held-out AUROC and percentiles; mean and covariance of the baselines' latents."""

FEWEST = 100
"""Cases below which no percentile is published, since it would tell of single cases."""

POOLED = 4
"""Side to which latents are pooled before their distance is taken."""

SAMPLING = ("num_runs", "num_steps", "solver", "guidance_scale", "image_size")
"""How generated images were made, as far as what is published of them may depend on it."""

OTHER_IMAGES = ("guidance_scale", "texture")
"""What makes images of another kind, of which nothing is published."""

EXACTNESS = ("num_steps", "solver")
"""What makes the same images more or less exactly: what is published of them stays, and this is said beside it."""

OTHERWISE = "; generated images were sampled otherwise there: "
"""What stands between the words on held-out cases, and those of :func:`sampled_otherwise`."""

METHODS = {
    "record_only": "the record alone",
    "direct_classifier": "baseline crop and record, direct classifier",
    "generated": "generated follow-ups, read by the judge",
    "baseline": "baseline crop, read by the judge",
    "brock": "the record, Brock model",
}
"""Names and titles of the methods that give a probability."""

FILES = {
    "record_only": PUBLISHED["record alone"][0],
    "direct_classifier": PUBLISHED["direct classifier"][0],
    "classifier": "classifier.safetensors",
}
"""Files of models_dir that give probabilities; the last one, the judge, reads images."""


class PublishedReferenceError(UserError):
    """A reference that cannot be made or read; the message names the file and what to do."""


@dataclass(frozen=True)
class Reference:
    """The content of reference.json and reference.safetensors; empty where they are not there or of other weights.

    Attributes:
        content: of reference.json.
        mean, covariance: (D,) and (D, D), of the training baselines' latents, see :func:`pooled`.
        lacking: in words, what cannot be given for want of these files.
        otherwise: in words, in what images were sampled otherwise than those that they are judged by; empty where
            nothing of images is taken.
    """

    content: Mapping[str, Any] = field(default_factory=dict)
    mean: Array | None = None
    covariance: Array | None = None
    lacking: Sequence[str] = ()
    otherwise: str = ""

    def calibrated(self, method: str, probability: float) -> float | None:
        """A probability after the logistic recalibration on held-out cases; None where there is none.

        log odds -> intercept + slope * log odds (Cox 1958; Platt 1999).
        """
        calibration = self.content.get("methods", {}).get(method, {}).get("calibration")
        if calibration is None:
            return None
        return float(expit(calibration["intercept"] + calibration["slope"] * log_odds_of(probability)))

    def held_out(self, method: str) -> dict[str, Any] | None:
        """AUROC of a method on cases that it was not fitted on, with its interval and those cases; None if unknown."""
        found = self.content.get("methods", {}).get(method, {}).get("held_out")
        return said_beside(found, self.otherwise) if method == "generated" else found

    @property
    def thresholds(self) -> tuple[str, dict[str, dict[str, float]]]:
        """On which cases, in words, and each method's thresholds by rule; both are empty where none were published.

        The rules are those of :mod:`scripts.evaluation.statistics.thresholds`.
        """
        found = self.content.get("thresholds", {})
        return found.get("on", ""), found.get("methods", {})

    @property
    def compared(self) -> dict[str, float]:
        """The AUROC of methods on the same held-out cases; empty where it is not known."""
        return self.content.get("compared", {}).get("auroc", {})

    @property
    def order(self) -> list[str]:
        """All methods: first those with an AUROC on the same held-out cases, the best one first, then the others."""
        ranked = sorted(self.compared, key=lambda name: -self.compared[name])
        return ranked + [name for name in METHODS if name not in ranked]

    def factors(
        self, growth: Mapping[str, Any] | None, runs: int, interval_days: float | None
    ) -> Mapping[str, Mapping[str, float]]:
        """By how much the ends of the runs' intervals move apart; empty where that was published of other forecasts.

        Args:
            growth: the published entry of the images that growth is measured from.
            runs: of the case; as many must have been published, since ends of intervals depend on their number.
            interval_days: of the case; within the percentiles of training, where these are published.
        """
        made = self.content.get("made_from", {}).get("sampling", {}).get("num_runs")
        usual = self.percentiles("interval_days")
        within = usual is None or interval_days is None or usual[0] <= interval_days <= usual[1]
        return (growth or {}).get("factors", {}) if runs == made and within else {}

    def percentiles(self, name: str) -> tuple[float, float] | None:
        """The 1st and 99th percentile of a number of training; None where it is not published."""
        found = self.content.get("training", {}).get("percentiles", {}).get(name)
        return None if found is None else (found[0], found[1])

    def distance(self, latent: Array) -> float | None:
        """Mahalanobis distance of a baseline's pooled latent (D,) from those of training; None without them."""
        if self.mean is None or self.covariance is None:
            return None
        return float(mahalanobis(latent[None], self.mean, self.covariance)[0])


def said_beside(held_out: Mapping[str, Any] | None, otherwise: str) -> dict[str, Any] | None:
    """Figures of held-out cases, where images of these were sampled otherwise: that, among the words on the cases.

    >>> said_beside({"n": 80, "on": "validation section"}, "solver was 'dpmpp', is 'ddim'")
    {'n': 80, 'on': "validation section; generated images were sampled otherwise there: solver was 'dpmpp', is 'ddim'"}
    """
    if held_out is None or not otherwise:
        return None if held_out is None else dict(held_out)
    return {**held_out, "on": f"{held_out.get('on', 'held-out cases')}{OTHERWISE}{otherwise}"}


def mahalanobis(latents: Array, mean: Array, covariance: Array) -> Array:
    """Mahalanobis distances (N,) of latents (N, D) from a distribution with mean (D,) and covariance (D, D)."""
    centred = latents - mean
    return np.sqrt(np.einsum("nd,nd->n", centred, np.linalg.solve(covariance, centred.T).T))


def pooled(latents: Array) -> Array:
    """Latents (N, C, h, w) averaged over a grid of :data:`POOLED` cells a side, at most h and w, as (N, D)."""
    count, channels, *sides = latents.shape
    cells = [min(POOLED, side) for side in sides]
    parts = [np.array_split(np.arange(side), cell) for side, cell in zip(sides, cells, strict=True)]
    rows = [[latents[:, :, rows][..., columns].mean(axis=(2, 3)) for columns in parts[1]] for rows in parts[0]]
    return np.stack([cell for row in rows for cell in row], axis=2).reshape(count, channels * cells[0] * cells[1])


def digest_files(models_dir: str | Path) -> dict[str, str]:
    """The digest of each of :data:`FILES` that a folder has."""
    folder = Path(models_dir)
    return {name: digest_weights(folder / file) for name, file in FILES.items() if (folder / file).is_file()}


def open_reference(models_dir: str | Path, made_by: Mapping[str, Any]) -> Reference:
    """The reference of the weights in a folder.

    Args:
        made_by: of :func:`scripts.predictions.provenance`. A reference of other weights is not taken, and of another
            guidance scale, or of images with texture beside some without, nothing that it says of generated images,
            which then are others. Runs, steps and solver make such images more or less exactly: what is said of them is
            taken, and it is said in what these differ.

    Raises:
        PublishedReferenceError: a file of it is damaged.
    """
    from scripts.weights.checkpoints import load_tensors

    folder = Path(models_dir)
    if not (folder / REFERENCE).is_file():
        return Reference(lacking=[f"{REFERENCE}: no calibration, no held-out AUROC and no comparison with training"])
    content = read_mapping(folder / REFERENCE, PublishedReferenceError)
    if content.get("format") != FORMAT:
        raise PublishedReferenceError(
            f"{folder / REFERENCE}: format {content.get('format')!r}, expected {FORMAT}. Make it again."
        )
    weights, made = {**made_by["weights"], **digest_files(folder)}, content["made_from"]
    if other := sorted(name for name, digest in made["weights"].items() if weights.get(name) != digest):
        return Reference(lacking=[f"{REFERENCE}: it is of other weights ({', '.join(other)}), so not used"])
    lacking, otherwise = [], sampled_otherwise(made["sampling"], made_by)
    if others := other_images(made["sampling"], made_by):
        content, otherwise = _without_generated(content), ""
        lacking = [f"{REFERENCE}: of generated images nothing, since it is of others ({others})"]
    elif sampled_otherwise(made["sampling"], made_by, EXACTNESS):
        lacking = [f"{REFERENCE}: nothing of images sampled as these; what is given is of others ({otherwise})"]
    if not (folder / LATENTS).is_file():
        lacking.append(f"{LATENTS}: no comparison of the baseline's latent with training's")
        return Reference(content, lacking=lacking, otherwise=otherwise)
    tensors = load_tensors(folder / LATENTS)
    mean, covariance = (tensors[name].double().numpy() for name in ("mean", "covariance"))
    return Reference(content, mean, covariance, lacking, otherwise)


def sampled(made_by: Mapping[str, Any]) -> dict[str, Any]:
    """:data:`SAMPLING` of a provenance, None where it does not say; and ``texture``, where there was any."""
    return {name: made_by.get(name) for name in SAMPLING} | ({"texture": True} if made_by.get("texture") else {})


def sampled_otherwise(published: Mapping[str, Any], made_by: Mapping[str, Any], leaving_out: Sequence[str] = ()) -> str:
    """In words, in which settings but some images were made otherwise, as far as both sides say; empty: in none.

    >>> sampled_otherwise({"num_runs": 20, "solver": "ddim"}, {"num_runs": 20, "solver": "dpmpp", "num_steps": 12})
    "solver was 'ddim', is 'dpmpp'"
    """
    was, now = sampled(published), sampled(made_by)
    silent = [name for name in SAMPLING if None in (was[name], now[name])]
    return "; ".join(differences(was, now, [*silent, *leaving_out]))


def other_images(published: Mapping[str, Any], made_by: Mapping[str, Any]) -> str:
    """In words, in which of :data:`OTHER_IMAGES` images were made otherwise; empty: in none."""
    return sampled_otherwise(published, made_by, [name for name in SAMPLING if name not in OTHER_IMAGES])


def _without_generated(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of reference.json without calibration, thresholds and AUROC of generated images."""
    methods = {name: each for name, each in content["methods"].items() if name != "generated"}
    compared = {name: each for name, each in content["compared"]["auroc"].items() if name != "generated"}
    limits = content.get("thresholds", {})
    limits = {
        **limits,
        "methods": {name: each for name, each in limits.get("methods", {}).items() if name != "generated"},
    }
    return {
        **content,
        **{"methods": methods, "thresholds": limits},
        "compared": {**content["compared"], "auroc": compared},
    }


def published_thresholds(models_dir: str | Path, made_by: Mapping[str, Any]) -> tuple[str, dict[str, dict[str, float]]]:
    """The thresholds that were published with the weights in a folder, for an evaluation.

    Args:
        made_by: as of :func:`open_reference`.

    Returns:
        On which cases they were fixed, in words, and the thresholds by the title of the evaluation's row, ``generated``
        for the images of these weights.
    """
    reference = open_reference(models_dir, made_by)
    on, methods = reference.thresholds
    if on and reference.otherwise:
        on += OTHERWISE + reference.otherwise
    titles = {"baseline": "real_baseline", **{_method_of(file): title for title, (file, _) in PUBLISHED.items()}}
    return on, {titles.get(name, name): limits for name, limits in methods.items()}


def _method_of(file: str) -> str:
    """The name of the method whose probabilities a file of :data:`FILES` gives."""
    return next(name for name, each in FILES.items() if each == file)
