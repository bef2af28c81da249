"""What the tests of the conditioner share."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from scripts.conditioning.conditioner import ReportConditioner


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
