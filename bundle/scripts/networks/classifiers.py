"""Classifiers of malignancy, by which evaluation judges real and generated crops alike (section 4.1.2)."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.nets import ResNet, ViT
from torch import Tensor, nn

from scripts.errors import UserError


class NoduleClassifier(nn.Module):
    """Base class of the classifiers: features of a crop, and a linear layer, ``head``, that gives the logit.

    Args:
        image_size: side of the crops in pixels. Crops of another size, hence of another field of view, are refused.
        width: number of features that a subclass's :meth:`features` gives.
    """

    def __init__(self, image_size: int, width: int) -> None:
        super().__init__()
        self.image_size, self.width = image_size, width
        self.head: nn.Module = nn.Linear(width, 1)

    def features(self, x: Tensor) -> Tensor:
        """Features (B, width) of crops (B, 1, image_size, image_size) in [-1, 1]."""
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
    """The paper's classifier: a vision transformer whose tokens are averaged. The defaults are the authors'.

    Args:
        image_size: side of the crops in pixels.
        patch_size: side in pixels of the patch behind each token.
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
        if image_size < patch_size or image_size % patch_size:
            raise UserError(f"image_size is {image_size}, expected a multiple of patch_size, which is {patch_size}.")
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
        """The mean of the tokens (B, hidden_size)."""
        tokens, _ = self.vit(x)
        return tokens.mean(dim=1)


class ResNetClassifier(NoduleClassifier):
    """MONAI's ``ResNet`` for small cohorts: from a few hundred crops it learns more than a ViT (benchmarks/README.md).

    Args:
        image_size: side of the crops in pixels.
        channels: width of each of the four levels.
        blocks: basic residual blocks of each level.

    Example:
        >>> import torch
        >>> classifier = ResNetClassifier(image_size=64, channels=(4, 4, 8, 8)).eval()
        >>> classifier(torch.zeros(2, 1, 64, 64)).shape
        torch.Size([2, 1])
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
        """The last level's features, averaged over the crop (B, channels[-1])."""
        return self.resnet(x)
