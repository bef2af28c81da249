"""The bundle as others take it: the Model Zoo's checks, MONAI Deploy, MONAI Label, Hugging Face.

Deploy and Label are no dependencies; here are the very calls that their bundle operator and inference task make.
"""

from __future__ import annotations

import copy
import itertools
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
import yaml
from huggingface_hub.utils import filter_repo_objects
from monai.bundle import ConfigParser, push_to_hf_hub
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged, MapTransform
from monai.utils import ensure_tuple, first
from safetensors.torch import load_file

from scripts.data.transforms import HU_WINDOW, preprocessing, to_hu
from scripts.diffusion.sampler import ProgressionInferer, load_progression_model
from scripts.diffusion.settings import sampling_settings
from scripts.ehr.report import radiology_report
from scripts.errors import UserError
from tests.bundle.deployed import deploy_network, deploy_parser
from tests.bundle.helpers import BUNDLE

RECORD = {"age": 66, "gender": 2, "sct_long_dia": 12.5, "sct_margins": 1}
Monai = Callable[..., None]


@pytest.fixture(scope="module")
def whole(tiny_dataset: Path) -> MetaTensor:
    """What an operator hands over: a slice as (W, H, 1) in HU with its geometry."""
    return LoadImaged(["image"], image_only=True)({"image": str(tiny_dataset / "4_t0.nii.gz")})["image"]


@pytest.fixture(scope="module")
def expected(bundle: Path, tiny_llm: Path, tiny_dataset: Path) -> np.ndarray:
    """The follow-ups in HU of the Python interface, for the crop, the record and the year that are asked for below."""
    model = load_progression_model(bundle / "models", llm=tiny_llm)
    model.load_state_dict(torch.load(bundle / "models" / "model.pt", weights_only=True))
    crop = preprocessing(["image"], 32)({"image": str(tiny_dataset / "4_t0.nii.gz")})["image"]
    guidance = sampling_settings(bundle / "models")["guidance_scale"]
    assert guidance == 6.0, "small.yaml's"
    inferer = ProgressionInferer(num_steps=3, num_runs=2, guidance_scale=guidance)
    return to_hu(inferer(crop[None], model, [radiology_report(RECORD, 365)])[0]).numpy()


# --- the Model Zoo


def test_released_weights_stay_under_the_zoos_limit() -> None:
    """25 MB a file, model.pt too, with two bytes a weight. Larger ones need a large_files.yml: see CONTRIBUTING.md."""
    models = BUNDLE / "models"
    assert max(path.stat().st_size for path in models.rglob("*.safetensors")) < 25e6
    networks = [load_file(models / f"{name}.safetensors") for name in ("autoencoder", "unet_conditional")]
    assert 2 * sum(tensor.numel() for network in networks for tensor in network.values()) < 25e6


def test_network_data_format_is_what_the_network_does(bundle: Path, monai: Monai, whole: MetaTensor) -> None:
    """The zoo's check, and what it leaves out: values and shapes of all that the metadata speak of."""
    configs = bundle / "configs"
    files = ["--meta_file", configs / "metadata.json", "--config_file", configs / "inference.yaml"]
    monai("verify_net_in_out", "network_def", *files)
    metadata = json.loads((BUNDLE / "configs" / "metadata.json").read_text())
    image, pred = (first(metadata["network_data_format"][side].values()) for side in ("inputs", "outputs"))
    parser = deploy_parser(bundle)
    whole_config = yaml.safe_load((BUNDLE / "configs" / "inference.yaml").read_text())
    assert image["spatial_shape"] == pred["spatial_shape"] == [sampling_settings(BUNDLE / "models")["image_size"]] * 2
    crop = parser.get_parsed_content("preprocessing")({"image": str(whole.meta["filename_or_obj"])})["image"]
    network = parser.get_parsed_content("network_def")
    output = network(crop[None])
    for described, tensor in ((image, crop[None]), (pred, output)):
        assert tensor.shape == (1, described["num_channels"], 32, 32)
        assert str(tensor.dtype) == f"torch.{described['dtype']}"
        low, high = described["value_range"]
        assert low <= tensor.min() < tensor.max() <= high
    after = first(metadata["network_data_format"]["post_processed_outputs"].values())
    assert after["num_channels"] == whole_config["num_runs"] and tuple(after["value_range"]) == HU_WINDOW


# --- MONAI Deploy: MonaiBundleInferenceOperator


def archive_parser(archive: Path, folder: Path) -> ConfigParser:
    """How the operator reads a TorchScript file: from what ``ckpt_export`` has put into its ``extra`` folder."""
    parser = ConfigParser()
    with zipfile.ZipFile(archive) as opened:
        parser.read_meta(f=json.loads(opened.read(f"{archive.stem}/extra/metadata.json")))
        opened.extract(f"{archive.stem}/extra/inference.json", folder)
    parser.read_config([folder / archive.stem / "extra" / "inference.json"])
    parser.parse()
    return parser


def deploy(parser: ConfigParser, network: torch.nn.Module, value: np.ndarray, meta: Mapping[str, Any]) -> Any:
    """``compute``: named inputs in, what the operator sends on out."""

    def without_files(name: str) -> Compose:
        compose = parser.get_parsed_content(name)
        names = [type(transform).__name__ for transform in compose.transforms]
        kept = ["LoadImage" not in each and "SaveImage" not in each for each in names]
        compose.transforms = tuple(itertools.compress(compose.transforms, kept))
        assert isinstance(first(compose.transforms), MapTransform), f"{name} works on dictionaries"
        return compose

    device, inferer = parser.get_parsed_content("device"), parser.get_parsed_content("inferer")
    formats = parser["_meta_"]["network_data_format"]
    (input_name,) = formats["inputs"]
    (output_name,) = formats["outputs"]
    with torch.no_grad():
        received = MetaTensor.ensure_torch_and_prune_meta(value, {**meta, "original_channel_dim": "no_channel"})
        inputs = without_files("preprocessing")({input_name: received})
        outputs = inferer(inputs=inputs[input_name][None].to(device), network=network)
        outputs = without_files("postprocessing")({output_name: ensure_tuple(outputs)[0], **inputs})
    return send(outputs[output_name], formats["outputs"][output_name]["type"])


def send(value: Any, kind: str) -> Any:
    """The operator's ``_send_output``: images become unsigned bytes, series and tuples stay what they are."""
    if kind == "image":
        return np.squeeze(value.cpu().numpy(), 0).astype(np.uint8)
    assert kind in ("series", "tuples"), f"the operator does not know {kind!r}"
    return value


def test_deploy_runs_the_bundles_folder(bundle: Path, whole: MetaTensor, expected: np.ndarray) -> None:
    parser = deploy_parser(bundle)
    sent = deploy(parser, deploy_network(bundle, parser), whole.numpy(), {**whole.meta, "ehr": RECORD})
    assert sent.meta["descrip"].startswith("SYNTHETIC")
    np.testing.assert_allclose(np.asarray(sent), expected, atol=0.01)


def test_deploy_without_a_record_gives_another_follow_up(bundle: Path, whole: MetaTensor, expected: np.ndarray) -> None:
    parser = deploy_parser(bundle)
    sent = deploy(parser, deploy_network(bundle, parser), whole.numpy(), whole.meta)
    assert np.abs(np.asarray(sent) - expected).max() > 0.1  # HU; the same record differs by rounding alone


def test_deploy_runs_the_torchscript_file(torchscript: Path, bundle: Path, whole: MetaTensor, tmp_path: Path) -> None:
    """Without a record: the same samples as PyTorch's; with one: told why not."""
    network, parser = torch.jit.load(torchscript).eval(), deploy_parser(bundle)
    eager = deploy(parser, deploy_network(bundle, parser), whole.numpy(), whole.meta)
    archived = archive_parser(torchscript, tmp_path)
    np.testing.assert_allclose(deploy(archived, network, whole.numpy(), whole.meta), eager, atol=0.05)
    with pytest.raises(UserError, match="holds no language model"):
        deploy(archived, network, whole.numpy(), {**whole.meta, "ehr": RECORD})


# --- MONAI Label: BundleInferTask


def test_label_runs_the_bundle(bundle: Path, whole: MetaTensor, expected: np.ndarray) -> None:
    """Its own copy of the configured network, ``inferer(inputs, network)``, and each transform by itself."""
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.yaml"))
    parser.config.update({"bundle_root": str(bundle)})
    network = copy.deepcopy(parser.get_parsed_content("network_def", instantiate=True)).to(torch.device("cpu"))
    checkpoint = torch.load(bundle / "models" / "model.pt", map_location="cpu")
    network.load_state_dict(checkpoint.get("model", checkpoint), strict=False)
    data: dict[str, Any] = {"image": whole.meta["filename_or_obj"]}
    for transform in parser.get_parsed_content("preprocessing", instantiate=True).transforms:
        data = transform(data)
    data["image"].meta["ehr"] = RECORD
    inferer = parser.get_parsed_content("inferer", instantiate=True)
    with torch.no_grad():
        data["pred"] = inferer(data["image"][None].to(torch.device("cpu")), network.eval())[0]
    for transform in parser.get_parsed_content("postprocessing", instantiate=True).transforms:
        data = transform(data)
    np.testing.assert_allclose(np.asarray(data["pred"]), expected, atol=0.01)


# --- Hugging Face


def test_the_folder_for_hugging_face(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing leaves this machine: what would be uploaded is looked at."""
    calls: dict[str, dict[str, Any]] = {}
    for name in ("create_repo", "upload_folder", "create_tag"):
        monkeypatch.setattr(
            huggingface_hub.HfApi, name, lambda self, name=name, **arguments: calls.setdefault(name, arguments)
        )
    (bundle / "scripts" / "__pycache__").mkdir(exist_ok=True)
    (bundle / "scripts" / "__pycache__" / "data.pyc").touch()
    target = {"repo": "someone/namd", "name": bundle.name, "bundle_dir": str(bundle.parent)}
    push_to_hf_hub(**target, version="0.2.0", ignore_patterns="**/__pycache__/**")
    upload = calls["upload_folder"]
    assert calls["create_repo"]["repo_id"] == upload["repo_id"] == "someone/namd"
    assert calls["create_tag"]["tag"] == "0.2.0"
    folder = Path(upload["folder_path"])
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    files = list(filter_repo_objects(files, ignore_patterns=upload["ignore_patterns"]))
    assert not [name for name in files if "__pycache__" in name]
    assert {"LICENSE", "README.md", "configs/metadata.json", "models/model.pt", "docs/data_license.txt"} <= set(files)
    card = (folder / "README.md").read_text()
    _, front, text = card.split("---\n", 2)
    assert yaml.safe_load(front) == {"tags": ["monai", "medical"], "library_name": "monai", "license": "apache-2.0"}
    assert text == (BUNDLE / "docs" / "README.md").read_text()
