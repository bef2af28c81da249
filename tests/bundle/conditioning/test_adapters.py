"""LoRA in the conditioner's language model: against peft, and through training, checkpoints and files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from scripts.conditioning.conditioner import ReportConditioner
from scripts.conditioning.language_models import ConditionerError
from scripts.diffusion.sampler import load_progression_model
from scripts.training.handlers import FreezePrompts
from tests.bundle.conditioning.helpers import REPORTS, MakeGemma, Spy, plain_context, relative_error, trained

LORA = {"r": 2, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"]}


def with_lora(folder: Path, **arguments: Any) -> ReportConditioner:
    return ReportConditioner(folder, **{"standardise": False, "lora": LORA, **arguments})


def loss(context: Tensor) -> Tensor:
    """Not a norm: Gemma's last layer fixes that."""
    return (context * torch.randn(context.shape, generator=torch.Generator().manual_seed(1))).sum()


def step(conditioner: ReportConditioner) -> ReportConditioner:
    """Trained for two steps: B is zero at first, so A only moves in the second."""
    optimizer = torch.optim.AdamW(conditioner.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        loss(conditioner(REPORTS)).backward()
        optimizer.step()
    return conditioner


def test_at_first_nothing_changes_then_lora_learns_and_the_model_does_not(gemma_folder: Path) -> None:
    conditioner = with_lora(gemma_folder)
    before = conditioner.encode(REPORTS)
    assert torch.equal(before, ReportConditioner(gemma_folder, standardise=False).encode(REPORTS))
    lora = {id(weight) for weight in conditioner.lora.values()}
    assert len(lora) == 2 * 2 * 2  # A and B of two modules in two layers
    base = {name: w.clone() for name, w in conditioner.llm.named_parameters() if id(w) not in lora}
    weights = [weight.detach().clone() for weight in conditioner.parameters()]

    step(conditioner)
    assert not any(torch.equal(old, new) for old, new in zip(weights, conditioner.parameters(), strict=True))
    now = dict(conditioner.llm.named_parameters())
    assert len(base) + len(lora) == len(now)
    assert all(torch.equal(weight, now[name]) and not now[name].requires_grad for name, weight in base.items())
    assert relative_error(conditioner.encode(REPORTS), before) > 1e-3


def test_changed_lora_is_noticed(gemma_folder: Path) -> None:
    conditioner = with_lora(gemma_folder)
    before = conditioner.encode(REPORTS)
    for name, weight in conditioner.lora.items():
        if "lora_B" in name:
            weight.data += 0.1
    assert relative_error(conditioner.encode(REPORTS), before) > 1e-3


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.1)])
def test_equals_peft(make_gemma: MakeGemma, tmp_path: Path, bos: bool, dtype: str, tolerance: float) -> None:
    """peft opens what was saved, and transformers and peft alone compute the same context and gradients."""
    from peft import PeftModel

    folder = make_gemma(True, bos)
    conditioner = step(trained(with_lora(folder, dtype=dtype)))
    assert {weight.dtype for weight in conditioner.parameters()} == {torch.float32}
    saved = conditioner.save_pretrained(tmp_path / "conditioner")
    decoder = AutoModel.from_pretrained(folder, dtype=dtype).get_decoder()
    adapted = PeftModel.from_pretrained(decoder, saved / "lora", is_trainable=True)
    pair = adapted, AutoTokenizer.from_pretrained(folder)
    context = conditioner(REPORTS)
    plain = plain_context(pair, conditioner.prompts, REPORTS, bos=bos, side="left")
    assert relative_error(context, plain) < tolerance

    theirs = [conditioner.prompts, *of_peft(conditioner, adapted)]
    ours = torch.autograd.grad(loss(context), list(conditioner.parameters()))
    for gradient, expected in zip(ours, torch.autograd.grad(loss(plain), theirs), strict=True):
        assert float((gradient - expected).norm() / expected.norm()) < tolerance


def of_peft(conditioner: ReportConditioner, adapted: Any) -> list[nn.Parameter]:
    """The adapters of a model that peft made, in our order."""
    return [adapted.get_parameter(name.replace("/", ".")) for name in conditioner.lora]


def test_equals_plain_get_peft_model(gemma_folder: Path) -> None:
    """The initial weights are peft's under the same seed, and what they compute is."""
    from peft import LoraConfig, get_peft_model

    conditioner = with_lora(gemma_folder, seed=5)
    torch.manual_seed(5)
    adapted = get_peft_model(AutoModel.from_pretrained(gemma_folder).get_decoder(), LoraConfig(**LORA))
    theirs = of_peft(conditioner, adapted)
    assert all(map(torch.equal, conditioner.lora.values(), theirs))
    with torch.no_grad():
        for weight in [*conditioner.lora.values(), *theirs]:
            weight.add_(0.1)
    pair = adapted.eval(), AutoTokenizer.from_pretrained(gemma_folder)
    plain = plain_context(pair, conditioner.prompts, REPORTS, bos=True, side="right")
    assert relative_error(conditioner(REPORTS), plain) < 1e-5


def test_four_bit_learns_too(gemma_folder: Path) -> None:
    pytest.importorskip("bitsandbytes")
    conditioner = with_lora(gemma_folder, quantization="4bit")
    before = conditioner.encode(REPORTS)
    assert relative_error(step(conditioner).encode(REPORTS), before) > 1e-3
    assert conditioner.llm.layers[0].self_attn.q_proj.base_layer.weight.dtype == torch.uint8


def test_adding_lora_leaves_torchs_randomness_alone(gemma_folder: Path) -> None:
    state = torch.get_rng_state()
    with_lora(gemma_folder)
    assert torch.equal(state, torch.get_rng_state())


def test_null_context_does_not_depend_on_lora(gemma_folder: Path) -> None:
    null = ReportConditioner(gemma_folder, standardise=False).null_context(1)
    assert bool(null.any()) and torch.equal(null, step(with_lora(gemma_folder)).null_context(1))


def test_frozen_with_the_prompts(gemma_folder: Path) -> None:
    conditioner = with_lora(gemma_folder)
    optimizer = torch.optim.AdamW(conditioner.parameters(), lr=0.1)

    def iteration(engine: Engine, batch: Any) -> None:
        if conditioner.prompts.requires_grad:
            loss(conditioner(REPORTS)).backward()
        optimizer.step()

    engine = Engine(iteration)
    FreezePrompts(conditioner, 2, REPORTS).attach(engine)
    engine.run([0, 0], max_epochs=1)
    frozen = [weight.detach().clone() for weight in conditioner.parameters()]
    engine.run([0, 0], max_epochs=2)
    assert all(map(torch.equal, frozen, conditioner.parameters()))
    spy = Spy(conditioner)
    assert not conditioner(REPORTS).requires_grad and spy.sequences == 0


# --- saved and loaded


def test_round_trip_through_a_folder(gemma_folder: Path, tmp_path: Path) -> None:
    first, second = step(with_lora(gemma_folder)), with_lora(gemma_folder, seed=1)
    folder = first.save_pretrained(tmp_path / "conditioner")
    second.load_pretrained(folder)
    assert torch.equal(first.encode(REPORTS), second.encode(REPORTS))
    config = json.loads((folder / "lora" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == gemma_folder.name, "not the path on this machine"


def test_round_trip_through_a_state_dict(gemma_folder: Path, tmp_path: Path) -> None:
    first, second = step(with_lora(gemma_folder)), with_lora(gemma_folder, seed=1)
    second.encode(REPORTS)
    torch.save(first.state_dict(), tmp_path / "checkpoint.pt")
    second.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    assert torch.equal(first.encode(REPORTS), second.encode(REPORTS))
    assert not [name for name in ReportConditioner(gemma_folder).state_dict() if "lora" in name]


@pytest.mark.parametrize(
    ("lora", "said"),
    [
        (None, "holds LoRA.*give lora"),
        ({**LORA, "r": 4}, "r is 2, expected 4"),
        ({**LORA, "lora_alpha": 1}, "lora_alpha is 8, expected 1"),
        ({**LORA, "target_modules": ["q_proj"]}, "target_modules is .*, expected \\['q_proj'\\]"),
    ],
)
def test_other_lora_is_refused(gemma_folder: Path, tmp_path: Path, lora: Any, said: str) -> None:
    folder = step(with_lora(gemma_folder)).save_pretrained(tmp_path / "conditioner")
    with pytest.raises(ConditionerError, match=said):
        with_lora(gemma_folder, lora=lora).load_pretrained(folder)


def test_absent_or_damaged_lora_is_refused_and_changes_nothing(gemma_folder: Path, tmp_path: Path) -> None:
    folder = step(with_lora(gemma_folder)).save_pretrained(tmp_path / "conditioner")
    conditioner = with_lora(gemma_folder)
    before = [weight.detach().clone() for weight in conditioner.parameters()]
    (folder / "lora" / "adapter_model.safetensors").write_text("damaged")
    with pytest.raises(ConditionerError, match="adapter_model.safetensors: not readable"):
        conditioner.load_pretrained(folder)
    shutil.rmtree(folder / "lora")
    with pytest.raises(ConditionerError, match="lacks LoRA.*leave out lora"):
        conditioner.load_pretrained(folder)
    assert all(map(torch.equal, before, conditioner.parameters()))


@pytest.mark.parametrize("settings", [{"rank": 8}, {"r": 8, "target_modules": ["nowhere"]}, {"r": 0}])
def test_unknown_settings_are_refused(gemma_folder: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(ConditionerError, match="Give arguments of peft.LoraConfig.*peft said"):
        with_lora(gemma_folder, lora=settings)


def test_trained_interrupted_and_used_through_the_configurations(
    make_workflow: Any, trained: Path, tiny_llm: Path, tmp_path: Path
) -> None:
    """An interrupted run ends with the LoRA of one that was not, and inference's loader reads it."""
    arguments = {"llm": str(tiny_llm), "lora": {"r": 2}}
    for name, parts in {"whole": (2,), "resumed": (1, 2)}.items():
        shutil.copytree(trained / "models", tmp_path / name / "models")
        for epochs in parts:
            settings = {"conditioner_arguments": arguments, "learning_rate": 0.01, "max_epochs": epochs}
            make_workflow("train_conditional", tmp_path / name, "small", **settings).run()
    readers = [
        load_progression_model(tmp_path / name / "models", **arguments).denoiser.conditioner
        for name in ("whole", "resumed")
    ]
    weights = [reader.state_dict() for reader in readers]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    assert any(bool(tensor.any()) for name, tensor in weights[0].items() if "lora_B" in name), "it learned"
    assert not any(weight.requires_grad for weight in readers[0].parameters())
