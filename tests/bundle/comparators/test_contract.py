"""The test that every compared method passes through: what the contract promises holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scripts.comparators.contract import INPUTS, Comparator, Condition, ImageMethod, ProbabilityMethod
from scripts.comparators.copy import CopyBaseline
from scripts.comparators.corrflownet import CorrFlowNet
from scripts.comparators.ddl_cxr import DDLCXR, RecordDenoiser
from scripts.comparators.direct import DirectClassifier
from scripts.comparators.flux import Flux, FluxVelocity
from scripts.comparators.imageflownet import ImageFlowNet
from scripts.comparators.mcwgan import McWGAN
from scripts.comparators.namd import NAMD
from scripts.comparators.numbers import ConditionNumbers
from scripts.comparators.record import RecordOnly, record_regression
from scripts.comparators.regression import RecordRegression
from scripts.comparators.sd15 import StableDiffusion
from scripts.comparators.text import TextEncoder
from scripts.comparators.told import ToldCorrFlowNet, ToldMcWGAN
from scripts.diffusion.noise import CaseNoise
from scripts.diffusion.sampler import load_progression_model
from scripts.networks.autoencoder import StableDiffusionAutoencoder
from scripts.networks.classifiers import ResNetClassifier
from scripts.networks.unet import StableDiffusionUNet
from tests.bundle.helpers import stirred

SIZE = 32
CONDITIONS = [
    Condition({"age": 56, "sct_long_dia": 5.0, "sct_margins": 2}, 365),
    Condition({"age": 71, "gender": 2, "sct_long_dia": 14.0, "sct_margins": 1}, 400),
    Condition({}, None),
]
OTHER = [
    Condition({"age": 66, "sct_long_dia": 22.0}, 200),
    Condition({"gender": 1, "sct_margins": 3}, 300),
    Condition({"age": 60}, 365),
]


def crops(seed: int = 0) -> Tensor:
    return torch.rand(3, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def result(method: Comparator, baseline: Tensor, condition: Sequence[Condition], seed: int = 1) -> Tensor:
    """Images or probabilities, the noise being the cases' own."""
    with torch.no_grad():
        draw = CaseNoise(baseline, seed)
        if isinstance(method, ImageMethod):
            return method.sample(baseline, condition, draw)
        assert isinstance(method, ProbabilityMethod)
        return method.probability(baseline, condition, draw)


class FixedNoise:
    """Noise that does not depend on the crops, so that whether a method reads them can be told."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.generator = count, torch.Generator().manual_seed(seed)

    def __call__(self, shape: Sequence[int]) -> Tensor:
        return torch.randn(self.count, *shape, generator=self.generator)


def fixed(method: Comparator, baseline: Tensor, condition: Sequence[Condition], seed: int = 1) -> Tensor:
    with torch.no_grad():
        draw = FixedNoise(len(baseline), seed)
        if isinstance(method, ImageMethod):
            return method.sample(baseline, condition, draw)
        assert isinstance(method, ProbabilityMethod)
        return method.probability(baseline, condition, draw)


def check(method: Comparator) -> None:
    """All that the contract promises."""
    baseline = crops()
    made = result(method, baseline, CONDITIONS)
    if isinstance(method, ImageMethod):
        assert made.shape == baseline.shape and made.dtype == torch.float32 and float(made.abs().max()) <= 1
    else:
        assert made.shape == (3,) and bool(((made >= 0) & (made <= 1)).all())
    assert torch.isfinite(made).all() and method.reads <= INPUTS and method.reads

    one_by_one = [result(method, baseline[i : i + 1], CONDITIONS[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(torch.cat(one_by_one), made, atol=2e-5, rtol=1e-4)
    turned = result(method, baseline.flip(0), CONDITIONS[::-1]).flip(0)
    torch.testing.assert_close(turned, made, atol=2e-5, rtol=1e-4)

    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    assert torch.equal(result(method, baseline, CONDITIONS), made), "the same draws give the same result"
    assert torch.equal(torch.get_rng_state(), before[0]) and np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(result(method, baseline, CONDITIONS, seed=2), made) != method.stochastic

    same = fixed(method, baseline, CONDITIONS)
    records = [Condition(other.record, own.interval_days) for own, other in zip(CONDITIONS, OTHER, strict=True)]
    intervals = [Condition(own.record, other.interval_days) for own, other in zip(CONDITIONS, OTHER, strict=True)]
    changed = {
        "image": fixed(method, crops(5), CONDITIONS),
        "record": fixed(method, baseline, records),
        "interval": fixed(method, baseline, intervals),
    }
    for name, values in changed.items():
        assert torch.equal(values, same) != (name in method.reads), f"reads {set(method.reads)}; {name} says otherwise"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A datalist without crops, whose records tell the outcome in part."""
    folder, generator = tmp_path_factory.mktemp("cohort"), np.random.default_rng(0)

    def case(index: int) -> dict[str, object]:
        age, outcome = float(generator.integers(55, 75)), index % 2
        return {
            "case_id": f"c{index}",
            "patient_id": f"p{index}",
            "baseline": "none",
            "follow_up": "none",
            "ehr": {
                "age": age,
                "sct_long_dia": 6.0 + 5 * outcome + float(generator.normal()),
                "sct_margins": 1 + index % 3,
            },
            "malignant": outcome,
        }

    datalist = {"training": [case(i) for i in range(40)], "validation": [case(40)], "test": [case(41)]}
    (folder / "datalist.json").write_text(json.dumps(datalist))
    return folder


def copy(cohort: Path, trained: Path, settings: dict) -> Comparator:
    return CopyBaseline()


@cache
def regression(cohort: Path) -> RecordRegression:
    return RecordRegression.of(record_regression(cohort))


def record_only(cohort: Path, trained: Path, settings: dict) -> Comparator:
    return RecordOnly(regression(cohort))


def direct_classifier(cohort: Path, trained: Path, settings: dict) -> Comparator:
    torch.manual_seed(0)
    network = DirectClassifier(ResNetClassifier(SIZE, (4, 4, 8, 8)), regression(cohort))
    torch.nn.init.normal_(network.head.weight, std=0.3)  # untrained, it would not look at the crop
    return network.eval()


def namd(cohort: Path, trained: Path, settings: dict) -> Comparator:
    model = load_progression_model(trained / "models", **settings["conditioner_arguments"])
    return NAMD(model, num_steps=3, guidance_scale=2.0)


def mcwgan(cohort: Path, trained: Path, settings: dict) -> Comparator:
    return stirred(McWGAN((4, 8, 8)))


def corrflownet(sigma: float, cohort: Path, trained: Path, settings: dict) -> Comparator:
    sizes = {"num_res_blocks": 1, "norm_num_groups": 4}
    autoencoder = {"channels": [8, 8, 16], **sizes}
    return stirred(CorrFlowNet(autoencoder, {"channels": [8, 16], "num_heads": 2, **sizes}, sigma, num_steps=3))


def told(sigma: float | None, cohort: Path, trained: Path, settings: dict) -> Comparator:
    """McWGAN, or with a sigma CorrFlowNet, told the record."""
    numbers = ConditionNumbers.of([*CONDITIONS, *OTHER])
    if sigma is None:
        return stirred(ToldMcWGAN(numbers, (4, 8, 8)))
    sizes = {"num_res_blocks": 1, "norm_num_groups": 4}
    unet = {"channels": [8, 16], "num_heads": 2, **sizes}
    autoencoder = {"channels": [8, 8, 16], **sizes}
    return stirred(ToldCorrFlowNet(autoencoder, unet, numbers=numbers, sigma=sigma, num_steps=3))


def flux(cohort: Path, trained: Path, settings: dict) -> Comparator:
    text = TextEncoder(settings["conditioner_arguments"]["llm"], max_tokens=220)
    velocity = stirred(FluxVelocity(4, 16, 16, 1, 1, 2, (4, 6, 6)))
    return Flux(stirred(autoencoder()), velocity, text, num_steps=3).eval()


def ddl_cxr(cohort: Path, trained: Path, settings: dict) -> Comparator:
    numbers = ConditionNumbers.of([*CONDITIONS, *OTHER])
    denoiser = RecordDenoiser(numbers.width, 4, (8, 16), 1, 4, 8, 16)
    return DDLCXR(stirred(autoencoder()), stirred(denoiser), numbers, num_steps=3).eval()


def stable_diffusion(cohort: Path, trained: Path, settings: dict) -> Comparator:
    text = TextEncoder(settings["conditioner_arguments"]["llm"], max_tokens=220)
    unet = StableDiffusionUNet(8, (8, 16), 16, 1, 2, norm_num_groups=4)
    return StableDiffusion(stirred(autoencoder()), stirred(unet), text, num_steps=3, guidance_scale=2.0).eval()


def autoencoder() -> StableDiffusionAutoencoder:
    return StableDiffusionAutoencoder((8, 8, 16), 1, 4, 4)


def imageflownet(cohort: Path, trained: Path, settings: dict) -> Comparator:
    return stirred(ImageFlowNet([4, 8, 16], 1, 2, num_steps=2, longest_days=400.0))


METHODS = {
    **{"copy": copy, "record alone": record_only, "direct classifier": direct_classifier, "NAMD": namd},
    **{"Flux": flux, "DDL-CXR": ddl_cxr, "SD1.5": stable_diffusion, "McWGAN": mcwgan, "ImageFlowNet SDE": imageflownet},
    **{"CorrFlowNet ODE": partial(corrflownet, 0.0), "CorrFlowNet SDE": partial(corrflownet, 0.5)},
    **{"McWGAN, told": partial(told, None), "CorrFlowNet ODE, told": partial(told, 0.0)},
    **{"CorrFlowNet SDE, told": partial(told, 0.5)},
}


@pytest.mark.parametrize("make", METHODS.values(), ids=METHODS)
def test_every_method_keeps_the_contract(
    make: Callable[[Path, Path, dict], Comparator], cohort: Path, trained: Path, tiny_settings: dict
) -> None:
    check(make(cohort, trained, tiny_settings))


@pytest.mark.parametrize("make", METHODS.values(), ids=METHODS)
def test_no_normalisation_is_of_one_channel(
    make: Callable[[Path, Path, dict], Comparator], cohort: Path, trained: Path, tiny_settings: dict
) -> None:
    """It would take away an image's level and contrast: neither a single one, nor one a group."""
    method = make(cohort, trained, tiny_settings)
    for each in method.modules() if isinstance(method, nn.Module) else ():
        assert not (isinstance(each, nn.InstanceNorm2d) and each.num_features == 1)
        assert not (isinstance(each, nn.GroupNorm) and each.num_channels == each.num_groups)


def test_the_check_finds_a_method_that_breaks_its_promises() -> None:
    class Peeking(CopyBaseline):
        def sample(self, baseline: Tensor, condition: Sequence[Condition], draw: object) -> Tensor:
            return (baseline - baseline.mean()).clamp(-1, 1)  # of the whole batch

    class Reading(CopyBaseline):
        def sample(self, baseline: Tensor, condition: Sequence[Condition], draw: object) -> Tensor:
            return baseline * torch.tensor([0.5 if each.record else 1.0 for each in condition])[:, None, None, None]

    class Random(CopyBaseline):
        def sample(self, baseline: Tensor, condition: Sequence[Condition], draw: object) -> Tensor:
            return (baseline + 1e-6 * torch.randn_like(baseline)).clamp(-1, 1)

    for broken in (Peeking(), Reading(), Random()):
        with pytest.raises(AssertionError):
            check(broken)
