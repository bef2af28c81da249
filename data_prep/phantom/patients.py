"""The people of the phantom, their nodules and what becomes of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.random import Generator

from data_prep.phantom import outcomes
from data_prep.phantom.growth import growth
from scripts.ehr import brock
from scripts.ehr.brock import GROUND_GLASS, PART_SOLID, SOLID
from scripts.ehr.features import SIDES
from scripts.ehr.report import DAYS_PER_MONTH

MALIGNANT_SHARE = 0.28
"""Of nodules, after enrichment (see :func:`data_prep.phantom.outcomes.enriched`)."""

SPICULATED, SMOOTH, POORLY_DEFINED = 1, 2, 3
RELATIVES = {"famfather": 0.10, "fammother": 0.06, "fambrother": 0.06, "famsister": 0.04, "famchild": 0.005}
RIGHT, LEFT = SIDES["right"], SIDES["left"]
LOBE_WEIGHTS = {1: 0.36, 2: 0.10, 3: 0.18, 4: 0.20, 5: 0.04, 6: 0.12}
FIRST_PID = 900_001
A_YEAR = 12.0, 12.0
"""Months to the follow-up: from, to."""


@dataclass(frozen=True)
class Nodule:
    """One nodule; lengths in mm, codes are the trial's.

    Attributes:
        number: its identity, the same in both years.
        location, attenuation, margins: codes.
        diameters: longest and perpendicular at T0.
        growth: diameter at T1 over T0, 0 where it is gone.
        malignant: the outcome.
        risk: its probability, by which it was drawn.
        offset: of its centre from the first nodule's, mm (LPS axes).
    """

    number: int
    location: int
    attenuation: int
    margins: int
    diameters: tuple[float, float]
    growth: float = 1.0
    malignant: bool = False
    risk: float = 0.0
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Patient:
    """One simulated participant.

    Attributes:
        pid: participant number.
        age: at T0, years.
        gender: 1 male, 2 female.
        emphysema: 0 or 1.
        family: 0 or 1 per ``fam*`` column.
        nodules: one or two.
        days: from T0 to T1; None where the patient did not come again.
    """

    pid: int
    age: int
    gender: int
    emphysema: int
    family: dict[str, int]
    nodules: tuple[Nodule, ...]
    days: int | None = field(default=None)


def draw_patients(count: int, seed: int, months: tuple[float, float] = A_YEAR) -> list[Patient]:
    """A cohort: attributes first, outcomes from their Brock risk, growth from the outcomes.

    Args:
        months: to the follow-up, from and to; any within is as likely as any other. Where both are the same it is a
            screening round: that time, give or take a month.
    """
    people = [_person(index, np.random.default_rng([seed, index, 0])) for index in range(count)]
    rng = np.random.default_rng([seed, count, 1])
    drawn = iter(_outcomes(people, rng))
    people = [_with_outcomes(person, [next(drawn) for _ in person.nodules]) for person in people]
    return [_followed(person, np.random.default_rng([seed, person.pid, 2]), months) for person in people]


def _person(index: int, rng: Generator) -> Patient:
    """A participant of a screening trial with one nodule, or in one of eight with two."""
    nodules = [_nodule(1, int(rng.choice(list(LOBE_WEIGHTS), p=list(LOBE_WEIGHTS.values()))), rng)]
    if rng.uniform() < 0.125:
        side = RIGHT if nodules[0].location in RIGHT else LEFT
        other = int(rng.choice([lobe for lobe in side if lobe != nodules[0].location]))
        second = _nodule(2, other, rng)
        gap = 12.0 + 0.5 * (nodules[0].diameters[0] + second.diameters[0])
        angle = rng.uniform(0.0, 2.0 * np.pi)
        offset = (float(gap * np.cos(angle)), float(gap * np.sin(angle)), float(rng.uniform(-4.0, 4.0)))
        nodules.append(replace(second, offset=offset))
    return Patient(
        pid=FIRST_PID + index,
        age=int(np.clip(round(rng.normal(62.0, 5.0)), 55, 74)),
        gender=int(rng.choice([1, 2], p=[0.58, 0.42])),
        emphysema=int(rng.uniform() < 0.2),
        family={name: int(rng.uniform() < share) for name, share in RELATIVES.items()},
        nodules=tuple(nodules),
    )


def _nodule(number: int, location: int, rng: Generator) -> Nodule:
    """Size, attenuation and margins, which depend on each other: large nodules are spiculated more often."""
    longest = float(np.clip(rng.lognormal(np.log(9.5), 0.5), 4.0, 30.0))
    attenuation = int(rng.choice([SOLID, PART_SOLID, GROUND_GLASS], p=[0.72, 0.13, 0.15]))
    if attenuation == PART_SOLID:
        longest = max(longest, 7.0)  # smaller ones are not told apart from solid or ground glass
    spiculated = np.clip(0.05 + 0.02 * (longest - 6.0), 0.05, 0.5) * (0.3 if attenuation == GROUND_GLASS else 1.0)
    poorly = 0.45 if attenuation != SOLID else 0.12
    margins = int(rng.choice([SPICULATED, SMOOTH, POORLY_DEFINED], p=[spiculated, 1.0 - spiculated - poorly, poorly]))
    return Nodule(number, location, attenuation, margins, (longest, longest * float(rng.uniform(0.62, 0.97))))


def _outcomes(people: list[Patient], rng: Generator) -> list[tuple[bool, float]]:
    """Malignant or not, nodule by nodule, drawn from the enriched Brock risk; and that risk."""
    rows = [(person, nodule) for person in people for nodule in person.nodules]
    risks = brock.risk(
        age=[person.age for person, _ in rows],
        female=[person.gender == 2 for person, _ in rows],
        family_history=[any(person.family.values()) for person, _ in rows],
        emphysema=[person.emphysema for person, _ in rows],
        diameter=[nodule.diameters[0] for _, nodule in rows],
        attenuation=[nodule.attenuation for _, nodule in rows],
        upper_lobe=[nodule.location in brock.UPPER_LOBES for _, nodule in rows],
        count=[len(person.nodules) for person, _ in rows],
        spiculated=[nodule.margins == SPICULATED for _, nodule in rows],
    )
    risks = outcomes.enriched(risks, MALIGNANT_SHARE)
    return list(zip(outcomes.draw(risks, rng).tolist(), risks.tolist(), strict=True))


def _with_outcomes(person: Patient, drawn: list[tuple[bool, float]]) -> Patient:
    nodules = (
        replace(nodule, malignant=flag, risk=risk) for nodule, (flag, risk) in zip(person.nodules, drawn, strict=True)
    )
    return replace(person, nodules=tuple(nodules))


def _followed(person: Patient, rng: Generator, months: tuple[float, float]) -> Patient:
    """The second scan; one patient in twenty does not come."""
    low, high = (round(DAYS_PER_MONTH * each) for each in months)
    days = int(rng.integers(low, high + 1)) if low < high else low + int(np.clip(rng.normal(0.0, 20.0), -60, 60))
    nodules = tuple(
        replace(nodule, growth=growth(nodule.malignant, nodule.attenuation, nodule.diameters[0], days, rng))
        for nodule in person.nodules
    )
    return replace(person, nodules=nodules, days=None if rng.uniform() < 0.05 else days)
