"""Standardisation of the context by statistics of the training reports, optionally reduced to a few components."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from scripts.arrays import Array
from scripts.conditioning.language_models import ConditionerError

RECORD_PENALTY = 10.0
"""Penalty of the ridge regression in :func:`reduced_rank_regression`; see benchmarks/README.md."""

ComponentsBy = Literal["variance", "record"]
"""How components are chosen, see :class:`ContextNormaliser`."""


class ContextNormaliser(nn.Module):
    """Centres and scales contexts (B, M, D) by statistics of the training reports, measured once by :meth:`fit`.

    A language model's last states differ little between reports: the norm of their mean is many times that of the
    deviations from it, so a network learns slowly from them. Each of the M x D numbers is therefore scaled to mean 0
    and variance 1 over the training reports.

    With ``components`` > 0 the result is projected on that many components, each scaled to unit variance; the shape
    stays (B, M, D). With ``components_by="variance"`` these are the principal components of the whole context, which
    partly reflect wording. With ``"record"`` they are the directions from which a ridge regression predicts most of the
    record's numbers (reduced-rank regression). The effect of both is measured by ``benchmarks/context.py`` and
    ``benchmarks/context_components.py``.

    Args:
        shape: (M, D).
        components: number of components to keep; 0 keeps the whole context.
        components_by: ``variance`` or ``record``.
        noise: standard deviation of the Gaussian noise that training mode adds to each component (to each entry of a
            whole context). For a linear model this equals ridge regression with a penalty of noise^2 per patient.

    Example:
        >>> normaliser = ContextNormaliser(shape=(1, 2))
        >>> states = torch.tensor([[[1.0, 30.0]], [[3.0, 10.0]]])
        >>> normaliser.fit(states)
        >>> normaliser(states).mean(dim=0).tolist()
        [[0.0, 0.0]]

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
        """Whether the statistics have been measured or loaded."""
        return bool(self.std.any())

    @torch.no_grad()
    def fit(self, states: Tensor, records: Array | None = None) -> None:
        """Measures the statistics over the training reports.

        Args:
            states: (N, M, D), the language model's states.
            records: (N, F), the same cases' records as numbers without gaps, of :func:`scripts.ehr.record_numbers`;
                needed for ``components_by="record"`` alone.

        Raises:
            ConditionerError: for ``components_by="record"``: no records, a different number of them, or fewer numbers
                that differ than components.
        """
        std = states.std(dim=0)
        self.mean.copy_(states.mean(dim=0))
        # An entry that hardly varies holds rounding errors, which must not be scaled to unit variance.
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
            ConditionerError: the statistics have been neither measured nor loaded.
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
        """Takes over ``mean``, ``std`` and ``directions``, and with these the number of components."""
        self.mean.copy_(statistics["mean"])
        self.std.copy_(statistics["std"])
        self.components = len(statistics["directions"])
        self.directions = statistics["directions"].to(self.std)


def principal_directions(centred: Tensor, count: int) -> Tensor:
    """Principal directions (count, D) of centred contexts (N, D), divided by the root of their standard deviations.

    Multiplying by them and then by their transpose projects on the components and scales each to unit variance.
    """
    _, singular, directions = torch.linalg.svd(centred, full_matrices=False)
    deviations = singular.clamp_min(0.01 * float(singular[0])) / (len(centred) - 1) ** 0.5
    return (directions / deviations.sqrt()[:, None])[:count].contiguous()  # as loaded ones are, for equal rounding


def reduced_rank_regression(centred: Tensor, records: Array | None, count: int) -> Tensor:
    """Contexts (N, D) projected on the ``count`` directions from which ridge regression predicts records best.

    Args:
        centred: contexts, of mean 0.
        records: (N, F), the same cases' records as numbers without gaps.
        count: number of directions.

    Raises:
        ConditionerError: no records, a different number of them, or fewer numbers that differ than ``count``.
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
