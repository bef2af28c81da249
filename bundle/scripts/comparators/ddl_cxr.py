"""DDL-CXR (Yao et al. 2024, arXiv 2410.17918; Chenliu-svg/DDL-CXR @d4733f2, Apache-2.0): latent diffusion with an EHR
encoder that learns with the U-Net, and a loss that wants the image to depend on the record.

The published record is a time series of a stay in intensive care. Ours is one step of numbers, with the interval as one
more, and the outcome takes the place of 14 findings; the latent scale is the autoencoder's 1/std (published: 1.0), and
the start noise is the case's own (published: the same for every case) [R]. The layer that tells the outcome learns
(published: label_head, which is in no optimiser), validation is of latents' means (published: samples), and the
autoencoder has no dropout (published: 0.2), since MONAI's blocks have none [R]. Crops have NAMD's five turns
(published: a random crop of a larger image) [R].
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from ignite.engine import Engine, Events
from monai.inferers import Inferer
from monai.networks.nets import DiffusionModelUNet
from monai.networks.nets.diffusion_model_unet import SpatialTransformer
from monai.networks.schedulers import DDPMScheduler
from torch import Tensor, nn

from scripts.comparators.batches import PairBatch
from scripts.comparators.contract import INPUTS, Condition
from scripts.comparators.generator import Generator
from scripts.comparators.numbers import ConditionNumbers
from scripts.comparators.parts import Part, built, describe
from scripts.diffusion.noise import Draw
from scripts.losses import known_cross_entropy, over_known
from scripts.training.batches import LatentPrepareBatch

SCHEDULE: dict[str, Any] = {"schedule": "scaled_linear_beta", "beta_start": 0.0015, "beta_end": 0.0195}
"""Arguments of MONAI's schedulers: linear in sqrt(beta), over 1,000 steps."""


def alphas() -> Tensor:
    """abar_t of the 1,000 steps."""
    return DDPMScheduler(num_train_timesteps=1000, clip_sample=False, **SCHEDULE).alphas_cumprod


class FeatureNorm(nn.BatchNorm1d):
    """Batch normalisation of the features of a series (B, T, D)."""

    def forward(self, series: Tensor) -> Tensor:
        return super().forward(series.transpose(1, 2)).transpose(1, 2)


class EHREncoder(nn.Module):
    """The transformer over a record's steps, with batch normalisation in place of layer normalisation.

    Steps are projected, multiplied by sqrt(D), headed by a learnt token, and marked by sinusoids; the output passes a
    GELU. It is not ``nn.TransformerEncoderLayer``, whose fast path takes any norm for a layer normalisation.

    Args:
        features: F, numbers of a step.
        width: D.
        heads, mlp: of the layer.
        dropout: share.
    """

    def __init__(self, features: int, width: int = 128, heads: int = 8, mlp: int = 256, dropout: float = 0.2) -> None:
        super().__init__()
        self.width = width
        self.project = nn.Linear(features, width)
        self.start = nn.Parameter(torch.randn(1, 1, width))
        self.attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, mlp), nn.GELU(), nn.Dropout(dropout), nn.Linear(mlp, width))
        self.norms = nn.ModuleList([FeatureNorm(width), FeatureNorm(width)])
        self.dropout = nn.Dropout(dropout)

    def forward(self, series: Tensor) -> Tensor:
        """Tokens (B, T + 1, D) of a series (B, T, F), the learnt one first."""
        steps = self.project(series) * math.sqrt(self.width)
        tokens = torch.cat([self.start.expand(len(steps), -1, -1), steps], dim=1)
        tokens = self.dropout(tokens + sinusoids(tokens.shape[1], self.width).to(tokens))
        attended, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        tokens = self.norms[0](tokens + self.dropout(attended))
        tokens = self.norms[1](tokens + self.dropout(self.mlp(tokens)))
        return self.dropout(F.gelu(tokens))


def sinusoids(length: int, width: int) -> Tensor:
    """The positions' marks (length, width) of Vaswani et al. 2017."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angles = torch.arange(length)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


class RecordDenoiser(nn.Module):
    """The U-Net and the EHR encoder that learns with it. In evaluation mode it gives the noise alone.

    Args:
        features: F, numbers of the record.
        latent_channels: C.
        channels, num_res_blocks, norm_num_groups: of the U-Net, which has attention at every level.
        head_channels: channels of an attention head.
        context: width of the EHR's tokens.
    """

    def __init__(
        self,
        features: int,
        latent_channels: int = 4,
        channels: Sequence[int] = (224, 448, 896),
        num_res_blocks: int = 2,
        norm_num_groups: int = 32,
        head_channels: int = 16,
        context: int = 128,
    ) -> None:
        super().__init__()
        self.unet = DiffusionModelUNet(
            spatial_dims=2,
            in_channels=2 * latent_channels,
            out_channels=latent_channels,
            channels=tuple(channels),
            num_res_blocks=num_res_blocks,
            attention_levels=(True,) * len(channels),
            num_head_channels=head_channels,
            norm_num_groups=norm_num_groups,
            norm_eps=1e-5,
            with_conditioning=True,
            cross_attention_dim=context,
            use_flash_attention=True,
        )
        for module in self.unet.modules():
            if isinstance(module, SpatialTransformer):
                module.norm.eps = 1e-6
        self.record = EHREncoder(features, context)
        self.outcome = nn.Linear(context, 1)
        self.config: dict[str, Any] = {
            **{"features": features, "latent_channels": latent_channels, "channels": list(channels)},
            **{"num_res_blocks": num_res_blocks, "norm_num_groups": norm_num_groups},
            **{"head_channels": head_channels, "context": context},
        }

    def forward(self, x: Tensor, timesteps: Tensor, record: Tensor) -> Tensor | dict[str, Tensor]:
        """For x (B, 2 C, h, w), the noisy latent and the baseline's, and the record's numbers (B, F).

        Returns:
            ``noise``, given the record's tokens c; in training mode also ``perturbed``, given 0.5 c + 0.5 eps, and
            ``logit`` (B, 1) of the outcome.
        """
        tokens = self.record(record[:, None])
        noise = self.unet(x, timesteps, tokens)
        if not self.training:
            return noise
        perturbed = self.unet(x, timesteps, 0.5 * tokens + 0.5 * torch.randn_like(tokens))
        return {"noise": noise, "perturbed": perturbed, "logit": self.outcome(tokens[:, 0])}


def with_unet(denoiser: RecordDenoiser, unet: nn.Module) -> RecordDenoiser:
    """``denoiser`` with another U-Net, the averaged one; EHR encoder and outcome are the same modules, not copies.

    The U-Net alone is averaged (ddpm.py:102, 106): averaged weights of the EHR encoder would meet the statistics that
    batch normalisation has of the raw ones.
    """
    made = copy.copy(denoiser)
    made._modules = {**denoiser._modules, "unet": unet}  # else both would share one table of modules
    return made


class RecordLoss(nn.Module):
    """MSE + 1.4 BCE + (epoch / ramp) mean[(1 - abar_t) mean relu(e+ - e- + 0.2)].

    e+ and e- are the squared errors with the record's tokens and with perturbed ones, element by element. The second
    and the third term want the record's tokens to tell the outcome, and the image to need them. The noise alone, of
    evaluation, has the first term alone.

    Args:
        ramp: epochs until the third term has its whole weight; the published run has 200.
        outcome_weight, margin: 1.4 and 0.2.

    Attributes:
        epoch: complete epochs, which :class:`Ramp` keeps.
    """

    def __init__(self, ramp: int = 200, outcome_weight: float = 1.4, margin: float = 0.2) -> None:
        super().__init__()
        self.ramp, self.outcome_weight, self.margin, self.epoch = ramp, outcome_weight, margin, 0

    def forward(self, prediction: Tensor | Mapping[str, Tensor], target: Mapping[str, Tensor]) -> Tensor:
        """
        Args:
            prediction: of :class:`RecordDenoiser`.
            target: ``image``, the noise (B, C, h, w), NaN where it is padded; ``malignant`` (B,), NaN where unknown;
                ``share``, 1 - abar_t (B,).
        """
        noise = target["image"]
        if isinstance(prediction, Tensor):
            return over_known(F.mse_loss, prediction, noise)
        known = ~noise.isnan()
        filled = torch.where(known, noise, 0.0)  # what is left out must be finite for the gradients
        own, other = ((prediction[name] - filled).square() for name in ("noise", "perturbed"))
        excess = torch.where(known, F.relu(own - other + self.margin), 0.0).flatten(1).sum(dim=1)
        contrast = target["share"] * excess / known.flatten(1).sum(dim=1).clamp(min=1)
        return (
            over_known(F.mse_loss, prediction["noise"], noise)
            + self.outcome_weight * known_cross_entropy(prediction["logit"], target["malignant"])
            + self.epoch / self.ramp * contrast.mean()
        )


class Ramp:
    """An Ignite handler that keeps a loss' ``epoch``, the number of complete epochs."""

    def __init__(self, loss: RecordLoss) -> None:
        self.loss = loss

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        self.loss.epoch = engine.state.epoch - 1


class RecordBatch(LatentPrepareBatch):
    """The batch of DDL-CXR: latents, the target of :class:`RecordLoss`, and the record's numbers as the condition.

    Args:
        cases: entries of the datalist.
        numbers: of their conditions.
        fixed: as of :class:`scripts.training.LatentPrepareBatch`.
    """

    def __init__(self, cases: Iterable[Mapping[str, Any]], numbers: ConditionNumbers, fixed: bool = False) -> None:
        super().__init__(concat_key="baseline", fixed=fixed)
        self.pairs, self.numbers = PairBatch(cases), numbers
        self.share = 1.0 - alphas()

    def __call__(  # type: ignore[override]
        self, batchdata: Mapping[str, Any], *arguments: Any, **keywords: Any
    ) -> tuple[Tensor, dict[str, Tensor], tuple, dict]:
        """As of the base class, with a target of three parts."""
        latents, noise, _, passed = super().__call__(batchdata, *arguments, **keywords)
        passed["condition"] = self.numbers(self.pairs.condition(batchdata)).to(latents)
        malignant = torch.as_tensor(batchdata["malignant"]).to(latents)
        share = self.share.to(latents)[passed["timesteps"]]
        return latents, {"image": noise, "malignant": malignant, "share": share}, (), passed


class RecordInferer(Inferer):
    """The training pass: the network on x_t = sqrt(abar_t) x + sqrt(1 - abar_t) eps and the baseline's latent."""

    def __init__(self) -> None:
        super().__init__()
        self.alphas = alphas()

    def __call__(  # type: ignore[override]
        self, inputs: Tensor, network: nn.Module, noise: Tensor, timesteps: Tensor, condition: Tensor, concat: Tensor
    ) -> Any:
        """Arguments as of :class:`scripts.diffusion.ConditionalDiffusionInferer`."""
        share = self.alphas.to(inputs)[timesteps][:, None, None, None]
        noisy = share.sqrt() * inputs + (1.0 - share).sqrt() * noise
        return network(torch.cat([noisy, concat], dim=1), timesteps, condition)


class DDLCXR(Generator):
    """The finished method.

    Args:
        autoencoder: with its latent scale.
        denoiser: the network, or its arguments.
        numbers: of conditions, or their arguments.
        num_steps: of DDIM with eta 1.
    """

    title = "DDL-CXR"
    reads = INPUTS
    stochastic = True

    def __init__(
        self,
        autoencoder: Part,
        denoiser: RecordDenoiser | Mapping[str, Any],
        numbers: ConditionNumbers | Mapping[str, Any],
        num_steps: int = 200,
    ) -> None:
        super().__init__()
        self.autoencoder = built(autoencoder)
        self.denoiser = denoiser if isinstance(denoiser, RecordDenoiser) else RecordDenoiser(**denoiser)
        self.numbers = numbers if isinstance(numbers, ConditionNumbers) else ConditionNumbers(**numbers)
        self.network_calls = num_steps
        self.config = {
            **{"autoencoder": describe(self.autoencoder), "denoiser": self.denoiser.config},
            **{"numbers": self.numbers.config, "num_steps": num_steps},
        }

    @torch.no_grad()
    def sample(self, baseline: Tensor, condition: Sequence[Condition], draw: Draw) -> Tensor:
        """Follow-ups (B, 1, H, W), see :class:`~scripts.comparators.contract.ImageMethod`."""
        mean, std = self.autoencoder.encode(baseline)
        size = mean.shape[1:]
        known = (mean + std * draw(size).to(mean)) * self.autoencoder.latent_scale
        x, record, share = draw(size).to(mean), self.numbers(condition).to(mean), alphas().double()
        stride = len(share) // self.network_calls
        steps = [each + 1 for each in range(0, len(share) - 1, stride)][::-1]
        for step, after in zip(steps, [*steps[1:], 0], strict=True):
            noise = self.denoiser(torch.cat([x, known], dim=1), torch.full((1,), step, device=x.device), record)
            x = ddim_step(x, noise, float(share[step]), float(share[after]), draw(size).to(mean))
        return self.autoencoder.decode_stage_2_outputs(x).clamp(-1.0, 1.0)


def ddim_step(x: Tensor, noise: Tensor, share: float, following: float, fresh: Tensor) -> Tensor:
    """A step of DDIM with eta 1 (Song et al. 2021, Eq. 12 and 16).

    Args:
        x: noisy latents.
        noise: what the network says of them.
        share, following: abar before and after the step.
        fresh: noise that is added.
    """
    sigma = math.sqrt((1.0 - following) / (1.0 - share) * (1.0 - share / following))
    clean = (x - math.sqrt(1.0 - share) * noise) / math.sqrt(share)
    return math.sqrt(following) * clean + math.sqrt(1.0 - following - sigma**2) * noise + sigma * fresh
