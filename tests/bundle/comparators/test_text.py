"""The plain text encoder: CLIP's last hidden states, padded and not masked; other models' likewise."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoTokenizer, CLIPConfig, CLIPModel, CLIPTextModel

from scripts.comparators.text import TextEncoder
from scripts.conditioning.language_models import ConditionerError

REPORTS = ["62-year-old man. Longest diameter 12 mm.", "", "Follow-up after 12 months."]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random CLIP with both its halves, as openai/clip-vit-large-patch14 has them, and its kind of tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("models") / "tiny-clip"
    symbols = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<|startoftext|>", "<|endoftext|>"]
    reader = Tokenizer(models.BPE({symbol: index for index, symbol in enumerate(symbols)}, []))
    reader.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    ends = [(symbol, symbols.index(symbol)) for symbol in symbols[-2:]]
    reader.post_processor = processors.TemplateProcessing(single=f"{symbols[-2]} $A {symbols[-1]}", special_tokens=ends)
    ends_by_name = {"bos_token": symbols[-2], "eos_token": symbols[-1], "pad_token": symbols[-1]}
    PreTrainedTokenizerFast(tokenizer_object=reader, **ends_by_name).save_pretrained(folder)
    tiny: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    text = {**tiny, "num_attention_heads": 2, "vocab_size": len(symbols), "initializer_range": 0.3}
    text |= {"eos_token_id": len(symbols) - 1, "bos_token_id": len(symbols) - 2, "pad_token_id": len(symbols) - 1}
    vision = {**tiny, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(folder)
    return folder


@torch.no_grad()
def test_the_context_is_clips_last_hidden_states(clip: Path) -> None:
    """As NAMD's FrozenCLIPEmbedder takes them: padded to 77 with the end token, and without a mask."""
    encoder = TextEncoder(str(clip))
    context = encoder(REPORTS)
    assert context.shape == (3, 77, 16) and encoder.context_dim == 16 and encoder.max_tokens == 77
    tokenizer, model = AutoTokenizer.from_pretrained(clip), AutoModel.from_pretrained(clip).text_model.eval()
    tokens = tokenizer(REPORTS, truncation=True, max_length=77, padding="max_length", return_tensors="pt")["input_ids"]
    torch.testing.assert_close(context, model(input_ids=tokens).last_hidden_state)
    assert tokens.shape == (3, 77) and torch.equal(encoder.null_context(2), context[1:2].expand(2, -1, -1))


def test_it_has_no_prompts_and_nothing_that_is_trained(clip: Path) -> None:
    encoder = TextEncoder(str(clip))
    assert not list(encoder.parameters()) and not encoder.state_dict()
    assert not any(weight.requires_grad for weight in encoder.llm.parameters())
    assert isinstance(encoder.llm, CLIPTextModel) and not encoder.llm.training


def test_a_pair_and_another_model_are_read_alike(clip: Path, tiny_llm: Path) -> None:
    pair = (CLIPTextModel.from_pretrained(clip), AutoTokenizer.from_pretrained(clip))
    torch.testing.assert_close(TextEncoder(pair)(REPORTS), TextEncoder(str(clip))(REPORTS))
    encoder = TextEncoder(str(tiny_llm), max_tokens=40)
    whole, alone = encoder(REPORTS), [TextEncoder(str(tiny_llm), 40)([report]) for report in REPORTS]
    torch.testing.assert_close(whole, torch.cat(alone))
    longer = TextEncoder(str(tiny_llm), max_tokens=60)(REPORTS)
    torch.testing.assert_close(longer[:, :40], whole)  # padding changes nothing before it


def test_a_reports_states_do_not_depend_on_what_is_read_with_it(tiny_llm: Path) -> None:
    """To the bit, as a resumed training needs them: each report goes through the language model by itself."""
    encoder, rows = TextEncoder(str(tiny_llm), max_tokens=40), []
    encoder.llm.register_forward_pre_hook(lambda _, args, named: rows.append(len(named["input_ids"])), with_kwargs=True)
    whole = encoder([*REPORTS, REPORTS[0]])
    assert rows == [1, 1, 1], "each distinct report once"
    resumed = TextEncoder(str(tiny_llm), max_tokens=40)
    assert torch.equal(resumed(REPORTS[2:]), whole[2:3]) and torch.equal(resumed(REPORTS), whole[:3])


def test_what_is_not_read_of_a_long_report_is_said(clip: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        TextEncoder(str(clip))(["word " * 40])
    assert "has 202 tokens; tiny-clip reads 77" in caplog.text


def test_another_language_model_than_in_training_is_refused(clip: Path, tiny_llm: Path) -> None:
    config = TextEncoder(str(tiny_llm), 40).config
    assert config == {"llm": str(tiny_llm), "max_tokens": 40, "name": "tiny-llama"}
    with pytest.raises(ConditionerError, match="Trained with the language model 'tiny-llama', not 'tiny-clip'"):
        TextEncoder(**{**config, "llm": str(clip)})
    with pytest.raises(ConditionerError, match="neither a folder here nor an id"):
        TextEncoder("no such model")
