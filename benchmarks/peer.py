"""Is the U-Net as fast as diffusers' with the same weights and fused attention?

    python benchmarks/peer.py [--pairs 30]

A forward pass of 160 latents with the small U-Net, and of 20 with Stable Diffusion 1.5's size; both networks lie in one
process and are called in turn. They must agree, or nothing is timed. Needs diffusers.
"""

from __future__ import annotations

import os
from typing import Annotated, Any

import torch
import typer
from diffusers import UNet2DConditionModel
from pairs import Ratio, compare, print_ratios, timed

import data_prep  # noqa: F401 (puts the bundle on the path)
from scripts.export.diffusers import diffusers_config
from scripts.networks.unet import StableDiffusionUNet
from scripts.weights.key_maps import DIFFUSERS, key_maps_of

SIZES: dict[str, tuple[dict[str, Any], int]] = {
    "small": ({"channels": (32, 64, 96), "num_res_blocks": 1, "norm_num_groups": 8, "context_dim": 576}, 160),
    "full size": ({"context_dim": 768}, 20),
}
"""Arguments of the U-Net, and latents in a batch."""


@torch.no_grad()
def forward(name: str, pairs: int) -> Ratio:
    """The ratio of one size's times, ours over theirs."""
    arguments, count = SIZES[name]
    ours = StableDiffusionUNet(8, **arguments).eval()
    generator = torch.Generator().manual_seed(23)
    for weight in ours.parameters():  # the last convolution is zero at first
        weight.add_(0.01 * torch.randn(weight.shape, generator=generator))
    theirs: Any = UNet2DConditionModel.from_config(diffusers_config(ours)).eval()
    state = ours.state_dict()
    theirs.load_state_dict({their: state[our] for our, their in key_maps_of(ours)[DIFFUSERS].items()})
    latents = torch.randn(count, 8, 8, 8, generator=generator)
    context = torch.randn(count, 2, arguments["context_dim"], generator=generator)
    step = torch.tensor([500])

    def we() -> torch.Tensor:
        return ours(latents, step, context)

    def they() -> torch.Tensor:
        return theirs(latents, step, context).sample

    torch.testing.assert_close(we(), they(), rtol=1e-3, atol=1e-4)
    return compare(f"{name}, {count} latents", timed(they), timed(we), pairs)


def main(pairs: Annotated[int, typer.Option(min=6, help="of each size")] = 30) -> None:
    """Prints the ratio of times, ours over diffusers'."""
    ratios = [forward(name, pairs) for name in SIZES]
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print_ratios(f"a forward pass of the U-Net, {threads} threads", ratios, ("diffusers", "ours"))


if __name__ == "__main__":
    typer.run(main)
