"""The networks: Stable Diffusion 1.5's autoencoder and U-Net for grey crops, and the classifier that judges crops.

The shapes of Stable Diffusion 1.5 (Rombach et al. 2022) are the defaults here and are written nowhere else; a smaller
network is the same class with other arguments. Every network keeps its arguments in ``config``, so that a checkpoint
can rebuild it (see :mod:`scripts.checkpoints`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.blocks import Convolution
from monai.networks.nets import AutoencoderKL, DiffusionModelUNet, ResNet, ViT
from monai.networks.nets.autoencoderkl import Encoder
from monai.networks.nets.diffusion_model_unet import SpatialTransformer
from torch import Tensor, nn

from scripts.errors import UserError

PREDICTION_TYPES = ("epsilon", "v_prediction")


class LatentAutoencoder(AutoencoderKL):
    """MONAI's ``AutoencoderKL`` for grey crops, with the scale of its latents: what MONAI Generative's weights fit.

    MONAI Generative 0.2.3 holds a projection behind its attention (``proj_attn``) but never applies it; MONAI applies
    it by default, and then is another function of the same weights. Here there is none, as there.

    ``latent_scale`` (1/std of the training latents) is a buffer: it is measured once after training, travels with the
    weights and is applied in one place only, :meth:`encode_stage_2_inputs` and :meth:`decode_stage_2_outputs`.

    Args:
        channels: width of each level; the latent is ``2 ** (len(channels) - 1)`` times smaller than the image.
        num_res_blocks: residual blocks a level.
        latent_channels: channels of the latent.
        norm_num_groups: groups of every group normalisation; must divide every entry of ``channels``.
        attention_levels: the levels that have attention; none where not given.
        nonlocal_attention: attention at the coarsest resolution, in encoder and decoder.
        attention_projection: a linear layer behind every attention.
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
        )
        self.config: dict[str, Any] = {
            "channels": list(channels),
            "num_res_blocks": num_res_blocks,
            "latent_channels": latent_channels,
            "norm_num_groups": norm_num_groups,
            "attention_levels": list(levels),
            "nonlocal_attention": nonlocal_attention,
        }
        self.register_buffer("latent_scale", torch.ones(()))

    @property
    def compression(self) -> int:
        """How many pixels a side one latent position stands for (8 in Stable Diffusion 1.5)."""
        return 2 ** (len(self.config["channels"]) - 1)

    def encode_stage_2_inputs(self, x: Tensor) -> Tensor:
        """The scaled latent that diffusion works on: the mean of q(z | x) times ``latent_scale``.

        The mean rather than a sample: at a KL weight of 1e-6 the two differ by far less than the image's own noise,
        and a latent that is a function of the crop can be computed once.
        """
        return self.encode(x)[0] * self.latent_scale

    def decode_stage_2_outputs(self, z: Tensor) -> Tensor:
        """The crop (B, 1, H, W) of a scaled latent."""
        return self.decode(z / self.latent_scale)


class StableDiffusionAutoencoder(LatentAutoencoder):
    """MONAI's ``AutoencoderKL`` corrected to Stable Diffusion 1.5's, with one grey channel in and out.

    Against MONAI's class: a SiLU stands before the last convolution of encoder and decoder, the decoder has one
    residual block more a level than the encoder, and the encoder emits mean and log-variance together, mixed by one
    1 x 1 ``quant_conv``. So it equals diffusers' ``AutoencoderKL`` after renaming (``test_pretrained.py``).

    Args:
        channels, num_res_blocks, latent_channels, norm_num_groups: as in :class:`LatentAutoencoder`;
            ``num_res_blocks`` is the encoder's.
    """

    def __init__(
        self,
        channels: Sequence[int] = (128, 256, 512, 512),
        num_res_blocks: int = 2,
        latent_channels: int = 4,
        norm_num_groups: int = 32,
    ) -> None:
        super().__init__(channels, num_res_blocks + 1, latent_channels, norm_num_groups, attention_projection=True)
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
    """The autoencoder in training: with the linear probe that reads the outcome from its latent (Eq. 5).

    Args:
        autoencoder: the network to train.
        image_size: pixels a side, which fixes the probe's width (4 * 8 * 8 for 64 px).
    """

    def __init__(self, autoencoder: LatentAutoencoder, image_size: int = 64) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        side = image_size // autoencoder.compression
        self.probe = nn.Linear(autoencoder.latent_channels * side * side, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """``reconstruction``, ``mean``, ``std``, the sampled ``latent``, the probe's ``logit`` of x (B, 1, H, W)."""
        mean, std = self.autoencoder.encode(x)
        latent = self.autoencoder.sampling(mean, std)
        return {
            "reconstruction": self.autoencoder.decode(latent),
            "mean": mean,
            "std": std,
            "latent": latent,
            "logit": self.probe(latent.flatten(1)),
        }


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


class NoduleClassifier(nn.Module):
    """Reads malignancy from a crop, the neutral judge of real and generated images (section 4.1.2).

    A subclass says what it sees in a crop, in ``width`` numbers; one linear layer, ``head``, weighs them.

    Args:
        image_size: pixels a side of the crops it reads. Of another field of view it would know nothing.
        width: of what :meth:`features` gives.
    """

    def __init__(self, image_size: int, width: int) -> None:
        super().__init__()
        self.image_size, self.width = image_size, width
        self.head: nn.Module = nn.Linear(width, 1)

    def features(self, x: Tensor) -> Tensor:
        """What is seen, (B, width), of crops (B, 1, image_size, image_size) in [-1, 1]."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 1) of malignancy for crops (B, 1, image_size, image_size) in [-1, 1].

        Raises:
            UserError: crops of another size.
        """
        if x.shape[1:] != (1, self.image_size, self.image_size):
            raise UserError(
                f"The classifier was made for crops of 1 x {self.image_size} x {self.image_size}, "
                f"these are {' x '.join(map(str, x.shape[1:]))}: give image_size the size that it was trained with."
            )
        return self.head(self.features(x))


class ViTClassifier(NoduleClassifier):
    """The paper's: a ViT, its tokens averaged. The defaults are the authors': patch 8, width 1024, depth 6, MLP 2048.

    Args:
        image_size: pixels a side.
        patch_size: pixels a side of one token.
        hidden_size, num_layers, mlp_dim, num_heads, dropout_rate: of the transformer.
    """

    def __init__(
        self,
        image_size: int = 64,
        patch_size: int = 8,
        hidden_size: int = 1024,
        num_layers: int = 6,
        mlp_dim: int = 2048,
        num_heads: int = 8,
        dropout_rate: float = 0.5,
    ) -> None:
        super().__init__(image_size, hidden_size)
        self.config = {
            "image_size": image_size,
            "patch_size": patch_size,
            "hidden_size": hidden_size,
            "num_layers": num_layers,
            "mlp_dim": mlp_dim,
            "num_heads": num_heads,
            "dropout_rate": dropout_rate,
        }
        self.vit = ViT(
            in_channels=1,
            img_size=(image_size, image_size),
            patch_size=(patch_size, patch_size),
            hidden_size=hidden_size,
            mlp_dim=mlp_dim,
            num_layers=num_layers,
            num_heads=num_heads,
            dropout_rate=dropout_rate,
            spatial_dims=2,
            classification=False,
        )

    def features(self, x: Tensor) -> Tensor:
        """The mean of the tokens."""
        tokens, _ = self.vit(x)
        return tokens.mean(dim=1)


class ResNetClassifier(NoduleClassifier):
    """MONAI's ``ResNet``: where a few hundred crops are all there is, it learns from them what a ViT does not.

    Args:
        image_size: pixels a side.
        channels: width of each of the four levels.
        blocks: basic residual blocks of each.
    """

    def __init__(
        self,
        image_size: int = 64,
        channels: Sequence[int] = (64, 128, 256, 512),
        blocks: Sequence[int] = (1, 1, 1, 1),
    ) -> None:
        super().__init__(image_size, channels[-1])
        self.config = {"image_size": image_size, "channels": list(channels), "blocks": list(blocks)}
        self.resnet = ResNet(
            "basic",
            list(blocks),
            list(channels),
            spatial_dims=2,
            n_input_channels=1,
            conv1_t_size=3,
            feed_forward=False,
        )

    def features(self, x: Tensor) -> Tensor:
        """The last level's, averaged over the crop."""
        return self.resnet(x)
