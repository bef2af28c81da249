"""ImageFlowNet: features that flow by their SDEs, of two phases of training in one loss."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchsde
from ignite.engine import Engine
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.networks.blocks import SABlock
from torch import Tensor, nn

from scripts.comparators.contract import Condition
from scripts.comparators.generation import MethodInferer
from scripts.comparators.generator import WEIGHTS, load_generator
from scripts.comparators.imageflownet import (
    FeatureSDE,
    FeatureUNet,
    FlowLoss,
    ImageFlowNet,
    StartPredicting,
    TwoTimesBatch,
    longest_interval,
    psnr,
)
from scripts.training.checkpointing import Checkpoint
from scripts.training.stage import read_checkpoint
from scripts.weights.checkpoints import save_network
from tests.bundle.comparators.toy import batches, discs, fit
from tests.bundle.helpers import CONFIGS, count, refusal, stirred

Make = Callable[..., Any]
SHAPE: dict[str, Any] = {"channels": [4, 8], "attention": 1, "norm_num_groups": 4, "num_steps": 4}


def network(**changes: Any) -> ImageFlowNet:
    torch.manual_seed(0)
    return ImageFlowNet(**{**SHAPE, **changes})


def known(*days: float | None) -> list[Condition]:
    return [Condition({}, each) for each in days]


class Draw:
    """Noise of n rows, each with a generator of its own."""

    def __init__(self, rows: Sequence[int]) -> None:
        self.generators = [torch.Generator().manual_seed(row) for row in rows]

    def __call__(self, shape: Sequence[int]) -> Tensor:
        return torch.stack([torch.randn(*shape, generator=each) for each in self.generators])


# --- the U-Net in two halves


def test_the_two_halves_are_monais_network_at_time_0() -> None:
    unet = stirred(FeatureUNet([8, 16, 32, 64], 1, 8))
    image = discs(2, size=32).baseline
    features = unet.features(image)
    assert [each.shape[1] for each in features] == unet.widths == [8, 8, 8, 16, 16, 32, 32, 64, 64]
    assert features[-1].shape == (2, 64, 4, 4)
    torch.testing.assert_close(unet.image(features), unet(image, torch.zeros(2)))


def test_sizes_are_the_published_ones() -> None:
    """12 skips and a bottleneck, whose drifts have 6.3 million parameters; 2 x 2 pixels at the bottom of 64."""
    with torch.device("meta"):
        full, small = ImageFlowNet(), ImageFlowNet([8, 16, 32, 64], 1, 4, 10)
    assert len(full.flows) == 13 and full.unet.widths[-1] == 256
    assert sum(count(each.drift) for each in full.flows) == 18 * 348_160 + 2 * (5 * 64 + 4 * 128 + 4 * 256)
    assert (count(small.unet), round(count(small.flows) / 1e6, 1)) == (741_801, 0.2)
    last = next(each for each in reversed(list(FeatureUNet([8, 16], 1, 8).out.modules())) if hasattr(each, "weight"))
    assert last.weight.abs().max() > 0, "not begun at zero"


def test_attention_begins_as_published() -> None:
    """Queries, keys and values as torch begins a one-dimensional convolution of 64 channels; the output at zero."""
    blocks = [each for each in network(channels=[16, 64]).unet.modules() if isinstance(each, SABlock)]
    assert len(blocks) == 1 + 1 + 2, "down, in the middle, up"
    published = nn.Conv1d(64, 64, 1)
    for block in blocks:
        assert not any(each.any() for each in block.out_proj.parameters())
        for name, layer in itertools.product(("weight", "bias"), (published, block.to_q, block.to_k, block.to_v)):
            values = getattr(layer, name)
            assert values.abs().max() <= 1 / 8 and values.std().item() == pytest.approx(1 / 8 / math.sqrt(3), rel=0.25)


# --- the SDE


def test_the_drift_is_never_negative_and_sees_no_offset_or_gain() -> None:
    """What its design cannot do: without noise no feature ever decreases, whatever is learnt."""
    flow = stirred(FeatureSDE(4))
    z = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    drift = flow.drift(z)
    assert drift.min() >= 0 and drift.max() > 0
    scale, offset = torch.rand(3, 4, 1, 1) + 0.5, torch.randn(3, 4, 1, 1)
    torch.testing.assert_close(flow.drift(scale * z + offset), drift, atol=1e-3, rtol=1e-3)
    with torch.no_grad():
        flow.sigma.zero_()
        assert bool((flow.step(z, torch.ones(3), torch.randn_like(z)) >= z).all())


def test_without_drift_the_noise_has_sd_sigma_root_t() -> None:
    """Over ten steps, with the times of three cases; at the last time, 5, this is 1.12."""
    model = network(num_steps=10)
    for flow in model.flows:
        flow.drift = _Still()
    rows, times = 30_000, torch.tensor([0.0, 1.0, 5.0]).repeat(10_000)
    start = [torch.full((rows, 1, 1, 1), 2.0)] * len(model.flows)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        made = model.moved(start, times, lambda shape: torch.randn(rows, *shape, generator=generator))
    for time in (0.0, 1.0, 5.0):
        here = made[3][times == time]
        assert here.mean().item() == pytest.approx(2.0, abs=0.05)
        assert here.std().item() == pytest.approx(0.5 * math.sqrt(time), rel=0.03, abs=1e-7)
    assert made[0][times == 5.0].std().item() == pytest.approx(1.12, rel=0.03)


class _Still(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return torch.zeros_like(z)


def test_mixed_intervals_are_one_case_after_the_other() -> None:
    """Each alone, integrated over its own time in steps of t / n, in double precision."""
    model, crops = stirred(network(longest_days=730.0)).double(), discs(3).baseline.double()
    days = (73.0, 365.0, 730.0)
    with torch.no_grad():
        made = model.sample(crops, known(*days), Draw([0, 1, 2]))
        for case, each in enumerate(days):
            time, features = 5.0 * each / 730.0, model.unet.features(crops[case : case + 1])
            draw, h = Draw([case]), 5.0 * each / 730.0 / 4
            for _ in range(4):
                moved = []
                for flow, z in zip(model.flows, features, strict=True):
                    moved.append(z + h * flow.drift(z) + flow.sigma * math.sqrt(h) * draw(z.shape[1:]))
                features = moved
            alone = model.unet.image(features).clamp(-1, 1)
            torch.testing.assert_close(made[case : case + 1], alone, atol=1e-5, rtol=1e-4)
            assert time == pytest.approx(model.times(known(each)).item())


class _InTorchsde(nn.Module):
    """A feature's flow as torchsde has it: the states are rows."""

    noise_type, sde_type = "diagonal", "ito"

    def __init__(self, flow: FeatureSDE, shape: Sequence[int]) -> None:
        super().__init__()
        self.flow, self.shape = flow, shape

    def f(self, t: Tensor, y: Tensor) -> Tensor:
        return self.flow.drift(y.unflatten(1, self.shape)).flatten(1)

    def g(self, t: Tensor, y: Tensor) -> Tensor:
        return self.flow.sigma.expand_as(y)


@torch.no_grad()
def test_it_is_torchsde_on_the_same_brownian_paths() -> None:
    """Euler's steps in Ito's sense: ours of a batch of mixed intervals, torchsde's of each case alone to its time."""
    model, steps = stirred(network(longest_days=730.0)).double(), SHAPE["num_steps"]
    features = model.unet.features(discs(3).baseline.double())
    times = model.times(known(73.0, 365.0, 730.0)).double()

    def path(case: int, place: int) -> torchsde.BrownianInterval:
        size, entropy = (1, features[place][case].numel()), 100 * case + place
        return torchsde.BrownianInterval(0.0, float(times[case]), size, dtype=torch.float64, entropy=entropy)

    cases, places = range(len(times)), range(len(features))
    paths = [[path(case, place) for place in places] for case in cases]

    def increments() -> Iterator[Tensor]:
        for step, place in itertools.product(range(steps), places):
            ends = [(time * step / steps, time * (step + 1) / steps) for time in times.tolist()]
            rows = [paths[case][place](*ends[case]) / math.sqrt(ends[case][1] - ends[case][0]) for case in cases]
            yield torch.cat(rows).view_as(features[place])

    given = increments()
    made = model.moved(features, times, lambda shape: next(given))
    for case, place in itertools.product(cases, places):
        z, time = features[place][case : case + 1], float(times[case])
        sde, ends = _InTorchsde(model.flows[place], z.shape[1:]), torch.tensor([0.0, time], dtype=torch.float64)
        bm = paths[case][place]
        theirs = torchsde.sdeint(sde, z.flatten(1), ends, bm=bm, method="euler", dt=time / steps)[-1]
        torch.testing.assert_close(made[place][case], theirs.view_as(z)[0], atol=1e-9, rtol=1e-9)
    assert next(given, None) is None, "all of the paths was used"


def test_at_time_0_no_sde_is_touched() -> None:
    model, crops = stirred(network()), discs(2).baseline
    called: list[nn.Module] = []
    for flow in model.flows:
        flow.drift.register_forward_hook(lambda module, *_: called.append(module))
    with torch.no_grad():
        still = model.sample(crops, known(0.0, 0.0), Draw([0, 1]))
        torch.testing.assert_close(still, model.unet(crops, torch.zeros(2)).clamp(-1, 1))
        assert not called
        mixed = model.sample(crops, known(0.0, 365.0), Draw([0, 1]))
    torch.testing.assert_close(mixed[0], still[0], atol=1e-5, rtol=1e-4)
    assert called and not torch.allclose(mixed[1], still[1], atol=1e-3)


def test_unknown_intervals_are_a_year() -> None:
    model = network(longest_days=730.0)
    assert model.times(known(None, 365.0, 730.0, 0.0)).tolist() == pytest.approx([2.5, 2.5, 5.0, 0.0])
    assert longest_interval([{"interval_days": 300}, {"interval_days": None}, {}]) == 300.0
    assert longest_interval([{}]) == longest_interval([]) == 365.0


# --- training


def test_a_prediction_trains_the_sdes_alone() -> None:
    model, pairs = stirred(network()).train(), discs(3)
    crops, target, _, named = TwoTimesBatch(pairs.cases())(pairs.batch())
    assert model(crops, **named).keys() == {"reconstruction"}, "the first phase"
    model.predicting.fill_(True)
    made = model(crops, **named)
    (made["prediction"] - target[:, 1:]).square().mean().backward()
    assert all(each.grad is None for each in model.unet.parameters())
    assert all(flow.sigma.grad.abs() > 0 for flow in model.flows)
    assert any(each.grad.abs().max() > 0 for flow in model.flows for each in flow.drift.parameters())
    assert all(each.requires_grad for each in model.parameters())
    model.zero_grad()
    FlowLoss()({"reconstruction": made["reconstruction"]}, target).backward()
    assert all(each.grad is None for each in model.flows.parameters())
    assert any(each.grad is not None for each in model.unet.parameters())


def test_the_loss_sums_its_terms_and_leaves_out_padding() -> None:
    target = torch.zeros(2, 2, 4, 4)
    target[:, 1, :2] = torch.nan
    made = {"reconstruction": torch.full((2, 2, 4, 4), 0.5), "prediction": torch.full((2, 1, 4, 4), 2.0)}
    loss = FlowLoss()
    assert loss(made, target).item() == pytest.approx(0.25 + 0.25 + 4.0)
    assert loss.terms.keys() == {"baseline", "follow_up", "prediction"}
    assert psnr(made["reconstruction"], target).item() == pytest.approx(10 * math.log10(16 / 0.25), rel=1e-5)


def test_the_psnr_is_counted_as_published() -> None:
    """Image by image on [0, 1] with 2 as the peak, clipped, of both times: train_2pt_all.py, metrics.py."""
    made = 1.5 * torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    target = torch.rand(3, 2, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    ours, theirs = (np.clip((each.double().numpy() + 1) / 2, 0, 1) for each in (made, target))
    expected = [20 * np.log10(2 / np.sqrt(np.mean((ours[i, k] - theirs[i, k]) ** 2))) for i in range(3) for k in (0, 1)]
    assert psnr(made, target).item() == pytest.approx(np.mean(expected), rel=1e-5)
    target[1, 1], target[2, 0, 4:] = torch.nan, torch.nan
    expected.pop(3)
    expected[3] = 20 * np.log10(2 / np.sqrt(np.mean((ours[2, 0, :4] - theirs[2, 0, :4]) ** 2)))
    assert psnr(made, target).item() == pytest.approx(np.mean(expected), rel=1e-5), "without what is padded"


def test_where_predictions_never_began_the_error_names_the_threshold(tmp_path: Path) -> None:
    files = [str(CONFIGS / f"{each}.yaml") for each in ("train_conditional", "compare_crops", "compare_imageflownet")]
    advice = ConfigParser(ConfigParser.load_config_files(files)).get_parsed_content("checkpoint::advice")
    message = refusal(Checkpoint(tmp_path, {}, {}, advice=advice).load_best)
    assert message.endswith("reconstructions in validation have 25 dB: lower --threshold, or train longer.")


def test_padding_of_either_time_is_no_target() -> None:
    pairs = discs(2)
    real = {f"{time}_real": torch.ones_like(pairs.baseline, dtype=torch.bool) for time in ("baseline", "follow_up")}
    real["baseline_real"][0, :, :3] = False
    real["follow_up_real"][1, :, :, 13:] = False
    crops, target, _, _ = TwoTimesBatch(pairs.cases())(pairs.batch() | real)
    assert torch.equal(crops, torch.cat([pairs.baseline, pairs.follow_up], dim=1))
    assert torch.equal(~target.isnan(), torch.cat(list(real.values()), dim=1))


def test_reconstructions_are_of_noisy_copies_in_training_alone() -> None:
    model, pairs = stirred(network()), discs(2)
    crops, _, _, named = TwoTimesBatch(pairs.cases())(pairs.batch())
    with torch.no_grad():
        one, other = (model.eval()(crops, **named) for _ in range(2))
        assert all(torch.equal(one[name], other[name]) for name in ("reconstruction", "prediction"))
        model.train()
        torch.manual_seed(0)
        first, second = (model(crops, **named)["reconstruction"] for _ in range(2))
    assert not torch.equal(first, second)
    torch.testing.assert_close(first, one["reconstruction"], atol=1.0, rtol=0)


@pytest.mark.parametrize("training", [True, False])
def test_predictions_are_of_the_copies_that_reconstructions_are_of(training: bool) -> None:
    """Noisy in training, as published, and the crops themselves in evaluation."""
    model, pairs = stirred(network()).train(training), discs(2)
    model.predicting.fill_(True)
    read: list[Tensor] = []
    model.unet.conv_in.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    crops, _, _, named = TwoTimesBatch(pairs.cases())(pairs.batch())
    with torch.no_grad():
        model(crops, **named)
    both, baseline = read
    assert torch.equal(both.view_as(crops)[:, :1], baseline)
    assert torch.equal(baseline, crops[:, :1]) is not training


def test_the_second_phase_begins_with_good_reconstructions_and_lasts(tmp_path: Path) -> None:
    model, engine = network(), Engine(lambda *_: None)
    StartPredicting(model, 25.0).attach(engine)
    for value, expected in ((24.9, False), (25.0, True), (10.0, True)):
        engine.state.metrics["val_psnr"] = value
        engine.run([0])
        assert bool(model.predicting) == expected
    save_network(model, tmp_path / WEIGHTS)
    again = load_generator(tmp_path)
    assert isinstance(again, ImageFlowNet) and again.predicting.dtype == torch.bool and bool(again.predicting)
    pairs = discs(2)
    made = [MethodInferer(2)(pairs.baseline, each, pairs.conditions) for each in (model, again)]
    assert torch.equal(*made), "a checkpoint samples the same"


@pytest.mark.parametrize("pairs", [427, 776, 5000], ids=["LIDC", "NLST", "many"])
def test_an_epoch_is_a_pass_at_the_small_size_and_2048_draws_at_the_full(pairs: int) -> None:
    """Of 120 published epochs, 32 steps of 64 pairs each; warm-up is a tenth, and validation comes every 32 steps."""

    def values(*between: str) -> list[int]:
        files = ("train_conditional", *between, "compare_crops", "compare_imageflownet")
        paths = [str(CONFIGS / f"{each}.yaml") for each in files]
        workflow = ConfigWorkflow(paths, logging_file=False, **{"train::dataset": f"$range({pairs})"})
        workflow.initialize()
        names = ("max_epochs", "val_interval", "decay_steps", "warmup_steps")
        return [workflow.parser.get_parsed_content(name) for name in names]

    steps = pairs // 64
    epochs, interval, decay, warmup = values()
    assert 120 * 32 <= epochs * steps < 120 * 32 + steps and interval == max(1, 32 // steps)
    assert (decay, warmup) == (epochs * steps, epochs * steps // 10)
    assert values("small") == [60, 1, 60 * (pairs // 8), 60 * (pairs // 8) // 10]


@pytest.mark.table1
def test_it_overfits_four_pairs_as_far_as_it_can() -> None:
    """Reconstruction first, then the flow. Noise and a drift of one sign remain, so that the prediction is no match."""
    pairs, model = discs(4), network(channels=[8, 16], norm_num_groups=8)
    prepare, loss = TwoTimesBatch(pairs.cases()), FlowLoss()

    def value(batch: dict[str, Any]) -> Tensor:
        crops, target, _, named = prepare(batch)
        return loss(model(crops, **named), target)

    crops, target, _, named = prepare(pairs.batch())
    fit(model.train(), value, batches(pairs, 4, 80), 1e-2)
    with torch.no_grad():
        before = model.eval()(crops, **named)
        assert psnr(before["reconstruction"], target) > 31.0
    model.predicting.fill_(True)
    fit(model.train(), value, batches(pairs, 4, 40), 1e-2)
    with torch.no_grad():
        after = model.eval()(crops, **named)
    assert psnr(after["prediction"], target[:, 1:]) > psnr(before["prediction"], target[:, 1:]) + 3.0
    samples = MethodInferer(2)(pairs.baseline, model, pairs.conditions)
    assert not torch.equal(samples[:, 0], samples[:, 1])


def test_the_overlay_clips_no_gradient(make_workflow: Make, tmp_path: Path) -> None:
    overlays = ("small", "compare_crops", "compare_imageflownet")
    workflow = make_workflow("train_conditional", tmp_path, *overlays, shape=SHAPE)
    (clip,) = (each for each in workflow.parser.get_parsed_content("train::handlers")[0] if hasattr(each, "max_norm"))
    assert clip.max_norm == math.inf


@pytest.mark.table1
def test_the_overlay_trains_and_generates(make_workflow: Make, tmp_path: Path) -> None:
    overlays = ("small", "compare_crops", "compare_imageflownet")
    workflow = make_workflow("train_conditional", tmp_path, *overlays, shape=SHAPE, threshold=-100.0, decay_steps=6)
    workflow.run()
    model = load_generator(tmp_path / "models")
    assert isinstance(model, ImageFlowNet) and model.config["longest_days"] == 365.0
    assert bool(model.predicting), "the second phase has begun"
    assert read_checkpoint(tmp_path / "imageflownet" / "best.pt")["progress"]["best_epoch"] > 1, "not before"
    trained = workflow.parser.get_parsed_content("network_def")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), trained.parameters(), strict=True)), "raw weights"
    options = {"num_steps": None, "image_size": None, "num_runs": 2}
    make_workflow("inference", tmp_path, "small", "compare_generate", **options).run()
    assert len(list((tmp_path / "predictions").glob("*/samples.nii.gz"))) == 3
