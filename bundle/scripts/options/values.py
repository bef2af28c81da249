"""Values that YAML or the command line bends: numbers and truth values that are text, text that is a number."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Sequence
from typing import Any

from scripts.options.configuration import is_reference

NOTHING, NUMBERS = "null in a file, or the option left out", "a finite number"
WORDS = {"true": "True", "false": "False", "null": NOTHING, "none": NOTHING, "nan": NUMBERS, "inf": NUMBERS}
"""Text that stands for a value of another kind, and what is written for it."""

NUMBER = re.compile(r"[-+]?(\d[\d_]*\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)
"""Text that is a number for people; YAML 1.1 reads ``1e-4``, which has no point, as text."""

KINDS: dict[type, tuple[str, tuple[type, ...]]] = {
    bool: ("True or False", (bool,)),  # before int, which it is one of
    int: ("a whole number", (int,)),
    float: ("a number", (float, int)),
    str: ("text", (str,)),
    list: ("a list", (list, tuple)),
    dict: ("a map", (dict,)),
}
"""Of a default: what is expected in its place, in words and as types."""

TRUTHS = {"true": True, "false": False}
"""Text that stands for a truth value where one is expected; :func:`read_truths` puts that in its place."""

IN_PLACE_OF_NULL: dict[str, Any] = {
    **{"image_size": 64, "guidance_scale": 3.0, "limit": 8, "publish_epoch": 100, "deterministic": True},
    **{
        "image": "crop.nii.gz",
        "ehr": "ehr.json",
        "source": "sd15",
        "size_predictions_dir": "runs/size",
        "pretrained": "sd15.safetensors",
    },
    **{"unaligned": "no_alignment.safetensors", "lpips_weights": "alexnet.pth", "fid_weights": "inception.pth"},
    **{"compile_mode": "default", "intervals": [182, 365, 730]},
}
"""Of options that are null by default, an example of what they may be."""

REREAD = re.compile(r"[-+]?0[0-9_]+|.*:.*")
"""Numbers that YAML 1.1 reads as others: ``010`` is 8, and ``1:30`` is 90."""


def wrong_value(value: Any, default: Any = None) -> tuple[Any, str] | None:
    """The part of a value that cannot be meant, and what was expected in its place; None where all is right.

    Args:
        value: of an option.
        default: the configuration's own value, whose kind is expected; None where any is.

    >>> wrong_value("1e-4", 5e-5)
    ('1e-4', 'a number such as 5e-05; it is text here, as YAML reads exponents only behind a point: 1.0e-4')
    >>> wrong_value({"llm": "embedded", "standardise": "false"}, {})
    ('false', 'False; it is text here')
    """
    if is_reference(value) or (isinstance(default, bool) and str(value).lower() in TRUTHS):
        return None
    default = None if is_reference(default) else default
    expected = _expected(value, default)
    if expected is not None:
        return value, expected
    parts: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        same = isinstance(default, dict) and value.get("_target_") == default.get("_target_")
        parts = [(part, default.get(name) if same and part is not None else None) for name, part in value.items()]
    elif isinstance(value, (list, tuple)):
        first = default[0] if isinstance(default, list) and default else None
        parts = [(part, None if isinstance(first, (dict, list)) else first) for part in value]
    return next((wrong for part in parts if (wrong := wrong_value(*part))), None)


def read_truths() -> None:
    """Puts truth values in place of :data:`TRUTHS`, in the configuration that is being resolved, if any is.

    Where text is not to be a truth value, :func:`wrong_value` has refused it. MONAI has read the command line before it
    imports this package, and gives expressions no reference to its resolver.
    """
    from monai.bundle.reference_resolver import ReferenceResolver

    frame = inspect.currentframe()
    while frame is not None and not isinstance(frame.f_locals.get("self"), ReferenceResolver):
        frame = frame.f_back
    items: dict[str, Any] = {} if frame is None else frame.f_locals["self"].items
    for name, item in items.items():
        content = item.get_config()
        if isinstance(content, str) and content.lower() in TRUTHS:
            item.update_config(TRUTHS[content.lower()])
            parent, _, key = name.rpartition("::")
            whole = items[parent].get_config()
            whole[int(key) if isinstance(whole, list) else key] = item.get_config()


def misread_number(written: Sequence[str]) -> str | None:
    """The first number that YAML reads as another one; None where there is none.

    >>> misread_number(["64", "023"])
    '023'
    """
    return next((number for number in written if REREAD.fullmatch(number)), None)


def _expected(value: Any, default: Any) -> str | None:
    if isinstance(value, str) and (expected := _of_text(value, default)):
        return expected
    if isinstance(value, float) and not math.isfinite(value):
        return "a finite number"
    for kind, (title, allowed) in KINDS.items():
        if isinstance(default, kind) and default != []:  # the empty list may stand for what is no list, such as `all`
            right = isinstance(value, allowed) and (kind is bool or not isinstance(value, bool))
            return None if right else title if kind is bool else f"{title} such as {default!r}"
    return None


def _of_text(text: str, default: Any) -> str | None:
    """What was expected in place of a text; None where the text is right, or its kind remains to be checked."""
    word = text.strip().lower()
    if word in WORDS and not isinstance(default, bool):
        return f"{WORDS[word]}; it is text here"
    if NUMBER.fullmatch(word) and not isinstance(default, (str, bool)):
        such = "" if default is None or isinstance(default, (list, dict)) else f" such as {default!r}"
        point = ""
        if "e" in word and "." not in word:
            point = f", as YAML reads exponents only behind a point: {word.replace('e', '.0e')}"
        return f"a number{such}; it is text here{point}"
    if "#" in text:
        return "text without #, which starts a comment or parts names"
    if text.startswith("~"):
        return "the whole path, as ~ is not replaced here"
    if not word and default != "":
        return "text that is not empty; is a variable of the shell unset?"
    return None
