"""What tests of networks share."""

from __future__ import annotations

from typing import Any

import torch


def stirred(network: Any) -> Any:
    """With no parameter at a value (zero, one) that would hide a wrong place."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()
