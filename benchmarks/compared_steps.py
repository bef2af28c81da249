"""What do a training step and a sample of the compared methods without a record cost at small.yaml's size?

    python benchmarks/compared_steps.py

CPU seconds on one thread, 64 px, the overlays' batches; each is tried once before it is timed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from scripts.comparators.batches import PairBatch
from scripts.comparators.corrflownet import (
    BridgeBatch,
    CorrelationLoss,
    CorrFlowNet,
    PairAutoencoder,
    prepare_both_times,
)
from scripts.comparators.generation import MethodInferer
from scripts.comparators.generator import Generator
from scripts.comparators.imageflownet import FlowLoss, ImageFlowNet, TwoTimesBatch
from scripts.comparators.mcwgan import ImageLoss, McWGAN, PairCritic, WassersteinTrainer
from scripts.networks.autoencoder import StableDiffusionAutoencoder
from scripts.networks.classifiers import ResNetClassifier

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.bundle.comparators.toy import discs  # noqa: E402

PAIRS = discs(32, size=64)


def timed(name: str, step: Callable[[], Any], times: int = 2) -> None:
    """Prints the CPU seconds of a step."""
    step()
    begin = time.process_time()
    for _ in range(times):
        step()
    print(f"| {name} | {(time.process_time() - begin) / times:.2f} |", flush=True)


def mcwgan() -> Generator:
    """Five batches: as many steps of the critic, and one of the predictor."""
    channels = (32, 64, 128, 256)
    network, critic = McWGAN(channels), PairCritic(64, channels)
    trainer = WassersteinTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[PAIRS.batch(slice(0, 16))] * 5,
        g_network=network,
        g_optimizer=torch.optim.Adam(network.parameters(), 1e-4),
        recon_loss_function=ImageLoss(ResNetClassifier(64, (16, 32, 64, 128), (2, 2, 2, 2))),
        d_network=critic,
        d_optimizer=torch.optim.Adam(critic.parameters(), 1e-4),
        prepare_batch=PairBatch(PAIRS.cases()),
        decollate=False,
    )
    timed("McWGAN, 5 steps of the critic and 1 of the predictor, batch 16", trainer.run)
    return network


def corrflownet() -> Generator:
    """Autoencoder and flow."""
    network = PairAutoencoder(StableDiffusionAutoencoder((16, 32, 64, 128), 1, 4, 4), 64)
    weights: dict[str, Any] = {"perceptual": "alex", "perceptual_samples": 2, "perceptual_weight": 0.1}
    loss = CorrelationLoss(0.1, **weights, alignment_weight=0.0, prediction_weight=0.05)
    crops, target = prepare_both_times({**PAIRS.batch(slice(0, 8)), "malignant": torch.zeros(8)})
    timed("CorrFlowNet's autoencoder, 8 pairs", lambda: loss(network(crops), target).backward())
    unet = {"channels": [32, 64, 96], "num_res_blocks": 1, "norm_num_groups": 8}
    model: CorrFlowNet = CorrFlowNet.of(network.autoencoder, unet, sigma=0.5)
    latents = {"baseline": torch.randn(32, 4, 8, 8), "follow_up": torch.randn(32, 4, 8, 8)}
    z, displacement, arguments, _ = BridgeBatch(0.5)(latents)
    timed("CorrFlowNet's flow, batch 32", lambda: (model(z, *arguments) - displacement).square().mean().backward())
    return model


def imageflownet() -> Generator:
    """Both phases together."""
    model, loss = ImageFlowNet((8, 16, 32, 64), 1, 4, 10), FlowLoss()
    model.predicting.fill_(True)
    crops, target, _, named = TwoTimesBatch(PAIRS.cases())(PAIRS.batch(slice(0, 8)))
    timed("ImageFlowNet, both phases, batch 8", lambda: loss(model(crops, **named), target).backward())
    return model


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print("| step | CPU s |\n|---|---:|")
    methods = [make() for make in (mcwgan, corrflownet, imageflownet)]
    print("\n| method | parameters | network calls a sample | CPU s a sample |\n|---|---:|---:|---:|")
    for method in methods:
        begin = time.process_time()
        made = MethodInferer(2)(PAIRS.baseline[:8], method.eval(), PAIRS.conditions[:8])
        cost = (time.process_time() - begin) / made[:, :, 0, 0].numel()
        size = sum(each.numel() for each in method.parameters())
        print(f"| {method.title} | {size:,} | {method.network_calls} | {cost:.3f} |", flush=True)


if __name__ == "__main__":
    main()
