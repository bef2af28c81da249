"""Outcomes of a made-up cohort: risks enriched as a case-control sample has them, and draws from them."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit


def enriched(risks: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Risks as a case-control sample has them: all odds times the one factor that makes their mean ``share``.

    Cancers are a few percent of screening nodules; a set to train on has more. Sampling by outcome changes the
    constant of a logistic model and nothing else (Prentice and Pyke, Biometrika 1979;66:403-411), so odds ratios, and
    with them what there is to learn, stay the published ones.
    """
    log_odds = logit(risks)
    offset = brentq(lambda constant: float(expit(log_odds + constant).mean()) - share, -30.0, 30.0)
    return np.asarray(expit(log_odds + offset), dtype=np.float64)


def draw(probabilities: NDArray[np.float64], rng: Generator) -> NDArray[np.bool_]:
    """Outcomes, each with its own probability, their number as near to the sum as whole numbers allow.

    Systematic sampling: one uniform number and steps of one along the probabilities laid end to end in random order.
    """
    order = rng.permutation(len(probabilities))
    ends = np.floor(np.cumsum(probabilities[order]) + rng.uniform())
    outcomes = np.zeros(len(probabilities), dtype=bool)
    outcomes[order] = np.diff(ends, prepend=0.0) > 0
    return outcomes
