"""The context as the U-Net gets it: centred, scaled, and of a few components, by statistics of the training reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from scripts.arrays import Array
from scripts.conditioning.language_models import ConditionerError

RECORD_PENALTY = 10.0
"""Of the ridge regression; 0.1 to 100 read outcomes equally well (cross-validated)."""

ComponentsBy = Literal["variance", "record"]


class ContextNormaliser(nn.Module):
    """Centres and scales contexts (B, M, D) by statistics of the training reports, measured once by :meth:`fit`.

    A decoder's last states hardly differ between reports: their common mean is many times as long as the deviations
    from it, so a network learns the facts in them slowly. Each of the M x D numbers is therefore brought to mean 0 and
    variance 1 over the training reports.

    With ``components``, only so many principal components of the result are kept, each brought to unit variance; the
    context keeps its shape. By ``variance`` they are those of the whole context, in part of how reports are worded; by
    ``record`` those of what ridge regression reads of the record's numbers in it. What the choices bring is measured by
    ``benchmarks/context.py`` and ``benchmarks/context_components.py``.

    Args:
        shape: (M, D).
        components: how many to keep; 0 keeps the context whole.
        components_by: ``variance`` or ``record``.
        noise: standard deviation of what training mode adds to each component, or to each entry of a whole context;
            for a linear read-out this is ridge regression with a penalty of noise^2 a patient.

    Raises:
        ConditionerError: an unknown ``components_by``.
    """

    mean: Tensor
    std: Tensor
    directions: Tensor

    def __init__(
        self, shape: tuple[int, int], components: int = 0, components_by: ComponentsBy = "variance", noise: float = 0.0
    ) -> None:
        super().__init__()
        if components_by not in ("variance", "record"):
            raise ConditionerError(f"components_by is {components_by!r}, expected 'variance' or 'record'.")
        self.components = components
        self.components_by = components_by
        self.noise = noise
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("std", torch.zeros(shape))
        self.register_buffer("directions", torch.zeros(components, shape[0] * shape[1]))

    @property
    def fitted(self) -> bool:
        """Whether the statistics are known, measured or loaded."""
        return bool(self.std.any())

    @torch.no_grad()
    def fit(self, states: Tensor, records: Array | None = None) -> None:
        """Measures the statistics over the training reports.

        Args:
            states: (N, M, D), the language model's states.
            records: (N, F), the same cases' records as numbers, without gaps, such as
                :func:`scripts.ehr.record_numbers` gives; for ``components_by="record"`` alone.

        Raises:
            ConditionerError: for ``components_by="record"``, no records, others than of these cases, or too few
                numbers that differ in them.
        """
        std = states.std(dim=0)
        self.mean.copy_(states.mean(dim=0))
        # An entry that hardly varies carries noise; it must not be blown up to unit variance.
        self.std.copy_(std.clamp_min(0.01 * float(std.mean())))
        if self.components:
            scaled = ((states - self.mean) / self.std).flatten(1)
            scaled = scaled - scaled.mean(dim=0)
            if self.components_by == "record":
                scaled = reduced_rank_regression(scaled, records, self.components)
            self.directions = principal_directions(scaled, self.components)

    def forward(self, states: Tensor) -> Tensor:
        """The context (B, M, D) of states (B, M, D).

        Raises:
            ConditionerError: the statistics are unknown.
        """
        if not self.fitted:
            raise ConditionerError(
                "The context is to be standardised, but its statistics are unknown. Call fit_statistics(reports) with "
                "the training reports, load prompts that carry them, or pass standardise=False."
            )
        scaled = (states - self.mean) / self.std
        if len(self.directions) == 0:
            return scaled
        return (scaled.flatten(1) @ self.directions.T @ self.directions).view_as(scaled)

    def with_noise(self, context: Tensor) -> Tensor:
        """The context, with noise in training mode."""
        if not (self.training and self.noise):
            return context
        if len(self.directions) == 0:
            return context + self.noise * torch.randn_like(context)
        axes = nn.functional.normalize(self.directions, dim=1)
        coordinates = torch.randn(len(context), len(axes), device=axes.device)
        return context + self.noise * (coordinates @ axes).view_as(context)

    def load(self, statistics: Mapping[str, Tensor]) -> None:
        """Takes over ``mean``, ``std`` and ``directions`` from a file; the number of components is the file's."""
        self.mean.copy_(statistics["mean"])
        self.std.copy_(statistics["std"])
        self.components = len(statistics["directions"])
        self.directions = statistics["directions"].to(self.std)


def principal_directions(centred: Tensor, count: int) -> Tensor:
    """The first principal components of contexts (N, D), as (count, D), each divided by the root of its deviation.

    Projecting on them and going back therefore divides each component by its deviation.
    """
    _, singular, directions = torch.linalg.svd(centred, full_matrices=False)
    deviations = singular.clamp_min(0.01 * float(singular[0])) / (len(centred) - 1) ** 0.5
    return (directions / deviations.sqrt()[:, None])[:count].contiguous()  # in memory as what is loaded later


def reduced_rank_regression(centred: Tensor, records: Array | None, count: int) -> Tensor:
    """Contexts (N, D) projected on the ``count`` directions by which ridge regression reads most of the records.

    Args:
        centred: contexts, of mean 0.
        records: (N, F), the same cases' records as numbers, without gaps.

    Raises:
        ConditionerError: no records, others than of these cases, or too few numbers that differ in them.
    """
    import numpy as np
    from sklearn.decomposition import PCA
    from sklearn.linear_model import Ridge

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
