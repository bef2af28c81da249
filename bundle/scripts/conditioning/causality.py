"""The check that a language model is a causal decoder: the state at a token does not depend on the tokens behind it."""

from __future__ import annotations

import math
from typing import Any

import torch

from scripts.conditioning.language_models import ConditionerError


@torch.no_grad()
def causal_decoder(model: Any, name: str) -> Any:
    """The decoder of a language model, that is the model without its head, once two short texts show that it is causal.

    An encoder such as BERT reads in both directions, so padding, and with it a batch's longest report, would change the
    contexts of all others.

    Args:
        model: of transformers.
        name: for messages.

    Raises:
        ConditionerError: the model has an encoder, or states at the texts' common beginning differ.
    """
    remedy = "Give a decoder-only model such as google/medgemma-1.5-4b-it, or use llm='embedded'."
    if model.config.is_encoder_decoder:
        raise ConditionerError(f"Language model {name!r} is no causal decoder alone, but has an encoder. {remedy}")
    decoder = model.get_decoder().eval()
    embeddings = decoder.get_input_embeddings()
    tokens = torch.arange(1, 17, device=next(decoder.parameters()).device).repeat(2, 1) % embeddings.num_embeddings
    same = 4
    tokens[1, same:] = tokens[0, same:].flip(0)
    states = decoder(inputs_embeds=embeddings(tokens), use_cache=False).last_hidden_state.float()
    first, second = states[:, :same]
    change = float((first - second).abs().mean() / first.abs().mean())
    if change > math.sqrt(torch.finfo(decoder.dtype).eps):  # far above what rounding does
        raise ConditionerError(
            f"Language model {name!r} is no causal decoder: the tokens behind a word change its state, by {change:.0%} "
            f"here, so a report's context would depend on its batch. {remedy}"
        )
    return decoder
