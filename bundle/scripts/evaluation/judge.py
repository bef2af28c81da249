"""Scores images and probabilities of every method against the real follow-ups and the outcomes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scripts.arrays import Array
from scripts.evaluation.report.columns import ENSEMBLE
from scripts.evaluation.statistics import metrics
from scripts.evaluation.statistics.calibration import calibration_scores
from scripts.evaluation.statistics.differences import auroc_difference
from scripts.evaluation.study import Study
from scripts.networks.inception import FeatureExtractor
from scripts.networks.perceptual import PerceptualDistance

GAPS = ("auroc", "auprc")

REAL = ("real_baseline", "real_follow_up")


@dataclass(frozen=True)
class Bootstrap:
    """How patients are resampled: see :func:`~scripts.evaluation.statistics.metrics.patient_resamples`."""

    resamples: int = 2000
    stratified: bool = True
    seed: int = 0


@dataclass(frozen=True)
class Method:
    """A row of the table: images (R, N, 1, H, W) to be held against the follow-ups, probabilities (R, N), or both."""

    probabilities: Array
    images: Array | None = None


class Judge:
    """Everything that images are held against, with the features of the real follow-ups computed once.

    Args:
        study: the cases and their real crops.
        classifier: (n, 1, H, W) on ``device`` to probabilities of malignancy (n,), in evaluation mode.
        perceptual: the distance; AlexNet's by default.
        features: of FID and KID; what is on disk by default.
        bootstrap: over patients.
        batch_size, device: of the networks.
    """

    def __init__(
        self,
        study: Study,
        classifier: Callable[[Tensor], Tensor],
        perceptual: PerceptualDistance | None = None,
        features: FeatureExtractor | None = None,
        bootstrap: Bootstrap | None = None,
        batch_size: int = 64,
        device: str | torch.device = "cpu",
    ) -> None:
        self.study, self.classifier, self.batch_size, self.device = study, classifier, batch_size, device
        self.bootstrap = bootstrap or Bootstrap()
        options = asdict(self.bootstrap)
        self.weights = metrics.patient_resamples(study.cases.patients, study.cases.labels, **options)
        # for calibration, where the share of malignant patients must vary too
        self.plain_weights = metrics.patient_resamples(
            study.cases.patients, study.cases.labels, **{**options, "stratified": False}
        )
        self.perceptual = (perceptual or PerceptualDistance("alex")).to(device)
        # FID's features do not depend on which distance was asked for; AlexNet is only not loaded twice
        shared = self.perceptual if self.perceptual.network == "alex" else None
        self.features = (features or FeatureExtractor(fallback=shared)).to(device)
        self.real_features = self.apply(self.features, study.follow_up)

    def batches(self, images: Array) -> Iterator[Tensor]:
        """Images (n, 1, H, W) in batches on the device."""
        for start in range(0, len(images), self.batch_size):
            yield torch.as_tensor(images[start : start + self.batch_size], dtype=torch.float32, device=self.device)

    def apply(self, function: Callable[[Tensor], Tensor], images: Array) -> Array:
        """`function` in batches over images (n, 1, H, W), as (n, D)."""
        return np.concatenate([function(batch).flatten(1).double().cpu().numpy() for batch in self.batches(images)])

    def encode(self, encoder: Callable[[Tensor], Tensor], images: Array) -> Array:
        """Latents (n, C, h, w) of images (n, 1, H, W)."""
        return np.concatenate([encoder(batch).double().cpu().numpy() for batch in self.batches(images)])

    def distances(self, images: Array) -> Array:
        """Perceptual distances (R, N) of images (R, N, 1, H, W) to the follow-ups, whose features serve all runs."""
        parts = []
        for real, *runs in zip(self.batches(self.study.follow_up), *(self.batches(run) for run in images), strict=True):
            features = self.perceptual.features(real)
            parts.append(
                torch.stack([self.perceptual.compare(self.perceptual.features(run), features) for run in runs])
            )
        return torch.cat(parts, dim=1).double().cpu().numpy()

    def classify(self, images: Array, name: str) -> Array:
        """Probabilities (R, N) of images (R, N, 1, H, W).

        Raises:
            ValueError: the classifier gives no probabilities, one an image.
        """
        outputs = np.stack(
            [self.apply(lambda batch: self.classifier(batch).reshape(len(batch), -1), run) for run in images]
        )
        if outputs.shape[2] != 1:
            raise ValueError(f"the classifier must give one probability an image, not {outputs.shape[2]}")
        if not ((outputs >= 0) & (outputs <= 1)).all():
            raise ValueError(f"the classifier must give probabilities in [0, 1]; for {name} it does not (logits?)")
        return outputs[:, :, 0]

    def score(self, method: Method, compare: bool) -> dict[str, Any]:
        """A method's row of the table; images are compared with the real follow-ups where `compare` holds."""
        cases = self.study.cases
        scores = metrics.classification(method.probabilities, cases.labels, self.weights)
        if method.images is None or not compare:
            reason = "not given where no image is made" if method.images is None else "not given for real images"
            return scores | {name: metrics.undefined(reason) for name in ("lpips", "fid", "kid")}
        features = np.stack([self.apply(self.features, run) for run in method.images])
        return scores | {
            "lpips": metrics.similarity(self.distances(method.images), self.weights),
            "fid": metrics.fid(features, self.real_features),
            "kid": metrics.kid(features, self.real_features, cases.patients, self.weights),
        }

    def statistics(self, name: str, probabilities: Mapping[str, Array], others: Sequence[str]) -> dict[str, Any]:
        """Calibration of a method of `one_probability_per_case`, and the difference of its AUROC from others."""
        cases, own = self.study.cases, probabilities[name]
        return {
            "auroc_difference": {
                other: auroc_difference(own, probabilities[other], cases.labels, cases.patients, self.weights)
                for other in others
            },
            "calibration": calibration_scores(own, cases.labels, self.plain_weights),
        }


def ensembles(methods: Mapping[str, Method]) -> dict[str, Method]:
    """A row more for each method of several runs: its probabilities averaged before they are judged."""
    several = {name: method.probabilities for name, method in methods.items() if len(method.probabilities) > 1}
    return {name + ENSEMBLE: Method(runs.mean(axis=0, keepdims=True)) for name, runs in several.items()}


def one_probability_per_case(methods: Mapping[str, Method]) -> dict[str, Array]:
    """Name to (N,) of the methods that give a case one probability, that averaged over runs where there are several.

    Without the copy of the baseline, whose probabilities are the baseline's.
    """
    single = {name: method.probabilities[0] for name, method in methods.items() if len(method.probabilities) == 1}
    return {name: values for name, values in single.items() if name != "copy_baseline"}


def score_methods(methods: Mapping[str, Method], judge: Judge, main: str | None) -> dict[str, Any]:
    """`methods` and `gap_closed` as metrics.json holds them; the gap at the top is that of the method `main`."""
    rows = {name: judge.score(method, compare=name not in REAL) for name, method in methods.items()}
    for name, row in rows.items():
        row["n_runs"] = len(methods[name].probabilities)
        if name not in REAL:
            ends = tuple(rows[real] for real in REAL)
            row["gap_closed"] = {key: metrics.gap_closed(row[key], *(end[key] for end in ends)) for key in GAPS}
    probabilities = one_probability_per_case(methods)
    for name in probabilities:
        rows[name] |= judge.statistics(name, probabilities, _held_against(name, list(probabilities), main))
    return {"methods": rows, "gap_closed": dict.fromkeys(GAPS) if main is None else rows[main]["gap_closed"]}


def _held_against(name: str, names: Sequence[str], main: str | None) -> list[str]:
    """What a method's AUROC is compared with: the main method's with all of `names`, others' with the real images."""
    if main is not None and name in (main, main + ENSEMBLE):
        return [other for other in names if other != name]
    return [real for real in REAL if REAL[0] != name != real]
