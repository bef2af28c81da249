"""The classifiers: one logit a crop, from that crop alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.errors import UserError
from scripts.networks.classifiers import ResNetClassifier, ViTClassifier
from tests.bundle.helpers import rebuilt, stirred


@pytest.mark.parametrize(
    "network",
    [
        ViTClassifier(image_size=32, hidden_size=32, num_layers=2, mlp_dim=32, num_heads=4),
        ResNetClassifier(32, (4, 8, 8, 16)),
    ],
    ids=lambda network: type(network).__name__,
)
@torch.no_grad()
def test_classifier_gives_one_logit_a_crop_and_depends_on_no_other_crop(network: Any) -> None:
    network = stirred(network).eval()
    crops = torch.rand(5, 1, 32, 32) * 2 - 1
    logits = network(crops)
    assert logits.shape == (5, 1) and logits.std() > 1e-3
    torch.testing.assert_close(network(crops[2:3]), logits[2:3])
    torch.testing.assert_close(network.head(network.features(crops)), logits)
    assert network.features(crops).shape == (5, network.width)
    with pytest.raises(UserError, match="crops of 1 x 32 x 32, these are 1 x 64 x 64"):
        network(torch.zeros(1, 1, 64, 64))


@pytest.mark.parametrize("size", [0, 4, 60])
def test_sizes_that_patches_do_not_fill_are_refused(size: int) -> None:
    with pytest.raises(UserError, match=f"image_size is {size}, expected a multiple of patch_size, which is 8"):
        ViTClassifier(image_size=size, hidden_size=16, num_layers=1, mlp_dim=16, num_heads=2)


def test_default_classifier_is_the_authors() -> None:
    with torch.device("meta"):
        network = ViTClassifier()
    block = network.vit.blocks[0]
    assert len(network.vit.blocks) == 6 and block.mlp.linear1.weight.shape == (2048, 1024)
    assert network.vit.patch_embedding.position_embeddings.shape == (1, (64 // 8) ** 2, 1024)
    assert block.mlp.drop1.p == 0.5


@pytest.mark.parametrize(
    "network",
    [
        ViTClassifier(image_size=32, hidden_size=16, num_layers=1, mlp_dim=16, num_heads=2),
        ResNetClassifier(32, (4, 4, 8, 8), (1, 2, 1, 1)),
    ],
    ids=lambda network: type(network).__name__,
)
def test_config_rebuilds_the_network(network: Any, tmp_path: Path) -> None:
    rebuilt(network, tmp_path)
