"""Which directions of a context a small cohort learns from: principal components, or what tells the record."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from torch import Tensor

from scripts.language_models import ConditionerError

RECORD_PENALTY = 10.0
"""Of the ridge regression; 0.1 to 100 read outcomes equally well (cross-validated)."""


def principal_directions(centred: Tensor, count: int) -> Tensor:
    """The first principal components of contexts (N, D), as (count, D), each divided by the root of its deviation.

    Projecting on them and going back therefore divides each component by its deviation.
    """
    _, singular, directions = torch.linalg.svd(centred, full_matrices=False)
    deviations = singular.clamp_min(0.01 * float(singular[0])) / (len(centred) - 1) ** 0.5
    return (directions / deviations.sqrt()[:, None])[:count].contiguous()  # in memory as what is loaded later


def told_of_records(centred: Tensor, records: NDArray[np.floating[Any]] | None, count: int) -> Tensor:
    """Contexts (N, D) without all but the ``count`` directions by which ridge regression reads most of the records.

    Args:
        centred: contexts, of mean 0.
        records: (N, F), the same cases' records as numbers, without gaps.

    Raises:
        ConditionerError: no records, others than of these cases, or too few numbers that differ in them.
    """
    if records is None or len(records) != len(centred):
        raise ConditionerError(
            f"components_by='record' needs the same {len(centred)} cases' records as the reports', as numbers. "
            "Pass records=scripts.ehr.record_numbers(cases), or use components_by='variance', which needs none."
        )
    contexts = centred.cpu().numpy()
    read_out = Ridge(RECORD_PENALTY).fit(contexts, records)
    principal = PCA().fit(read_out.predict(contexts))
    if (principal.explained_variance_ratio_ > 1e-6).sum() < count:
        raise ConditionerError(
            f"components_by='record': the training records differ in fewer than {count} numbers. Ask for fewer "
            "components."
        )
    basis = torch.as_tensor(np.linalg.qr(read_out.coef_.T @ principal.components_[:count].T)[0]).to(centred)
    return centred @ basis @ basis.T
