"""The denoising network: Stable Diffusion 1.5's U-Net (Rombach et al. 2022), whose shape is the default."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai.networks.nets import DiffusionModelUNet
from monai.networks.nets.diffusion_model_unet import SpatialTransformer

from scripts.errors import UserError

PREDICTION_TYPES = ("epsilon", "v_prediction")


class StableDiffusionUNet(DiffusionModelUNet):
    """MONAI's ``DiffusionModelUNet`` in Stable Diffusion 1.5's configuration; equals diffusers' after renaming.

    Args:
        in_channels: 4 for the unconditional stage, 8 when the baseline's latent is concatenated.
        channels: width of each level; all levels but the last have attention.
        context_dim: width of the cross-attention context, the hidden size of the conditioner's language model.
        num_res_blocks: residual blocks a level.
        num_heads: attention heads at every level.
        out_channels: channels of what is predicted, those of the latent.
        norm_num_groups: groups of every group normalisation.
        norm_eps: of every group normalisation but the attention's, whose is 1e-6; MONAI Generative's default is 1e-6.
        prediction_type: what the output is: ``epsilon``, the noise (Stable Diffusion 1.5, the paper), or
            ``v_prediction``, alpha noise - sigma latent (Salimans and Ho 2022). It changes no weight and travels with
            them.
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
    ) -> None:
        if prediction_type not in PREDICTION_TYPES:
            raise UserError(f"prediction_type is {prediction_type!r}, expected {' or '.join(PREDICTION_TYPES)}.")
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
        }

    @property
    def prediction_type(self) -> str:
        """What the output is, ``epsilon`` or ``v_prediction``."""
        return self.config["prediction_type"]
