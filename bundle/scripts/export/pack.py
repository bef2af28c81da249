"""All weights in one file, where the Model Zoo, MONAI Label and MONAI Deploy look for them."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import nn

logger = logging.getLogger(__name__)


def pack(model: nn.Module, path: str | Path) -> None:
    """All weights of the finished model in one state dict, which opens with ``weights_only=True``.

    The kernels are written in half precision, as the small U-Net's are anyway, so that the released weights stay under
    the Model Zoo's 25 MB a file; the autoencoder's rounding moves a pixel by 0.03 HU on average. Prompts, statistics
    and everything small keep single precision.
    """
    state = {
        name: tensor.half() if tensor.ndim > 1 and ".conditioner." not in name else tensor
        for name, tensor in model.state_dict().items()
    }
    torch.save(state, path)
    logger.info(f"Wrote {path}: {Path(path).stat().st_size / 1e6:.1f} MB")
