"""What tests of training share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def load(path: Path) -> Any:
    return torch.load(path, weights_only=True)


def differences(first: Any, second: Any, where: str = "") -> list[str]:
    """Where two nested states differ, in any bit."""
    if isinstance(first, dict):
        if first.keys() != second.keys():
            return [f"{where}: {first.keys() ^ second.keys()}"]
        return [found for key in first for found in differences(first[key], second[key], f"{where}/{key}")]
    if isinstance(first, (list, tuple)):
        if len(first) != len(second):
            return [f"{where}: {len(first)} and {len(second)}"]
        pairs = enumerate(zip(first, second, strict=True))
        return [found for index, (a, b) in pairs for found in differences(a, b, f"{where}/{index}")]
    same = torch.equal(first, second) if isinstance(first, Tensor) else first == second
    return [] if same else [where]
