"""Networks inside a method are described as JSON, and built again."""

from __future__ import annotations

import json

import pytest
from torch import nn

from scripts import networks
from scripts.comparators.parts import built, describe
from tests.bundle.helpers import count


@pytest.mark.parametrize(
    "network",
    [
        networks.StableDiffusionAutoencoder((8, 8), 1, 16, 4),
        networks.LatentAutoencoder((8, 8), 1, 4, 4),
        networks.StableDiffusionUNet(8, (8, 16), 6, 1, 2, norm_num_groups=4),
    ],
)
def test_a_description_builds_the_same_network(network: nn.Module) -> None:
    again = built(json.loads(json.dumps(describe(network))))
    assert type(again) is type(network) and again.config == network.config and count(again) == count(network)
    assert built(network) is network
