"""The losses: against the equations written out, and finite wherever their inputs are."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from scripts.losses import (
    AutoencoderLoss,
    DenoisingLoss,
    LatentAlignmentLoss,
    OutcomeLoss,
    gaussian_kl,
    known_cross_entropy,
    over_known,
)

HUGE = st.floats(-(2.0**100), 2.0**100, width=32)


def alignment_by_hand(latents: Tensor, attributes: Tensor, tau_features: float, tau_latents: float) -> float:
    """Eq. 2 to 4, term by term, as the paper writes them; latents (B, C)."""
    count = len(latents)

    def similarity(points: Tensor, i: int, j: int, tau: float) -> float:
        return math.exp(-sum((a - b) ** 2 for a, b in zip(points[i].tolist(), points[j].tolist(), strict=True)) / tau)

    total = 0.0
    for i in range(count):
        others = [k for k in range(count) if k != i]
        for j in others:
            p, q = (
                similarity(points, i, j, tau) / sum(similarity(points, i, k, tau) for k in others)
                for points, tau in ((attributes, tau_features), (latents, tau_latents))
            )
            total += p * math.log(p / q) if p > 0 else 0.0
    return total / count


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- alignment


@given(st.integers(2, 6), st.integers(1, 5), st.integers(0, 1000), st.sampled_from([(16.0, 1.0), (2.0, 0.5)]))
def test_alignment_is_the_papers_double_sum(count: int, features: int, seed: int, tau: tuple[float, float]) -> None:
    latents, attributes = random(count, 4, seed=seed), 3 * random(count, features, seed=seed + 1)
    expected = alignment_by_hand(latents, attributes, *tau)
    assert LatentAlignmentLoss(*tau)(latents, attributes).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_spatial_latents_are_averaged_first() -> None:
    latents, attributes = random(5, 4, 8, 8), random(5, 3, seed=1)
    expected = alignment_by_hand(latents.mean(dim=(2, 3)), attributes, 16.0, 1.0)
    assert LatentAlignmentLoss()(latents, attributes).item() == pytest.approx(expected, rel=1e-9)


def test_whole_latents_are_compared_where_that_is_asked_for() -> None:
    latents, attributes = 0.2 * random(5, 4, 3, 3), random(5, 3, seed=1)
    expected = alignment_by_hand(latents.flatten(1), attributes, 16.0, 1.0)
    assert LatentAlignmentLoss(spatial=True)(latents, attributes).item() == pytest.approx(expected, rel=1e-9)
    loss = AutoencoderLoss(perceptual_weight=0.0, kl_weight=0.0, prediction_weight=0.0, spatial_alignment=True)
    image = torch.zeros(5, 1, 8, 8)
    moments = {"mean": latents, "std": torch.ones_like(latents)}
    loss({"reconstruction": image, "latent": latents, **moments}, {"image": image, "attributes": attributes})
    assert loss.terms["alignment"].item() == pytest.approx(expected, rel=1e-9)


def test_alignment_is_zero_where_distances_match_and_positive_elsewhere() -> None:
    attributes = random(6, 4)
    rotated = attributes @ torch.linalg.qr(random(4, 4, seed=1))[0] / 4.0
    assert LatentAlignmentLoss(16.0, 1.0)(rotated, attributes).item() == pytest.approx(0.0, abs=1e-12)
    assert LatentAlignmentLoss(16.0, 1.0)(2.0 * rotated, attributes).item() > 1e-3


def test_one_or_two_samples_cannot_be_misaligned() -> None:
    for count in (0, 1, 2):
        latents = random(count, 4).requires_grad_()
        loss = LatentAlignmentLoss()(latents, random(count, 3, seed=1))
        loss.backward()
        assert loss.item() == 0.0 and latents.grad is not None and not latents.grad.any()


def test_samples_without_attributes_are_left_out() -> None:
    latents, attributes = random(6, 4).requires_grad_(), random(6, 3, seed=1)
    attributes[1, 2] = math.nan
    attributes[4] = math.inf
    loss = LatentAlignmentLoss()(latents, attributes)
    loss.backward()
    known = [0, 2, 3, 5]
    expected = alignment_by_hand(latents.detach()[known], attributes[known], 16.0, 1.0)
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    assert latents.grad is not None and not latents.grad[[1, 4]].any() and latents.grad[known].any(dim=1).all()
    assert LatentAlignmentLoss()(latents, torch.full_like(attributes, math.nan)).item() == 0.0


def test_duplicates_are_no_trouble() -> None:
    latents = random(4, 4)[[0, 0, 1, 1]].requires_grad_()
    attributes = torch.zeros(4, 3, dtype=torch.float64)
    loss = LatentAlignmentLoss()(latents, attributes)
    loss.backward()
    assert loss.item() == pytest.approx(alignment_by_hand(latents.detach(), attributes, 16.0, 1.0), rel=1e-9)
    assert latents.grad is not None and bool(latents.grad.isfinite().all())


@given(st.integers(1, 5).flatmap(lambda n: st.tuples(*(arrays("float32", (n, 3), elements=HUGE) for _ in range(2)))))
def test_alignment_is_finite_for_finite_input(points: tuple[Any, Any]) -> None:
    latents, attributes = torch.from_numpy(points[0]).requires_grad_(), torch.from_numpy(points[1])
    loss = LatentAlignmentLoss()(latents, attributes)
    loss.backward()
    assert loss.isfinite() and loss >= -1e-4
    assert latents.grad is not None and bool(latents.grad.isfinite().all())


def test_alignment_gradient_is_the_finite_difference() -> None:
    attributes = random(5, 3, seed=1)
    attributes[2] = math.nan
    latents = random(5, 2, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: LatentAlignmentLoss()(z, attributes), (latents,))


# --- KL, cross-entropy


def test_gaussian_kl_is_summed_over_the_latent_and_averaged_over_the_batch() -> None:
    mean, std = random(3, 4, 2, 2), random(3, 4, 2, 2, seed=1).exp()
    expected = kl_divergence(Normal(mean, std), Normal(torch.zeros_like(mean), torch.ones_like(std)))
    torch.testing.assert_close(gaussian_kl(mean, std), expected.sum(dim=(1, 2, 3)).mean())
    assert gaussian_kl(torch.zeros(2, 4, 1, 1), torch.ones(2, 4, 1, 1)).item() == 0.0


def test_cross_entropy_over_known_outcomes() -> None:
    logits = torch.tensor([[2.0], [-1.0], [0.5], [7.0]], requires_grad=True)
    outcome = torch.tensor([1.0, 0.0, 1.0, math.nan], dtype=torch.float64)
    loss = known_cross_entropy(logits, outcome)
    loss.backward()
    chances = [1 / (1 + math.exp(-logit)) for logit in (2.0, 1.0, 0.5)]
    assert loss.item() == pytest.approx(-sum(map(math.log, chances)) / 3, rel=1e-5)
    assert logits.grad is not None and logits.grad[3] == 0.0 and bool(logits.grad[:3].all())
    assert OutcomeLoss()(logits, {"malignant": outcome}).item() == loss.item()


def test_cross_entropy_without_known_outcomes_is_zero() -> None:
    logits = torch.tensor([[3e38], [3e38]], requires_grad=True)
    loss = known_cross_entropy(logits, torch.tensor([math.nan, math.nan]))
    loss.backward()
    assert loss.item() == 0.0 and logits.grad is not None and not logits.grad.any()


# --- the whole loss of stage 1


def batch() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    torch.manual_seed(0)
    prediction = {
        "reconstruction": torch.rand(3, 1, 32, 32) * 2 - 1,
        "mean": torch.randn(3, 4, 4, 4),
        "std": torch.rand(3, 4, 4, 4) + 0.1,
        "latent": torch.randn(3, 4, 4, 4),
        "logit": torch.randn(3, 1),
    }
    image = torch.rand(3, 1, 32, 32) * 2 - 1
    return prediction, {"image": image, "attributes": torch.randn(3, 5), "malignant": torch.tensor([1.0, 0, math.nan])}


def test_total_is_the_weighted_sum_of_its_terms() -> None:
    prediction, target = batch()
    weights = {"perceptual": 0.3, "kl": 0.01, "alignment": 0.7, "prediction": 0.2}
    loss = AutoencoderLoss("alex", **{f"{name}_weight": weight for name, weight in weights.items()})
    total = loss(prediction, target)
    terms = {
        "reconstruction": (prediction["reconstruction"] - target["image"]).abs().mean(),
        "perceptual": loss.perceptual(prediction["reconstruction"], target["image"]).mean(),
        "kl": gaussian_kl(prediction["mean"], prediction["std"]),
        "alignment": LatentAlignmentLoss()(prediction["latent"], target["attributes"]),
        "prediction": known_cross_entropy(prediction["logit"], target["malignant"]),
    }
    assert loss.terms.keys() == terms.keys()
    for name, value in terms.items():
        torch.testing.assert_close(loss.terms[name], value)
    expected = sum(({"reconstruction": 1.0} | weights)[name] * float(value) for name, value in terms.items())
    assert total.item() == pytest.approx(expected, rel=1e-5)


def test_default_weights_are_the_papers() -> None:
    loss = AutoencoderLoss("alex")
    weights = {"reconstruction": 1.0, "perceptual": 1.0, "kl": 1e-6, "alignment": 1.0, "prediction": 0.2}
    assert loss.weights == weights
    assert (loss.alignment.tau_features, loss.alignment.tau_latents) == (16.0, 1.0)


def test_parts_without_weight_are_not_computed() -> None:
    prediction, target = batch()
    loss = AutoencoderLoss(perceptual_weight=0.0, alignment_weight=0.0, prediction_weight=0.0)
    del prediction["latent"], prediction["logit"], target["attributes"], target["malignant"]
    assert loss.perceptual is None
    loss(prediction, target)
    assert loss.terms.keys() == {"reconstruction", "kl"}


def test_perceptual_distance_of_some_samples() -> None:
    prediction, target = batch()
    loss = AutoencoderLoss("alex", perceptual_samples=2)
    loss(prediction, target)
    expected = loss.perceptual(prediction["reconstruction"][:2], target["image"][:2]).mean()
    torch.testing.assert_close(loss.terms["perceptual"], expected)


def padded(shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A prediction that learns, a target that is NaN in its first columns, and where it is not."""
    generator = torch.Generator().manual_seed(0)
    prediction = torch.randn(shape, generator=generator).requires_grad_()
    target = torch.randn(shape, generator=generator)
    known = torch.arange(shape[-1]).expand(shape) >= 5
    return prediction, target.masked_fill(~known, torch.nan), known


@pytest.mark.parametrize("plain", [torch.nn.functional.mse_loss, torch.nn.functional.l1_loss])
def test_what_is_not_known_is_left_out_of_means_and_gradients(plain: Any) -> None:
    prediction, target, known = padded((2, 3, 8, 16))
    loss = over_known(plain, prediction, target)
    assert loss.item() == pytest.approx(plain(prediction[known], target[known]).item(), rel=1e-6)
    loss.backward()
    assert prediction.grad.isfinite().all() and not prediction.grad[~known].any() and prediction.grad[known].all()


def test_where_all_is_known_every_loss_is_what_it_was_to_the_bit() -> None:
    prediction, target = torch.randn(4, 2, 9, 7, requires_grad=True), torch.randn(4, 2, 9, 7)
    for loss in (over_known(torch.nn.functional.mse_loss, prediction, target), DenoisingLoss()(prediction, target)):
        reference = torch.nn.MSELoss()(prediction, target)
        assert torch.equal(loss, reference)
        ours, theirs = (torch.autograd.grad(each, prediction, retain_graph=True)[0] for each in (loss, reference))
        assert torch.equal(ours, theirs)


def test_an_infinite_target_is_no_padding() -> None:
    assert over_known(torch.nn.functional.l1_loss, torch.zeros(2), torch.tensor([torch.inf, 0.0])).isinf()


def test_the_autoencoder_learns_nothing_from_padding() -> None:
    """Whatever it makes there, reconstruction and perceptual loss stay the same; elsewhere they do not."""
    _, target, known = padded((2, 1, 64, 64))
    loss, parts = AutoencoderLoss(perceptual="alex"), {"mean": torch.zeros(2, 1), "std": torch.ones(2, 1)}
    parts |= {"latent": torch.zeros(2, 4), "logit": torch.zeros(2, 1)}
    truth = {"image": target.clamp(-1, 1), "attributes": torch.full((2, 3), torch.nan), "malignant": torch.ones(2)}
    image = torch.where(known, truth["image"], 0.3)

    def terms(reconstruction: torch.Tensor) -> dict[str, float]:
        loss({"reconstruction": reconstruction, **parts}, truth)
        return {name: loss.terms[name].item() for name in ("reconstruction", "perceptual")}

    assert terms(image) == terms(torch.where(known, image, -0.9)) == {"reconstruction": 0.0, "perceptual": 0.0}
    off = terms(torch.where(known, image + 0.1, image))
    assert off["reconstruction"] == pytest.approx(0.1, rel=1e-5) and off["perceptual"] > 0
