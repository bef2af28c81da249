"""The laws by which outcomes, records and growth are drawn: ``published``, ``real``, or a YAML file with the same keys.

Each is one file in ``data_prep/progression/laws``; with ``like`` it takes from another what it does not say itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.random import Generator
from numpy.typing import ArrayLike

from data_prep.errors import DataError
from data_prep.progression.growth import KINDS, Floats, Mixture, keys

FOLDER = Path(__file__).parent / "laws"
LAWS = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))
"""Names of the laws that come with NAMD."""

OUTCOMES = ("benign", "malignant")
"""By the value of ``malignant``."""
RELATIVES = ("famfather", "fammother", "fambrother", "famsister", "famchild")
SHARES = ("female", "emphysema", *RELATIVES, "upper_lobe")
AGE = ("malignant", "benign", "sd", "youngest", "oldest")
KEYS = ("description", "outcome", "interval_days", "record", "growth")
LOWEST, HIGHEST = 1, 5
"""Ratings of malignancy."""


@dataclass(frozen=True)
class Law:
    """How a cohort is drawn.

    Attributes:
        name: ``published``, ``real``, or that of the file.
        outcome: probability of malignancy by rating.
        interval: days between the scans by quantile.
        age: keys :data:`AGE`, years.
        shares: for each of :data:`SHARES` the share among benign and among malignant.
        growth: of benign and of malignant nodules.
        content: the law as it would stand in a file, whole.
    """

    name: str
    outcome: Mapping[float, float]
    interval: Mapping[float, float]
    age: Mapping[str, float]
    shares: Mapping[str, tuple[float, float]]
    growth: tuple[Mixture, Mixture]
    content: Mapping[str, Any]

    def prior(self, rating: ArrayLike) -> Floats:
        """Probability of malignancy by rating; between two ratings, linear."""
        return np.interp(np.asarray(rating, dtype=np.float64), list(self.outcome), list(self.outcome.values()))

    def draw_interval(self, rng: Generator) -> float:
        """Days between the scans; whole ones where they vary."""
        days = float(np.interp(rng.uniform(), list(self.interval), list(self.interval.values())))
        return days if len(self.interval) == 1 else float(round(days))


def read(law: str) -> Law:
    """A law by its name, or from a YAML file.

    Raises:
        DataError: no such file, or every fault of it.

    >>> float(read("published").prior(3))
    0.22
    """
    path = FOLDER / f"{law}.yaml" if law in LAWS else Path(law)
    if not path.is_file():
        raise DataError(f"--law {law}: no such file; expected {', '.join(LAWS)}, or a YAML file with their keys.")
    content = _content(path)
    if faults := _faults(content):
        raise DataError("\n  ".join([f"{path}: no law (compare {FOLDER / 'published.yaml'}):", *faults]))
    record, interval = content["record"], content["interval_days"]
    return Law(
        name=law if law in LAWS else path.stem,
        outcome={float(rating): float(content["outcome"][rating]) for rating in sorted(content["outcome"])},
        interval={float(share): float(interval[share]) for share in sorted(interval)}
        if isinstance(interval, dict)
        else {0.0: float(interval)},
        age={name: float(record["age"][name]) for name in AGE},
        shares={name: (float(record[name]["benign"]), float(record[name]["malignant"])) for name in SHARES},
        growth=(Mixture.of(content["growth"]["benign"]), Mixture.of(content["growth"]["malignant"])),
        content=content,
    )


def _content(path: Path) -> dict[str, Any]:
    """A file's keys, with those of the law that it is ``like``."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read as YAML ({error}).") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected the keys {', '.join(KEYS)}.")
    like = content.pop("like", None)
    if like is None:
        return content
    if like not in LAWS or FOLDER / f"{like}.yaml" == path:
        raise DataError(f"{path}: like is {like!r}; expected one of {', '.join(LAWS)}.")
    return {**_content(FOLDER / f"{like}.yaml"), **content}


def _faults(content: Mapping[str, Any]) -> list[str]:
    """All that is wrong with a law, a line each."""
    faults = [f"{name}: unknown; expected {', '.join(KEYS)}." for name in content if name not in KEYS]
    faults += [f"{name}: missing." for name in KEYS if name not in content]
    if faults:
        return faults
    ratings = range(LOWEST, HIGHEST + 1)
    outcome = content["outcome"]
    if not isinstance(outcome, dict) or set(outcome) != set(ratings) or not all(map(_is_share, outcome.values())):
        faults.append(f"outcome: expected a probability for each of {', '.join(map(str, ratings))}.")
    if not _is_interval(content["interval_days"]):
        faults.append("interval_days: expected days, or days by share, from 0.0 to 1.0 and not falling.")
    faults += _record_faults(content["record"])
    growth = content["growth"] if isinstance(content["growth"], dict) else {}
    for outcome in OUTCOMES:
        faults += [f"growth, {outcome}: {fault}" for fault in _mixture_faults(growth.get(outcome))]
    return faults


def _record_faults(record: Any) -> list[str]:
    """What is wrong with the shares of features and with the age."""
    if not isinstance(record, dict):
        return [f"record: expected age, {', '.join(SHARES)}."]
    faults = [f"record, {name}: unknown." for name in record if name not in ("age", *SHARES)]
    for name in SHARES:
        shares = record.get(name)
        if not isinstance(shares, dict) or set(shares) != set(OUTCOMES) or not all(map(_is_share, shares.values())):
            faults.append(f"record, {name}: expected a share from 0 to 1 for malignant and for benign.")
    age = record.get("age")
    if not isinstance(age, dict) or set(age) != set(AGE) or not all(map(_is_number, age.values())):
        faults.append(f"record, age: expected {', '.join(AGE)}, in years.")
    elif age["sd"] <= 0 or age["youngest"] >= age["oldest"]:
        faults.append("record, age: expected a positive sd, and the youngest below the oldest.")
    return faults


def _mixture_faults(parts: Any) -> list[str]:
    """What is wrong with a mixture."""
    if not isinstance(parts, list) or not parts or not all(isinstance(part, dict) for part in parts):
        return ["expected a list of components."]
    faults = []
    for number, part in enumerate(parts, start=1):
        kind = part.get("kind")
        if kind not in KINDS:
            faults.append(f"component {number}: kind is {kind!r}; expected one of {', '.join(KINDS)}.")
            continue
        expected = ["kind", "share", *keys(kind)]
        if set(part) != set(expected) or not all(_is_number(part[name]) for name in expected[1:]):
            faults.append(f"component {number}: expected numbers for {', '.join(expected[1:])}.")
        elif not _is_possible(part):
            faults.append(f"component {number}: expected a share from 0 to 1, a positive spread, and limits that rise.")
    if not faults and abs(sum(part["share"] for part in parts) - 1.0) > 1e-9:
        faults.append("expected shares that sum to 1.")
    return faults


def _is_possible(part: Mapping[str, Any]) -> bool:
    spreads = all(part[name] > 0 for name in ("sd", "sd_log", "median_days", "shortest_days", "low") if name in part)
    limits = ("shortest_days", "longest_days") if "shortest_days" in part else ("low", "high")
    return _is_share(part["share"]) and spreads and part[limits[0]] < part[limits[1]]


def _is_interval(interval: Any) -> bool:
    if not isinstance(interval, dict):
        return _is_number(interval) and interval > 0
    if not all(map(_is_number, (*interval, *interval.values()))):
        return False
    days = [interval[share] for share in sorted(interval)]
    return min(interval) == 0 and max(interval) == 1 and days[0] > 0 and days == sorted(days)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1
