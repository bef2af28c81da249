"""What the tests of the conditioner share: reports, and its context computed with transformers alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModel, AutoTokenizer

from scripts.conditioning.conditioner import ReportConditioner

REPORTS = [
    "62-year-old man with emphysema. Longest diameter 12 mm.",
    "Woman. CT shows a nodule.",
    "CT shows a nodule of ground glass attenuation with smooth margins in the lingula. Perpendicular diameter 4 mm.",
]


class MakeGemma(Protocol):
    def __call__(self, vision: bool, bos: bool) -> Path: ...


class Spy:
    """Counts the sequences that a language model reads."""

    def __init__(self, conditioner: ReportConditioner) -> None:
        self.sequences = 0
        self.handle = conditioner.llm.register_forward_pre_hook(self.count, with_kwargs=True)

    def count(self, module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        self.sequences += len(kwargs["inputs_embeds"])


def trained(conditioner: ReportConditioner) -> ReportConditioner:
    """With prompts that are no longer the initial ones."""
    with torch.no_grad():
        conditioner.prompts.add_(torch.randn(conditioner.prompts.shape, generator=torch.Generator().manual_seed(7)))
    return conditioner


def plain_context(
    llm: Path | tuple[Any, Any], prompts: Tensor, reports: Sequence[str], bos: bool, side: str, dtype: str = "float32"
) -> Tensor:
    """The context (B, M, D) of prompts (M, N, D): padded batches with mask and positions, one prompt set at a time.

    Args:
        llm: a model's folder, or a decoder or something around it that is called like one, and a tokenizer.
        bos: whether the tokenizer begins with a beginning-of-sequence token, which prompts follow.
        side: of the padding; it holds large numbers, which the mask must hide.
    """
    if isinstance(llm, Path):
        llm = AutoModel.from_pretrained(llm, dtype=dtype).get_decoder(), AutoTokenizer.from_pretrained(llm)
    decoder, tokenizer = llm
    contexts = []
    for vectors in prompts:
        rows = []
        for report in reports:
            tokens = decoder.get_input_embeddings()(tokenizer(report, return_tensors="pt").input_ids[0])
            rows.append(torch.cat([tokens[: int(bos)], vectors.to(tokens.dtype), tokens[int(bos) :]]))
        sequence = pad_sequence(rows, batch_first=True, padding_value=7.0, padding_side=side)
        ones = [torch.ones(len(row), dtype=torch.long) for row in rows]
        mask = pad_sequence(ones, batch_first=True, padding_side=side)
        positions = (mask.cumsum(1) - 1).clamp_min(0)
        states = decoder(inputs_embeds=sequence, attention_mask=mask, position_ids=positions).last_hidden_state
        last = mask.shape[1] - 1 if side == "left" else mask.sum(1) - 1
        contexts.append(states[torch.arange(len(rows)), last].float())
    return torch.stack(contexts, dim=1)


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """The largest of |ours - theirs| / |theirs| over the vectors."""
    return ((ours - theirs).norm(dim=-1) / theirs.norm(dim=-1)).max().item()
