"""Flux, a rectified flow (black-forest-labs/flux @802fb47, Apache-2.0), trained from scratch or from its weights.

The network is diffusers' ``FluxTransformer2DModel``. Time runs as in Flux, from noise at t = 1 to data at t = 0: x_t =
(1 - t) x + t eps, the network gives the velocity eps - x, and sampling takes Euler steps x += (t' - t) v.

No training code is published, so the recipe is a reconstruction [R]: the baseline's latent by channels, as Flux' Canny
and Depth models take their images; the report's token states as text, and their mean as the pooled text; t in training
logit-normal and shifted like the sampling schedule; mean squared error. From scratch, modulations and the last layer
start at zero; published weights are frozen at full size, and trained by LoRA.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor, nn

from scripts.comparators.contract import INPUTS, Condition
from scripts.comparators.generator import Generator
from scripts.comparators.lora import LoRANetwork
from scripts.comparators.parts import Part, built, describe
from scripts.comparators.text import TextEncoder
from scripts.diffusion.noise import Draw
from scripts.ehr.report import radiology_report
from scripts.errors import UserError
from scripts.training.batches import LatentPrepareBatch
from scripts.training.checkpointing import Checkpoint
from scripts.weights.flux_names import flux_tensors
from scripts.weights.published import open_weights

PATCH = 2
"""Side of the squares of latent pixels that are one token."""


ZERO_AT_FIRST = r"(^norm_out|\.norm|\.norm1|\.norm1_context)\.linear$|^proj_out$"
"""Names of the layers that are zero before training: modulations and the last layer (Peebles and Xie 2023, DiT)."""

LORA_LAYERS = (
    r".*transformer_blocks\.\d+\."
    r"(attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)|ff(_context)?\.net\.(0\.proj|2)|proj_mlp|proj_out)"
)
"""Names of the layers that LoRA adapts: the linear ones of attention and feed-forward, in both kinds of blocks."""


class FluxVelocity(nn.Module):
    """The velocity of latents; by default Flux's published layout, with the baseline's latent by channels.

    Args:
        latent_channels: C; a token of the image has 4 C numbers.
        text_dim, pooled_dim: width of the text's states, and of the pooled text.
        num_layers, num_single_layers: double- and single-stream blocks.
        num_heads, axes: attention heads, and rotary dimensions of the three axes, which sum to a head's width. Each
            axis is even.
        guidance: value of the embedded guidance of the dev model; None: no such embedding, as in schnell.
        baseline: whether the baseline's latent is read, as further input channels.

    Example:
        >>> velocity = FluxVelocity(4, 8, 8, 1, 1, 2, (4, 6, 6))
        >>> latent = torch.zeros(2, 4, 8, 8)
        >>> velocity(latent, torch.ones(2), latent, torch.zeros(2, 5, 8)).shape
        torch.Size([2, 4, 8, 8])
    """

    def __init__(
        self,
        latent_channels: int = 16,
        text_dim: int = 4096,
        pooled_dim: int = 768,
        num_layers: int = 19,
        num_single_layers: int = 38,
        num_heads: int = 24,
        axes: Sequence[int] = (16, 56, 56),
        guidance: float | None = None,
        baseline: bool = True,
    ) -> None:
        super().__init__()
        from diffusers import FluxTransformer2DModel  # takes seconds to import

        width = PATCH**2 * latent_channels
        transformer: Any = FluxTransformer2DModel(
            in_channels=width * (1 + baseline),
            out_channels=width,
            num_layers=num_layers,
            num_single_layers=num_single_layers,
            attention_head_dim=sum(axes),
            num_attention_heads=num_heads,
            joint_attention_dim=text_dim,
            pooled_projection_dim=pooled_dim,
            guidance_embeds=guidance is not None,
            axes_dims_rope=tuple(axes),  # type: ignore[arg-type]
        )
        self.transformer = transformer
        self.guidance = guidance
        self.config: dict[str, Any] = {
            **{"latent_channels": latent_channels, "text_dim": text_dim, "pooled_dim": pooled_dim},
            **{"num_layers": num_layers, "num_single_layers": num_single_layers, "num_heads": num_heads},
            **{"axes": list(axes), "guidance": guidance, "baseline": baseline},
        }
        for name, module in transformer.named_modules():
            if re.search(ZERO_AT_FIRST, name):  # diffusers has inference code alone, which does not
                nn.init.zeros_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor, times: Tensor, baseline: Tensor | None, text: Tensor) -> Tensor:
        """The velocity (B, C, h, w) of x (B, C, h, w) at ``times`` (B,) in [0, 1].

        Args:
            baseline: its latent (B, C, h, w).
            text: states of the report's tokens (B, L, D).
        """
        tokens = patches(x)
        if baseline is not None:
            tokens = torch.cat([tokens, patches(baseline)], dim=2)
        rows, columns = (size // PATCH for size in x.shape[2:])
        velocity = self.transformer(
            hidden_states=tokens,
            encoder_hidden_states=text,
            pooled_projections=text.mean(dim=1),
            timestep=times,
            img_ids=torch.cartesian_prod(
                torch.zeros(1, dtype=torch.long), torch.arange(rows), torch.arange(columns)
            ).to(x),
            txt_ids=x.new_zeros(text.shape[1], 3),
            guidance=None if self.guidance is None else x.new_full((len(x),), self.guidance),
            return_dict=False,
        )[0]
        return unpatched(velocity, rows, columns)


def patches(latents: Tensor) -> Tensor:
    """Latents (B, C, h, w) as tokens (B, h w / 4, 4 C) of 2 x 2 pixels in the order (channel, row, column)."""
    batch, channels, height, width = latents.shape
    squares = latents.view(batch, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return squares.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * PATCH**2)


def unpatched(tokens: Tensor, rows: int, columns: int) -> Tensor:
    """The latents (B, C, h, w) of :func:`patches`, ``rows`` by ``columns`` tokens."""
    squares = tokens.view(len(tokens), rows, columns, -1, PATCH, PATCH).permute(0, 3, 1, 4, 2, 5)
    return squares.reshape(len(tokens), -1, rows * PATCH, columns * PATCH)


def shift(latents: Tensor) -> float:
    """e^mu, by which Flux moves times towards noise: mu is linear in the tokens, 0.5 at 256 and 1.15 at 4,096.

    >>> round(shift(torch.zeros(1, 16, 8, 8)), 4)  # of 16 tokens
    1.5831
    """
    tokens = latents.shape[2] * latents.shape[3] // PATCH**2
    return math.exp(0.5 + (1.15 - 0.5) * (tokens - 256) / (4096 - 256))


def shifted(times: Tensor, factor: float) -> Tensor:
    """Times in [0, 1] moved towards 1: factor t / (1 + (factor - 1) t)."""
    return factor * times / (1.0 + (factor - 1.0) * times)


class FlowPrepareBatch(LatentPrepareBatch):
    """The batch of rectified flow: noise, times in place of timesteps, and the target eps - x.

    Times are logit-normal (0, 1) and shifted like the sampling schedule [R]; with ``fixed`` they are the quantiles of
    this distribution, evenly spread over the batch.
    """

    def get_target(self, images: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        return noise - images

    def get_timesteps(self, images: Tensor) -> Tensor:
        if self.fixed:
            steps = super().get_timesteps(images).double() + 0.5
            normal = torch.special.ndtri(steps / self.num_train_timesteps).to(images)
        else:
            normal = torch.randn(len(images), device=images.device)
        return shifted(normal.sigmoid(), shift(images))


class FlowInferer(Inferer):
    """The training pass: the network's velocity at x_t = (1 - t) x + t eps."""

    def __call__(  # type: ignore[override]
        self,
        inputs: Tensor,
        network: nn.Module,
        noise: Tensor,
        timesteps: Tensor,
        condition: Sequence[str],
        concat: Tensor | None = None,
    ) -> Tensor:
        """Arguments as of :class:`scripts.diffusion.ConditionalDiffusionInferer`; ``timesteps`` (B,) in [0, 1]."""
        times = timesteps[:, None, None, None]
        return network((1.0 - times) * inputs + times * noise, timesteps, concat, condition)


class ReportedVelocity(nn.Module):
    """The velocity, given reports in place of their states."""

    def __init__(self, velocity: FluxVelocity | LoRANetwork, text: TextEncoder) -> None:
        super().__init__()
        self.velocity, self.text = velocity, text

    def forward(self, x: Tensor, times: Tensor, baseline: Tensor | None, reports: Sequence[str]) -> Tensor:
        """As of :class:`FluxVelocity`."""
        return self.velocity(x, times, baseline, self.text(reports))


class Flux(Generator):
    """The finished method. Its recipe is a reconstruction [R], not the network.

    Args:
        autoencoder: with its latent scale; of a new autoencoder its latents have no shift.
        velocity: the network, or its arguments.
        text: the encoder of reports, or its arguments.
        num_steps: of Euler.
    """

    title = "Flux"
    reads = INPUTS
    stochastic = True

    def __init__(
        self,
        autoencoder: Part,
        velocity: FluxVelocity | Mapping[str, Any],
        text: TextEncoder | Mapping[str, Any],
        num_steps: int = 50,
    ) -> None:
        super().__init__()
        self.autoencoder = built(autoencoder)
        self.velocity = velocity if isinstance(velocity, FluxVelocity) else FluxVelocity(**velocity)
        self.text = text if isinstance(text, TextEncoder) else TextEncoder(**text)
        self.network_calls = num_steps
        self.config = {
            **{"autoencoder": describe(self.autoencoder), "velocity": self.velocity.config},
            **{"text": self.text.config, "num_steps": num_steps},
        }

    @torch.no_grad()
    def sample(self, baseline: Tensor, condition: Sequence[Condition], draw: Draw) -> Tensor:
        """Follow-ups (B, 1, H, W), see :class:`~scripts.comparators.contract.ImageMethod`."""
        known = self.autoencoder.encode_stage_2_inputs(baseline)
        text = self.text([radiology_report(record, days) for record, days in condition])
        x = draw(known.shape[1:]).to(known)
        times = schedule(self.network_calls, shift(x)).tolist()
        for now, after in zip(times, times[1:], strict=False):
            x = x + (after - now) * self.velocity(x, x.new_full((len(x),), now), known, text)
        return self.autoencoder.decode_stage_2_outputs(x).clamp(-1.0, 1.0)


def schedule(num_steps: int, factor: float) -> Tensor:
    """The times of sampling (num_steps + 1,), from 1 to 0, equally spaced and then shifted.

    >>> [round(time, 5) for time in schedule(4, shift(torch.zeros(1, 16, 8, 8))).tolist()]
    [1.0, 0.82606, 0.61287, 0.34542, 0.0]
    """
    return shifted(torch.linspace(1.0, 0.0, num_steps + 1, dtype=torch.float64), factor)


def initial_velocity(
    shape: Mapping[str, Any],
    latent_channels: int,
    text_dim: int,
    pretrained: Any = None,
    lora_rank: int | None = None,
    base_dtype: str = "bfloat16",
) -> FluxVelocity | LoRANetwork:
    """A new network, or one that starts from published weights.

    Args:
        shape: of :class:`FluxVelocity`, without the widths of latent and text.
        text_dim: width of the report's states. Where the weights have another one, the layers that take the text are
            new; the columns of the first layer that take the baseline start at zero.
        pretrained: a file or folder with Flux's transformer, by diffusers' names or by the original's.
        lora_rank: of adapters in :data:`LORA_LAYERS`, which are trained with the layers whose width is new while all
            else is frozen; None: all is trained.
        base_dtype: of what is frozen, see :class:`~scripts.comparators.lora.LoRANetwork`.

    Raises:
        CheckpointError, UserError: the file does not hold this network, or there is none for LoRA to adapt.
    """
    if lora_rank is not None and pretrained is None:
        raise UserError(
            f"lora_rank is {lora_rank!r}, but LoRA adapts weights that are there. Give --pretrained, Flux's "
            "transformer, or lora_rank: null in an overlay, which trains every weight from scratch."
        )
    velocity = FluxVelocity(
        **{**shape, "latent_channels": latent_channels, "text_dim": text_dim, "pooled_dim": text_dim}
    )
    if pretrained is None:
        return velocity
    own = velocity.transformer.state_dict()
    tensors = flux_tensors(open_weights(pretrained, "transformer"), list(own))
    new = [name for name, tensor in tensors.items() if tensor.shape != own[name].shape]
    for name in new:
        tensor = tensors[name]
        if name == "x_embedder.weight":
            tensors[name] = nn.functional.pad(tensor, (0, max(0, own[name].shape[1] - tensor.shape[1])))
        elif name in ("context_embedder.weight", "time_text_embed.text_embedder.linear_1.weight"):
            tensors[name] = own[name]
        if tensors[name].shape != own[name].shape:
            shapes = f"{list(tensor.shape)}, expected {list(own[name].shape)}"
            raise UserError(
                f"{pretrained}: {name} has the shape {shapes}. Give Flux's transformer, or change the shape."
            )
    velocity.transformer.load_state_dict(tensors)
    if lora_rank is None:
        return velocity
    layers = [f"transformer.{name.removesuffix('.weight')}" for name in new]
    return LoRANetwork(velocity, lora_rank, LORA_LAYERS, layers, base_dtype)


def best_velocity(checkpoint: Checkpoint, velocity: nn.Module) -> nn.Module:
    """The velocity that is published: with LoRA, the best epoch's merged into a network without."""
    if not isinstance(velocity, LoRANetwork):
        return velocity
    checkpoint.load_best()
    return velocity.merged()
