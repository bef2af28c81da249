"""Packing all weights into one file, as the Model Zoo, MONAI Label and MONAI Deploy expect them."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import nn

logger = logging.getLogger(__name__)


def pack(model: nn.Module, path: str | Path) -> None:
    """Writes the finished model's state dict to one file, which opens with ``weights_only=True``.

    Matrices and kernels are stored in float16, so that the released weights stay below the Model Zoo's 25 MB per file
    (the effect on images: benchmarks/README.md). Prompts, statistics and vectors stay in float32.
    """
    state = {
        name: tensor.half() if tensor.ndim > 1 and ".conditioner." not in name else tensor
        for name, tensor in model.state_dict().items()
    }
    torch.save(state, path)
    logger.info(f"Wrote {path}: {Path(path).stat().st_size / 1e6:.1f} MB")
