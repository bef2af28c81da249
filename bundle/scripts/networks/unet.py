"""The denoising network, a U-Net whose defaults are those of Stable Diffusion 1.5 (Rombach et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from monai.networks.nets import DiffusionModelUNet
from monai.networks.nets.diffusion_model_unet import DiffusionUNetResnetBlock, SpatialTransformer
from torch.utils.checkpoint import checkpoint

from scripts.errors import UserError

PREDICTION_TYPES = ("epsilon", "v_prediction")
"""What a denoising network may predict: the noise, or v (Salimans and Ho 2022)."""

BETA_SCHEDULES = ("scaled_linear", "linear")
"""Noise schedules, by diffusers' names: linear in sqrt(beta), as Stable Diffusion's, or in beta."""

SCHEDULE: dict[str, Any] = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012}
"""What all of them have, by diffusers' and MONAI's names: beta runs from 0.00085 to 0.012 over 1,000 steps."""


class StableDiffusionUNet(DiffusionModelUNet):
    """MONAI's ``DiffusionModelUNet`` in Stable Diffusion 1.5's configuration.

    It equals diffusers' ``UNet2DConditionModel`` once its tensors are renamed (:mod:`scripts.weights.key_maps`).

    Args:
        in_channels: 4 for the unconditional stage, 8 when the baseline's latent is concatenated.
        channels: width of each level. Every level but the last has attention.
        context_dim: width of the cross-attention context, the hidden size of the conditioner's language model.
        num_res_blocks: residual blocks a level.
        num_heads: attention heads at every level; must divide every entry of ``channels``.
        out_channels: channels of the prediction, as many as the latent has.
        norm_num_groups: groups of every group normalisation; must divide every entry of ``channels``.
        norm_eps: epsilon of every group normalisation outside attention, where it is 1e-6. MONAI Generative's default
            is 1e-6 everywhere.
        prediction_type: what the network is trained to predict: ``epsilon``, the noise (Stable Diffusion 1.5, the
            paper), or ``v_prediction``, alpha noise - sigma latent (Salimans and Ho 2022). It changes no tensor and is
            stored in the checkpoint.
        beta_schedule: noise schedule that the network is trained by, one of :data:`BETA_SCHEDULES`; stored likewise.

    Example:
        >>> import torch
        >>> unet = StableDiffusionUNet(8, channels=(8, 16), context_dim=32, num_heads=2, norm_num_groups=4)
        >>> noisy, timesteps, context = torch.zeros(2, 8, 8, 8), torch.tensor([981, 1]), torch.zeros(2, 77, 32)
        >>> unet(noisy, timesteps, context).shape
        torch.Size([2, 4, 8, 8])
    """

    def __init__(
        self,
        in_channels: int = 4,
        channels: Sequence[int] = (320, 640, 1280, 1280),
        context_dim: int = 2560,
        num_res_blocks: int = 2,
        num_heads: int = 8,
        out_channels: int = 4,
        norm_num_groups: int = 32,
        norm_eps: float = 1e-5,
        prediction_type: str = "epsilon",
        beta_schedule: str = "scaled_linear",
    ) -> None:
        if prediction_type not in PREDICTION_TYPES:
            raise UserError(f"prediction_type is {prediction_type!r}, expected {' or '.join(PREDICTION_TYPES)}.")
        if beta_schedule not in BETA_SCHEDULES:
            raise UserError(f"beta_schedule is {beta_schedule!r}, expected {' or '.join(BETA_SCHEDULES)}.")
        super().__init__(
            spatial_dims=2,
            in_channels=in_channels,
            out_channels=out_channels,
            num_res_blocks=num_res_blocks,
            channels=tuple(channels),
            attention_levels=(True,) * (len(channels) - 1) + (False,),
            norm_num_groups=norm_num_groups,
            norm_eps=norm_eps,
            num_head_channels=tuple(width // num_heads for width in channels),
            with_conditioning=True,
            cross_attention_dim=context_dim,
            use_flash_attention=True,
        )
        for module in self.modules():
            if isinstance(module, SpatialTransformer):
                module.norm.eps = 1e-6
        self.config: dict[str, Any] = {
            "in_channels": in_channels,
            "channels": list(channels),
            "context_dim": context_dim,
            "num_res_blocks": num_res_blocks,
            "num_heads": num_heads,
            "out_channels": out_channels,
            "norm_num_groups": norm_num_groups,
            "norm_eps": norm_eps,
            "prediction_type": prediction_type,
            "beta_schedule": beta_schedule,
        }

    def check_size(self, latent_size: int) -> None:
        """Refuses latents whose side cannot be halved from level to level; the levels' features would not fit together.

        Raises:
            UserError: names the sides that are possible.
        """
        levels = len(self.config["channels"])
        if latent_size % 2 ** (levels - 1):
            raise UserError(
                f"image_size gives latents of {latent_size} x {latent_size}, but the U-Net's {levels} levels expect a "
                f"multiple of {2 ** (levels - 1)}. Give another image_size, or fewer channels in unet_shape."
            )

    def checkpoint_gradients(self) -> None:
        """Keeps of residual blocks and transformers the inputs alone; the backward pass computes them again."""
        for module in self.modules():
            if isinstance(module, (DiffusionUNetResnetBlock, SpatialTransformer)):
                module.forward = partial(checkpoint, module.forward, use_reentrant=False)  # type: ignore[method-assign]

    @property
    def prediction_type(self) -> str:
        """What the network predicts, one of :data:`PREDICTION_TYPES`."""
        return self.config["prediction_type"]

    @property
    def beta_schedule(self) -> str:
        """The noise schedule that the network is trained by, one of :data:`BETA_SCHEDULES`."""
        return self.config["beta_schedule"]
