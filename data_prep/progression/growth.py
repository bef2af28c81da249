"""How much a nodule grows: follow-up diameter over baseline diameter, as mixtures of which draws and chances are known.

A factor is written with :data:`DECIMALS` decimals. What a law gives for one is the probability of exactly that number,
so that limits, at which many draws lie, need no other treatment than the values between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

DECIMALS = 4
YEAR = 365.25

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Doubling:
    """Volume doubles in a time that is log-normal, no less than the shortest and no more than the longest, in days."""

    median_days: float
    sd_log: float
    shortest_days: float
    longest_days: float

    def draw(self, days: float, rng: Generator) -> float:
        time = self.median_days * np.exp(self.sd_log * rng.standard_normal())
        return float(2.0 ** (days / 3.0 / np.clip(time, self.shortest_days, self.longest_days)))

    def cdf(self, factor: Floats, days: Floats) -> Floats:
        """Probability of a factor of at most this one."""
        with np.errstate(divide="ignore"):
            time = days / 3.0 / np.log2(np.maximum(factor, 1.0))  # infinite where there is no growth
            slower = norm.sf(np.log(time / self.median_days) / self.sd_log)
        return np.where(time > self.longest_days, 0.0, np.where(time <= self.shortest_days, 1.0, slower))


@dataclass(frozen=True)
class Normal:
    """A normal factor, no less than ``low`` and no more than ``high``, whatever the interval."""

    mean: float
    sd: float
    low: float
    high: float

    def draw(self, days: float, rng: Generator) -> float:
        return float(np.clip(rng.normal(self.mean, self.sd), self.low, self.high))

    def cdf(self, factor: Floats, days: Floats) -> Floats:
        """Probability of a factor of at most this one."""
        return _between(factor, self.low, self.high, norm.cdf(factor, self.mean, self.sd))


@dataclass(frozen=True)
class Uniform:
    """Any factor from ``low`` to ``high``, whatever the interval."""

    low: float
    high: float

    def draw(self, days: float, rng: Generator) -> float:
        return float(rng.uniform(self.low, self.high))

    def cdf(self, factor: Floats, days: Floats) -> Floats:
        """Probability of a factor of at most this one."""
        return np.clip((factor - self.low) / (self.high - self.low), 0.0, 1.0)


@dataclass(frozen=True)
class Brownian:
    """The factor's logarithm is normal, mean and variance in proportion to the time: ``drift`` and ``sd`` of a year.

    The factor is no less than ``low`` and no more than ``high``.
    """

    drift: float
    sd: float
    low: float
    high: float

    def draw(self, days: float, rng: Generator) -> float:
        years = days / YEAR
        factor = np.exp(self.drift * years + self.sd * np.sqrt(years) * rng.standard_normal())
        return float(np.clip(factor, self.low, self.high))

    def cdf(self, factor: Floats, days: Floats) -> Floats:
        """Probability of a factor of at most this one."""
        years = days / YEAR
        with np.errstate(divide="ignore"):
            below = norm.cdf(np.log(np.maximum(factor, 0.0)), self.drift * years, self.sd * np.sqrt(years))
        return _between(factor, self.low, self.high, below)


def _between(factor: Floats, low: float, high: float, below: Floats) -> Floats:
    """The distribution function of values that were moved to the nearer limit where they lay beyond one."""
    return np.where(factor < low, 0.0, np.where(factor >= high, 1.0, below))


Component = Doubling | Normal | Uniform | Brownian
KINDS: dict[str, type[Component]] = {
    "doubling": Doubling,
    "normal": Normal,
    "uniform": Uniform,
    "brownian": Brownian,
}
"""Components by what a law calls them; a law gives ``share`` and the attributes of each."""


def keys(kind: str) -> list[str]:
    """What a law says of a component of a kind, besides ``kind`` and ``share``."""
    return [field.name for field in fields(KINDS[kind])]


@dataclass(frozen=True)
class Mixture:
    """Growth of nodules of one outcome: components, and which share of nodules follows each."""

    components: tuple[Component, ...]
    shares: tuple[float, ...]

    @classmethod
    def of(cls, parts: Sequence[dict[str, Any]]) -> Mixture:
        """The mixture that a law describes."""
        made = [KINDS[part["kind"]](**{name: float(part[name]) for name in keys(part["kind"])}) for part in parts]
        return cls(tuple(made), tuple(float(part["share"]) for part in parts))

    def draw(self, days: float, rng: Generator) -> float:
        """A factor over an interval, with :data:`DECIMALS` decimals."""
        component = self.components[rng.choice(len(self.shares), p=self.shares)]
        return round(component.draw(days, rng), DECIMALS)

    def cdf(self, factor: ArrayLike, days: ArrayLike) -> Floats:
        """Probability of a factor of at most this one, before it is rounded."""
        factor, days = np.asarray(factor, dtype=np.float64), np.asarray(days, dtype=np.float64)
        parts = [part * each.cdf(factor, days) for part, each in zip(self.shares, self.components, strict=True)]
        return np.asarray(np.sum(parts, axis=0))

    def probability(self, factor: ArrayLike, days: ArrayLike) -> Floats:
        """Probability of exactly this factor, written with :data:`DECIMALS` decimals.

        >>> still = Mixture((Normal(mean=1.0, sd=0.05, low=0.9, high=1.1),), (1.0,))
        >>> float(still.probability(1.1, 365).round(3)), float(still.probability(1.2, 365))
        (0.023, 0.0)
        """
        centre, half = np.round(np.asarray(factor, dtype=np.float64), DECIMALS), 0.5 * 10.0**-DECIMALS
        return self.cdf(centre + half, days) - self.cdf(centre - half, days)
