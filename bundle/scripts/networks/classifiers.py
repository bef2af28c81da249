"""The classifiers that judge real and generated crops alike (section 4.1.2)."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.nets import ResNet, ViT
from torch import Tensor, nn

from scripts.errors import UserError


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
