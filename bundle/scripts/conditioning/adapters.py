"""LoRA in the language model, and the folders in peft's format that prompts and LoRA are saved in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from scripts.conditioning.language_models import ConditionerError
from scripts.files import read_mapping, write_tensors

if TYPE_CHECKING:  # peft takes seconds to import and is needed to train and to save, not to read prompts
    from peft import PeftConfig, PeftModel

LORA_SETTINGS = (
    *("peft_type", "base_model_name_or_path"),
    *("r", "lora_alpha", "target_modules", "exclude_modules", "layers_to_transform", "rank_pattern"),
    *("alpha_pattern", "use_rslora", "use_dora", "bias", "modules_to_save"),
)
"""peft's settings that must be equal in training and use of LoRA."""


def prompt_settings(decoder: Any, llm_name: str, prompt_length: int) -> dict[str, Any]:
    """What decides whether a saved prompt set is of this language model and length."""
    sizes = {"num_virtual_tokens": prompt_length, "token_dim": decoder.config.hidden_size}
    return {"peft_type": "PROMPT_TUNING", "base_model_name_or_path": llm_name, **sizes}


def save_prompts(folder: Path, decoder: Any, llm_name: str, prompts: Tensor) -> None:
    """Writes one prompt set (prompt_length, hidden) to a folder that ``peft.PeftModel.from_pretrained`` opens."""
    from peft import PromptTuningConfig, TaskType

    settings = prompt_settings(decoder, llm_name, len(prompts))
    config = PromptTuningConfig(
        **{key: value for key, value in settings.items() if key != "peft_type"},
        task_type=TaskType.CAUSAL_LM,
        num_transformer_submodules=1,
        num_attention_heads=decoder.config.num_attention_heads,
        num_layers=decoder.config.num_hidden_layers,
        inference_mode=True,
    )
    _write_adapter(folder, config, {"prompt_embeddings": prompts})


def add_lora(decoder: Any, settings: Mapping[str, Any], llm_name: str, seed: int) -> PeftModel:
    """Puts low-rank adapters (Hu et al. 2021, LoRA) into ``decoder``, in place; only they are trainable afterwards.

    Args:
        settings: arguments of ``peft.LoraConfig``; without ``target_modules``, peft chooses by the kind of model.
        llm_name: the language model's name, stored with the adapters.
        seed: of the initial values: A is random and B zero, so the decoder's output is unchanged at first.

    Raises:
        ConditionerError: settings that peft does not know or that do not fit the model.
    """
    from peft import LoraConfig, get_peft_model

    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            adapted: Any = get_peft_model(decoder, LoraConfig(**settings))
    except (TypeError, ValueError) as error:
        raise ConditionerError(
            f"lora={dict(settings)!r} does not fit language model {llm_name!r}. Give arguments of peft.LoraConfig, "
            f"such as {{'r': 8, 'lora_alpha': 16, 'target_modules': 'all-linear'}}. peft said: {error}"
        ) from error
    adapted.peft_config["default"].base_model_name_or_path = llm_name  # rather than a path of this machine
    return adapted


def save_lora(adapted: PeftModel, folder: Path) -> None:
    """Writes LoRA's weights to a folder that ``peft.PeftModel.from_pretrained`` opens."""
    _write_adapter(folder, adapted.peft_config["default"], _lora_tensors(adapted))


@torch.no_grad()
def load_lora(adapted: PeftModel, folder: Path) -> None:
    """Loads the weights that :func:`save_lora` wrote into ``adapted``.

    Raises:
        ConditionerError: the files are missing or damaged, or of another language model or other settings.
    """
    ours = _lora_tensors(adapted)
    config = json.loads(json.dumps(adapted.peft_config["default"].to_dict(), default=sorted))  # sets become lists
    saved = read_adapter(folder, {key: config[key] for key in LORA_SETTINGS}, *ours)
    for name, tensor in ours.items():
        tensor.copy_(saved[name])


def _lora_tensors(adapted: PeftModel) -> dict[str, Tensor]:
    """LoRA's weights by peft's names; without embeddings, for whose size peft would ask the Hugging Face hub."""
    from peft.utils import get_peft_model_state_dict

    return get_peft_model_state_dict(adapted, save_embedding_layers=False)


def _write_adapter(folder: Path, config: PeftConfig, tensors: Mapping[str, Tensor]) -> None:
    """Writes one adapter in peft's format: ``adapter_config.json`` and ``adapter_model.safetensors``."""
    config.save_pretrained(str(folder))
    write_tensors(folder / "adapter_model.safetensors", tensors)


def read_adapter(folder: Path, settings: Mapping[str, Any], *names: str) -> dict[str, Tensor]:
    """The named tensors of one adapter, on the CPU, after a check that it was saved with these settings.

    Raises:
        ConditionerError: the files are missing or damaged, or the adapter differs in one of the settings.
    """
    path = folder / "adapter_config.json"
    saved = read_mapping(path, ConditionerError)
    pairs = {key: (_sorted(saved.get(key)), _sorted(value)) for key, value in settings.items()}
    if faults := [f"{key} is {is_!r}, expected {ought!r}" for key, (is_, ought) in pairs.items() if is_ != ought]:
        raise ConditionerError(
            f"{path}: {'; '.join(faults)}. Adapters work only with the language model and the settings they were "
            "trained with: change llm, prompt_length or lora, or train again."
        )
    return read_tensors(folder / "adapter_model.safetensors", *names)


def _sorted(value: Any) -> Any:
    return sorted(value) if isinstance(value, list) else value


def read_tensors(path: Path, *names: str) -> dict[str, Tensor]:
    """The named tensors of a safetensors file, on the CPU.

    Raises:
        ConditionerError: the file is missing, damaged or without one of them.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConditionerError(f"{path}: not readable ({error}). Copy or train it again.") from error
    if missing := set(names) - tensors.keys():
        raise ConditionerError(f"{path}: lacks {', '.join(sorted(missing))}. Copy or train it again.")
    return tensors
