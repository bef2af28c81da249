"""The settings that travel with a conditioner's weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.conditioning.conditioner import ReportConditioner
from scripts.conditioning.settings import arguments_of, language_model_place, read_settings
from scripts.errors import UserError
from tests.bundle.conditioning.helpers import REPORTS, trained

UNUSUAL: dict[str, Any] = {
    **{"num_prompt_sets": 3, "prompt_length": 5, "standardise": False, "end_token": True},
    **{"dtype": "bfloat16", "lora": {"r": 2, "target_modules": ["q_proj"]}},
}
STANDARDISED: dict[str, Any] = {"components": 2, "components_by": "record", "noise": 0.1}


def saved(llm: Any, folder: Path, **arguments: Any) -> tuple[ReportConditioner, Path]:
    """A conditioner that was trained, and its folder."""
    conditioner = trained(ReportConditioner(llm, **arguments))
    conditioner.fit_statistics(REPORTS, torch.eye(3).numpy())
    return conditioner, conditioner.save_pretrained(folder)


def opened(folder: Path, **given: Any) -> ReportConditioner:
    conditioner = ReportConditioner(**arguments_of(folder, given))
    conditioner.load_pretrained(folder)
    return conditioner


@pytest.mark.parametrize("arguments", [{}, UNUSUAL, STANDARDISED], ids=["default", "unusual", "components"])
def test_the_folder_alone_opens_the_same_conditioner(
    gemma_folder: Path, tmp_path: Path, arguments: dict[str, Any]
) -> None:
    conditioner, folder = saved(gemma_folder, tmp_path / "conditioner", **arguments)
    again = opened(folder)
    assert torch.equal(again.encode(REPORTS), conditioner.encode(REPORTS))
    assert torch.equal(again.null_context(2), conditioner.null_context(2))
    assert again.llm.dtype == conditioner.llm.dtype
    assert read_settings(again.save_pretrained(tmp_path / "again")) == read_settings(folder)


def test_arguments_of_the_training_may_be_given_again(gemma_folder: Path, tmp_path: Path) -> None:
    _, folder = saved(gemma_folder, tmp_path / "conditioner", **UNUSUAL)
    given = {**UNUSUAL, "llm": str(gemma_folder), "dtype": torch.bfloat16, "quantization": None}
    assert opened(folder, **given).settings.keys() == read_settings(folder).keys()  # type: ignore[union-attr]
    assert arguments_of(folder, {"standardise": None}) == read_settings(folder)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"standardise": True}, "standardise is True, but was False in training"),
        ({"components": 12, "components_by": "record"}, "components is 12, but was 0 in training, components_by is"),
        ({"num_prompt_sets": 2}, "num_prompt_sets is 2, but was 3"),
        ({"prompt_length": 8}, "prompt_length is 8, but was 5"),
        ({"dtype": "float32"}, "dtype is 'float32', but was 'bfloat16'"),
        ({"end_token": False}, "end_token is False, but was True"),
        ({"lora": {"r": 8}}, "lora is {'r': 8}, but was {'r': 2"),
        ({"quantization": "4bit"}, "quantization is '4bit', but was None"),
    ],
    ids=lambda each: next(iter(each)) if isinstance(each, dict) else "",
)
def test_what_contradicts_the_training_is_refused(
    gemma_folder: Path, tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    _, folder = saved(gemma_folder, tmp_path / "conditioner", **UNUSUAL)
    with pytest.raises(UserError, match=message) as caught:
        arguments_of(folder, given)
    assert all(f"--conditioner_arguments::{name}" in str(caught.value) for name in given), "and the way out"
    assert "\n" not in str(caught.value)


def test_a_language_model_that_has_moved_is_asked_for(gemma_folder: Path, tiny_llm: Path, tmp_path: Path) -> None:
    before, after = tmp_path / "before" / gemma_folder.name, tmp_path / "after" / gemma_folder.name
    shutil.copytree(gemma_folder, before)
    conditioner, folder = saved(before, tmp_path / "conditioner")
    after.parent.mkdir()
    before.rename(after)
    with pytest.raises(UserError, match=f"{before}, which is not here.*--conditioner_arguments::llm"):
        opened(folder)
    assert torch.equal(opened(folder, llm=after).encode(REPORTS), conditioner.encode(REPORTS))
    with pytest.raises(UserError, match=f"base_model_name_or_path is '{after.name}', expected '{tiny_llm.name}'"):
        opened(folder, llm=tiny_llm)


def test_a_model_of_python_has_no_place(llama: tuple[Any, Any], tmp_path: Path) -> None:
    conditioner, folder = saved(llama, tmp_path / "conditioner")
    with pytest.raises(UserError, match="a Python object"):
        opened(folder)
    assert torch.equal(opened(folder, llm=llama).encode(REPORTS), conditioner.encode(REPORTS))


def test_places_are_found_again_from_another_folder(gemma_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(gemma_folder.parent)
    assert language_model_place(gemma_folder.name) == str(gemma_folder)
    assert language_model_place("google/medgemma-1.5-4b-it") == "google/medgemma-1.5-4b-it"
    assert language_model_place("embedded") == "embedded"


@pytest.mark.parametrize("content", ["{", "[1]", ""])
def test_a_damaged_file_is_named(llama: tuple[Any, Any], tmp_path: Path, content: str) -> None:
    _, folder = saved(llama, tmp_path / "conditioner")
    (folder / "settings.json").write_text(content)
    with pytest.raises(UserError, match="settings.json: "):
        arguments_of(folder, {})


@pytest.mark.parametrize("standardise", [True, False])
def test_older_folders_open_by_what_is_given(llama: tuple[Any, Any], tmp_path: Path, standardise: bool) -> None:
    """Without settings, only the statistics tell whether a context is standardised: the wrong way is refused."""
    conditioner, folder = saved(llama, tmp_path / "conditioner", standardise=standardise)
    (folder / "settings.json").unlink()
    assert arguments_of(folder, {"llm": "embedded", "lora": None}) == {"llm": "embedded"}
    again = opened(folder, llm=llama, standardise=standardise)
    assert torch.equal(again.encode(REPORTS), conditioner.encode(REPORTS))
    with pytest.raises(UserError, match=f"Give --conditioner_arguments::standardise {standardise}"):
        opened(folder, llm=llama, standardise=not standardise)


def test_settings_are_plain_json(gemma_folder: Path, tmp_path: Path) -> None:
    _, folder = saved(gemma_folder, tmp_path / "conditioner", dtype=torch.float32, components=2)
    settings = json.loads((folder / "settings.json").read_text())
    assert settings == {
        **{"llm": str(gemma_folder), "dtype": "float32", "quantization": None, "lora": None},
        **{"num_prompt_sets": 2, "prompt_length": 8, "end_token": False},
        **{"standardise": True, "components": 2, "components_by": "variance", "noise": 0.0},
    }
