"""Commands of ``python -m monai.bundle`` in a checkout, on ellipses and with tiny networks; of ``situations.py``."""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TINY = {
    "image_size": 32,
    "autoencoder_shape": {"channels": [8, 8, 16], "num_res_blocks": 1, "norm_num_groups": 4},
    "unet_shape": {"channels": [8, 16], "num_res_blocks": 1, "norm_num_groups": 4, "num_heads": 2}
    | {"prediction_type": "v_prediction"},
    "classifier_network": "ResNetClassifier",
    "classifier_shape": {"channels": [4, 4, 8, 8]},
    **{"max_epochs": 2, "batch_size": 2, "learning_rate": 1.0e-3, "warmup_steps": 2, "decay_steps": 6},
}


@dataclass
class Side:
    """One commit at work in a folder of its own."""

    root: Path
    work: Path
    fresh: bool = False
    """Whether each command imports MONAI anew, with another seed of Python's hashes; else it is forked after that."""

    def __call__(self, *arguments: Any) -> tuple[int, str]:
        """Exit status and output of one ``python -m monai.bundle`` command."""
        log = self.work / "log.txt"
        if self.fresh:
            command = [sys.executable, "-m", "monai.bundle", *map(str, arguments)]
            with log.open("w") as file:
                status = subprocess.run(command, cwd=self.work, stdout=file, stderr=subprocess.STDOUT).returncode
            return status, log.read_text(errors="replace")
        if not (child := os.fork()):
            self._become(arguments, log)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status), log.read_text(errors="replace")

    def _become(self, arguments: tuple[Any, ...], log: Path) -> None:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.chdir(self.work)
        sys.argv = ["monai.bundle", *map(str, arguments)]
        status = 1
        try:
            runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(bool(end.code))
        except BaseException:
            try:
                sys.excepthook(*sys.exc_info())
            except SystemExit as end:  # as the interpreter does
                status = int(end.code or 0)
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def train(self, stage: str, run: str, *options: Any, data: str = "data", overlay: str = "tiny") -> tuple[int, str]:
        """One stage of training."""
        files = [str(self.root / "bundle" / "configs" / f"train_{stage}.yaml"), str(self.work / f"{overlay}.yaml")]
        places = ["--dataset_dir", self.work / data, "--output_dir", self.work / run]
        return self("run", "training", "--config_file", str(files), *places, *options)

    def run(self, name: str, run: str, *options: Any, data: str = "data", own: bool = True) -> tuple[int, str]:
        """Inference, evaluation or an export."""
        places: list[Any] = ["--dataset_dir", self.work / data, "--output_dir", self.work / run]
        places = places if name in ("inference", "evaluate") else []
        config = self.root / "bundle" / "configs" / f"{name}.yaml"
        models = ["--models_dir", self.work / run / "models"] if own else []
        return self("run", "--config_file", config, *places, *models, *options)

    def infer(self, run: str, *options: Any, data: str = "data") -> tuple[int, str]:
        """Inference at the size of the tiny networks, two runs of three steps."""
        return self.run("inference", run, "--num_runs", 2, "--num_steps", 3, *options, data=data)

    def sized(self, llm: str = "llm") -> list[Any]:
        """The options that the earlier commit needs, as its weights did not know their size and language model."""
        return ["--image_size", 32, "--conditioner_arguments::llm", self.work / llm]

    def copied(self, run: str) -> str:
        """A copy of the trained run, to be spoilt."""
        shutil.rmtree(self.work / run, ignore_errors=True)
        shutil.copytree(self.work / "base", self.work / run)
        return run


def write_yaml(path: Path, content: Any) -> None:
    import yaml

    path.write_text(yaml.safe_dump(content))


def _llm(folder: Path, seed: int, both_ways: bool = False) -> None:
    """A tiny language model that reads bytes."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    symbols = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<s>"]
    reader = Tokenizer(models.BPE({symbol: index for index, symbol in enumerate(symbols)}, []))
    reader.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    transformers.PreTrainedTokenizerFast(tokenizer_object=reader, bos_token="<s>").save_pretrained(folder)
    size: dict[str, Any] = {"vocab_size": len(symbols), "hidden_size": 16, "intermediate_size": 32}
    size |= {"num_hidden_layers": 1, "num_attention_heads": 2, "initializer_range": 0.3}
    torch.manual_seed(seed)
    if both_ways:
        transformers.BertModel(transformers.BertConfig(**size, max_position_embeddings=2048)).save_pretrained(folder)
    else:
        config = transformers.LlamaConfig(**size, num_key_value_heads=1)
        transformers.LlamaForCausalLM(config).save_pretrained(folder)


def _dataset(folder: Path, pixel_mm: float = 0.6, radius: float = 6, age: int = 55, hole: bool = False) -> None:
    """Growing ellipses: six, three and three patients."""
    import nibabel as nib
    import numpy as np

    folder.mkdir()
    rng = np.random.default_rng(0)
    cases = []
    for index in range(12):
        for time_, factor in (("t0", 1.0), ("t1", 1.2)):
            x, y = np.meshgrid(np.arange(64) - 32, np.arange(64) - 30, indexing="ij")
            inside = np.hypot(x, 1.3 * y) < factor * (radius + index)
            hu = np.where(inside, 50, -800) + rng.normal(0, 30, (64, 64))
            if hole and index == 9:
                hu[32:34, 32:34] = np.nan
            affine = np.diag([-pixel_mm, -pixel_mm, 1.5, 1])
            pixels = hu[..., None].astype(np.float32)
            nib.save(nib.Nifti1Image(pixels, affine), folder / f"{index}_{time_}.nii.gz")
        record = {"sct_long_dia": radius + index, "age": age + index % 5, "gender": 1 + index % 2}
        case: dict[str, Any] = {"case_id": f"{index}", "patient_id": f"p{index}", "nodule_id": "n", "ehr": record}
        case |= {"baseline": f"{index}_t0.nii.gz", "follow_up": f"{index}_t1.nii.gz", "malignant": index % 2}
        cases.append(case | {"follow_up_attributes": {"sct_long_dia": 1.2 * (radius + index)}, "interval_days": 365})
    sections = {"training": cases[:6], "validation": cases[6:9], "test": cases[9:], "unpaired": []}
    (folder / "datalist.json").write_text(json.dumps({"name": "ellipses", "simulated": "ellipses", **sections}))


def prepared(root: Path, work: Path) -> Side:
    """Datasets, language models, and a run of all stages (``base``), and a second autoencoder."""
    side = Side(root, work)
    _dataset(work / "data")
    _dataset(work / "other", radius=7)
    _dataset(work / "coarser", pixel_mm=1.4)
    _dataset(work / "aged", age=65)
    _dataset(work / "holes", hole=True)
    _llm(work / "llm", 0)
    _llm(work / "other" / "llm", 1)
    _llm(work / "both_ways", 0, both_ways=True)
    write_yaml(work / "tiny.yaml", {**TINY, "conditioner_arguments": {"llm": str(work / "llm")}})
    for stage in ("autoencoder", "unconditional", "conditional", "classifier"):
        status, output = side.train(stage, "base")
        assert status == 0, output
    status, output = side.train("autoencoder", "second", "--seed", 24)
    assert status == 0, output
    return side
