"""The context of no report, for the unconditional stage, which reads none."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from scripts.conditioning.conditioner import ReportConditioner
from scripts.conditioning.interval import null_vectors
from scripts.conditioning.language_models import hidden_size


class NullConditioner(nn.Module):
    """Gives the null context and no other; stands where a :class:`~scripts.conditioning.ReportConditioner` would.

    Args:
        state: one vector of the null context, (1, 1, D).
        num_prompt_sets: M, the number of vectors in a context.
        interval_number: whether a further one is the interval's.
    """

    state: Tensor

    def __init__(self, state: Tensor, num_prompt_sets: int, interval_number: bool = False) -> None:
        super().__init__()
        self.num_prompt_sets = num_prompt_sets
        self.interval_number = interval_number
        self.register_buffer("state", state, persistent=False)

    @property
    def context_dim(self) -> int:
        """D, the size of a context vector."""
        return self.state.shape[-1]

    def null_context(self, batch_size: int) -> Tensor:
        """The context of no report, (B, M, D)."""
        return null_vectors(self.state, batch_size, self.num_prompt_sets, self.interval_number)


def null_conditioner(**arguments: Any) -> NullConditioner:
    """The null context of a conditioner, without its language model where that is not needed.

    A standardised null context is zero, so that of the language model only the width is read, from its configuration.
    Otherwise the model is opened, and reads the null report once.

    Args:
        arguments: of :class:`~scripts.conditioning.ReportConditioner`.

    Raises:
        ConditionerError: the language model is not on this machine.
    """
    given = inspect.signature(ReportConditioner).bind(**arguments)
    given.apply_defaults()
    if given.arguments["standardise"]:
        state = torch.zeros(1, 1, hidden_size(given.arguments["llm"]))
    else:
        state = ReportConditioner(**arguments).null_state.clone()
    return NullConditioner(state, given.arguments["num_prompt_sets"], given.arguments["interval_number"])
