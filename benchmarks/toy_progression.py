"""Do the compared methods without a record learn a growth that is known? Discs that grow, or shrink, by a factor.

    python benchmarks/toy_progression.py [METHOD ...] [FACTOR ...]

Each method is trained in a few hundred steps on 64 pairs and judged on 32 discs that it has not seen: the mean absolute
error of the mean over 8 samples, divided by that of the copy of the baseline (below 1 it has learnt something).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scripts.comparators.batches import PairBatch
from scripts.comparators.contract import Condition, ImageMethod
from scripts.comparators.corrflownet import (
    BridgeBatch,
    CorrelationLoss,
    CorrFlowNet,
    PairAutoencoder,
    prepare_both_times,
)
from scripts.comparators.imageflownet import FlowLoss, ImageFlowNet, TwoTimesBatch, psnr
from scripts.comparators.mcwgan import ImageLoss, McWGAN, PairCritic, WassersteinTrainer
from scripts.networks.autoencoder import StableDiffusionAutoencoder

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.bundle.comparators.toy import Pairs, batches, discs, errors, fit  # noqa: E402


def mcwgan(pairs: Pairs) -> ImageMethod:
    """With the published five steps of the critic for one of the predictor: 1,500 and 300."""
    network, critic = McWGAN((8, 16)), PairCritic(16, (8, 16))
    WassersteinTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=list(batches(pairs, 8, 1500)),
        g_network=network,
        g_optimizer=torch.optim.Adam(network.parameters(), 5e-3, betas=(0.5, 0.9)),
        recon_loss_function=ImageLoss(),
        d_network=critic,
        d_optimizer=torch.optim.Adam(critic.parameters(), 1e-4, betas=(0.5, 0.9)),
        prepare_batch=PairBatch(pairs.cases()),
        decollate=False,
    ).run()
    return network.eval()


def corrflownet(pairs: Pairs, sigma: float) -> ImageMethod:
    """The autoencoder in 300 steps, the flow in 500."""
    autoencoder = StableDiffusionAutoencoder([16, 32], 1, 4, 4)
    network = PairAutoencoder(autoencoder, 16)
    loss = CorrelationLoss(0.1, perceptual_weight=0.0, alignment_weight=0.0, prediction_weight=0.0)

    def first(batch: dict[str, Any]) -> Tensor:
        crops, target = prepare_both_times(batch | {"malignant": torch.zeros(len(batch["case_id"]))})
        return loss(network(crops), target)

    fit(network, first, batches(pairs, 16, 300), 3e-3)
    with torch.no_grad():
        autoencoder.latent_scale.fill_(1.0 / autoencoder.encode(pairs.baseline)[0].std())
        latents = [autoencoder.encode_stage_2_inputs(each) for each in (pairs.baseline, pairs.follow_up)]
    unet = {"channels": [16, 32], "num_res_blocks": 1, "num_heads": 2, "norm_num_groups": 4}
    model, prepare = CorrFlowNet.of(autoencoder, unet, sigma=sigma, num_steps=10), BridgeBatch(sigma)

    def second(batch: dict[str, Any]) -> Tensor:
        z, target, arguments, _ = prepare(batch)
        return (model(z, *arguments) - target).square().mean()

    fit(model.unet, second, batches(Pairs(latents[0], latents[1], pairs.conditions), 16, 500), 5e-3)
    return model.eval()


def imageflownet(pairs: Pairs) -> ImageMethod:
    """Both phases, 200 and 300 steps; the reconstructions then have more than the 25 dB that the second waits for."""
    model = ImageFlowNet([8, 16], 1, 8, num_steps=5)
    prepare, loss = TwoTimesBatch(pairs.cases()), FlowLoss()

    def value(batch: dict[str, Any]) -> Tensor:
        crops, target, _, named = prepare(batch)
        return loss(model(crops, **named), target)

    fit(model.train(), value, batches(pairs, 8, 200), 1e-2)
    crops, target, _, named = prepare(pairs.batch())
    with torch.no_grad():
        reached = float(psnr(model.eval()(crops, **named)["reconstruction"], target))
    print(f"    reconstructions {reached:.1f} dB", flush=True)
    model.predicting.fill_(True)
    fit(model.train(), value, batches(pairs, 8, 300), 1e-2)
    return model.eval()


METHODS: dict[str, Callable[[Pairs], ImageMethod]] = {
    "McWGAN": mcwgan,
    "CorrFlowNet ODE": lambda pairs: corrflownet(pairs, 0.0),
    "CorrFlowNet SDE": lambda pairs: corrflownet(pairs, 0.5),
    "ImageFlowNet SDE": imageflownet,
}


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    names = [each for each in arguments if each in METHODS]
    factors = [float(each) for each in arguments if each not in METHODS]
    print("| method | growth | error / copy's | of it at time 0 | CPU s |\n|---|---:|---:|---:|---:|")
    for name in names or METHODS:
        for growth in factors or (1.3, 0.75):
            torch.manual_seed(0)
            begin = time.process_time()
            method = METHODS[name](discs(64, growth=growth))
            unseen = discs(32, growth=growth, seed=1)
            error, copy = errors(method, unseen, runs=8)
            still = unseen._replace(conditions=[Condition(each.record, 0.0) for each in unseen.conditions])
            at_once = errors(method, still, runs=8)[0] / copy if "interval" in method.reads else float("nan")
            took = time.process_time() - begin
            print(f"| {name} | {growth} | {error / copy:.2f} | {at_once:.2f} | {took:.0f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
