"""Image features for FID and KID: Inception where its weights are on disk, else a network from an installed wheel."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn

from scripts.errors import UserError
from scripts.networks.perceptual import PerceptualDistance

INCEPTION = "weights-inception-2015-12-05-6726825d.pth"
"""The weights of the published FID, as `torch-fidelity` names them in torch hub's cache; the same file has another name
from `pytorch-fid` (:data:`ALSO`)."""

ALSO = "pt_inception-2015-12-05-6726825d.pth"

FALLBACK = "offline fallback: not Inception, not comparable to published FID"


class FeatureExtractor(nn.Module):
    """A frozen network that gives features (N, D) of grey images (N, 1, H, W) in [-1, 1]. It downloads nothing.

    Args:
        weights: the FID Inception network's weights; without them, the copy in torch hub's cache where there is one and
            `torch-fidelity` is installed, else AlexNet features from the perceptual distance, for use offline.
        fallback: the perceptual distance whose network the fallback uses; by default a new one.
        strict: refuse the fallback.

    Attributes:
        name: which features these are, to be reported with every FID and KID.

    Raises:
        UserError: `weights` does not exist, or `torch-fidelity`, which has the network, is not installed; or `strict`
            refuses.
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        fallback: PerceptualDistance | None = None,
        strict: bool = False,
    ) -> None:
        super().__init__()
        self.inception: nn.Module | None = None
        self.fallback: PerceptualDistance | None = None
        path = _find_inception(weights)
        if path is not None:
            self.inception = _inception(path)
            self.name = "inception-v3 (2048 features, the published FID weights)"
        elif strict:
            raise UserError(
                f"{INCEPTION} is not in {Path(torch.hub.get_dir()) / 'checkpoints'}, or torch-fidelity is not "
                "installed: strict refuses other features in place of Inception's. Put it there, and pip install "
                "torch-fidelity."
            )
        else:
            self.fallback = fallback or PerceptualDistance("alex")
            self.name = f"{self.fallback.name.split()[0]}, last level averaged ({FALLBACK})"

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Features (N, D) of images (N, 1, H, W) in [-1, 1]; D is 2048 for Inception."""
        if self.inception is not None:
            grey = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
            return self.inception(grey.expand(-1, 3, -1, -1))[0]
        assert self.fallback is not None
        # times 100, else FID and KID, which grow with the features' square, would be tiny numbers
        return 100.0 * self.fallback.features(images)[-1].mean(dim=(2, 3))


def _find_inception(weights: str | Path | None) -> Path | None:
    """The file of Inception's weights; None for the fallback."""
    installed = importlib.util.find_spec("torch_fidelity") is not None
    if weights is not None:
        if not Path(weights).is_file():
            raise UserError(f"{weights} does not exist; expected the FID Inception weights, {INCEPTION}")
        if not installed:
            raise UserError("Inception features need torch-fidelity: pip install torch-fidelity (the extra fid)")
        return Path(weights)
    cached = [Path(torch.hub.get_dir()) / "checkpoints" / name for name in (INCEPTION, ALSO)]
    return next((path for path in cached if installed and path.is_file()), None)


def _inception(path: Path) -> nn.Module:
    """torch-fidelity's FID network, frozen."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    # torch-fidelity unpickles the file without checks; this raises first if it holds anything but tensors
    torch.load(path, map_location="cpu", weights_only=True)
    network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path))
    return network.eval().requires_grad_(False)
