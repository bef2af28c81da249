"""Flux's network at a shape that computes in milliseconds, for tests."""

from __future__ import annotations

from typing import Any

import torch

from scripts.comparators.flux import FluxVelocity

SHAPE: dict[str, Any] = {"num_layers": 1, "num_single_layers": 2, "num_heads": 2, "axes": (4, 6, 6)}


def small(**changes: Any) -> FluxVelocity:
    """From scratch; always the same weights."""
    torch.manual_seed(0)
    return FluxVelocity(**{"latent_channels": 4, "text_dim": 16, "pooled_dim": 16, **SHAPE, **changes})
