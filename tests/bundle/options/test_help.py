"""The page of --help: every option with value and comment; nothing is run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.options.configuration import read_entries
from scripts.options.help import print_help, resolved, split_options

CONFIGS = Path(__file__).resolve().parents[3] / "bundle" / "configs"
STAGES = [path for path in sorted(CONFIGS.glob("*.yaml")) if "\nimports:" in path.read_text(encoding="utf-8")]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")


@pytest.mark.parametrize("path", STAGES, ids=lambda path: path.stem)
def test_all_comments_on_options_are_shown(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_help(["run", "--config_file", str(path), "--help"])
    page = capsys.readouterr().out
    options, others = split_options([read_entries(path)])
    assert options and all(f" --{each.id} " in f" {page}" or f"\n--{each.id} " in page for each in options)
    assert all(each.comment in page for each in options) and all(each.id in page for each in others)
    assert path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ") in page


def test_the_overlays_values_are_shown_worked_out(capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(CONFIGS / f"{name}.yaml") for name in ("train_conditional", "small", "no_prompts")]
    print_help(["run", "training", "--config_file", str(files), "--help"])
    rows = {
        line.split()[0]: " ".join(line.split()[1:]) for line in capsys.readouterr().out.splitlines() if line.strip()
    }
    assert rows["--max_epochs"] == "120" and rows["--output_dir"] == "./runs/default"
    assert rows["--models_dir"] == "./runs/default/models"
    assert rows["--conditioner_arguments"].startswith('{"llm": "embedded", "components": 12')
    assert '"prompt_length": 0}' in rows["--conditioner_arguments"]
    assert "--loss" not in rows and "--network" not in rows  # another stage's; a component


def test_options_that_the_stage_would_refuse_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Those of the stage's own file too, where an overlay replaces all that reads them."""
    files = [str(CONFIGS / f"{name}.yaml") for name in ("train_conditional", "compare_crops", "compare_mcwgan")]
    print_help(["run", "training", "--config_file", str(files), "--help"])
    shown = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert {"--critic_steps", "--learning_rate", "--models_dir"} <= shown
    assert not {"--pretrained", "--ema_decay", "--warmup_steps", "--prompt_steps"} & shown


def test_what_needs_a_component_is_shown_as_it_is() -> None:
    options = {"a": "$@b + @d['e']", "b": 2, "c": "$@network.x"}
    others = {"d": {"e": "$@b * 2"}, "network": {"_target_": "torch.nn.ReLU"}}
    assert resolved(options, others) == {"a": 6, "b": 2, "c": "$@network.x"}


@pytest.mark.processes
def test_the_command_prints_it_and_runs_nothing(tmp_path: Path) -> None:
    """The whole command in a process of its own, in an empty folder: status 0, and the folder stays empty."""
    line = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(CONFIGS / "inference.yaml"), "--help"]
    result = subprocess.run(line, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=300)
    assert result.returncode == 0 and "--guidance_scale" in result.stdout, result.stderr
    assert not list(tmp_path.iterdir())
