"""The null context without the language model is that of the conditioner with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.conditioning import language_models
from scripts.conditioning.conditioner import ReportConditioner
from scripts.conditioning.language_models import EMBEDDED_WIDTH, ConditionerError, hidden_size
from scripts.conditioning.null import null_conditioner


@pytest.mark.parametrize("standardise", [True, False])
def test_it_is_the_conditioners(gemma_folder: Path, standardise: bool) -> None:
    arguments: dict[str, Any] = {"llm": str(gemma_folder), "num_prompt_sets": 3, "standardise": standardise}
    ours, whole = null_conditioner(**arguments), ReportConditioner(**arguments)
    assert ours.context_dim == whole.context_dim
    assert torch.equal(ours.null_context(2), whole.null_context(2))
    assert not ours.state_dict() and not list(ours.parameters())


def test_a_standardised_one_opens_no_language_model(gemma_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language_models, "_load_local", lambda *_: pytest.fail("the weights were opened"))
    assert null_conditioner(llm=str(gemma_folder)).null_context(4).shape == (4, 2, 16)


def test_sizes_are_the_models(embedded_llm: tuple[Any, Any], gemma_folder: Path) -> None:
    assert EMBEDDED_WIDTH == hidden_size("embedded") == hidden_size(embedded_llm) == embedded_llm[0].config.hidden_size
    assert hidden_size(str(gemma_folder)) == 16


def test_what_is_wrong_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConditionerError, match="cannot be read"):
        null_conditioner(llm=str(tmp_path))
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        null_conditioner(lllm="embedded")
