"""LoRA: at first nothing changes, only the adapters and the layers named learn, and merging is W + alpha / r B A."""

from __future__ import annotations

import copy
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from scripts.comparators.flux import LORA_LAYERS, FluxVelocity, best_velocity, initial_velocity
from scripts.comparators.generator import load_generator
from scripts.comparators.lora import LoRANetwork
from scripts.errors import UserError
from scripts.training.handlers import ExponentialAverage
from tests.bundle.comparators.tiny_flux import SHAPE, small
from tests.bundle.comparators.toy import fit
from tests.bundle.helpers import count, refusal, stirred
from tests.bundle.training.helpers import differences, load

X, Y = torch.randn(2, 64, 6, generator=torch.Generator().manual_seed(0))
RANK = 2
WIDTHS = {"first": (6, 8), "middle": (8, 8), "last": (8, 6)}


class Layers(nn.Module):
    """Three layers, of which the middle one is adapted."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = (nn.Linear(*widths) for widths in WIDTHS.values())

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.first(x).tanh()).tanh())


def layers() -> Layers:
    torch.manual_seed(0)
    return Layers()


def adapted(dtype: str = "float32") -> LoRANetwork:
    network = layers()
    torch.manual_seed(1)
    return LoRANetwork(network, RANK, "middle", ["first"], dtype)


def learn(network: nn.Module, steps: int = 20) -> float:
    """Adam on one batch; gives the last loss."""
    batch = {"x": X, "y": Y}
    return fit(network, lambda b: (network(b["x"]) - b["y"]).square().mean(), iter([batch] * steps), 1e-2)


def test_at_first_it_is_the_network() -> None:
    assert torch.equal(adapted()(X), layers()(X))
    torch.testing.assert_close(adapted("bfloat16")(X), layers()(X), atol=0.02, rtol=0)  # bfloat16 has 8 bits


def test_only_adapters_and_the_layers_named_are_trained_and_kept() -> None:
    network = adapted()
    names = {"first/weight", "first/bias", "middle/lora_A/default/weight", "middle/lora_B/default/weight"}
    assert set(network.state_dict()) == {f"trained.{name}" for name in names}
    initial = {name: weight.clone() for name, weight in network.state_dict().items()}
    first = learn(adapted(), 1)
    assert learn(network) < first
    assert not [name for name, weight in network.state_dict().items() if torch.equal(weight, initial[name])]
    now, was = network.adapted.model, layers()
    assert torch.equal(now.last.weight, was.last.weight) and torch.equal(now.last.bias, was.last.bias)
    assert torch.equal(now.middle.base_layer.weight, was.middle.weight)
    assert now.last.weight.grad is None and now.middle.base_layer.weight.grad is None


@torch.no_grad()
def test_merging_is_the_hand_computation() -> None:
    network = adapted()
    with torch.enable_grad():
        learn(network)
    state, expected = network.trained, network(X)
    product = state["middle/lora_B/default/weight"] @ state["middle/lora_A/default/weight"]
    by_hand = layers().middle.weight + RANK / RANK * product  # alpha is the rank
    assert float(product.abs().max()) > 0.01
    merged: Any = network.merged()
    assert type(merged) is Layers and set(merged.state_dict()) == set(layers().state_dict())
    torch.testing.assert_close(merged.middle.weight, by_hand)
    torch.testing.assert_close(merged(X), expected, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_frozen_weights_are_bfloat16_and_the_merged_ones_whole() -> None:
    network = adapted("bfloat16")
    frozen = {name: weight for name, weight in network.adapted.model.named_parameters() if not weight.requires_grad}
    assert set(frozen) == {"middle.base_layer.weight", "middle.base_layer.bias", "last.weight", "last.bias"}
    assert {weight.dtype for weight in frozen.values()} == {torch.bfloat16}
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}
    with torch.enable_grad():
        learn(network)
    state, expected = network.trained, network(X)
    assert expected.dtype == torch.float32
    product = state["middle/lora_B/default/weight"] @ state["middle/lora_A/default/weight"]
    merged: Any = network.merged()
    torch.testing.assert_close(merged.middle.weight, layers().middle.weight.bfloat16().float() + product)
    torch.testing.assert_close(merged(X), expected, atol=0.02, rtol=0)


def test_an_average_and_a_checkpoint_have_what_is_trained() -> None:
    """A copy is a network of its own, and a state restores it."""
    network = adapted()
    average = ExponentialAverage(network, 0.9)
    learn(network)
    mean = average.module
    assert torch.equal(mean(X), adapted()(X)) and not torch.equal(mean(X), network(X))
    mean.load_state_dict(copy.deepcopy(network.state_dict()))
    assert torch.equal(mean(X), network(X))
    assert set(average.state_dict()) == {"n_averaged", *(f"module.{name}" for name in network.state_dict())}


@pytest.mark.parametrize("rank", [0, -1, 2.5, True, "8"])
def test_a_rank_that_is_none_is_refused(rank: Any) -> None:
    with pytest.raises(UserError, match=rf"^lora_rank is {re.escape(repr(rank))}, expected a whole number from 1 on"):
        LoRANetwork(layers(), rank, "middle")


def test_another_type_is_refused() -> None:
    with pytest.raises(UserError, match="^base_dtype is 'float16', expected float32 or bfloat16"):
        LoRANetwork(layers(), 2, "middle", dtype="float16")


def test_it_follows_to_a_device() -> None:
    """As far as one can see without a second one: nothing of it stays behind."""
    network = adapted().to("meta")
    assert {weight.device.type for weight in [*network.parameters(), *network.adapted.parameters()]} == {"meta"}


# --- in Flux


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Flux's transformer of a tiny shape, whose latents have 16 channels and whose text is 16 wide."""
    theirs = stirred(small(baseline=False, latent_channels=16))
    theirs.transformer.save_pretrained(tmp_path / "published")
    return tmp_path / "published"


@pytest.mark.parametrize(
    ("text_dim", "new"),
    [(16, ["x_embedder"]), (20, ["x_embedder", "context_embedder", "time_text_embed.text_embedder.linear_1"])],
)
def test_lora_trains_adapters_and_the_new_layers(published: Path, text_dim: int, new: list[str]) -> None:
    """At first it is the network it starts from. Merged, it is W + B A by hand, and gives what it gave."""
    torch.manual_seed(0)
    whole = initial_velocity(SHAPE, 16, text_dim, published)
    torch.manual_seed(0)
    lora = initial_velocity(SHAPE, 16, text_dim, published, 2, "float32")
    x, target, known = torch.randn(3, 2, 16, 8, 8, generator=torch.Generator().manual_seed(1))
    inputs = x, torch.tensor([0.3, 0.7]), known, torch.randn(2, 3, text_dim, generator=torch.Generator().manual_seed(2))
    assert isinstance(lora, LoRANetwork) and torch.equal(lora(*inputs), whole(*inputs))
    fit(lora, lambda _: (lora(*inputs) - target).square().mean(), iter([{}] * 5), 1e-2)

    before, after = whole.transformer.state_dict(), lora.adapted.model.transformer.state_dict()
    adapters = {name for name in after if ".lora_" in name}
    assert {name.replace("/", ".") for name in lora.trained} == {
        *(f"transformer.{name}" for name in adapters),
        *(f"transformer.{name}.{part}" for name in new for part in ("weight", "bias")),
    }
    changed = {name for name in before if not torch.equal(before[name], after.get(name, after.get(based(name))))}
    assert changed == {f"{name}.{part}" for name in new for part in ("weight", "bias")}
    products = {
        name.replace(".lora_A.default", ""): after[name.replace("lora_A", "lora_B")] @ after[name]
        for name in adapters
        if ".lora_A." in name
    }
    assert len(products) == 12 + 2 * 5 and all(float(product.abs().max()) > 1e-3 for product in products.values())
    by_hand = {name: after[name if name in after else based(name)] + products.get(name, 0.0) for name in before}
    with torch.no_grad():
        expected = lora(*inputs)
        merged = lora.merged()
        assert isinstance(merged, FluxVelocity) and merged.config == whole.config
        torch.testing.assert_close(merged.transformer.state_dict(), by_hand)
        torch.testing.assert_close(merged(*inputs), expected, atol=1e-5, rtol=1e-4)


def based(name: str) -> str:
    """Where peft has a layer's own weight."""
    layer, _, part = name.rpartition(".")
    return f"{layer}.base_layer.{part}"


def test_lora_in_bfloat16_is_near_that_in_float32(published: Path) -> None:
    made = []
    for dtype in ("float32", "bfloat16"):
        torch.manual_seed(0)
        velocity = stirred(initial_velocity(SHAPE, 16, 16, published, 2, dtype))
        x, known = torch.randn(2, 2, 16, 8, 8, generator=torch.Generator().manual_seed(1))
        made.append(velocity(x, torch.tensor([0.3, 0.7]), known, torch.ones(2, 3, 16)).detach())
    assert made[1].dtype == torch.float32 and not torch.equal(*made)
    assert float((made[1] - made[0]).norm() / made[0].norm()) < 0.05


def test_the_adapters_of_the_published_layout_to_the_parameter() -> None:
    """Of a linear layer from a to b, rank (a + b); a block is 3,072 wide, its feed-forward 4 times that."""
    new = ["x_embedder", "context_embedder", "time_text_embed.text_embedder.linear_1"]
    with torch.device("meta"):
        velocity = FluxVelocity(text_dim=576, pooled_dim=576)
        lora = LoRANetwork(velocity, 128, LORA_LAYERS, [f"transformer.{name}" for name in new])
    double = 2 * (4 * (1 + 1) + (1 + 4) + (4 + 1))  # of image and text
    single = 3 * (1 + 1) + (1 + 4) + (5 + 1)
    adapters = 128 * 3072 * (19 * double + 38 * single)
    assert adapters == 522_977_280 and count(lora) == adapters + 3072 * ((128 + 1) + 2 * (576 + 1))
    frozen = sum(each.numel() for each in lora.adapted.parameters() if each.dtype == torch.bfloat16)
    assert frozen == 11_891_178_560 - 3072 * ((64 + 1) + (4096 + 1) + (768 + 1))


def test_what_is_published_is_the_best_epoch_merged(published: Path) -> None:
    """Without LoRA, it is the velocity itself, into which the best epoch is loaded later."""
    lora, best = (stirred(initial_velocity(SHAPE, 16, 16, published, 2, "float32")) for _ in range(2))
    best.load_state_dict({name: 2.0 * weight for name, weight in best.state_dict().items()})
    checkpoint: Any = SimpleNamespace(load_best=lambda: lora.load_state_dict(best.state_dict()))
    merged = best_velocity(checkpoint, lora)
    assert not differences(merged.state_dict(), best.merged().state_dict()) and not hasattr(merged, "trained")
    assert best_velocity(checkpoint, velocity := small()) is velocity


def test_lora_without_weights_is_refused() -> None:
    said = refusal(lambda: initial_velocity(SHAPE, 4, 16, lora_rank=8))
    assert said.startswith("lora_rank is 8, but LoRA adapts weights that are there. Give --pretrained, Flux's")


def test_at_full_size_pretrained_weights_are_adapted(make_workflow: Any, tmp_path: Path) -> None:
    """Without them there is nothing to adapt, which is refused; at small size all is trained."""

    def rank(**settings: Any) -> Any:
        workflow = make_workflow("train_conditional", tmp_path, "small", "compare_flux", **settings)
        return workflow.parser.get_parsed_content("lora_rank")

    assert rank(pretrained="flux", autoencoder_shape={}) == rank(autoencoder_shape={}) == 128
    assert rank() is None and rank(pretrained="flux") is None
    assert rank(pretrained="flux", lora_rank=8) == 8


@pytest.mark.table1
def test_lora_trains_and_goes_on_to_the_very_same_weights(
    applied: Any, published: Path, tmp_path: Path, make_workflow: Any, tiny_llm: Path
) -> None:
    """By the overlays, with an average; no checkpoint has a frozen weight, and no published one an adapter."""
    shape = {"channels": [8, 8, 16], "num_res_blocks": 1, "norm_num_groups": 4, "latent_channels": 16}
    settings = {"shape": SHAPE, "pretrained": str(published), "lora_rank": 2, "ema_decay": 0.9}
    stages = {"autoencoder": "compare_flux_autoencoder", "conditional": "compare_flux"}
    straight = applied(stages, autoencoder_shape=shape, conditional=settings)
    assert nib.load(straight / "predictions" / "patient-9_n1" / "samples.nii.gz").shape == (32, 32, 1, 2)
    made: Any = load_generator(straight / "models")
    theirs = load_file(published / "diffusion_pytorch_model.safetensors")
    ours = made.velocity.transformer.state_dict()
    linear = {name for name, _ in made.velocity.transformer.named_modules() if re.fullmatch(LORA_LAYERS, name)}
    changed = {name for name, tensor in theirs.items() if not torch.equal(tensor.bfloat16().float(), ours[name])}
    assert changed == {*(f"{name}.weight" for name in linear), "x_embedder.weight", "x_embedder.bias"}
    assert ours.keys() == theirs.keys()
    again = tmp_path / "again"
    shutil.copytree(straight / "models", again / "models")
    (again / "models" / "generator.safetensors").unlink()
    settings |= {"text": {"llm": str(tiny_llm), "max_tokens": 60}, "autoencoder_shape": shape}
    for epochs in (1, 2):
        make_workflow("train_conditional", again, "small", "compare_flux", **settings, max_epochs=epochs).run()
    for file in ("last.pt", "best.pt"):
        states = [load(folder / "flux" / file) for folder in (straight, again)]
        assert not differences(*states)
    assert all(re.search("/lora_[AB]/|/x_embedder/", name) for name in states[0]["velocity"])
    weights = [load_file(folder / "models" / "generator.safetensors") for folder in (straight, again)]
    assert not differences(*weights)
