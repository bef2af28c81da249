"""The scores of every method: its images against the real follow-ups, its probabilities against the outcomes."""

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

REAL = ("real_baseline", "real_follow_up")
"""Names of the rows of real images."""


@dataclass(frozen=True)
class Bootstrap:
    """Arguments of :func:`scripts.evaluation.statistics.metrics.patient_resamples`, which resamples patients."""

    resamples: int = 2000
    stratified: bool = True
    seed: int = 0


@dataclass(frozen=True)
class Method:
    """A method's results.

    Attributes:
        probabilities: of malignancy (R, N).
        images: (R, N, 1, H, W), if it generates any.
        distances: perceptual distances (R, N) of the images to the real follow-ups; None for real images.
        of_sets: ``fid`` and ``kid`` of images that were judged before and are not here.
    """

    probabilities: Array
    images: Array | None = None
    distances: Array | None = None
    of_sets: Mapping[str, Any] | None = None


class Judge:
    """Computes scores with the networks and the bootstrap of an evaluation; features of real images only once.

    Args:
        study: the cases and their real crops.
        classifier: function from crops (n, 1, H, W) on ``device`` to probabilities of malignancy (n,).
        perceptual: the distance for LPIPS; by default with AlexNet.
        features: the network for FID and KID; by default the one whose weights are on disk.
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
        # for calibration, which depends on the share of malignant patients, so that this share must vary
        self.plain_weights = metrics.patient_resamples(
            study.cases.patients, study.cases.labels, **{**options, "stratified": False}
        )
        self.perceptual = (perceptual or PerceptualDistance("alex")).to(device)
        # FID's fallback is AlexNet whatever the distance is; here it is only not loaded twice
        shared = self.perceptual if self.perceptual.network == "alex" else None
        self.features = (features or FeatureExtractor(fallback=shared)).to(device)
        self.real_features = self.apply(self.features, study.follow_up)

    @property
    def extractors(self) -> dict[str, str]:
        """Names of the networks behind LPIPS, FID and KID."""
        return {"lpips": self.perceptual.name, "fid": self.features.name, "kid": self.features.name}

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
        """Perceptual distances (R, N) of images (R, N, 1, H, W) to the real follow-ups, over what is not padded."""
        parts = []
        compared = (self.batches(self.study.compared(run)) for run in images)
        for real, *runs in zip(self.batches(self.study.follow_up), *compared, strict=True):
            features = self.perceptual.features(real)
            parts.append(
                torch.stack([self.perceptual.compare(self.perceptual.features(run), features) for run in runs])
            )
        return torch.cat(parts, dim=1).double().cpu().numpy() / self.study.compared_share

    def classify(self, images: Array, name: str) -> Array:
        """Probabilities (R, N) of images (R, N, 1, H, W).

        Raises:
            ValueError: the classifier does not give one probability per image.
        """
        outputs = np.stack(
            [self.apply(lambda batch: self.classifier(batch).reshape(len(batch), -1), run) for run in images]
        )
        if outputs.shape[2] != 1:
            raise ValueError(f"the classifier must give one probability an image, not {outputs.shape[2]}")
        if not ((outputs >= 0) & (outputs <= 1)).all():
            raise ValueError(f"the classifier must give probabilities in [0, 1]; for {name} it does not (logits?)")
        return outputs[:, :, 0]

    def method(self, images: Array, name: str) -> Method:
        """The results of a method that makes images, or of real ones, which are not compared with themselves."""
        return Method(self.classify(images, name), images, None if name in REAL else self.distances(images))

    def score(self, method: Method) -> dict[str, Any]:
        """A method's metrics; LPIPS, FID and KID, against the real follow-ups, only where it has distances."""
        cases = self.study.cases
        scores = metrics.classification(method.probabilities, cases.labels, self.weights)
        if method.of_sets is not None and method.distances is not None:
            return scores | {"lpips": metrics.similarity(method.distances, self.weights), **method.of_sets}
        if method.images is None or method.distances is None:
            reason = "not given where no image is made" if method.images is None else "not given for real images"
            return scores | {name: metrics.undefined(reason) for name in ("lpips", "fid", "kid")}
        features = np.stack([self.apply(self.features, run) for run in method.images])
        return scores | {
            "lpips": metrics.similarity(method.distances, self.weights),
            "fid": metrics.fid(features, self.real_features),
            "kid": metrics.kid(features, self.real_features, cases.patients, self.weights),
        }

    def statistics(self, name: str, probabilities: Mapping[str, Array], others: Sequence[str]) -> dict[str, Any]:
        """Calibration of a method, and the differences of its AUROC from those of others.

        Args:
            probabilities: of `one_probability_per_case`.
        """
        cases, own = self.study.cases, probabilities[name]
        return {
            "auroc_difference": {
                other: auroc_difference(own, probabilities[other], cases.labels, cases.patients, self.weights)
                for other in others
            },
            "calibration": calibration_scores(own, cases.labels, self.plain_weights),
        }


def ensembles(methods: Mapping[str, Method]) -> dict[str, Method]:
    """For each method with several runs a further one, whose probabilities are the means over runs."""
    several = {name: method.probabilities for name, method in methods.items() if len(method.probabilities) > 1}
    return {name + ENSEMBLE: Method(runs.mean(axis=0, keepdims=True)) for name, runs in several.items()}


def one_probability_per_case(methods: Mapping[str, Method]) -> dict[str, Array]:
    """By name, the probabilities (N,) of methods with one per case: of a single run, or averaged over runs.

    The copy of the baseline is left out, since its probabilities are those of the baseline.
    """
    single = {name: method.probabilities[0] for name, method in methods.items() if len(method.probabilities) == 1}
    return {name: values for name, values in single.items() if name != "copy_baseline"}


def score_methods(methods: Mapping[str, Method], judge: Judge, main: str | None) -> dict[str, Any]:
    """The entries `methods`, `gap` and `gap_closed` of metrics.json; `gap_closed` is that of the method `main`."""
    rows = {name: judge.score(method) for name, method in methods.items()}
    baseline, follow_up = (methods[real].probabilities[0] for real in REAL)
    gap = metrics.gap(baseline, follow_up, judge.study.cases.labels, judge.weights)
    for name, row in rows.items():
        row["n_runs"] = len(methods[name].probabilities)
        if name not in REAL:
            row["gap_closed"] = {key: metrics.gap_closed(row[key], rows[REAL[0]][key], gap[key]) for key in gap}
    probabilities = one_probability_per_case(methods)
    for name in probabilities:
        rows[name] |= judge.statistics(name, probabilities, _held_against(name, list(probabilities), main))
    closed = dict.fromkeys(gap) if main is None else rows[main]["gap_closed"]
    return {"methods": rows, "gap": gap, "gap_closed": closed}


def _held_against(name: str, names: Sequence[str], main: str | None) -> list[str]:
    """The methods that a method's AUROC is compared with: all others for `main`, the real images for the rest."""
    if main is not None and name in (main, main + ENSEMBLE):
        return [other for other in names if other != name]
    return [real for real in REAL if REAL[0] != name != real]
