"""Methods that are told the record: they start as those that are not, and learn what the record alone can tell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from scripts.comparators.contract import INPUTS, Condition
from scripts.comparators.corrflownet import BridgeBatch, CorrFlowNet
from scripts.comparators.generation import MethodInferer
from scripts.comparators.generator import WEIGHTS, Generator, load_generator
from scripts.comparators.mcwgan import ImageLoss, McWGAN
from scripts.comparators.numbers import ConditionNumbers
from scripts.comparators.told import ToldBridgeBatch, ToldCorrFlowNet, ToldMcWGAN
from scripts.weights.checkpoints import save_network
from tests.bundle.comparators.lossless import Lossless
from tests.bundle.comparators.toy import Pairs, batches, discs, errors, fit
from tests.bundle.helpers import stirred

SIZES = {"num_res_blocks": 1, "norm_num_groups": 4}
AUTOENCODER = {"channels": [8, 8, 16], **SIZES}
UNET = {"channels": [8, 16], "num_heads": 2, **SIZES}
GROWTH = {60.0: 1.6, 70.0: 0.8}
"""Of a disc, by the age that its record tells and its image does not."""
UNKNOWN = Condition({}, None)


def told_discs(count: int, seed: int = 0) -> Pairs:
    """Discs that grow or shrink in turn, as their records say."""
    parts = [discs(count, growth=growth, seed=seed) for growth in GROWTH.values()]
    turn = torch.arange(count) % 2 == 0
    follow_up = torch.where(turn[:, None, None, None], parts[0].follow_up, parts[1].follow_up)
    ages = [list(GROWTH)[index % 2] for index in range(count)]
    return Pairs(parts[0].baseline, follow_up, [Condition({"age": age}, 365.0) for age in ages])


def test_untrained_the_record_changes_nothing() -> None:
    pairs = told_discs(4)
    told = ToldMcWGAN(ConditionNumbers.of(pairs.conditions), (4, 8, 8))
    plain = McWGAN((4, 8, 8))
    names = {name.replace("submodule.layer.", "submodule."): each for name, each in told.state_dict().items()}
    plain.load_state_dict({name: names[name] for name in plain.state_dict()})
    torch.testing.assert_close(told(pairs.baseline, pairs.conditions), plain(pairs.baseline))


def test_they_read_all_and_say_so() -> None:
    numbers = ConditionNumbers.of(told_discs(4).conditions)
    for method in (ToldMcWGAN(numbers, (4, 8)), ToldCorrFlowNet(AUTOENCODER, UNET, numbers=numbers)):
        assert method.reads == type(method).reads == INPUTS and "(reconstructed)" in method.title
        assert method.title.endswith(", told the record")


@pytest.mark.parametrize(("sigma", "channels"), [(0.0, 4), (0.5, 8)])
def test_the_odes_network_reads_the_record_but_no_baseline_beside(sigma: float, channels: int) -> None:
    numbers = ConditionNumbers.of(told_discs(4).conditions)
    network = stirred(ToldCorrFlowNet(AUTOENCODER, UNET, numbers=numbers, sigma=sigma)).eval()
    z, first, other = torch.randn(3, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    time, tokens = (
        torch.tensor([0.2, 0.7]),
        [numbers(each)[:, None] for each in (told_discs(2).conditions, [UNKNOWN] * 2)],
    )
    assert network.unet.conv_in.conv.in_channels == channels
    with torch.no_grad():
        made = network(z, first, time, tokens[0])
        assert torch.equal(made, network(z, other, time, tokens[0])) != network.stochastic
        assert not torch.equal(made, network(z, first, time, tokens[1]))


@pytest.mark.parametrize("kind", ["gan", "flow"])
def test_a_file_brings_the_numbers_scale_with_it(kind: str, tmp_path: Path) -> None:
    pairs = told_discs(4)
    numbers = ConditionNumbers.of(pairs.conditions)
    gan = kind == "gan"
    network = ToldMcWGAN(numbers, (4, 8)) if gan else ToldCorrFlowNet(AUTOENCODER, UNET, numbers=numbers, num_steps=2)
    save_network(stirred(network), tmp_path / WEIGHTS)
    made = [MethodInferer(1)(pairs.baseline, each, pairs.conditions) for each in (network, load_generator(tmp_path))]
    assert torch.equal(*made)


def test_a_batch_has_each_cases_own_record() -> None:
    pairs = told_discs(4)
    numbers = ConditionNumbers.of(pairs.conditions)
    prepare = ToldBridgeBatch(pairs.cases(), numbers, fixed=True)
    *_, (first, time, token), _ = prepare(pairs.batch([3, 0]))
    assert torch.equal(token, numbers([pairs.conditions[3], pairs.conditions[0]])[:, None]) and len(time) == 2
    assert torch.equal(first, pairs.baseline[[3, 0]])


def predictor(pairs: Pairs, told: bool) -> Generator:
    """McWGAN's, trained without its critic."""
    torch.manual_seed(0)
    network = ToldMcWGAN(ConditionNumbers.of(pairs.conditions), (8, 16)) if told else McWGAN((8, 16))
    loss = ImageLoss()

    def step(batch: dict[str, Any]) -> Tensor:
        conditions = [pairs.conditions[int(case[1:])] for case in batch["case_id"]]
        return loss(network(batch["baseline"], conditions), batch["follow_up"])

    fit(network, step, batches(pairs, 8, 600), 1e-2)
    return network.eval()


def flow(pairs: Pairs, told: bool) -> Generator:
    """CorrFlowNet's ODE, trained on latents that lose nothing."""
    torch.manual_seed(0)
    numbers = ConditionNumbers.of(pairs.conditions)
    arguments: dict[str, Any] = {"autoencoder": AUTOENCODER, "unet": UNET, "num_steps": 8}
    network = ToldCorrFlowNet(**arguments, numbers=numbers) if told else CorrFlowNet(**arguments)
    del network.autoencoder
    network.autoencoder = autoencoder = Lossless(2)  # type: ignore[assignment]
    prepare = ToldBridgeBatch(pairs.cases(), numbers) if told else BridgeBatch()

    def step(batch: dict[str, Any]) -> Tensor:
        z, target, arguments, _ = prepare(batch)
        return (network(z, *arguments) - target).square().mean()

    fit(network.unet, step, batches(autoencoder.latents(pairs), 8, 300), 1e-2)
    return network.eval()


@pytest.mark.table1
@pytest.mark.parametrize("trained", [predictor, flow])
def test_they_learn_what_the_record_alone_can_tell(trained: Callable[[Pairs, bool], Generator]) -> None:
    """Discs that look alike grow or shrink by their records: the told method's error is below the other's by far."""
    pairs, unseen = told_discs(48), told_discs(16, seed=1)
    told = trained(pairs, True)
    error, copied = errors(told, unseen)
    untold, _ = errors(trained(pairs, False), unseen)
    assert error < 0.6 * min(untold, copied)
    others = unseen._replace(conditions=unseen.conditions[1:] + unseen.conditions[:1])
    assert errors(told, others)[0] > untold, "another's record misleads it"


@pytest.mark.table1
@pytest.mark.parametrize("kind", [ToldMcWGAN, ToldCorrFlowNet])
def test_the_overlays_train_and_generate(
    kind: type[ToldMcWGAN | ToldCorrFlowNet], make_workflow: Callable[..., Any], tmp_path: Path
) -> None:
    name = "mcwgan" if kind is ToldMcWGAN else "corrflownet"
    if kind is ToldMcWGAN:
        reader = {"channels": [4, 4, 8, 8], "blocks": [2, 2, 2, 2]}
        make_workflow("train_classifier", tmp_path, "small", "compare_mcwgan_perceptual", classifier_shape=reader).run()
        options: dict[str, Any] = {"shape": {"channels": [4, 8, 8]}}
    else:
        make_workflow("train_autoencoder", tmp_path, "small", "compare_corrflownet_autoencoder").run()
        options = {"shape": UNET, "steps": 3}
    before = ["compare_crops"] if kind is ToldMcWGAN else []
    overlays = ("small", *before, f"compare_{name}", f"compare_{name}_told")
    make_workflow("train_conditional", tmp_path, *overlays, **options).run()
    network = load_generator(tmp_path / "models")
    assert type(network) is kind and network.numbers.width > 13
    options = {"num_steps": None, "image_size": None, "num_runs": 2}
    make_workflow("inference", tmp_path, "small", "compare_generate", **options).run()
    assert len(list((tmp_path / "predictions").glob("*/samples.nii.gz"))) == 3
