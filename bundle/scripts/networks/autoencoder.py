"""Autoencoders for grey crops, whose defaults are those of Stable Diffusion 1.5 (Rombach et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.blocks import Convolution
from monai.networks.nets import AutoencoderKL
from monai.networks.nets.autoencoderkl import Encoder
from torch import Tensor, nn

from scripts.errors import UserError


class LatentAutoencoder(AutoencoderKL):
    """MONAI's ``AutoencoderKL`` for grey crops, with the scale of its latents. Weights of MONAI Generative fit it.

    MONAI Generative 0.2.3 has a projection after its attention (``proj_attn``) but never applies it. MONAI applies it
    by default, and would compute something else from the same weights; so there is none here by default.

    ``latent_scale``, 1 / std of the training latents, is a buffer: it is measured once, after training, and is stored
    with the weights. Only :meth:`encode_stage_2_inputs` and :meth:`decode_stage_2_outputs` apply it.

    Args:
        channels: width of each level. The latent's side is the image's divided by ``2 ** (len(channels) - 1)``.
        num_res_blocks: residual blocks per level.
        latent_channels: channels of the latent.
        norm_num_groups: groups of every group normalisation; must divide every entry of ``channels``.
        attention_levels: whether each level has attention; by default none has.
        nonlocal_attention: whether encoder and decoder have attention at the coarsest resolution.
        attention_projection: whether a linear layer follows every attention.
        texture: power that reconstructions lack, by frequency, of :func:`scripts.networks.texture.lost_power`; measured
            once, after training, like the scale, and used where sampling is asked for it.
    """

    latent_scale: Tensor

    def __init__(
        self,
        channels: Sequence[int] = (128, 256, 512, 512),
        num_res_blocks: int = 2,
        latent_channels: int = 4,
        norm_num_groups: int = 32,
        attention_levels: Sequence[bool] | None = None,
        nonlocal_attention: bool = True,
        *,
        attention_projection: bool = False,
        texture: Sequence[float] = (),
    ) -> None:
        levels = tuple(attention_levels or (False,) * len(channels))
        super().__init__(
            spatial_dims=2,
            in_channels=1,
            out_channels=1,
            channels=tuple(channels),
            num_res_blocks=num_res_blocks,
            latent_channels=latent_channels,
            norm_num_groups=norm_num_groups,
            norm_eps=1e-6,
            attention_levels=levels,
            with_encoder_nonlocal_attn=nonlocal_attention,
            with_decoder_nonlocal_attn=nonlocal_attention,
            include_fc=attention_projection,
            use_flash_attention=True,
        )
        self.config: dict[str, Any] = {
            "channels": list(channels),
            "num_res_blocks": num_res_blocks,
            "latent_channels": latent_channels,
            "norm_num_groups": norm_num_groups,
            "attention_levels": list(levels),
            "nonlocal_attention": nonlocal_attention,
            **({"texture": list(texture)} if texture else {}),
        }
        self.register_buffer("latent_scale", torch.ones(()))

    @property
    def compression(self) -> int:
        """The image's side divided by the latent's, in pixels (8 in Stable Diffusion 1.5)."""
        return 2 ** (len(self.config["channels"]) - 1)

    def latent_size(self, image_size: int) -> int:
        """The latent's side for crops of ``image_size`` pixels a side.

        Raises:
            UserError: the crop's side is not a multiple of :attr:`compression`.
        """
        if image_size < self.compression or image_size % self.compression:
            raise UserError(
                f"image_size is {image_size}, expected a multiple of {self.compression}: the autoencoder has "
                f"{len(self.config['channels'])} levels, each with half the pixels of the one above."
            )
        return image_size // self.compression

    def encode_stage_2_inputs(self, x: Tensor) -> Tensor:
        """The scaled latent that diffusion works on: the mean of q(z | x) times ``latent_scale``.

        The mean rather than a sample: at a KL weight of 1e-6 the spread of q is negligible (benchmarks/README.md), and
        a deterministic latent can be computed once and cached.
        """
        return self.encode(x)[0] * self.latent_scale

    def decode_stage_2_outputs(self, z: Tensor) -> Tensor:
        """The crop (B, 1, H, W) of a scaled latent."""
        return self.decode(z / self.latent_scale)


class StableDiffusionAutoencoder(LatentAutoencoder):
    """MONAI's ``AutoencoderKL`` corrected to Stable Diffusion 1.5's, with one grey channel in and out.

    Three things differ from MONAI's class: a SiLU precedes the last convolution of encoder and decoder; the decoder has
    one residual block per level more than the encoder; and the encoder emits mean and log-variance together, which one
    1 x 1 convolution, ``quant_conv``, mixes. It equals diffusers' ``AutoencoderKL`` once its tensors are renamed
    (:mod:`scripts.weights.key_maps`).

    Args:
        channels, num_res_blocks, latent_channels, norm_num_groups, texture: as in :class:`LatentAutoencoder`;
            ``num_res_blocks`` is the encoder's.

    Example:
        >>> autoencoder = StableDiffusionAutoencoder(channels=(8, 8, 8, 16), num_res_blocks=1, norm_num_groups=4)
        >>> latent = autoencoder.encode_stage_2_inputs(torch.zeros(2, 1, 64, 64))
        >>> latent.shape, autoencoder.decode_stage_2_outputs(latent).shape
        (torch.Size([2, 4, 8, 8]), torch.Size([2, 1, 64, 64]))
    """

    def __init__(
        self,
        channels: Sequence[int] = (128, 256, 512, 512),
        num_res_blocks: int = 2,
        latent_channels: int = 4,
        norm_num_groups: int = 32,
        texture: Sequence[float] = (),
    ) -> None:
        shape = (channels, num_res_blocks + 1, latent_channels, norm_num_groups)
        super().__init__(*shape, attention_projection=True, texture=texture)
        self.config["num_res_blocks"] = num_res_blocks  # the encoder's
        del self.config["attention_levels"], self.config["nonlocal_attention"]  # no arguments of this class
        self.encoder = Encoder(
            spatial_dims=2,
            in_channels=1,
            out_channels=2 * latent_channels,
            channels=tuple(channels),
            num_res_blocks=(num_res_blocks,) * len(channels),
            norm_num_groups=norm_num_groups,
            norm_eps=1e-6,
            attention_levels=(False,) * len(channels),
            use_flash_attention=True,
        )
        for blocks in (self.encoder.blocks, self.decoder.blocks):  # type: ignore[union-attr]
            blocks.insert(len(blocks) - 1, nn.SiLU())  # type: ignore[arg-type, operator, union-attr]
        del self.quant_conv_mu, self.quant_conv_log_sigma
        self.quant_conv = Convolution(2, 2 * latent_channels, 2 * latent_channels, kernel_size=1, conv_only=True)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of q(z | x), each (B, latent_channels, H / 8, W / 8), for x (B, 1, H, W)."""
        mean, log_variance = self.quant_conv(self.encoder(x)).chunk(2, dim=1)
        return mean, torch.exp(0.5 * log_variance.clamp(-30.0, 20.0))


class AlignedAutoencoder(nn.Module):
    """The autoencoder as it is trained, with a linear probe that predicts the outcome from its latent (Eq. 5).

    Args:
        autoencoder: the network to train.
        image_size: the crop's side in pixels, which fixes the probe's inputs (4 x 8 x 8 at 64 px).
    """

    def __init__(self, autoencoder: LatentAutoencoder, image_size: int = 64) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        side = autoencoder.latent_size(image_size)
        self.probe = nn.Linear(autoencoder.latent_channels * side * side, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Of x (B, 1, H, W): ``reconstruction``, ``mean``, ``std``, a ``latent`` drawn from them, ``logit`` (B, 1)."""
        mean, std = self.autoencoder.encode(x)
        latent = self.autoencoder.sampling(mean, std)
        return {
            "reconstruction": self.autoencoder.decode(latent),
            "mean": mean,
            "std": std,
            "latent": latent,
            "logit": self.probe(latent.flatten(1)),
        }
