"""The record of how a stage is trained: what resuming compares, and all that is made of its weights carries."""

from __future__ import annotations

import inspect
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from scripts.data.digest import digest_dataset
from scripts.errors import UserError
from scripts.fingerprint import code_version, differences, digest_weights
from scripts.weights.checkpoints import read_metadata
from scripts.weights.parts import image_size

MAY_CHANGE = frozenset(
    {
        *("max_epochs", "patience", "val_interval"),  # how long to train, and which epochs are looked at
        # where and how fast; rounding differs, by num_workers turns and flips too, by device all noise
        *("device", "num_workers", "channels_last", "compile_mode", "gradient_checkpointing"),
        *(
            "keep_interval",
            "keep_last",
            "checkpoint_minutes",
            "publish_epoch",
            "weights_dtype",
            "guidance_scale",
        ),  # kept and published
    }
)
"""What may be changed when a run goes on. All other settings may not."""

ELSEWHERE = frozenset(
    {
        *("imports", "bundle_root", "dataset_dir", "output_dir", "models_dir", "pretrained", "reports", "records"),
        *("seed", "batch_size", "restart", "record", "built_on", "prepare", "publish", "training", "run"),
    }
)
"""Names of a configuration that are no settings: places, what the record calls otherwise, the order of work."""

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def stage_record(
    dataset_dir: str | Path,
    seed: int,
    batch_size: int,
    built_on: Mapping[str, str | Path | None],
    llm: Any = None,
    also: Collection[str] = (),
) -> dict[str, Any]:
    """The record of the stage whose configuration this is called in.

    Args:
        batch_size: of all processes, in one backward pass.
        built_on: by name, weights that the stage starts from or is trained under; None: no such weights.
        llm: the language model, if the stage reads reports.
        also: names of settings that an overlay adds to those of the stage's own file.

    Returns:
        JSON-serialisable: ``dataset``, ``built_on`` and ``language_model``, digests; ``settings``, every setting of the
        configuration as it was composed; ``seed``; ``global_batch``, samples in a step; ``version`` and ``commit``.

    Raises:
        UserError: weights or a dataset that are missing, or weights that do not belong together.
    """
    settings = composed_settings(also)
    for name in ("conditioner_arguments", "text"):
        settings.get(name, {}).pop("llm", None)  # its place; the record has its weights
    steps = settings.get("accumulation_steps", 1)
    record = {
        "dataset": digest_dataset(dataset_dir),
        "built_on": {name: _digest(path) for name, path in built_on.items() if path is not None},
        "settings": settings,
        "seed": seed,
        "global_batch": batch_size * steps,
        **code_version(),
    }
    _check_foundations(built_on, record["built_on"], settings.get("image_size"))
    if llm is not None:
        from scripts.conditioning.identity import language_model_identity  # the other stages need no transformers

        record["language_model"] = language_model_identity(llm)
    return record


def refuse_another(path: str | Path, was: Mapping[str, Any] | None, now: Mapping[str, Any]) -> None:
    """Raises a :class:`UserError` unless the run in ``path``, a checkpoint, may be continued as ``now`` says.

    Args:
        was: the checkpoint's record; None or empty where it has none, as in versions before 0.7: it cannot be checked.
    """
    ways = (
        "Give the settings of then, another --output_dir, or --restart true, which clears "
        f"{Path(path).parent} (weights, best epoch, curves) and trains from the start."
    )
    if not was:
        raise UserError(f"{path}: has no record of its dataset and settings, as before version 0.7. {ways}")
    if found := differences(was, now, MAY_CHANGE):
        raise UserError(f"{path}: cannot go on, since {'; '.join(found)}. {ways}")


def composed_settings(also: Collection[str] = ()) -> dict[str, Any]:
    """Every setting of the configuration that is being resolved, with its overlays and options.

    Settings that the stage's own file gives a plain value are resolved; a stage without one, which an overlay names,
    has all that stands in the configuration, and of it is resolved what any stage gives a plain value. Of parts, such
    as ``optimizer``, the configuration is taken as it stands, with its references, so that no part is built for it.

    Args:
        also: names of further settings, resolved.
    """
    parser = _parser()
    path = CONFIGS / f"train_{parser['stage']}.yaml"
    own = ConfigParser.load_config_file(str(path)) if path.is_file() else {**parser.get(), **_plain_of_stages()}
    settings = {}
    for name in (own.keys() - ELSEWHERE | {*also}) & parser.get().keys():
        content = parser[name]
        if name in also or (_plain(own[name]) and isinstance(content, str) and content.startswith(("$", "@"))):
            content = parser.get_parsed_content(name)
        settings[name] = content
    return json.loads(json.dumps(settings, sort_keys=True, default=str))


def _plain_of_stages() -> dict[str, Any]:
    """What any stage's file gives a plain value, by name."""
    stages = [ConfigParser.load_config_file(str(path)) for path in sorted(CONFIGS.glob("train_*.yaml"))]
    return {name: content for stage in stages for name, content in stage.items() if _plain(content)}


def _parser() -> ConfigParser:
    """The parser that evaluates the expression which called: MONAI gives expressions no reference to it."""
    frame = inspect.currentframe()
    while frame is not None:
        if isinstance(found := frame.f_locals.get("self"), ConfigParser):
            return found
        frame = frame.f_back
    raise RuntimeError("settings are those of a MONAI configuration: call this in one of its expressions")


def _plain(content: Any) -> bool:
    """Whether the content of a configuration holds no expression, reference or component."""
    if isinstance(content, dict):
        return "_target_" not in content and all(map(_plain, content.values()))
    if isinstance(content, list):
        return all(map(_plain, content))
    return not (isinstance(content, str) and content.startswith(("$", "@", "%")))


def _digest(path: str | Path) -> str:
    if not Path(path).exists():
        raise UserError(f"{path}: no such weights. Train the stage that makes them, or give their path.")
    return digest_weights(path)


def _check_foundations(paths: Mapping[str, str | Path | None], digests: Mapping[str, str], size: int | None) -> None:
    """Refuses weights that were trained on crops of another size, or under others than they are used with now."""
    for name, path in paths.items():
        if path is None or name == "pretrained":
            continue
        if (below := image_size(path)) not in (None, size):
            raise UserError(
                f"{path}: trained on crops of {below} px, but image_size is {size}. Give --image_size {below}."
            )
        was = (read_metadata(path)["extra"].get("record") or {}).get("built_on", {})
        shared = was.keys() - {"pretrained"}  # each stage starts from weights of its own
        if wrong := sorted(each for each in shared if digests.get(each, was[each]) != was[each]):
            others = " and ".join(f"{paths[under]} ({under})" for under in wrong)
            raise UserError(f"{path}: not trained on {others}. Train {name} again, or put back what it was trained on.")
