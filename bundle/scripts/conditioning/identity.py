"""Which language model it is: its name, and a digest of its weights, from its files alone."""

from __future__ import annotations

import contextlib
import hashlib
import time
from pathlib import Path

from huggingface_hub.constants import HF_HOME

from scripts.conditioning.language_models import EMBEDDED_NAME, LanguageModel, _folder
from scripts.files import write_text
from scripts.fingerprint import WEIGHTS, digest_weights

DIGESTS = Path(HF_HOME) / "namd" / "digests"
"""Where digests of language models are kept, since reading gigabytes takes long."""


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
    return {"name": Path(llm).name.removesuffix(".gguf"), "digest": _remembered_digest(Path(_folder(str(llm))))}


def _remembered_digest(path: Path) -> str:
    """The digest of a folder; kept until one of its files is written, moved or replaced."""
    files = sorted(each for each in path.rglob("*") if each.suffix in WEIGHTS)
    states = [(str(file), file.stat()) for file in files]
    text = "\n".join(f"{name} {s.st_dev} {s.st_ino} {s.st_size} {s.st_mtime_ns} {s.st_ctime_ns}" for name, s in states)
    kept = DIGESTS / hashlib.sha256(text.encode()).hexdigest()
    if kept.is_file():
        return kept.read_text(encoding="ascii")
    digest = digest_weights(path)
    # A file that was written just now could be written again within the clock's resolution.
    if all(time.time() - state.st_ctime > 2 for _, state in states):
        with contextlib.suppress(OSError):  # a home that is read-only
            write_text(kept, digest)
    return digest
