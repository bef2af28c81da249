"""The choices of ``python -m data_prep nlst``; in a module of its own, so that the command line needs no pandas."""

from __future__ import annotations

from enum import StrEnum


class Pairs(StrEnum):
    """What makes a pair: a nodule in study years that follow each other, or in any two neighbouring ones."""

    CONSECUTIVE = "consecutive"
    ANY = "any"


class Attributes(StrEnum):
    """Which findings need the attributes that the trial's readers noted: all, all but a pair's follow-up, or none."""

    BOTH = "both"
    BASELINE = "baseline"
    NONE = "none"


class Preset(StrEnum):
    """Cohorts by a rule that is written down; see :mod:`data_prep.nlst.preset`."""

    PAPER = "paper"


class System(StrEnum):
    """Of coordinates in mm: towards the patient's left and back (DICOM), or right and front; both towards the head."""

    LPS = "LPS"
    RAS = "RAS"
