"""The perceptual distance against the packages it stands for, and what a frozen constant must never do."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path

import lpips
import pytest
import torch
import torchvision
from torch import nn

from scripts.errors import UserError
from scripts.networks import perceptual
from scripts.networks.perceptual import BACKBONES, PerceptualDistance


@pytest.fixture(autouse=True)
def empty_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A torch hub cache without any weights, whatever the machine has."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints"


def images(count: int = 2, seed: int = 0, size: int = 64) -> torch.Tensor:
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def stlpips() -> types.ModuleType:
    """The reference implementation; it imports two packages for debugging that its wheel does not declare."""
    stubs = {name: types.ModuleType(name) for name in ("torchsummary", "IPython") if name not in sys.modules}
    for stub in stubs.values():
        stub.summary = stub.embed = None  # type: ignore[attr-defined]
    sys.modules.update(stubs)
    try:
        return importlib.import_module("stlpips_pytorch.stlpips")
    finally:
        for name in stubs:
            del sys.modules[name]


@pytest.mark.parametrize("network", ["alex", "vgg"])
def test_fallback_equals_the_reference_implementation(network, stlpips, capsys):
    distance = PerceptualDistance(network)
    assert distance.name.startswith(f"st-lpips-{network} (offline fallback")
    assert capsys.readouterr().out == ""
    reference = stlpips.LPIPS(net=network, variant="shift_tolerant", verbose=False)
    x, y = images(seed=1), images(seed=2)
    expected = reference(x.expand(-1, 3, -1, -1), y.expand(-1, 3, -1, -1)).flatten()
    torch.testing.assert_close(distance(x, y), expected, rtol=1e-4, atol=1e-6)


def test_lpips_equals_the_reference_implementation(empty_hub, monkeypatch):
    """With AlexNet's weights in torch hub's cache; random ones here, for the backbone is not ours to ship."""
    empty_hub.mkdir(parents=True)
    torch.manual_seed(0)
    alexnet = torchvision.models.alexnet()
    torch.save(alexnet.state_dict(), empty_hub / BACKBONES["alex"])
    monkeypatch.setattr(torchvision.models, "alexnet", lambda **_: alexnet)
    reference = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    distance = PerceptualDistance("alex")
    assert distance.name == "lpips-alex"
    x, y = images(seed=1), images(seed=2)
    expected = reference(x.expand(-1, 3, -1, -1), y.expand(-1, 3, -1, -1)).flatten()
    assert expected.min() > 1e-4
    torch.testing.assert_close(distance(x, y), expected, rtol=1e-4, atol=1e-7)


def test_lpips_vgg_takes_the_features_of_torchvision(tmp_path):
    """A VGG of torchvision's shape, given by path: the five levels are what torchvision computes there."""
    torch.manual_seed(0)
    configuration = torchvision.models.vgg.cfgs["D"]
    features = torchvision.models.vgg.make_layers(configuration)
    torch.save({f"features.{name}": tensor for name, tensor in features.state_dict().items()}, tmp_path / "vgg.pth")
    distance = PerceptualDistance("vgg", weights=tmp_path / "vgg.pth")
    assert distance.name == "lpips-vgg"
    x = images(1, size=32)
    hidden, expected = (x.expand(-1, 3, -1, -1) - distance.shift) / distance.scale, []
    for index, layer in enumerate(features):
        hidden = layer(hidden)
        if index in (3, 8, 15, 22, 29):
            expected.append(hidden.clone())
    torch.testing.assert_close(distance.features(x), expected)


def test_file_names_are_torchvisions():
    for network, name in (("vgg", "vgg16"), ("alex", "alexnet")):
        url = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].url
        assert url.endswith(BACKBONES[network])


def test_it_is_a_metric_on_the_diagonal_and_symmetric():
    distance = PerceptualDistance("alex")
    x, y = images(3, seed=1), images(3, seed=2)
    assert torch.equal(distance(x, x), torch.zeros(3))
    torch.testing.assert_close(distance(x, y), distance(y, x))
    assert (distance(x, y) > 0).all()
    each = torch.cat([distance(x[i : i + 1], y[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(distance(x, y), each, rtol=1e-4, atol=1e-6)


def test_it_is_frozen_and_absent_from_checkpoints():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.perceptual = nn.Linear(1, 1), PerceptualDistance("alex")

    model = Model()
    assert set(model.state_dict()) == {"layer.weight", "layer.bias"}
    assert len(list(model.parameters())) == 2
    model.load_state_dict(model.state_dict())
    assert all(buffer.is_meta for buffer in model.to("meta").perceptual.buffers())


def test_training_mode_and_the_global_generator_change_nothing():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    distance = PerceptualDistance("alex")
    assert torch.equal(before, torch.get_rng_state())
    x, y = images(seed=1), images(seed=2)
    assert torch.equal(distance.eval()(x, y), distance.train()(x, y))


def test_gradients_reach_x_and_only_where_asked():
    distance = PerceptualDistance("alex")
    x, y = images(seed=1).requires_grad_(), images(seed=2)
    distance(x, y).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all() and x.grad.abs().sum() > 0
    assert y.grad is None
    y.requires_grad_()
    distance(x.detach(), y).sum().backward()
    assert y.grad is not None and y.grad.abs().sum() > 0
    with torch.no_grad():
        assert not distance(x, y).requires_grad


def test_gradient_agrees_with_finite_differences():
    distance = PerceptualDistance("alex")
    x, y, direction = images(1, seed=1), images(1, seed=2), images(1, seed=3)
    (gradient,) = torch.autograd.grad(distance(x.requires_grad_(), y).sum(), x)
    step = 1e-2
    with torch.no_grad():
        numeric = (distance(x + step * direction, y) - distance(x - step * direction, y)) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), numeric[0], rtol=0.05, atol=1e-5)


def test_constant_images_give_finite_gradients():
    distance = PerceptualDistance("alex")
    x = torch.full((1, 1, 64, 64), -1.0, requires_grad=True)
    distance(x, torch.ones(1, 1, 64, 64)).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


def test_half_precision_stays_close():
    distance = PerceptualDistance("alex")
    x, y = images(seed=1), images(seed=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = distance(x, y)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, distance(x, y), rtol=0.1, atol=1e-3)


def test_it_warns_once(monkeypatch, caplog):
    perceptual._warn_fallback.cache_clear()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "no-such-folder")
    with caplog.at_level("WARNING"):
        for _ in range(2):
            perceptual.PerceptualDistance("alex")
    assert caplog.text.count("not comparable to published LPIPS") == 1


def test_strict_refuses_the_fallback(monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "no-such-folder")
    for network, file in perceptual.BACKBONES.items():
        with pytest.raises(UserError, match=f"{file} is not in no-such-folder.checkpoints.*: strict refuses"):
            PerceptualDistance(network, strict=True)


def test_errors_name_the_cause(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="vgg and alex"):
        PerceptualDistance("resnet")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="does not exist; expected torchvision's vgg16"):
        PerceptualDistance("vgg", weights=tmp_path / "absent.pth")
    torch.save({"features.0.weight": torch.zeros(64, 3, 11, 11)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="does not hold the weights of this network"):
        PerceptualDistance("vgg", weights=tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"\(B, 1, H, W\), got \(2, 3, 64, 64\)"):
        PerceptualDistance("alex")(torch.zeros(2, 3, 64, 64), torch.zeros(2, 3, 64, 64))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install stlpips-pytorch"):
        PerceptualDistance("alex")
