"""What the tests of the conditioner share: reports, and its context computed with transformers alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from gguf import MODEL_ARCH, GGUFWriter, TokenType, get_tensor_name_map
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


VOCABULARY = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", "CT", "mm"]
"""Of a tiny tokenizer like Gemma's; what is not in it is spelled in bytes."""


def write_gguf(model: Any, path: Path, lacking: str = "none", scaling: float | None = None) -> Path:
    """A Gemma 3 text model as llama.cpp's converter writes it, in float32.

    Args:
        lacking: a tensor that is left out, by its name there.
        scaling: of the positions, as the larger ones of Gemma 3 have it.
    """
    config = model.config
    writer = GGUFWriter(path, "gemma3")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(1e6)
    writer.add_sliding_window(config.sliding_window)
    if scaling is not None:
        writer.add_float32("gemma3.rope.scaling.factor", scaling)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(VOCABULARY)
    writer.add_token_scores([float(-index) for index in range(len(VOCABULARY))])
    kinds = [TokenType.CONTROL] * 4 + [TokenType.BYTE] * 256
    writer.add_token_types(kinds + [TokenType.NORMAL] * (len(VOCABULARY) - len(kinds)))
    for kind, index in (("pad", 0), ("eos", 1), ("bos", 2), ("unk", 3)):
        getattr(writer, f"add_{kind}_token_id")(index)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    names = get_tensor_name_map(MODEL_ARCH.GEMMA3, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        theirs = names.get_name(f"model.{name}", try_suffixes=(".weight",))
        if theirs != lacking:
            writer.add_tensor(theirs, (tensor + name.endswith("norm.weight")).numpy())  # norms are 1 larger there
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
