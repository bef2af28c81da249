"""Losses of the autoencoder (stage 1: reconstruction, alignment, prediction; Eq. 2 to 6), diffusion and classifier.

Targets are NaN where crops are padded, see :mod:`scripts.data.padding`; that part is left out. Of a batch that several
ranks share, every loss has the gradients that it has on one, see :mod:`scripts.ranks`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scripts.networks.perceptual import Network, PerceptualDistance
from scripts.ranks import averaged, gathered, training_ranks


class LatentAlignmentLoss(nn.Module):
    """The loss that makes distances between latents follow distances between nodule attributes (Eq. 2 to 4).

    For samples i and j with attributes f and latents z: D^f_ij = exp(-|f_i - f_j|^2 / tau_f), D^z_ij likewise with
    tau_z; P and Q are D^f and D^z with rows normalised over j != i; the loss is the mean over i of KL(P_i || Q_i).
    It is computed from log-softmaxes with the diagonal left out, so it is finite for any finite input.

    Args:
        tau_features: tau_f, in the squared unit of the attributes.
        tau_latents: tau_z, in the squared unit of the latents.
        spatial: compare whole latents; by default they are averaged over space first, as the authors do.

    Example:
        >>> points = torch.tensor([[0.0], [1.0], [3.0]])
        >>> loss = LatentAlignmentLoss(tau_features=1.0, tau_latents=1.0)
        >>> f"{loss(points, points):.3f}"  # the same distances
        '0.000'
        >>> f"{loss(points[[1, 0, 2]], points):.3f}"  # other distances
        '1.723'
    """

    def __init__(self, tau_features: float = 16.0, tau_latents: float = 1.0, spatial: bool = False) -> None:
        super().__init__()
        self.spatial = spatial
        self.tau_features = tau_features
        self.tau_latents = tau_latents

    def forward(self, latents: Tensor, attributes: Tensor) -> Tensor:
        """
        Args:
            latents: (B, C) or (B, C, H, W).
            attributes: (B, F), of :func:`scripts.ehr.attributes`; a sample with any NaN is left out.

        Returns:
            A scalar; zero where fewer than three samples have attributes (with two, P and Q are 1 by definition).
        """
        if latents.ndim > 2:
            latents = latents.flatten(1) if self.spatial else latents.flatten(2).mean(dim=2)
        latents, attributes = gathered(latents), gathered(attributes)
        known = torch.isfinite(attributes).all(dim=1)
        if int(known.sum()) < 2:
            return (latents * 0.0).sum()
        target = self._log_similarity(attributes[known].to(latents.dtype), self.tau_features)
        actual = self._log_similarity(latents[known], self.tau_latents)
        return F.kl_div(actual, target, reduction="sum", log_target=True) / int(known.sum())

    @staticmethod
    def _log_similarity(points: Tensor, temperature: float) -> Tensor:
        """log P (or log Q) without its diagonal, (B, B - 1) for points (B, F)."""
        points = points.to(torch.promote_types(points.dtype, torch.float32))
        squared = (points[:, None] - points[None]).square().sum(dim=-1).clamp(max=1e30)  # avoids infinity, hence NaN
        others = ~torch.eye(len(points), dtype=torch.bool, device=points.device)
        return F.log_softmax(-squared[others].view(len(points), -1) / temperature, dim=1)


class AutoencoderLoss(nn.Module):
    """The loss of the autoencoder (Eq. 6), by default with the authors' weights.

    L = |x - x'|_1 + w_perceptual LPIPS + w_kl KL(q || N(0, I)) + w_align L_align + w_pred L_pred, where L_pred is the
    binary cross-entropy of the linear probe (Eq. 5). The KL is summed over the latent and averaged over the batch.

    Args:
        perceptual: network of the perceptual distance, ``vgg`` (the paper) or ``alex`` (cheaper).
        perceptual_samples: number of a batch's samples, from its first, that the perceptual distance is taken over: an
            unbiased estimate in shuffled batches that saves time; 0 takes all. Ranks share it, and take one at least.
        perceptual_weight, kl_weight, alignment_weight, prediction_weight: weights of the terms. Except for the KL, a
            term whose weight is zero is not computed.
        spatial_alignment: of :class:`LatentAlignmentLoss`, whether it compares whole latents.
        strict: of :class:`scripts.networks.PerceptualDistance`, whether it refuses to be another.

    Attributes:
        terms: the terms of the last call, unweighted and detached, for logging.
    """

    def __init__(
        self,
        perceptual: Network = "vgg",
        perceptual_samples: int = 0,
        perceptual_weight: float = 1.0,
        kl_weight: float = 1e-6,
        alignment_weight: float = 1.0,
        prediction_weight: float = 0.2,
        spatial_alignment: bool = False,
        strict: bool = False,
    ) -> None:
        super().__init__()
        self.weights = {
            "reconstruction": 1.0,
            "perceptual": perceptual_weight,
            "kl": kl_weight,
            "alignment": alignment_weight,
            "prediction": prediction_weight,
        }
        self.perceptual = PerceptualDistance(perceptual, strict=strict) if perceptual_weight else None
        self.perceptual_samples = perceptual_samples or None
        self.alignment = LatentAlignmentLoss(spatial=spatial_alignment)
        self.terms: dict[str, Tensor] = {}

    def forward(self, prediction: dict[str, Tensor], target: dict[str, Any]) -> Tensor:
        """
        Args:
            prediction: of :class:`scripts.networks.AlignedAutoencoder`: ``reconstruction`` (B, 1, H, W), ``mean``,
                ``std`` and ``latent`` (B, C, h, w), ``logit`` (B, 1).
            target: ``image`` (B, 1, H, W) in [-1, 1], NaN where it is padded, ``attributes`` (B, F), ``malignant``
                (B,), NaN where unknown.
        """
        terms = {
            "reconstruction": over_known(F.l1_loss, prediction["reconstruction"], target["image"]),
            "kl": gaussian_kl(prediction["mean"], prediction["std"]),
        }
        if self.perceptual is not None:
            some = slice(self.perceptual_samples and max(1, self.perceptual_samples // training_ranks()))
            perceptual, pair = self.perceptual, (prediction["reconstruction"][some], target["image"][some])
            terms["perceptual"] = over_known(lambda *images: perceptual(*images).mean(), *pair)
        if self.weights["alignment"]:
            terms["alignment"] = self.alignment(prediction["latent"], target["attributes"])
        if self.weights["prediction"]:
            terms["prediction"] = known_cross_entropy(prediction["logit"], target["malignant"])
        self.terms = {name: term.detach() for name, term in terms.items()}
        return sum((self.weights[name] * term for name, term in terms.items()), torch.zeros(()).to(terms["kl"]))


class DenoisingLoss(nn.Module):
    """The mean squared error of what a diffusion model predicts (Eq. 9 and 10)."""

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """A scalar, of tensors (B, C, h, w)."""
        return over_known(F.mse_loss, prediction, target)


class OutcomeLoss(nn.Module):
    """The classifier's binary cross-entropy over the crops whose outcome is known."""

    def forward(self, logits: Tensor, target: dict[str, Any]) -> Tensor:
        """A scalar, of logits (B, 1) and ``target["malignant"]`` (B,), NaN where unknown."""
        return known_cross_entropy(logits, target["malignant"])

    def counted(self, target: Mapping[str, Any]) -> int:
        """How many of the samples it averages over: those whose outcome is known."""
        return int(torch.as_tensor(target["malignant"]).isfinite().sum())


def over_known(mean_loss: Callable[[Tensor, Tensor], Tensor], prediction: Tensor, target: Tensor) -> Tensor:
    """A loss that averages over pixels, over those alone whose target is known, which is not NaN.

    Elsewhere the prediction is its own target, so that nothing is lost there, and the mean is taken over the others.
    Where all is known, this is ``mean_loss(prediction, target)`` to the bit.

    >>> over_known(F.l1_loss, torch.tensor([1.0, 2.0, 9.0]), torch.tensor([0.0, 0.0, torch.nan])).item()
    1.5
    """
    known = ~target.isnan()
    part = averaged((known.count_nonzero() / known.numel()).to(prediction.dtype))
    return mean_loss(prediction, torch.where(known, target, prediction.detach())) / part


def gaussian_kl(mean: Tensor, std: Tensor) -> Tensor:
    """KL(N(mean, std^2) || N(0, 1)), summed over the latent and averaged over the batch."""
    kl = 0.5 * (mean.square() + std.square() - 1.0 - 2.0 * std.log())
    return kl.flatten(1).sum(dim=1).mean()


def known_cross_entropy(logits: Tensor, outcome: Tensor) -> Tensor:
    """Binary cross-entropy over the samples whose outcome is known (Eq. 5); zero where none is.

    Args:
        logits: (B, 1).
        outcome: (B,), 1 malignant, 0 benign, NaN unknown.
    """
    outcome = outcome.to(logits)
    known = torch.isfinite(outcome)
    part = known.to(logits.dtype).mean()
    average = averaged(part)
    if not bool(known.any()):
        return (logits * 0.0).sum()
    return F.binary_cross_entropy_with_logits(logits.flatten()[known], outcome[known]) * (part / average)
