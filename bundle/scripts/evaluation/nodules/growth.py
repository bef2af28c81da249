"""Clinical measures of growth: diameters, area and volume doubling time of generated nodules, against the truth.

All images are measured in the same way, by the outline of :mod:`scripts.evaluation.nodules.outline` in the crop's axial
slice. The long diameter is the largest distance across the outline, the perpendicular one the longest chord at right
angles to it (Fleischner Society). Two truths are compared with:

- `measured`: the real follow-up, measured in the same way, so that a bias of the outline cancels;
- `record`: the diameters in the dataset's record, against which the real follow-up shows the measurement's own error.

Throughout, R is the number of runs and N of cases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist, squareform

from scripts.arrays import Array
from scripts.data.transforms import to_hu
from scripts.evaluation.nodules.outline import outline
from scripts.evaluation.statistics import metrics
from scripts.evaluation.statistics.correlation import balanced_accuracy, correlation
from scripts.evaluation.study import Study

Indices = NDArray[np.integer]

MEDIAN = "_median_size"
"""Suffix of a method's name for the median of its measurements over runs."""

AT_ONCE = 128
"""Crops that are outlined together."""

DIAMETER_CHANGE = 1.5
"""Change of the mean diameter in mm above which a nodule has grown or shrunk (Lung-RADS v2022)."""

VOLUME_CHANGE = 0.25
"""Relative change of the volume from which a nodule has grown or shrunk (NELSON trial)."""

YEAR = 365.25
"""Days; also the interval of cases that give none."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of N nodules in R runs.

    Attributes:
        long, perpendicular: diameters in mm, (R, N); NaN where a record lacks them; of what an image does not show,
            those of the smallest outline.
        area: in mm², (R, N); NaN for records.
        found, cut: (R, N), see :class:`scripts.evaluation.nodules.outline.Outlines`.
    """

    long: Array
    perpendicular: Array
    area: Array
    found: NDArray[np.bool_]
    cut: NDArray[np.bool_]

    @property
    def mean(self) -> Array:
        """Mean diameter (R, N) in mm."""
        return (self.long + self.perpendicular) / 2

    @property
    def volume(self) -> Array:
        """Volume (R, N) in mm³ of an ellipsoid with the geometric mean as third axis: pi / 6 (l p)^(3/2)."""
        return np.pi / 6 * (self.long * self.perpendicular) ** 1.5

    def take(self, cases: Indices) -> Sizes:
        """The sizes of some of the cases."""
        return Sizes(**{name: values[:, cases] for name, values in vars(self).items()})

    def measurable(self, name: str) -> Array:
        """A measurement (R, N) by its name, NaN where the nodule was not found or is larger than its crop."""
        return np.where(self.found & ~self.cut, getattr(self, name), np.nan)

    def median(self) -> Sizes:
        """The median of each measurement over runs, as one run."""
        return Sizes(**{name: np.median(v, axis=0, keepdims=True).astype(v.dtype) for name, v in vars(self).items()})


def diameters(points: Array) -> tuple[float, float]:
    """Largest distance between points (n, 2) in mm, and the longest chord of their convex hull at right angles to it.

    Along the long axis the chord's length is linear between corners of the hull, so the longest chord ends in a corner.

    Example:
        >>> long, perpendicular = diameters(np.array([[0.0, 0.0], [5.0, 3.0], [10.0, 0.0], [5.0, -3.0]]))
        >>> round(long, 2), round(perpendicular, 2)
        (10.0, 6.0)
    """
    hull = points[ConvexHull(points).vertices]
    distances = squareform(pdist(hull))
    first, last = np.unravel_index(distances.argmax(), distances.shape)
    long = float(distances[first, last])
    x, y = (hull[last] - hull[first]) / long
    along, across = ((hull - hull[first]) @ np.array([[x, -y], [y, x]])).T
    ends = [first, last]
    sides = [np.union1d(np.flatnonzero(side), ends) for side in (across > 0, across < 0)]
    edges = []
    for side in sides:
        order = side[np.argsort(along[side])]
        edges.append(np.interp(along, along[order], across[order]))
    return long, float((edges[0] - edges[1]).max())


def area(points: Array) -> float:
    """Area in mm² within a closed outline (n, 2) in mm, by the shoelace formula."""
    x, y = points.T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def of_mask(mask: NDArray[np.bool_], spacing: Sequence[float] | Array) -> tuple[float, float, float]:
    """Long and perpendicular diameter (mm) and area (mm²) of a mask (H, W); zeros where it is empty.

    Diameters are measured between midpoints of the pixels' edges: exact along the axes, otherwise within half a pixel.

    Args:
        spacing: mm between pixels along both axes.
    """
    rim = np.argwhere(mask & ~ndimage.binary_erosion(mask))
    if len(rim) == 0:
        return 0.0, 0.0, 0.0
    halves = np.array([[0.5, 0], [-0.5, 0], [0, 0.5], [0, -0.5]])
    points = (rim[:, None] + halves).reshape(-1, 2) * np.asarray(spacing)
    return *diameters(points), float(mask.sum() * np.prod(spacing))


def measure(images: Array, spacing: Array) -> Sizes:
    """Measures the nodules at the centre of images (R, N, 1, H, W) in [-1, 1], with ``spacing`` (N, 2) in mm."""
    runs, cases = images.shape[:2]
    crops, pixels = images.reshape(runs * cases, *images.shape[3:]), np.tile(spacing, (runs, 1))
    parts = []
    for start in range(0, runs * cases, AT_ONCE):
        some = slice(start, start + AT_ONCE)
        outlines = outline(to_hu(crops[some].astype(np.float64)), pixels[some])
        sizes = np.array([(*diameters(points), area(points)) for points in outlines.points])
        parts.append((*sizes.T, outlines.found, outlines.cut))
    return Sizes(*(np.concatenate(values).reshape(runs, cases) for values in zip(*parts, strict=True)))


def measure_all(images: Mapping[str, Array], spacing: Mapping[str, Array]) -> dict[str, Sizes]:
    """Sizes of the nodules in images (R, N, 1, H, W) by name; generated ones have the baseline's pixels.

    Args:
        spacing: of :class:`scripts.evaluation.study.Study`.
    """
    on_follow_up = ("real_follow_up", "reconstructed_follow_up")
    return {
        name: measure(samples, spacing["follow_up" if name in on_follow_up else "baseline"])
        for name, samples in images.items()
    }


def recorded(diameters: Array) -> Sizes:
    """Sizes, as one run, of diameters (N, 2) in mm that radiologists recorded, the long ones first."""
    long, perpendicular = diameters.T[:, None]
    return Sizes(long, perpendicular, np.full_like(long, np.nan), np.isfinite(long), np.zeros_like(long, dtype=bool))


def doubling_time(before: Array, after: Array, days: Array | float) -> Array:
    """Volume doubling time in days, t ln 2 / ln(V1 / V0): infinite for a stable nodule, negative for one that shrinks.

    Args:
        before, after: volumes V0 and V1, above zero and in the same unit.
        days: t, between the two.

    Example:
        >>> doubling_time(np.array([100.0, 100.0]), np.array([200.0, 400.0]), days=360.0)
        array([360., 180.])
    """
    with np.errstate(divide="ignore"):
        return days * np.log(2.0) / np.log(after / before)


def diameter_class(before: Array, after: Array) -> Array:
    """Class by the change of mean diameters in mm and :data:`DIAMETER_CHANGE`: 1 grown, 0 stable, -1 shrunk."""
    change = after - before
    return (change > DIAMETER_CHANGE).astype(int) - (change < -DIAMETER_CHANGE)


def volume_class(before: Array, after: Array) -> Array:
    """Class by the relative change of volumes and :data:`VOLUME_CHANGE`: 1 grown, 0 stable, -1 shrunk."""
    change = after / before - 1
    return (change >= VOLUME_CHANGE).astype(int) - (change <= -VOLUME_CHANGE)


class Growth:
    """Compares measured sizes with both truths.

    Args:
        measured: sizes by a method's name, those of `real_baseline` and `real_follow_up` among them.
        study: N cases, with the spacing of their crops.
        weights: (B, N) of `metrics.patient_resamples`, or None.
    """

    def __init__(self, measured: Mapping[str, Sizes], study: Study, weights: Array | None) -> None:
        self.measured = dict(measured)
        several = {name + MEDIAN: each.median() for name, each in measured.items() if len(each.long) > 1}
        self.sizes = {name: each for name, each in measured.items() if name != "real_baseline"} | several
        self.cases = cases = study.cases
        field = study.field_mm
        self.days = np.where(cases.days > 0, cases.days, YEAR)
        self.weights = weights
        self.before = {"measured": measured["real_baseline"], "record": recorded(cases.diameters)}
        self.after = {"measured": measured["real_follow_up"], "record": recorded(cases.follow_up_diameters)}
        real = [self.before["measured"], self.after["measured"]]
        records = [self.before["record"], self.after["record"]]
        self.cut = np.any([each.cut[0] for each in real] + [each.long[0] >= field for each in records], axis=0)
        self.lost = ~self.cut & ~np.all([each.found[0] for each in real], axis=0)
        self.measurable = ~self.cut & ~self.lost

    @property
    def patients(self) -> list[str]:
        """The patients of the cases that can be measured."""
        return [patient for patient, use in zip(self.cases.patients, self.measurable, strict=True) if use]

    def score(self) -> dict[str, Any]:
        """The entry `growth` of metrics.json.

        Nodules that are larger than their crop, in a real image or by the record, and those that a real image does not
        show at its centre cannot be measured; they are left out for every method alike, and counted. Generated images
        do not exclude cases: a nodule that is not visible there is measured as the smallest outline.
        """
        result: dict[str, Any] = {
            "diameter_change_mm": DIAMETER_CHANGE,
            "volume_change": VOLUME_CHANGE,
            "n_larger_than_crop": int(self.cut.sum()),
            "n_not_found": int(self.lost.sum()),
        }
        for truth, after in self.after.items():
            known = np.isfinite(self.before[truth].mean[0]) & np.isfinite(after.mean[0])
            use = np.flatnonzero(self.measurable & known)
            names = [name for name in self.sizes if (truth, name) != ("measured", "real_follow_up")]
            result[truth] = {
                "n_cases": len(use),
                "classes": self._counts(truth, use),
                "methods": {name: self._row(name, truth, use) for name in names} if len(use) else {},
            }
        return result

    def _counts(self, truth: str, use: Indices) -> dict[str, dict[str, int]]:
        """How many nodules have grown, are stable or have shrunk, by one truth."""
        before, after = self.before[truth].take(use), self.after[truth].take(use)
        classes = {
            "diameter": diameter_class(before.mean, after.mean),
            "volume": volume_class(before.volume, after.volume),
        }
        labels = {"grown": 1, "stable": 0, "shrunk": -1}
        return {key: {word: int((of == label).sum()) for word, label in labels.items()} for key, of in classes.items()}

    def _row(self, name: str, truth: str, use: Indices) -> dict[str, Any]:
        """Scores of one method against one truth; its changes are taken from the measured baseline."""
        measured, start = self.sizes[name].take(use), self.before["measured"].take(use)
        before, after, days = self.before[truth].take(use), self.after[truth].take(use), self.days[use]
        weights = None if self.weights is None else metrics.several(self.weights[:, use])
        errors = {
            "long_mm": np.abs(measured.long - after.long),
            "perpendicular_mm": np.abs(measured.perpendicular - after.perpendicular),
            "long_bias_mm": measured.long - after.long,
            "doublings_per_year": np.abs(
                YEAR / doubling_time(start.volume, measured.volume, days)
                - YEAR / doubling_time(before.volume, after.volume, days)
            ),
        }
        if np.isfinite(after.area).all():
            errors["area_mm2"] = np.abs(measured.area - after.area)
        row = {key: metrics.similarity(values, weights) for key, values in errors.items()}
        found = {
            "diameter": (diameter_class(start.mean, measured.mean), diameter_class(before.mean, after.mean)[0]),
            "volume": (volume_class(start.volume, measured.volume), volume_class(before.volume, after.volume)[0]),
        }
        for key, (classes, true) in found.items():
            row[f"{key}_accuracy"] = metrics.similarity(classes == true, weights)
            resampled = None if weights is None else balanced_accuracy(classes, true, weights).mean(axis=0)
            row[f"{key}_balanced_accuracy"] = metrics.estimate(balanced_accuracy(classes, true)[:, 0], resampled)
        change, true = measured.mean - start.mean, (after.mean - before.mean)[0]
        for key, ranked in {"change_pearson": False, "change_spearman": True}.items():
            row[key] = _correlation_scores(change, true, weights, ranked)
        return row | {"share_not_found": float((~measured.found).mean()), "share_cut": float(measured.cut.mean())}

    def changes(self, name: str) -> tuple[Array, Array]:
        """Change of the mean diameter in mm, real (n,) and of a method (R, n), of the cases that can be measured."""
        start = self.before["measured"].mean
        changes = self.after["measured"].mean - start, self.sizes[name].mean - start
        return changes[0][0, self.measurable], changes[1][:, self.measurable]


def _correlation_scores(change: Array, truth: Array, weights: Array | None, ranked: bool) -> dict[str, Any]:
    """A correlation as metrics.json has it."""
    per_run = correlation(change, truth, ranked=ranked)[:, 0]
    if not np.isfinite(per_run).all():
        return metrics.undefined("not defined where no change differs from another, as in a copy of the baseline")
    resampled = None if weights is None else correlation(change, truth, weights, ranked).mean(axis=0)
    return metrics.estimate(per_run, resampled)
