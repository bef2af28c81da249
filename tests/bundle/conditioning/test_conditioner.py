"""The conditioner: against peft, against a computation by hand, and on its own promises."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import Gemma3ForConditionalGeneration, LlamaForCausalLM

from scripts.conditioning.conditioner import NULL_REPORT, ReportConditioner
from scripts.conditioning.language_models import ConditionerError, load_language_model
from tests.bundle.conditioning.helpers import REPORTS, MakeGemma, Spy, plain_context, relative_error, trained


def test_equals_peft(embedded_llm: tuple[Any, Any], tmp_path: Path) -> None:
    """peft opens our adapters and its states at the last token are our context."""
    from peft import PeftModel

    model, tokenizer = embedded_llm
    assert tokenizer(REPORTS[0]).input_ids[0] != tokenizer.bos_token_id
    conditioner = trained(ReportConditioner("embedded", standardise=False))
    context = conditioner.encode(REPORTS[:2])
    folder = conditioner.save_pretrained(tmp_path / "prompts")
    for index in range(conditioner.num_prompt_sets):
        adapted = PeftModel.from_pretrained(causal(model), str(folder / f"set_{index}"))
        for row, text in enumerate(REPORTS[:2]):
            output = adapted(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
            torch.testing.assert_close(context[row, index], output.hidden_states[-1][0, -1], atol=1e-4, rtol=0)


def causal(model: Any) -> LlamaForCausalLM:
    """The decoder with a head, as peft wants it, without another copy of its weights."""
    with torch.device("meta"):
        whole = LlamaForCausalLM(model.config)
    whole.model = model
    whole.lm_head.weight = model.embed_tokens.weight
    return whole.eval()


# --- what it computes


def test_shape_and_properties(conditioner: ReportConditioner) -> None:
    context = conditioner(REPORTS)
    assert context.shape == (3, 2, 16) and context.dtype == torch.float32
    assert (conditioner.context_dim, conditioner.num_prompt_sets, conditioner.prompt_length) == (16, 2, 3)
    assert not torch.equal(context[:, 0], context[:, 1])


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_report_alone_and_in_a_batch(llama: tuple[Any, Any], side: str) -> None:
    model, tokenizer = llama[0], copy.deepcopy(llama[1])
    tokenizer.padding_side = side
    conditioner = ReportConditioner((model, tokenizer), standardise=False)
    together = conditioner([*REPORTS, REPORTS[0]])
    alone = torch.cat([conditioner([text]) for text in REPORTS])
    torch.testing.assert_close(together[:3], alone, atol=1e-5, rtol=1e-5)
    assert torch.equal(together[0], together[3])
    torch.testing.assert_close(conditioner.encode(REPORTS, batch_size=2), alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.08)])
@pytest.mark.parametrize(("vision", "bos"), [(True, True), (False, True), (False, False)])
def test_equals_plain_gemma(
    make_gemma: MakeGemma, vision: bool, bos: bool, dtype: str, tolerance: float, side: str
) -> None:
    """Context and the prompts' gradient are those of transformers alone, whichever side it pads on."""
    folder = make_gemma(vision, bos)
    conditioner = trained(ReportConditioner(folder, dtype=dtype, standardise=False))
    context = conditioner(REPORTS)
    plain = plain_context(folder, conditioner.prompts, REPORTS, bos=bos, side=side, dtype=dtype)
    assert relative_error(context, plain) < tolerance

    weights = torch.randn(context.shape, generator=torch.Generator().manual_seed(1))
    gradients = [torch.autograd.grad((each * weights).sum(), conditioner.prompts)[0] for each in (context, plain)]
    assert relative_error(*gradients) < tolerance


def test_a_gemma_with_vision_may_come_as_a_pair(make_gemma: MakeGemma) -> None:
    folder = make_gemma(True, True)
    model = Gemma3ForConditionalGeneration.from_pretrained(folder)
    pair = trained(ReportConditioner((model, load_language_model(folder)[1]), standardise=False))
    opened = trained(ReportConditioner(folder, standardise=False))
    assert pair.llm_name == opened.llm_name == folder.name
    assert torch.equal(pair(REPORTS), opened(REPORTS))


@pytest.mark.parametrize("bos", [True, False])
def test_gemma_scales_tokens_but_not_prompts(make_gemma: MakeGemma, bos: bool) -> None:
    conditioner = trained(ReportConditioner(make_gemma(False, bos), standardise=False))
    read: list[Tensor] = []
    conditioner.llm.register_forward_pre_hook(
        lambda module, args, kwargs: read.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    raw: Any = conditioner.llm.embed_tokens.weight
    conditioner(REPORTS[:1])

    ids = conditioner.tokenizer(REPORTS[0]).input_ids
    assert (ids[0] == conditioner.tokenizer.bos_token_id) == bos
    tokens = raw[ids] * conditioner.context_dim**0.5
    for sequence, prompts in zip(read[0], conditioner.prompts, strict=True):
        expected = torch.cat([tokens[: int(bos)], prompts, tokens[int(bos) :]])
        torch.testing.assert_close(sequence, expected, atol=0, rtol=1e-6)


# --- gradients


def test_gradient_is_the_finite_difference(llama: tuple[Any, Any]) -> None:
    model = copy.deepcopy(llama[0]).double()
    conditioner = ReportConditioner((model, llama[1]), prompt_length=2, standardise=False).double()
    weights = torch.randn(3, 2, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def loss(prompts: Tensor) -> Tensor:
        return (torch.func.functional_call(conditioner, {"prompts": prompts}, (REPORTS,)) * weights).sum()

    start = conditioner.prompts.detach().clone().requires_grad_(True)
    assert torch.autograd.gradcheck(loss, (start,), fast_mode=True)


def test_only_the_prompts_learn(conditioner: ReportConditioner) -> None:
    conditioner.train()
    conditioner(REPORTS).square().sum().backward()
    assert conditioner.prompts.grad is not None and bool((conditioner.prompts.grad.abs().sum(-1) > 0).all())
    assert [name for name, _ in conditioner.named_parameters()] == ["prompts"]
    assert not conditioner.llm.training
    assert all(not weight.requires_grad and weight.grad is None for weight in conditioner.llm.parameters())


# --- memory


def test_each_report_is_computed_once(conditioner: ReportConditioner) -> None:
    spy = Spy(conditioner)
    first = conditioner.encode([*REPORTS, *REPORTS])
    with torch.no_grad():
        again = conditioner.to("cpu")(REPORTS[::-1])  # where it is already, as whatever runs it asks for
    spy.handle.remove()
    assert spy.sequences == 3 * 2
    assert torch.equal(first[:3], again.flip(0)) and torch.equal(first[:3], first[3:])


@pytest.mark.parametrize("change", ["optimiser", "state_dict", "data"])
def test_changed_prompts_are_noticed(conditioner: ReportConditioner, change: str) -> None:
    before = conditioner.encode(REPORTS)
    if change == "optimiser":
        conditioner(REPORTS).sum().backward()
        torch.optim.AdamW(conditioner.parameters(), lr=0.1).step()
    elif change == "state_dict":
        conditioner.load_state_dict({name: value + 1 for name, value in conditioner.state_dict().items()})
    else:
        conditioner.prompts.data += 1
    assert not torch.allclose(before, conditioner.encode(REPORTS))


def test_frozen_prompts_need_no_second_pass(conditioner: ReportConditioner) -> None:
    conditioner.requires_grad_(False)
    conditioner(REPORTS)
    spy = Spy(conditioner)
    assert not conditioner(REPORTS).requires_grad
    spy.handle.remove()
    assert spy.sequences == 0


# --- null context, scale


def test_null_context_does_not_depend_on_the_prompts(conditioner: ReportConditioner) -> None:
    null = conditioner.null_context(2)
    assert null.shape == (2, 2, 16) and bool(null.any())
    assert torch.equal(null, trained(conditioner).null_context(2))
    tokens = torch.tensor([conditioner.tokenizer(NULL_REPORT).input_ids])
    with torch.no_grad():
        torch.testing.assert_close(null[0, 0], conditioner.llm(input_ids=tokens).last_hidden_state[0, -1])


def test_without_soft_prompts_the_context_is_the_plain_report(llama: tuple[Any, Any], tmp_path: Path) -> None:
    model, tokenizer = llama
    plain = ReportConditioner(llama, num_prompt_sets=1, prompt_length=0, standardise=False)
    for report in REPORTS:
        with torch.no_grad():
            expected = model.model(input_ids=torch.tensor([tokenizer(report).input_ids])).last_hidden_state[:, -1:]
        torch.testing.assert_close(plain([report]), expected)
    spy = Spy(plain)
    plain(REPORTS)
    assert spy.sequences == 0, "nothing learns, so each report was read once"
    first, second = (ReportConditioner(llama, num_prompt_sets=1, prompt_length=0) for _ in range(2))
    first.fit_statistics(REPORTS)
    second.load_pretrained(first.save_pretrained(tmp_path / "prompts"))
    assert first.encode(REPORTS).shape == (3, 1, 16) and torch.equal(first.encode(REPORTS), second.encode(REPORTS))
    assert not bool(second.null_context(2).any()) and second.null_context(2).shape == (2, 1, 16)
    with pytest.raises(ConditionerError, match="num_virtual_tokens is 0, expected 8"):
        ReportConditioner(llama, num_prompt_sets=1).load_pretrained(tmp_path / "prompts")


def test_an_end_token_is_what_is_read_where_that_is_asked_for(llama: tuple[Any, Any]) -> None:
    model, tokenizer = llama
    plain = ReportConditioner(llama, num_prompt_sets=1, prompt_length=0, standardise=False, end_token=True)
    for text, context in ((REPORTS[1], plain(REPORTS[:2])[1:]), (NULL_REPORT, plain.null_context(1))):
        ids = torch.tensor([[*tokenizer(text).input_ids, tokenizer.eos_token_id]])
        with torch.no_grad():
            expected = model.model(inputs_embeds=model.get_input_embeddings()(ids)).last_hidden_state[:, -1:]
        torch.testing.assert_close(context, expected)
    silent = copy.deepcopy(tokenizer)
    silent.eos_token = None
    with pytest.raises(ConditionerError, match="end_token: the tokenizer of 'LlamaForCausalLM' has none"):
        ReportConditioner((model, silent), end_token=True)


# --- saved and loaded


def test_round_trip_through_a_folder(llama: tuple[Any, Any], tmp_path: Path) -> None:
    first, second = trained(ReportConditioner(llama)), ReportConditioner(llama, seed=1)
    first.fit_statistics(REPORTS)
    folder = first.save_pretrained(tmp_path / "deep" / "prompts")
    assert first.save_pretrained(folder) == folder, "an older folder is replaced"
    second.load_pretrained(folder)
    assert torch.equal(first.encode(REPORTS), second.encode(REPORTS))
    assert list(load_file(folder / "set_1" / "adapter_model.safetensors")) == ["prompt_embeddings"]
    assert [path.name for path in folder.parent.iterdir()] == ["prompts"], "nothing temporary stays"


def test_round_trip_through_a_state_dict(llama: tuple[Any, Any], tmp_path: Path) -> None:
    first, second = trained(ReportConditioner(llama)), ReportConditioner(llama, seed=1)
    first.fit_statistics(REPORTS)
    torch.save(first.state_dict(), tmp_path / "checkpoint.pt")
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert sorted(state) == ["normaliser.directions", "normaliser.mean", "normaliser.std", "prompts"]
    second.load_state_dict(state)
    assert torch.equal(first.encode(REPORTS), second.encode(REPORTS))


def test_prompts_of_another_model_are_refused(
    conditioner: ReportConditioner, gemma_folder: Path, tmp_path: Path
) -> None:
    folder = conditioner.save_pretrained(tmp_path / "prompts")
    other = ReportConditioner(gemma_folder, prompt_length=4)
    with pytest.raises(ConditionerError) as error:
        other.load_pretrained(folder)
    for part in ("base_model_name_or_path is 'LlamaForCausalLM', expected 'tiny-gemma'", "is 3, expected 4"):
        assert part in str(error.value)
    with pytest.raises(ConditionerError, match="holds 2 prompt sets, expected 3"):
        ReportConditioner(gemma_folder, num_prompt_sets=3).load_pretrained(folder)
    with pytest.raises(ConditionerError, match="holds 0 prompt sets"):
        other.load_pretrained(tmp_path / "absent")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("set_0/adapter_config.json", "{"),
        ("set_1/adapter_model.safetensors", "damaged"),
        ("context_statistics.safetensors", ""),
    ],
)
def test_damaged_files_are_named(conditioner: ReportConditioner, tmp_path: Path, file: str, content: str) -> None:
    folder = conditioner.save_pretrained(tmp_path / "prompts")
    before = conditioner.prompts.detach().clone()
    (folder / file).write_text(content)
    with pytest.raises(ConditionerError, match=Path(file).name):
        conditioner.load_pretrained(folder)
    assert torch.equal(conditioner.prompts, before)


def test_another_kind_of_adapter_is_refused(conditioner: ReportConditioner, tmp_path: Path) -> None:
    path = conditioner.save_pretrained(tmp_path / "prompts") / "set_0" / "adapter_config.json"
    path.write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(ConditionerError, match="peft_type is 'LORA', expected 'PROMPT_TUNING'"):
        conditioner.load_pretrained(path.parent.parent)


# --- dtypes and absences


def test_seed_decides_the_prompts(llama: tuple[Any, Any]) -> None:
    first, again, other = (ReportConditioner(llama, seed=seed).prompts for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert ReportConditioner(llama, prompt_length=500).prompts.std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("dtype", ["float16", torch.float16])
def test_float16_is_refused(gemma_folder: Path, dtype: Any) -> None:
    with pytest.raises(ConditionerError, match="bfloat16"):
        ReportConditioner(gemma_folder, dtype=dtype)


def test_bfloat16(gemma_folder: Path) -> None:
    conditioner = ReportConditioner(gemma_folder, dtype="bfloat16", standardise=False)
    assert conditioner.llm.dtype == torch.bfloat16 and conditioner.prompts.dtype == torch.float32
    context = conditioner(REPORTS)
    assert context.dtype == torch.float32 and bool(context.isfinite().all())
    context.sum().backward()
    assert conditioner.prompts.grad is not None and conditioner.prompts.grad.dtype == torch.float32
    assert conditioner.double().llm.dtype == torch.bfloat16, "only the device follows"
