"""A plain text encoder: all states of a frozen language model at a report's tokens, without prompts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoTokenizer, CLIPTextModel

from scripts.conditioning.causality import causal_decoder
from scripts.conditioning.language_models import ConditionerError, LanguageModel, load_language_model, model_folder
from scripts.conditioning.settings import language_model_place

logger = logging.getLogger(__name__)

CLIP = ("clip", "clip_text_model")
"""Kinds of models, by their configuration, whose text encoder is CLIP's."""

MAX_TOKENS = 96
"""Of any other language model; the longest whole record has 78 with the embedded one's tokenizer."""


class TextEncoder(nn.Module):
    """Encodes reports as Stable Diffusion 1.5 encodes prompts (Rombach et al. 2022).

    The context is the last hidden states of a frozen language model at all tokens. Texts are padded to ``max_tokens``
    with the tokenizer's padding token, and the padding is read like any other token, unmasked (NAMD
    ``encoders/modules.py``). The language model is causal, so that a report's states do not depend on its padding.

    Nothing is trained, and the state dict is empty: the language model is opened from where it lies.

    Args:
        llm: ``embedded``, or any other of :class:`scripts.conditioning.ReportConditioner`; CLIP too, such as
            ``openai/clip-vit-large-patch14``, of which the text encoder is taken. Nothing is downloaded.
        max_tokens: tokens of a context; None: 77 of CLIP, all that it has positions for, else :data:`MAX_TOKENS`. What
            of a report is longer is not read, and a warning says so.
        name: the language model's name when the weights were trained, which it must still have.

    Raises:
        ConditionerError: the model is not found, is no causal one, or is another one.

    Attributes:
        context_dim: D, the size of a state.
    """

    llm: Any

    place: Tensor

    def __init__(self, llm: LanguageModel = "embedded", max_tokens: int | None = None, name: str | None = None) -> None:
        super().__init__()
        model, self.tokenizer, self.name = load_text_encoder(llm)
        if name not in (None, self.name):
            raise ConditionerError(f"Trained with the language model {name!r}, not {self.name!r}. Give that one.")
        positions = getattr(model.config, "max_position_embeddings", MAX_TOKENS)
        self.max_tokens = min(MAX_TOKENS if max_tokens is None else max_tokens, positions)
        object.__setattr__(self, "llm", model.eval().requires_grad_(False))  # neither saved nor trained
        self.context_dim = int(model.config.hidden_size)
        self.config = {"llm": language_model_place(llm), "max_tokens": self.max_tokens, "name": self.name}
        self.register_buffer("place", torch.empty(0), persistent=False)  # says where the module is
        self._known: dict[str, Tensor] = {}

    @torch.no_grad()
    def forward(self, reports: Sequence[str]) -> Tensor:
        """The context (B, L, D) of B reports in float32; each distinct report is read once.

        It is read by itself, since of several at once the rounding would depend on which these are, and a resumed
        training would not end with the same weights.
        """
        for report in sorted(set(reports) - self._known.keys()):
            tokens = torch.tensor([self._tokens(report)], device=self.place.device)
            self._known[report] = self.llm(input_ids=tokens, return_dict=True).last_hidden_state[0].float()
        return torch.stack([self._known[report] for report in reports])

    def null_context(self, batch_size: int) -> Tensor:
        """The context of an empty text (B, L, D), as Stable Diffusion's for guidance."""
        return self([""]).expand(batch_size, -1, -1)

    def _tokens(self, report: str) -> list[int]:
        """``max_tokens`` numbers."""
        whole = self.tokenizer(report).input_ids
        if len(whole) > self.max_tokens:
            logger.warning(f"A report has {len(whole)} tokens; {self.name} reads {self.max_tokens} of them")
            whole = self.tokenizer(report, truncation=True, max_length=self.max_tokens).input_ids
        ids = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, 0)
        return [*whole, *[next(each for each in ids if each is not None)] * (self.max_tokens - len(whole))]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> TextEncoder:
        super()._apply(fn, recurse)
        self.llm.to(self.place.device)
        self._known = {report: states.to(self.place.device) for report, states in self._known.items()}
        return self


def load_text_encoder(llm: LanguageModel) -> tuple[Any, Any, str]:
    """A model that gives states of tokens, its tokenizer and its name; of CLIP its text encoder.

    Raises:
        ConditionerError: see :class:`TextEncoder`.
    """
    if isinstance(llm, tuple) and llm[0].config.model_type in CLIP:
        model, tokenizer = llm
        return model, tokenizer, model.config.name_or_path or type(model).__name__
    if not isinstance(llm, tuple) and llm != "embedded":
        folder = model_folder(str(llm))
        try:
            if AutoConfig.from_pretrained(folder, local_files_only=True).model_type in CLIP:
                tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
                model = CLIPTextModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
                return model, tokenizer, str(llm).rstrip("/").rpartition("/")[2]
        except (OSError, ValueError) as error:
            raise ConditionerError(f"Language model {str(llm)!r} cannot be read from {folder}: {error}") from error
    model, tokenizer, name = load_language_model(llm)
    return causal_decoder(model, name), tokenizer, name
