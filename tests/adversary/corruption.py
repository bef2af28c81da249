"""Named corruptions of valid inputs, and whether the truth can still be known after each."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any

Edit = Callable[[Any, Random], None]
"""Changes a valid input in place."""

KINDS = {"series": 26, "place": 3, "nifti": 10, "metaimage": 6, "table": 2}
"""A DICOM series; one with the nodule given by a slice's number; two kinds of files; a cohort table. With each, how
often it is tried: a table takes ten times as long as a series."""


@dataclass(frozen=True)
class Corruption:
    """One way to spoil an input.

    Attributes:
        name: in words.
        kinds: of input that it can happen to.
        facets: what it touches; two corruptions of one facet could undo or contradict each other.
        faults: a refusal begins with one of these words; empty: the truth is still known, and no refusal is right.
        known: whether the truth is still known. With ``faults`` too it stands in the list of what is not read, so that
            both the truth and a refusal are right.
        edit: does it.
    """

    name: str
    kinds: tuple[str, ...]
    facets: frozenset[str]
    faults: tuple[str, ...]
    known: bool
    edit: Edit


REGISTRY: list[Corruption] = []
"""In the order in which several are applied."""


def corrupts(
    *kinds: str, facet: str, refused: str | Iterable[str] = (), not_read: str | Iterable[str] = ()
) -> Callable[[Edit], Edit]:
    """Registers a function as a corruption by its own name.

    Args:
        kinds: of input.
        facet: see :class:`Corruption`; several, parted by commas.
        refused: the truth is lost, and these are the words of a right refusal.
        not_read: the truth is there, but such input may be refused in these words.
    """

    def register(edit: Edit) -> Edit:
        faults = refused or not_read
        facets = frozenset(facet.split(", "))
        words = (faults,) if isinstance(faults, str) else tuple(faults)
        REGISTRY.append(Corruption(edit.__name__.replace("_", " "), kinds, facets, words, not refused, edit))
        return edit

    return register


@dataclass(frozen=True)
class Example:
    """An input, what was done to it, and the seed of all that is drawn; ``judge.judged`` makes and tries it."""

    kind: str
    names: tuple[str, ...]
    seed: int

    @property
    def corruptions(self) -> list[Corruption]:
        """In the order in which they are applied."""
        return [each for each in corruptions_of(self.kind) if each.name in self.names]


@lru_cache
def corruptions_of(kind: str) -> tuple[Corruption, ...]:
    """All that can happen to one kind of input."""
    for module in ("stack", "tags", "pixels", "files", "voxels", "cells"):
        importlib.import_module(f"tests.adversary.{module}")
    return tuple(each for each in REGISTRY if kind in each.kinds)


def compatible(chosen: Iterable[Corruption]) -> tuple[str, ...]:
    """The names of those of ``chosen`` that can happen together: none touches what one before it does."""
    touched: set[str] = set()
    names = []
    for each in chosen:
        if touched.isdisjoint(each.facets):
            names.append(each.name)
            touched |= each.facets
    return tuple(names)


def drawn(kind: str, rng: Random) -> Example:
    """An example with one to three corruptions."""
    chosen = rng.sample(corruptions_of(kind), rng.choice((1, 2, 3)))
    return Example(kind, compatible(chosen), rng.getrandbits(32))
