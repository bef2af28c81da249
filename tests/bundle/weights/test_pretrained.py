"""Where networks start: every layout against the library it comes from, what is kept, what is new, what is refused."""

from __future__ import annotations

import copy
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from scripts.networks.autoencoder import StableDiffusionAutoencoder
from scripts.networks.unet import StableDiffusionUNet
from scripts.weights import key_maps
from scripts.weights.checkpoints import CheckpointError, load_network, save_network
from scripts.weights.pretrained import (
    KEPT,
    conditional_unet,
    convert_published,
    initial_autoencoder,
    initial_unet,
    start_unet,
)
from tests.bundle.helpers import stirred, their_autoencoder, their_unet

AUTOENCODER: dict[str, Any] = {"channels": (8, 8), "num_res_blocks": 1, "norm_num_groups": 4}
UNET: dict[str, Any] = {"channels": (8, 16), "num_res_blocks": 1, "num_heads": 2, "norm_num_groups": 4}
KEYS_AND_VALUES = ("attn2.to_k.weight", "attn2.to_v.weight")


@pytest.fixture(scope="module")
def unconditional(tmp_path_factory: pytest.TempPathFactory) -> tuple[StableDiffusionUNet, Path]:
    """A U-Net whose output layer is no longer zero, and its file."""
    torch.manual_seed(0)
    network = StableDiffusionUNet(context_dim=6, **UNET).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network, save_network(network, tmp_path_factory.mktemp("models") / "unet_unconditional.safetensors")


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """diffusers' autoencoder in half precision, as Stable Diffusion is often stored."""
    torch.manual_seed(0)
    network = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
    )
    folder = tmp_path_factory.mktemp("vae")
    network.half().save_pretrained(folder)
    return folder


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(2, 4, 8, 8), torch.tensor([3, 900]), torch.randn(2, 2, 6)


@torch.no_grad()
def test_grown_network_starts_as_the_unconditional_one(unconditional: tuple[StableDiffusionUNet, Path]) -> None:
    network, path = unconditional
    grown = conditional_unet(path, context_dim=6).eval()
    latent, steps, context = inputs()
    expected = network(latent, steps, context)
    assert grown.config == {**network.config, "in_channels": 8} and expected.std() > 0.01
    for baseline in (torch.zeros_like(latent), torch.randn_like(latent), 1e3 * torch.randn_like(latent)):
        output = grown(torch.cat([latent, baseline], dim=1), steps, context)
        torch.testing.assert_close(output, expected, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_first_convolution_drawn_anew(unconditional: tuple[StableDiffusionUNet, Path]) -> None:
    network, path = unconditional
    grown = conditional_unet(path, context_dim=6, keep_weights=False).eval()
    kept, old = grown.state_dict(), network.state_dict()
    new = {name for name in kept if kept[name].shape != old[name].shape or not torch.equal(kept[name], old[name])}
    assert new == {"conv_in.conv.weight", "conv_in.conv.bias"}
    latent, steps, context = inputs()
    outputs = [grown(torch.cat([latent, baseline], 1), steps, context) for baseline in (latent, -latent)]
    assert not torch.allclose(*outputs, atol=1e-4), "the baseline is seen from the first step"


@pytest.mark.parametrize("keep_weights", [True, False])
def test_another_context_brings_new_keys_and_values_only(
    unconditional: tuple[StableDiffusionUNet, Path], keep_weights: bool
) -> None:
    network, path = unconditional
    grown = conditional_unet(path, context_dim=10, keep_weights=keep_weights)
    kept, old = grown.state_dict(), network.state_dict()
    changed = [name for name in kept if kept[name].shape != old[name].shape]
    assert {name for name in changed if not name.startswith("conv_in")} == {
        name for name in old if name.endswith(KEYS_AND_VALUES)
    }
    assert all(kept[name].shape[1] == 10 for name in changed if name.endswith(KEYS_AND_VALUES))
    assert all(torch.equal(kept[name], old[name]) for name in old if name not in changed and "conv_in" not in name)


def test_published_unet_keeps_all_but_keys_and_values(tmp_path: Path) -> None:
    theirs = their_unet()
    theirs.save_pretrained(tmp_path)
    same, wider = initial_unet(UNET, 6, tmp_path).state_dict(), initial_unet(UNET, 10, tmp_path).state_dict()
    new = {name for name in same if same[name].shape != wider[name].shape or not torch.equal(same[name], wider[name])}
    assert new == {name for name in same if name.endswith(KEYS_AND_VALUES)} and new


def test_grey_is_folded_in_single_precision(vae: Path) -> None:
    """Half precision would round the sum of three colours."""
    stored = load_file(vae / "diffusion_pytorch_model.safetensors")
    assert stored["encoder.conv_in.weight"].dtype == torch.float16
    state = initial_autoencoder(AUTOENCODER, vae).state_dict()
    colours = stored["encoder.conv_in.weight"].float()
    torch.testing.assert_close(
        state["encoder.blocks.0.conv.weight"], colours[:, :1] + colours[:, 1:2] + colours[:, 2:], atol=1e-7, rtol=0
    )
    last = max(int(name.split(".")[2]) for name in state if name.startswith("decoder.blocks."))
    for kind in ("weight", "bias"):
        out = stored[f"decoder.conv_out.{kind}"].float()
        expected = (out[:1] + out[1:2] + out[2:]) / 3
        torch.testing.assert_close(state[f"decoder.blocks.{last}.conv.{kind}"], expected, atol=1e-7, rtol=0)


# --- every layout gives the original's very function


class Callback:
    """What Lightning leaves in a checkpoint beside the weights."""


Callback.__module__, Callback.__qualname__ = "pytorch_lightning.callbacks", "Callback"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, dict[str, Path]]:
    """diffusers' two networks, and the same weights in every form that Stable Diffusion is published in."""
    vae, unet = stirred(their_autoencoder()), stirred(their_unet())
    folder = tmp_path_factory.mktemp("published")
    vae.save_pretrained(folder / "diffusers" / "vae")
    unet.save_pretrained(folder / "diffusers" / "unet")
    ours = {
        "autoencoder": initial_autoencoder(AUTOENCODER, folder / "diffusers"),
        "unet": initial_unet(UNET, 6, folder / "diffusers"),
    }

    def laid_out(part: str, layout: str) -> dict[str, torch.Tensor]:
        state, tables = {"autoencoder": vae, "unet": unet}[part].state_dict(), key_maps.key_maps_of(ours[part])
        return {name: state[tables[key_maps.DIFFUSERS][own]].clone() for own, name in tables[layout].items()}

    for part, name in (("vae", "autoencoder"), ("unet", "unet")):
        (folder / "pickled" / part).mkdir(parents=True)
        torch.save(laid_out(name, key_maps.DIFFUSERS), folder / "pickled" / part / "diffusion_pytorch_model.bin")
        save_network(ours[name], folder / "ours" / f"{name}.safetensors")

    def with_convolutions(layout: str) -> dict[str, torch.Tensor]:
        """Older autoencoders hold the weights of attention as 1 x 1 convolutions."""
        tensors = laid_out("autoencoder", layout)
        attention = [name for name in tensors if re.search(r"attn_1\.|attentions\.", name) and tensors[name].ndim == 2]
        assert len(attention) == 8
        return {name: tensor[..., None, None] if name in attention else tensor for name, tensor in tensors.items()}

    (folder / "old" / "vae").mkdir(parents=True)
    save_file(with_convolutions(key_maps.OLD_DIFFUSERS), folder / "old" / "vae" / "diffusion_pytorch_model.safetensors")
    shutil.copytree(folder / "diffusers" / "unet", folder / "old" / "unet")
    rest = {"cond_stage_model.transformer.weight": torch.zeros(2), "first_stage_model.loss.logvar": torch.zeros(())}
    plain = {**with_convolutions(key_maps.COMPVIS), **rest, **laid_out("unet", key_maps.COMPVIS)}
    wrong = {name: torch.zeros_like(tensor) for name, tensor in laid_out("unet", key_maps.COMPVIS).items()}
    both = {**plain, **wrong, **laid_out("unet", key_maps.COMPVIS_EMA), "model_ema.decay": torch.tensor(0.9999)}
    with_callbacks = {"state_dict": both, "global_step": 840000, "callbacks": {Callback: {"best": np.float64(0.1)}}}
    with pytest.MonkeyPatch.context() as patch:
        for module in ("pytorch_lightning", "pytorch_lightning.callbacks"):
            patch.setitem(sys.modules, module, SimpleNamespace(Callback=Callback))
        torch.save(with_callbacks, folder / "v1-5-pruned.ckpt")
    torch.save({"state_dict": plain}, folder / "v1-5-pruned-emaonly.ckpt")
    torch.save(plain, folder / "old.pth", _use_new_zipfile_serialization=False)
    save_file(plain, folder / "v1-5-pruned-emaonly.safetensors")
    forms = ("diffusers", "pickled", "v1-5-pruned.ckpt", "v1-5-pruned-emaonly.ckpt", "old.pth", "old", "ours")
    return vae, unet, {form: folder / form for form in (*forms, "v1-5-pruned-emaonly.safetensors")}


FORMS = ("diffusers", "pickled", "v1-5-pruned.ckpt", "v1-5-pruned-emaonly.ckpt", "v1-5-pruned-emaonly.safetensors")
Published = tuple[Any, Any, dict[str, Path]]


@pytest.mark.parametrize("form", [*FORMS, "old", "old.pth"])
def test_stable_diffusion_in_every_form(published: Published, form: str) -> None:
    """Output and gradients of both networks: to 1e-5 of their size in single precision."""
    their_vae, their_unet, paths = published
    vae = initial_autoencoder(AUTOENCODER, paths[form]).eval()
    unet = initial_unet(UNET, 6, paths[form]).eval()
    assert float(vae.latent_scale) == pytest.approx(0.18215)
    latent, steps, context = inputs()
    image = torch.randn(2, 1, 16, 16)
    grey = image.expand(-1, 3, -1, -1)
    assert_same(lambda z: unet(z, steps, context), lambda z: their_unet(z, steps, context).sample, latent)
    assert_same(lambda c: unet(latent, steps, c), lambda c: their_unet(latent, steps, c).sample, context)
    assert_same(lambda x: vae.encode(x)[0], lambda x: their_vae.encode(x.expand(-1, 3, -1, -1)).latent_dist.mean, image)
    assert_same(vae.decode, lambda z: their_vae.decode(z).sample.mean(dim=1, keepdim=True), latent)
    torch.testing.assert_close(vae.encode(image)[1], their_vae.encode(grey).latent_dist.std, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"max_shard_size": "20KB"},
        {"max_shard_size": "20KB", "variant": "fp16", "safe_serialization": False},
        {"variant": "fp16"},
        {"safe_serialization": False},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_what_diffusers_saves_in_parts_and_variants(published: Published, tmp_path: Path, options: Any) -> None:
    for network, part in zip(published, ("vae", "unet"), strict=False):
        network.save_pretrained(tmp_path / part, **options)
    if "max_shard_size" in options:
        assert len([*tmp_path.glob("*/*-of-*")]) > 3
    pairs = (
        (initial_autoencoder(AUTOENCODER, tmp_path), initial_autoencoder(AUTOENCODER, published[2]["diffusers"])),
        (initial_unet(UNET, 6, tmp_path), initial_unet(UNET, 6, published[2]["diffusers"])),
    )
    for again, whole in pairs:
        state = whole.state_dict()
        assert all(torch.equal(tensor, state[name]) for name, tensor in again.state_dict().items())


def assert_same(ours: Any, theirs: Any, x: torch.Tensor) -> None:
    """Value, and gradient of a random projection of it, relative to the largest entry."""
    results = []
    for function in (ours, theirs):
        leaf = x.clone().requires_grad_()
        value = function(leaf)
        weight = torch.randn(value.shape, generator=torch.Generator().manual_seed(3))
        results.append((value.detach(), torch.autograd.grad((value * weight).sum(), leaf)[0]))
    for mine, other in zip(*results, strict=True):
        assert other.abs().max() > 0.01
        assert float((mine - other).abs().max() / other.abs().max()) < 1e-5


def test_parameters_learn_as_the_originals_do(published: Published) -> None:
    """Gradients of the parameters themselves, through both networks."""
    _, their_unet, paths = published
    unet = initial_unet(UNET, 6, paths["diffusers"])
    latent, steps, context = inputs()
    for network, output in (
        (unet, unet(latent, steps, context)),
        (their_unet, their_unet(latent, steps, context).sample),
    ):
        network.zero_grad()
        output.square().mean().backward()
    table = key_maps.key_maps_of(unet)[key_maps.DIFFUSERS]
    theirs = dict(their_unet.named_parameters())
    largest = max(float(parameter.grad.abs().max()) for parameter in theirs.values())
    for name, parameter in unet.named_parameters():
        difference = parameter.grad - theirs[table[name]].grad.reshape(parameter.shape)
        assert float(difference.abs().max()) < 1e-5 * largest, name


def test_averaged_weights_or_not_by_choice(published: Published) -> None:
    path = published[2]["v1-5-pruned.ckpt"]
    arguments = {**UNET, "context_dim": 6}
    averaged, plain = start_unet(arguments, path), start_unet(arguments, path, averaged=False)
    assert averaged.layout == key_maps.COMPVIS_EMA and plain.layout == key_maps.COMPVIS
    assert all(parameter.any() for parameter in averaged.network.parameters())
    assert not any(parameter.any() for parameter in plain.network.parameters()), "zeros, in this file"


def test_networks_of_ours_start_others_with_their_scale(published: Published) -> None:
    folder = published[2]["ours"]
    assert float(initial_autoencoder(AUTOENCODER, folder / "autoencoder.safetensors").latent_scale) == pytest.approx(
        0.18215
    )
    initial_unet(UNET, 6, folder / "unet.safetensors")


@pytest.mark.parametrize("attention", [False, True])
def test_monai_generatives_autoencoder(tmp_path: Path, attention: bool) -> None:
    nets = pytest.importorskip("generative.networks.nets", reason="monai-generative is not installed")
    theirs = stirred(
        nets.AutoencoderKL(
            spatial_dims=2,
            num_res_blocks=1,
            num_channels=(8, 16),
            attention_levels=(False, attention),
            latent_channels=4,
            norm_num_groups=4,
        )
    )
    torch.save({"epoch": 3, "network": theirs.state_dict()}, tmp_path / "autoencoder.pt")
    arguments = {"channels": (8, 16), "num_res_blocks": 1, "norm_num_groups": 4, "attention_levels": (False, attention)}
    ours = initial_autoencoder(arguments, tmp_path / "autoencoder.pt").eval()
    image, latent = torch.randn(2, 1, 16, 16), inputs()[0]
    assert_same(lambda x: ours.encode(x)[0], lambda x: theirs.encode(x)[0], image)
    assert_same(lambda x: ours.encode(x)[1], lambda x: theirs.encode(x)[1], image)
    assert_same(ours.decode, theirs.decode, latent)
    again = load_network(save_network(ours, tmp_path / "autoencoder.safetensors"), "LatentAutoencoder")
    assert torch.equal(again.decode(latent), ours.decode(latent)), "every stage opens it"  # type: ignore[operator]


@pytest.mark.parametrize("eps", [1e-5, 1e-6])
def test_monai_generatives_unet(tmp_path: Path, eps: float) -> None:
    nets = pytest.importorskip("generative.networks.nets", reason="monai-generative is not installed")
    theirs = stirred(
        nets.DiffusionModelUNet(
            spatial_dims=2,
            in_channels=8,
            out_channels=4,
            num_res_blocks=1,
            num_channels=(8, 16),
            attention_levels=(True, False),
            norm_num_groups=4,
            norm_eps=eps,
            num_head_channels=(4, 8),
            with_conditioning=True,
            cross_attention_dim=6,
        )
    )
    for module in theirs.modules():
        if type(module).__name__ == "SpatialTransformer":
            module.norm.eps = 1e-6  # in Stable Diffusion whatever the other layers have
    torch.save(theirs.state_dict(), tmp_path / "unet.pt")
    ours = initial_unet({**UNET, "in_channels": 8, "norm_eps": eps}, 6, tmp_path / "unet.pt").eval()
    latent, steps, context = inputs()
    both = torch.cat([latent, latent.flip(0)], dim=1)
    assert_same(lambda x: ours(x, steps, context), lambda x: theirs(x, steps, context), both)


# --- what is kept and what is new is said


def test_import_prints_what_is_kept_and_writes_what_stages_start_from(
    published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    wide = {**UNET, "context_dim": 10, "in_channels": 8}
    convert_published(published[2]["v1-5-pruned.ckpt"], tmp_path, AUTOENCODER, wide)
    said = " ".join(capsys.readouterr().out.split())
    for text in (key_maps.COMPVIS_EMA, KEPT, "three colours summed", "attn2.to_k.weight", "conv_in.conv.weight"):
        assert text in said, text
    unet: Any = load_network(tmp_path / "unet_unconditional.safetensors", "StableDiffusionUNet")
    original: Any = initial_unet(UNET, 6, published[2]["diffusers"])
    kept, old = unet.state_dict(), original.state_dict()
    new = {name for name in kept if kept[name].shape != old[name].shape}
    assert new == {name for name in old if name.endswith(KEYS_AND_VALUES)} | {"conv_in.conv.weight"}
    assert all(torch.equal(kept[name], old[name]) for name in old if name not in new)
    assert torch.equal(kept["conv_in.conv.weight"][:, :4], old["conv_in.conv.weight"])
    assert not kept["conv_in.conv.weight"][:, 4:].any()
    drawn = kept["middle_block.attention.transformer_blocks.0.attn2.to_k.weight"]
    assert 0.5 < float(drawn.std() * (3 * 10) ** 0.5) < 1.5, "as a new linear layer: uniform within 1/sqrt(10)"
    initial_autoencoder(AUTOENCODER, tmp_path / "autoencoder.safetensors")


@pytest.mark.parametrize("spoil", ["cut", "without", "unknown", "shape"])
def test_a_partial_file_is_listed_and_nothing_is_written(published: Published, tmp_path: Path, spoil: str) -> None:
    state = load_file(published[2]["v1-5-pruned-emaonly.safetensors"])
    lost = "model.diffusion_model.out.2.bias"
    path = tmp_path / "sd.safetensors"
    if spoil == "without":
        del state[lost]
    elif spoil == "unknown":
        state["model.diffusion_model.output_blocks.99.0.bias"] = torch.zeros(1)
    elif spoil == "shape":
        state[lost] = torch.zeros(5)
    save_file(state, path)
    if spoil == "cut":
        path.write_bytes(path.read_bytes()[:-4000])
    expected = {
        "cut": "not a readable safetensors file",
        "without": f"{lost} is missing",
        "unknown": "output_blocks.99.0.bias has no place",
        "shape": rf"{lost} has shape \[5\], expected \[4\]",
    }[spoil]
    with pytest.raises(CheckpointError, match=expected):
        convert_published(path, tmp_path / "models", AUTOENCODER, {**UNET, "context_dim": 6})
    assert not (tmp_path / "models").exists()


def test_a_trained_network_does_not_hang_on_the_file(published: Published, tmp_path: Path) -> None:
    path = tmp_path / "unet.safetensors"
    shutil.copy(published[2]["ours"] / "unet.safetensors", path)
    unet = initial_unet(UNET, 6, path)
    before = unet.conv_in.conv.weight.clone()
    path.write_bytes(bytes(path.stat().st_size))
    assert torch.equal(unet.conv_in.conv.weight, before)


# --- weights that do not fit


def test_a_conditional_unet_of_another_network_is_refused(tmp_path: Path) -> None:
    path = save_network(StableDiffusionAutoencoder(**AUTOENCODER), tmp_path / "unet_unconditional.safetensors")
    with pytest.raises(CheckpointError, match="holds a StableDiffusionAutoencoder, expected a StableDiffusionUNet"):
        conditional_unet(path, context_dim=6)


def test_published_weights_of_another_network_are_refused(vae: Path) -> None:
    with pytest.raises(CheckpointError, match="do not fit StableDiffusionUNet") as error:
        initial_unet(UNET, 6, vae)
    assert str(vae) in str(error.value)


@pytest.mark.parametrize("arguments", [{"channels": (8, 16)}, {"channels": (8, 8, 8)}, {"num_res_blocks": 2}])
def test_published_weights_of_another_shape_are_refused(vae: Path, arguments: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="do not fit StableDiffusionAutoencoder") as error:
        initial_autoencoder({**AUTOENCODER, **arguments}, vae)
    assert str(vae) in str(error.value)


def test_a_unets_file_is_no_autoencoder(tmp_path: Path) -> None:
    save_file({"time_embedding.linear_1.weight": torch.zeros(1)}, tmp_path / "unet.safetensors")
    with pytest.raises(CheckpointError, match="unet.safetensors: these weights do not fit"):
        initial_autoencoder(AUTOENCODER, tmp_path / "unet.safetensors")


def test_missing_and_damaged_published_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="diffusion_pytorch_model.safetensors: no such file"):
        initial_autoencoder(AUTOENCODER, tmp_path)
    (tmp_path / "vae.safetensors").write_text("<html>404</html>")
    with pytest.raises(CheckpointError, match="vae.safetensors: not a readable safetensors file"):
        initial_autoencoder(AUTOENCODER, tmp_path / "vae.safetensors")


# --- names behind wrappers, files of one network alone, and names of nobody


class Module(torch.nn.Module):
    """What a Lightning module is: its networks are its members."""

    def __init__(self, **networks: torch.nn.Module) -> None:
        super().__init__()
        for name, network in networks.items():
            setattr(self, name, network)


def compiled_inside(network: Any) -> Any:
    network = copy.deepcopy(network)
    network.mid_block = torch.compile(network.mid_block)
    return network


WRAPPERS: dict[str, Any] = {
    "module.": torch.nn.DataParallel,
    "_orig_mod.": torch.compile,
    "model.": lambda network: Module(model=network, loss=torch.nn.Linear(2, 2)),
    "module._orig_mod.": lambda network: torch.nn.DataParallel(torch.compile(network)),
    "unet.": lambda network: Module(unet=network, vae=their_autoencoder()),
    "inside": compiled_inside,
}


@pytest.mark.parametrize("ours", [False, True])
@pytest.mark.parametrize("wrapper", [name for name in WRAPPERS])
def test_names_behind_wrappers(published: Published, tmp_path: Path, wrapper: str, ours: bool) -> None:
    expected = initial_unet(UNET, 6, published[2]["diffusers"])
    wrapped = WRAPPERS[wrapper](expected if ours and wrapper != "inside" else published[1])
    torch.save({"state_dict": wrapped.state_dict()}, tmp_path / "last.ckpt")
    state = initial_unet(UNET, 6, tmp_path / "last.ckpt").state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in expected.state_dict().items())


def test_an_autoencoder_of_ours_behind_a_wrapper_keeps_its_scale(tmp_path: Path) -> None:
    network = stirred(StableDiffusionAutoencoder(**AUTOENCODER))
    network.latent_scale.fill_(1.5)
    torch.save(torch.nn.DataParallel(network).state_dict(), tmp_path / "last.pt")
    again = initial_autoencoder(AUTOENCODER, tmp_path / "last.pt").state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("behind", ["", "module."])
def test_stable_diffusions_networks_each_in_a_file_of_its_own(
    published: Published, tmp_path: Path, behind: str
) -> None:
    """The autoencoder as vae-ft-mse-840000 is published, the U-Net as image tools cut it out."""
    expected: dict[str, Any] = {
        "first_stage_model.": initial_autoencoder(AUTOENCODER, published[2]["diffusers"]),
        "model.diffusion_model.": initial_unet(UNET, 6, published[2]["diffusers"]),
    }
    whole = load_file(published[2]["v1-5-pruned-emaonly.safetensors"])
    for root, network in expected.items():
        alone = {behind + name.removeprefix(root): each for name, each in whole.items() if name.startswith(root)}
        torch.save({"state_dict": {**alone, "loss.logvar": torch.zeros(())}}, tmp_path / "alone.ckpt")
        start = initial_autoencoder if "first" in root else lambda shape, file: initial_unet(shape, 6, file)
        state = start(AUTOENCODER if "first" in root else UNET, tmp_path / "alone.ckpt").state_dict()
        assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def test_a_file_of_one_network_is_no_pipeline(published: Published, tmp_path: Path) -> None:
    """Refused whole, with the way to convert what there is."""
    arguments = (AUTOENCODER, {**UNET, "context_dim": 6})
    for part in ("vae", "unet"):
        source = published[2]["diffusers"] / part / "diffusion_pytorch_model.safetensors"
        with pytest.raises(CheckpointError, match="converts one network alone with parts") as error:
            convert_published(source, tmp_path, *arguments)
        assert "is missing" not in str(error.value) and not list(tmp_path.iterdir())
    convert_published(source, tmp_path, *arguments, parts=["unet"])
    assert [path.name for path in tmp_path.iterdir()] == ["unet_unconditional.safetensors"]


def test_names_of_nobody_are_shown_and_no_others(tmp_path: Path) -> None:
    save_file({f"h.{i}.attn.weight": torch.zeros(2) for i in range(9)}, tmp_path / "gpt.safetensors")
    for start in (lambda file: initial_unet(UNET, 6, file), lambda file: initial_autoencoder(AUTOENCODER, file)):
        with pytest.raises(
            CheckpointError, match=r"has 0 by the names of any layout \(NAMD, diff.*9 are h.0.attn.weight"
        ) as error:
            start(tmp_path / "gpt.safetensors")
        assert "is missing" not in str(error.value) and len(str(error.value).splitlines()) == 1


def test_what_lacks_behind_a_wrapper_is_named_as_it_is_there(published: Published, tmp_path: Path) -> None:
    state = torch.nn.DataParallel(published[1]).state_dict()
    state["module.conv_out.colour"] = state.pop("module.conv_out.bias")
    torch.save(state, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="module.conv_out.bias is missing; module.conv_out.colour has no place"):
        initial_unet(UNET, 6, tmp_path / "last.pt")


def test_weights_and_their_average_behind_names_of_their_own(published: Published, tmp_path: Path) -> None:
    zeros = {f"model.{name}": torch.zeros_like(tensor) for name, tensor in published[1].state_dict().items()}
    mean = {f"ema_model.{name}": tensor for name, tensor in published[1].state_dict().items()}
    save_file({**zeros, **mean}, tmp_path / "both.safetensors")
    arguments = {**UNET, "context_dim": 6}
    plain = start_unet(arguments, tmp_path / "both.safetensors", averaged=False).network
    assert not any(parameter.any() for parameter in plain.parameters())
    averaged = start_unet(arguments, tmp_path / "both.safetensors").network
    assert all(parameter.any() for parameter in averaged.parameters())
    save_file(
        {**zeros, **{name.replace("ema", "best"): each for name, each in mean.items()}}, tmp_path / "two.safetensors"
    )
    with pytest.raises(CheckpointError, match="holds the network 2 times, behind 'best_model.' and 'model.'"):
        start_unet(arguments, tmp_path / "two.safetensors")


def test_a_finished_unet_is_taken_as_it_is(unconditional: tuple[StableDiffusionUNet, Path], tmp_path: Path) -> None:
    """Whether or not the first convolution would be drawn anew, and though there is no unconditional one."""
    _, path = unconditional
    finished = stirred(conditional_unet(path, context_dim=6))
    save_network(finished, tmp_path / "unet_conditional.safetensors")
    for keep_weights in (True, False):
        again = conditional_unet(tmp_path / "absent", 6, keep_weights=keep_weights, pretrained=tmp_path)
        assert again.config == finished.config
        assert all(torch.equal(each, finished.state_dict()[name]) for name, each in again.state_dict().items())
