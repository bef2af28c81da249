"""LoRA (Hu et al. 2021) in a network with published weights, for methods that are too large to be trained whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from scripts.errors import UserError
from scripts.training.engines import Bfloat16

DTYPES = ("float32", "bfloat16")


class LoRANetwork(nn.Module):
    """A frozen network in which low-rank adapters, and a few layers as a whole, are trained.

    A layer's weight W becomes W + B A, with A (rank, in) random and B (out, rank) zero at first [R: alpha is the rank].

    Parameters and state dict are what is trained, in float32, so that optimiser, average and checkpoints have nothing
    else. The frozen weights are in neither; they follow to the device. A copy of this network copies them too.

    Args:
        network: is changed in place.
        rank: of the adapters.
        layers: regular expression of the whole names of the linear layers that are adapted.
        whole: names of layers that are trained themselves.
        dtype: of the frozen weights, ``float32`` or ``bfloat16``; with the latter the network computes in bfloat16.

    Raises:
        UserError: the rank or the type is none.
    """

    adapted: Any
    runs: nn.Module

    def __init__(
        self, network: nn.Module, rank: int, layers: str, whole: Iterable[str] = (), dtype: str = "bfloat16"
    ) -> None:
        super().__init__()
        if type(rank) is not int or rank < 1:
            raise UserError(f"lora_rank is {rank!r}, expected a whole number from 1 on, or null for none.")
        if dtype not in DTYPES:
            raise UserError(f"base_dtype is {dtype!r}, expected {' or '.join(DTYPES)}.")
        from peft import LoraConfig, LoraModel  # takes seconds to import

        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=layers)
        adapted: Any = LoraModel(network, config, "default")  # which freezes all but the adapters
        for name in whole:
            network.get_submodule(name).requires_grad_(True)
        for weight in network.parameters():
            if not weight.requires_grad:
                weight.data = weight.data.to(getattr(torch, dtype))
        # Not registered in nn.Module, so that state_dict() and parameters() leave out the frozen weights.
        object.__setattr__(self, "adapted", adapted)
        object.__setattr__(self, "runs", Bfloat16(network) if dtype == "bfloat16" else network)
        trained = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
        # nn.Module allows no dots in names of parameters
        self.trained = nn.ParameterDict({name.replace(".", "/"): weight for name, weight in trained.items()})

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As of the network."""
        return self.runs(*args, **kwargs)

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """The network with B A added to its weights, on the CPU and in float32; this one has no adapters any more."""
        self.adapted.to("cpu", torch.float32)  # a sum in bfloat16 would lose most of what the adapters learned
        return self.adapted.merge_and_unload()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LoRANetwork:
        super()._apply(fn, recurse)
        self.adapted.to(next(self.parameters()).device)
        return self
