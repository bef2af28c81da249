"""CorrFlowNet: an autoencoder of both times whose latents correlate, and a flow from the one to the other.

Rebuilt from its abstract (arXiv 2511.18185) [R]: known are a correlational autoencoder that encodes baseline and
follow-up into one latent space, flow matching with a neural ODE on the latents, and an auxiliary classifier; sizes,
weights of the losses and the SDE, which only NAMD's Table 1 names, are ours. A summary calls the published flow a
"background-aligned" rectified flow; how it aligns is not known, and follow-ups are taken as they are cut.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from monai.networks.nets import DiffusionModelUNet
from torch import Tensor, nn

from scripts.comparators.batches import plain
from scripts.comparators.contract import Condition
from scripts.comparators.generator import Generator
from scripts.data.padding import without_padding
from scripts.diffusion.noise import Draw
from scripts.errors import UserError
from scripts.losses import AutoencoderLoss
from scripts.networks.autoencoder import AlignedAutoencoder, LatentAutoencoder, StableDiffusionAutoencoder
from scripts.ranks import gathered
from scripts.training.batches import LatentPrepareBatch

Displacement = Callable[[Tensor, Tensor], Tensor]
"""``d(z, t)``: the displacement from baseline to follow-up that is read at latents z (B, C, h, w) at times t (B,)."""


# --- the autoencoder


def correlation(first: Tensor, second: Tensor, floor: float = 1e-6) -> Tensor:
    """Pearson's correlation over the batch, averaged over the positions of latents (B, C, h, w) [R].

    Args:
        floor: of the variances, so that constants and batches of one give 0 and no NaN.
    """
    one, other = (each.flatten(1) - each.flatten(1).mean(dim=0) for each in (first, second))
    spread = one.square().mean(dim=0).clamp(min=floor).sqrt() * other.square().mean(dim=0).clamp(min=floor).sqrt()
    return ((one * other).mean(dim=0) / spread).mean()


class PairAutoencoder(AlignedAutoencoder):
    """The product's autoencoder with its linear probe, trained on both times: one encoder and one decoder for both."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """As its base class, of 2 B crops: baseline and follow-up of x (B, 2, H, W) in turn."""
        return super().forward(x.flatten(0, 1)[:, None])


class CorrelationLoss(nn.Module):
    """The autoencoder's loss for both times, and w (1 - rho), rho the :func:`correlation` of their means [R].

    Args:
        correlation_weight: w.
        others: of :class:`scripts.losses.AutoencoderLoss`, whose terms are summed over the two times.

    Attributes:
        terms: the terms of the last call, unweighted and detached, for logging.
        perceptual: the perceptual distance, or None, as of the loss of each time.
    """

    def __init__(self, correlation_weight: float = 0.1, **others: Any) -> None:
        super().__init__()
        self.each = AutoencoderLoss(**others)
        self.perceptual = self.each.perceptual  # which is published with the weights
        self.correlation_weight = correlation_weight
        self.terms: dict[str, Tensor] = {}

    def forward(self, prediction: dict[str, Tensor], target: dict[str, Any]) -> Tensor:
        """A scalar; arguments as of :class:`scripts.losses.AutoencoderLoss`, of 2 B crops, the two times in turn."""
        loss = 2.0 * self.each(prediction, target)  # which is a mean over crops
        means = gathered(prediction["mean"])
        decorrelation = 1.0 - correlation(means[0::2], means[1::2])
        self.terms = {**self.each.terms, "decorrelation": decorrelation.detach()}
        return loss + self.correlation_weight * decorrelation


def prepare_both_times(
    batch: Mapping[str, Any], device: torch.device | str | None = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, dict[str, Tensor]]:
    """The batch of :class:`PairAutoencoder`: crops (B, 2, H, W), and the target of :class:`CorrelationLoss`."""
    keys, move = ("baseline", "follow_up"), {"device": device, "non_blocking": non_blocking, **kwargs}
    crops = torch.stack([plain(batch[key]).to(**move) for key in keys], dim=1)
    known = torch.stack([without_padding(crops[:, i], batch, key) for i, key in enumerate(keys)], dim=1)
    outcome = torch.as_tensor(batch["malignant"]).to(**move).repeat_interleave(2)
    return crops[:, :, 0], {"image": known.flatten(0, 1), "malignant": outcome}


# --- the flow


class BridgeBatch(LatentPrepareBatch):
    """The batch of flow matching between latents z0 and z1: z_t, the target z1 - z0, and z0 and t as arguments [R].

    z_t = (1 - t) z0 + t z1 + sigma sqrt(t (1 - t)) eps, with t uniform and eps Gaussian. Each z0 stays with its own z1:
    a pairing by optimal transport would give a patient another's follow-up.

    Args:
        sigma: of the bridge, in units of the scaled latent.
        fixed: the same noise and evenly spread times in every call, for validation.
    """

    def __init__(self, sigma: float = 0.0, fixed: bool = False) -> None:
        super().__init__(fixed=fixed)
        self.sigma = sigma

    def times(self, latents: Tensor) -> Tensor:
        """Times (B,) in [0, 1)."""
        return self.get_timesteps(latents) / self.num_train_timesteps if self.fixed else torch.rand(len(latents))

    def __call__(
        self,
        batchdata: Mapping[str, Any],
        device: torch.device | str | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor, tuple, dict]:
        """z_t, the displacement (NaN where the follow-up is padded), (z0, t), and no keyword arguments."""
        move: dict[str, Any] = {"device": device, "non_blocking": non_blocking, **kwargs}
        first, second = (batchdata[key].to(**move) for key in ("baseline", "follow_up"))
        time = self.times(first).to(first)
        t = time[:, None, None, None]
        bridge = torch.lerp(first, second, t) + self.sigma * (t * (1.0 - t)).sqrt() * self.get_noise(first)
        return bridge, without_padding(second - first, batchdata, "follow_up"), (first, time), {}


def flow(displacement: Displacement, start: Tensor, num_steps: int, solver: str = "euler") -> Tensor:
    """z(1) of dz/dt = d(z, t), z(0) = ``start``, by Euler's steps or by the classic Runge-Kutta method (``rk4``)."""
    z, h = start, 1.0 / num_steps
    for step in range(num_steps):
        t = torch.full((len(z),), step * h, device=z.device)
        slope = displacement(z, t)
        if solver == "rk4":
            second = displacement(z + 0.5 * h * slope, t + 0.5 * h)
            third = displacement(z + 0.5 * h * second, t + 0.5 * h)
            slope = (slope + 2.0 * second + 2.0 * third + displacement(z + h * third, t + h)) / 6.0
        z = z + h * slope
    return z


def bridge(displacement: Displacement, start: Tensor, num_steps: int, sigma: float, draw: Draw) -> Tensor:
    """z(1) of dz = (z0 + d(z, t) - z) / (1 - t) dt + sigma dW, z(0) = z0 = ``start``, by Euler-Maruyama [R].

    With the true displacement this is the Brownian bridge: it ends on z0 + d. The last step adds no noise.
    """
    z, h = start, 1.0 / num_steps
    for step in range(num_steps):
        t = torch.full((len(z),), step * h, device=z.device)
        z = z + (start + displacement(z, t) - z) / (num_steps - step)  # h / (1 - t)
        if step < num_steps - 1:
            z = z + sigma * math.sqrt(h) * draw(start.shape[1:]).to(z)
    return z


class DisplacementUNet(DiffusionModelUNet):
    """The product's U-Net, by default without cross-attention: displacement of z_t or (z_t, z0) at time 1000 t [R].

    Args:
        latent_channels: of z_t and of z0.
        beside: whether z0 is read beside z_t.
        channels: width of each level. Every level but the last has attention.
        num_res_blocks, num_heads, norm_num_groups: as of :class:`scripts.networks.StableDiffusionUNet`.
        features: width of the tokens of a context; 0: no context.
    """

    def __init__(
        self,
        latent_channels: int = 4,
        beside: bool = True,
        channels: Sequence[int] = (320, 640, 1280, 1280),
        num_res_blocks: int = 2,
        num_heads: int = 8,
        norm_num_groups: int = 32,
        features: int = 0,
    ) -> None:
        super().__init__(
            spatial_dims=2,
            in_channels=(2 if beside else 1) * latent_channels,
            out_channels=latent_channels,
            num_res_blocks=num_res_blocks,
            channels=tuple(channels),
            attention_levels=(True,) * (len(channels) - 1) + (False,),
            norm_num_groups=norm_num_groups,
            norm_eps=1e-5,
            num_head_channels=tuple(width // num_heads for width in channels),
            with_conditioning=features > 0,
            cross_attention_dim=features or None,
            use_flash_attention=True,
        )


class CorrFlowNet(Generator):
    """Encodes the baseline, moves its latent from t = 0 to t = 1, and decodes: by an ODE, or with ``sigma`` by an SDE.

    The ODE is a rectified flow (Liu et al. 2022, Eq. 1): its network reads z_t and t alone and learns E[d | z_t], which
    carries the distribution of z0 to that of z1. With z0 beside, d = (z_t - z0) / t could be computed from the input
    for all t but 0, and the flow would end on the conditional mean E[z1 | z0]. The SDE's network reads both: its noise
    hides d, and spreads the end.

    Args:
        autoencoder: arguments of :class:`scripts.networks.StableDiffusionAutoencoder`.
        unet: of :class:`DisplacementUNet`, but for its first two, which follow from the autoencoder and from sigma.
        sigma: of the noise, in units of the scaled latent; 0 is the ODE.
        num_steps: of the solver.
        solver: of the ODE, ``euler`` or ``rk4``.
    """

    reads = frozenset({"image"})

    def __init__(
        self,
        autoencoder: Mapping[str, Any],
        unet: Mapping[str, Any],
        sigma: float = 0.0,
        num_steps: int = 50,
        solver: str = "euler",
    ) -> None:
        super().__init__()
        if sigma < 0 or num_steps < 1 or solver not in ("euler", "rk4") or (sigma and solver != "euler"):
            raise UserError(
                f"sigma is {sigma}, num_steps {num_steps}, solver {solver!r}: expected a sigma of 0 (the ODE) or more, "
                "1 step or more, and euler or, for the ODE, rk4."
            )
        self.config = {"autoencoder": dict(autoencoder), "unet": dict(unet)}
        self.config |= {"sigma": sigma, "num_steps": num_steps, "solver": solver}
        self.title = f"CorrFlowNet {'SDE' if sigma else 'ODE'} (reconstructed)"
        self.stochastic = sigma > 0
        self.network_calls = num_steps * (4 if solver == "rk4" else 1)
        self.autoencoder = StableDiffusionAutoencoder(**autoencoder).requires_grad_(False)
        self.unet = DisplacementUNet(self.autoencoder.latent_channels, self.stochastic, **unet)

    @classmethod
    def of(cls, autoencoder: LatentAutoencoder, unet: Mapping[str, Any], **others: Any) -> CorrFlowNet:
        """With a trained autoencoder, whose weights are kept as they are; other arguments as of the class."""
        method = cls(autoencoder.config, unet, **others)
        method.autoencoder.load_state_dict(autoencoder.state_dict())
        return method

    def forward(self, z: Tensor, baseline: Tensor, time: Tensor, context: Tensor | None = None) -> Tensor:
        """The displacement (B, C, h, w) read at latents z at times (B,) in [0, 1]; the SDE reads the baseline's too."""
        read = torch.cat([z, baseline], dim=1) if self.stochastic else z
        return self.unet(read, 1000.0 * time, context)

    def context(self, condition: Sequence[Condition]) -> Tensor | None:
        """Tokens (B, T, F) of the conditions; None, since they are not read."""
        return None

    def sample(self, baseline: Tensor, condition: Sequence[Condition], draw: Draw) -> Tensor:
        """Follow-ups (B, 1, H, W), see :class:`~scripts.comparators.contract.ImageMethod`."""
        start = self.autoencoder.encode_stage_2_inputs(baseline)
        context = self.context(condition)
        context = None if context is None else context.to(start)

        def displacement(z: Tensor, time: Tensor) -> Tensor:
            return cast(Tensor, self(z, start, time, context))

        steps, sigma = self.config["num_steps"], self.config["sigma"]
        if self.stochastic:
            end = bridge(displacement, start, steps, sigma, draw)
        else:
            end = flow(displacement, start, steps, self.config["solver"])
        return self.autoencoder.decode_stage_2_outputs(end).clamp(-1.0, 1.0)
