"""The denoiser: conditions that are left out, and what it is given in training."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scripts.conditioning.conditioner import ReportConditioner
from scripts.diffusion.denoiser import ConditionalDiffusionInferer, Denoiser
from scripts.networks.unet import StableDiffusionUNet
from tests.bundle.conftest import MakeWorkflow
from tests.bundle.diffusion.helpers import (
    REPORTS,
    Reader,
)
from tests.bundle.helpers import stirred


def test_a_share_of_the_reports_is_left_out_in_training_alone() -> None:
    class Echo(nn.Module):
        def forward(self, x: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
            return context

    denoiser = Denoiser(Echo(), Reader(), condition_dropout=0.25)  # type: ignore[arg-type]
    batch = (torch.zeros(4000, 4, 2, 2), torch.zeros(4000), ["a report"] * 4000)
    written, null = denoiser.context(["a report"], 1)[0], denoiser.context(None, 1)[0]
    assert torch.equal(denoiser.eval()(*batch), written.expand(4000, -1, -1))
    torch.manual_seed(0)
    found = denoiser.train()(*batch)
    left_out = (found == null).flatten(1).all(1)
    assert 0.22 < left_out.float().mean() < 0.28
    assert torch.equal(found[~left_out], written.expand(int((~left_out).sum()), -1, -1))
    denoiser.condition_dropout = 0.0
    assert torch.equal(denoiser(*batch), written.expand(4000, -1, -1)), "none by default"


def test_the_conditional_stage_leaves_reports_out_in_training_alone(
    make_workflow: MakeWorkflow, trained: Path, tmp_path: Path
) -> None:
    """As many as small.yaml says; what is validated has every report."""
    workflow = make_workflow("train_conditional", tmp_path, "small", models_dir=str(trained / "models"))
    assert workflow.parser.get_parsed_content("network").condition_dropout == 0.15
    assert workflow.parser.get_parsed_content("validate::evaluator").network.condition_dropout == 0


def test_training_noises_by_the_closed_form_and_appends_the_baseline() -> None:
    betas = (np.linspace(0.00085**0.5, 0.012**0.5, 1000)) ** 2
    kept = torch.tensor(np.cumprod(1 - betas)[[0, 499, 999]]).float().view(3, 1, 1, 1)
    latent, noise, baseline = (torch.randn(3, 4, 8, 8) for _ in range(3))
    seen: dict[str, Any] = {}

    def network(x: Tensor, timesteps: Tensor, condition: Any) -> Tensor:
        seen.update(x=x, timesteps=timesteps, condition=condition)
        return noise

    timesteps = torch.tensor([0, 499, 999])
    ConditionalDiffusionInferer()(latent, network, noise, timesteps, condition=REPORTS, concat=baseline)
    expected = torch.cat([kept.sqrt() * latent + (1 - kept).sqrt() * noise, baseline], dim=1)
    torch.testing.assert_close(seen["x"], expected, atol=1e-5, rtol=1e-4)
    assert seen["timesteps"] is timesteps and seen["condition"] is REPORTS
    ConditionalDiffusionInferer()(latent, network, noise, timesteps)
    assert seen["x"].shape == latent.shape and seen["condition"] is None


def test_activations_computed_again_give_the_same_gradients(gemma_folder: Path) -> None:
    """Those of weights and prompts; both U-Net and language model then keep less than half of the bytes."""

    def train(again: bool) -> tuple[list[Tensor], list[int]]:
        torch.manual_seed(0)
        conditioner = ReportConditioner(str(gemma_folder), standardise=False)
        unet = stirred(StableDiffusionUNet(8, channels=(8, 16), context_dim=16, num_heads=2, norm_num_groups=4))
        denoiser = Denoiser(unet, conditioner).train()
        if again:
            denoiser.checkpoint_gradients()
        kept = [0, 0]

        def keep(part: int, tensor: Tensor) -> Tensor:
            kept[part] += tensor.numel() * tensor.element_size() if tensor.requires_grad or tensor.grad_fn else 0
            return tensor

        noisy, steps = torch.linspace(-1, 1, 1024).view(2, 8, 8, 8), torch.tensor([981, 1])
        with torch.autograd.graph.saved_tensors_hooks(partial(keep, 0), lambda tensor: tensor):
            context = denoiser.context(REPORTS[:2], 2)
        with torch.autograd.graph.saved_tensors_hooks(partial(keep, 1), lambda tensor: tensor):
            loss = denoiser(noisy, steps, context).square().sum()
        weights = [*unet.parameters(), conditioner.prompts]
        return list(torch.autograd.grad(loss, weights)), kept

    (gradients, kept), (same, fewer) = train(False), train(True)
    assert all(float(gradient.abs().sum()) > 0 for gradient in gradients)
    for gradient, other in zip(gradients, same, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-6, atol=1e-9)
    assert all(2 * less < more for less, more in zip(fewer, kept, strict=True)), (fewer, kept)
