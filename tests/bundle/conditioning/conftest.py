"""What the tests of the conditioner share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Gemma3TextConfig, Gemma3TextModel, LlamaConfig, LlamaForCausalLM

from scripts.conditioning.conditioner import ReportConditioner
from tests.bundle.conditioning.helpers import VOCABULARY, write_gguf


@pytest.fixture(scope="session")
def llama(tokenizer: Any) -> tuple[Any, Any]:
    """A tiny random language model; large weights, so that its output depends visibly on its input."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).eval(), tokenizer


@pytest.fixture
def conditioner(llama: tuple[Any, Any]) -> ReportConditioner:
    return ReportConditioner(llama, prompt_length=3, standardise=False)


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Path]]:
    """A tiny random Gemma 3, its last layer without a window, and its GGUF file, alone in a folder."""
    config = Gemma3TextConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=6,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        sliding_window=8,
        initializer_range=0.3,
    )
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = Gemma3TextModel(config).eval()
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.copy_(torch.randint_like(parameter, -4, 5) / 16)  # so that 1 can be added without rounding
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        patch.setattr("scripts.conditioning.language_models.GGUF_HOME", home)
        yield model, write_gguf(model, tmp_path_factory.mktemp("gguf") / "tiny.Q8_0.gguf")
