"""Perceptual distance between grey crops: LPIPS where its backbone is on disk, else shift-tolerant LPIPS from a wheel.

Nothing is downloaded. LPIPS (Zhang et al., CVPR 2018, "The Unreasonable Effectiveness of Deep Features as a
Perceptual Metric") needs torchvision's ImageNet backbone, which comes from the internet, and the linear weights that
the `lpips` package carries. ST-LPIPS (Ghildyal & Liu, ECCV 2022, "Shift-Tolerant Perceptual Similarity Metric") has all
its weights in the `stlpips-pytorch` wheel. Both are the same computation, written here once; of the packages only the
weights are read (`stlpips-pytorch` cannot be imported without packages that it does not declare).
"""

from __future__ import annotations

import importlib.util
import logging
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scripts.errors import UserError

logger = logging.getLogger(__name__)

Network = Literal["vgg", "alex"]

BACKBONES = {"vgg": "vgg16-397923af.pth", "alex": "alexnet-owt-7be5be79.pth"}
"""File names of torchvision's ImageNet weights in torch hub's cache."""

FALLBACK = "offline fallback: shift-tolerant LPIPS, not comparable to published LPIPS"


class PerceptualDistance(nn.Module):
    """The LPIPS distance of image pairs, with a frozen network.

    Its weights are non-persistent buffers: they follow `.to(device)`, no optimiser sees them, and `state_dict()` is
    empty, so checkpoints do not contain them. It is deterministic, and `.train()` changes nothing.

    Args:
        network: "vgg" (the training loss) or "alex" (the metric).
        weights: torchvision's state dict of the backbone (`vgg16-397923af.pth`, `alexnet-owt-7be5be79.pth`); without
            it, the copy in torch hub's cache where there is one, else the offline fallback.
        strict: refuse the fallback.

    Attributes:
        name: which distance it is, to be reported with every value.

    Raises:
        UserError: the network is unknown, or `weights` does not exist or is another network's, or `strict` refuses.
        FileNotFoundError: the package that carries the weights is not installed.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, network: Network = "vgg", weights: str | Path | None = None, strict: bool = False) -> None:
        super().__init__()
        if network not in BACKBONES:
            raise UserError(f"network is {network!r}, but only {' and '.join(BACKBONES)} are known")
        self.network = network
        backbone = _find_backbone(network, weights)
        if backbone is None:
            if strict:
                raise UserError(f"{_absent(network)}: strict refuses another distance in place of LPIPS. Put it there.")
            _warn_fallback(network)
            state = head = _load(_wheel_file("stlpips_pytorch", f"weights/vST0.0/{network}_shift_tolerant.pth"))
            self.name = f"st-lpips-{network} ({FALLBACK})"
        else:
            state, head = _load(backbone), _load(_wheel_file("lpips", f"weights/v0.1/{network}.pth"))
            self.name = f"lpips-{network}"
        self.stages = _stages(network, shift_tolerant=backbone is None)
        _freeze(self.stages, state, source=str(backbone))
        for level in range(len(self.stages)):
            self.register_buffer(f"head_{level}", head[f"lin{level}.model.1.weight"], persistent=False)
        # the mean and standard deviation of ImageNet's colours, on a scale of -1 to 1
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1), persistent=False)

    def features(self, x: Tensor) -> list[Tensor]:
        """Features of the five levels, (B, C_l, H_l, W_l) each, of grey images (B, 1, H, W) in [-1, 1]."""
        hidden = (x.expand(-1, 3, -1, -1) - self.shift) / self.scale
        levels: list[Tensor] = []
        for stage in self.stages:
            hidden = stage(hidden)
            levels.append(hidden)
        return levels

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The distance of each pair of images.

        Args:
            x, y: (B, 1, H, W) in [-1, 1], H and W at least 32.

        Returns:
            (B,), zero for equal images; differentiable in x and y. Gradients through y cost as much as through x, and
            are left out when y does not require them.
        """
        if x.shape != y.shape or x.ndim != 4 or x.shape[1] != 1:
            raise ValueError(f"expected two batches of one shape (B, 1, H, W), got {(*x.shape,)} and {(*y.shape,)}")
        features_x = self.features(x)
        with torch.set_grad_enabled(torch.is_grad_enabled() and y.requires_grad):
            features_y = self.features(y)
        return self.compare(features_x, features_y)

    def compare(self, features_x: list[Tensor], features_y: list[Tensor]) -> Tensor:
        """The distance (B,) of two results of `features`, which can thus be computed once for many comparisons."""
        total = torch.zeros(len(features_x[0]), device=features_x[0].device)
        for level, (a, b) in enumerate(zip(features_x, features_y, strict=True)):
            difference = (_unit(a) - _unit(b)).square() * self.get_buffer(f"head_{level}")
            total = total + difference.sum(dim=1).mean(dim=(1, 2))
        return total


class _BlurPool(nn.Module):
    """Binomial blur and subsampling by two, the shift-tolerant replacement of a stride (padding 2, by reflection)."""

    def __init__(self) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 2.0, 1.0], device="cpu") / 4
        self.register_buffer("kernel", torch.outer(taps, taps)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.get_buffer("kernel").to(x.dtype).expand(x.shape[1], -1, -1, -1)
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=x.shape[1])


def _stages(network: Network, shift_tolerant: bool) -> nn.ModuleList:
    """The convolutions of VGG-16 or AlexNet in five stages, whose outputs LPIPS compares, on the "meta" device."""

    def pool(kernel: int) -> list[nn.Module]:
        return [nn.MaxPool2d(kernel, 1), _BlurPool()] if shift_tolerant else [nn.MaxPool2d(kernel, 2)]

    def convs(*channels: int, kernel: int = 3) -> list[nn.Module]:
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(channels):
            layers += [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.ReLU(inplace=True)]
        return layers

    with torch.device("meta"):  # saves memory, and leaves the global random generator as it is
        if network == "vgg":
            stages = [
                convs(3, 64, 64),
                pool(2) + convs(64, 128, 128),
                pool(2) + convs(128, 256, 256, 256),
                pool(2) + convs(256, 512, 512, 512),
                pool(2) + convs(512, 512, 512, 512),
            ]
        else:
            stride: list[nn.Module] = [_BlurPool()] if shift_tolerant else []
            first = nn.Conv2d(3, 64, 11, stride=1 if shift_tolerant else 4, padding=2)
            stages = [
                [first, *stride, nn.ReLU(inplace=True)],
                pool(3) + convs(64, 192, kernel=5),
                pool(3) + convs(192, 384),
                convs(384, 256),
                convs(256, 256),
            ]
        return nn.ModuleList(nn.Sequential(*stage) for stage in stages)


def _freeze(stages: nn.ModuleList, state: dict[str, Tensor], source: str) -> None:
    """Turns the parameters of every convolution into buffers that hold `state`, matched by order."""
    convolutions = [module for module in stages.modules() if isinstance(module, nn.Conv2d)]
    # `features.10.weight` (torchvision) or `net.slice3.10.weight` (ST-LPIPS): the number is the place in the network
    convolutional = [key for key in state if key.startswith(("features.", "net.")) and key.endswith(".weight")]
    prefixes = [key.removesuffix(".weight") for key in convolutional]
    prefixes.sort(key=lambda prefix: int(prefix.rsplit(".", 1)[-1]))
    shapes = [state[f"{prefix}.weight"].shape for prefix in prefixes]
    if shapes != [convolution.weight.shape for convolution in convolutions]:
        raise UserError(f"{source} does not hold the weights of this network: its convolutions have other shapes")
    for convolution, prefix in zip(convolutions, prefixes, strict=True):
        for kind in ("weight", "bias"):
            delattr(convolution, kind)
            convolution.register_buffer(kind, state[f"{prefix}.{kind}"], persistent=False)


def _unit(features: Tensor) -> Tensor:
    """Features (B, C, H, W) scaled to length one along C, in float32, as 1e-10 is 0 in float16."""
    features = features.float()
    return features / (torch.linalg.vector_norm(features, dim=1, keepdim=True) + 1e-10)


def _load(path: Path) -> dict[str, Tensor]:
    return torch.load(path, map_location="cpu", weights_only=True)


def _find_backbone(network: Network, weights: str | Path | None) -> Path | None:
    """The file of the backbone, or None when only the fallback is possible."""
    if weights is not None:
        if not Path(weights).is_file():
            raise UserError(f"{weights} does not exist; expected torchvision's {BACKBONES[network]}")
        return Path(weights)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / BACKBONES[network]
    return cached if cached.is_file() else None


def _wheel_file(package: str, path: str) -> Path:
    """A file that an installed package carries, found without importing it."""
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    if not folders or not (file := Path(folders[0]) / path).is_file():
        raise FileNotFoundError(f"{path} of {package} is needed: pip install {package.replace('_', '-')}")
    return file


@cache
def _warn_fallback(network: Network) -> None:
    """Says once per process that scores are not LPIPS."""
    logger.warning(
        f"{_absent(network)}: the perceptual distance is shift-tolerant LPIPS, which is not comparable to published "
        "LPIPS"
    )


def _absent(network: Network) -> str:
    """Says which file is not where."""
    place = Path(torch.hub.get_dir()) / "checkpoints"
    return f"torchvision's {BACKBONES[network]} is not in {place}, and nothing is downloaded"
