"""Networks inside a compared method: described in its ``config``, and built again from that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from scripts import networks

Part = nn.Module | Mapping[str, Any]
"""A network of :mod:`scripts.networks`, or what :func:`describe` says of it."""


def describe(network: nn.Module) -> dict[str, Any]:
    """Class and arguments of a network, as JSON has them.

    >>> describe(networks.ResNetClassifier(32, (4, 4, 8, 8)))["network"]
    'ResNetClassifier'
    """
    return {"network": type(network).__name__, **network.config}  # type: ignore[dict-item]


def built(part: Part) -> Any:
    """The network itself: as it is, or new from its description."""
    if isinstance(part, nn.Module):
        return part
    arguments = dict(part)
    return getattr(networks, arguments.pop("network"))(**arguments)
