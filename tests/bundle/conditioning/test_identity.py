"""A language model is known again by its weights, wherever it lies."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from scripts.conditioning import identity
from scripts.conditioning.identity import language_model_identity
from scripts.conditioning.language_models import EMBEDDED_NAME, ConditionerError, load_language_model


@pytest.fixture
def copy(tiny_llm: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_llm, tmp_path / "renamed"))


def test_a_copy_under_another_name_is_the_same_model(tiny_llm: Path, copy: Path) -> None:
    first, second = language_model_identity(str(tiny_llm)), language_model_identity(copy)
    assert first["digest"] == second["digest"] and (first["name"], second["name"]) == (tiny_llm.name, "renamed")


def test_a_gguf_file_is_the_model_that_is_unpacked_of_it(tiny_gguf: tuple[Any, Path], tmp_path: Path) -> None:
    model, tokenizer, name = load_language_model(tiny_gguf[1])
    model.save_pretrained(tmp_path / name)
    tokenizer.save_pretrained(tmp_path / name)
    places = (tiny_gguf[1], tiny_gguf[1].parent, tmp_path / name)
    assert len({language_model_identity(place)["digest"] for place in places}) == 1
    assert language_model_identity(tiny_gguf[1])["name"] == name


def test_other_weights_under_the_same_name_are_another_model(tiny_llm: Path, copy: Path) -> None:
    path = copy / "model.safetensors"
    weights = load_file(path)
    name = next(iter(weights))
    save_file(weights | {name: weights[name] + 1e-3}, path, metadata={"format": "pt"})
    folder = copy.rename(copy.with_name(tiny_llm.name))
    first, second = language_model_identity(tiny_llm), language_model_identity(folder)
    assert first["name"] == second["name"] and first["digest"] != second["digest"]


def test_embedded_and_open_models_need_no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "digest_weights", None)
    assert language_model_identity("embedded") == {"name": EMBEDDED_NAME, "digest": EMBEDDED_NAME}
    pair: Any = (SimpleNamespace(config=SimpleNamespace(name_or_path="somewhere/else")), None)
    assert language_model_identity(pair) == {"name": "else", "digest": None}
    with pytest.raises(ConditionerError, match="neither a folder here nor an id"):
        language_model_identity("no-such-model")
