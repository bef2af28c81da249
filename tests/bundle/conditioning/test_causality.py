"""A language model that reads in both directions is refused when it is opened; causal ones are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModel,
    BertConfig,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    T5Config,
)

from scripts.conditioning.causality import causal_decoder
from scripts.conditioning.conditioner import ReportConditioner
from scripts.conditioning.language_models import ConditionerError

SMALL: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
GEMMA: dict[str, Any] = {**SMALL, "num_key_value_heads": 1, "head_dim": 8}
CAUSAL: dict[str, Callable[[], Any]] = {
    "Llama": lambda: LlamaConfig(**SMALL),
    "GPT-2": lambda: GPT2Config(vocab_size=64, n_embd=16, n_layer=2, n_head=2),
    "Gemma 3": lambda: Gemma3TextConfig(**GEMMA, layer_types=["sliding_attention", "full_attention"]),
    "Mamba": lambda: MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=2),
}
OTHERS: dict[str, Callable[[], Any]] = {
    "BERT": lambda: BertConfig(**SMALL),
    "EmbeddingGemma": lambda: Gemma3TextConfig(**GEMMA, use_bidirectional_attention=True),
    "T5": lambda: T5Config(vocab_size=64, d_model=16, d_ff=32, d_kv=8, num_layers=2, num_heads=2),
}


def made(config: Any, dtype: torch.dtype = torch.float32) -> Any:
    """A model at its usual initial values."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModel.from_config(config).to(dtype).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CAUSAL)
def test_causal_models_are_taken(name: str, dtype: torch.dtype) -> None:
    model = made(CAUSAL[name](), dtype)
    assert causal_decoder(model, name) is model.get_decoder()


@pytest.mark.parametrize("name", OTHERS)
def test_models_that_look_ahead_are_refused_by_name(name: str) -> None:
    with pytest.raises(ConditionerError, match=f"^Language model '{name}' .* decoder.*llm='embedded'") as error:
        causal_decoder(made(OTHERS[name]()), name)
    assert "\n" not in str(error.value)


def test_the_embedded_model_is_taken(embedded_llm: tuple[Any, Any]) -> None:
    assert causal_decoder(embedded_llm[0], "embedded") is embedded_llm[0].get_decoder()


def test_it_is_refused_when_it_is_opened(tokenizer: Any, tmp_path: Path) -> None:
    """As a folder, by its name; before prompts are made or reports read."""
    folder = tmp_path / "tiny-bert"
    made(BertConfig(**SMALL | {"vocab_size": len(tokenizer)})).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    with pytest.raises(ConditionerError, match="'tiny-bert' is no causal decoder"):
        ReportConditioner(str(folder))
