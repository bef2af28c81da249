"""Where a network starts: from scratch, from published weights, or from an earlier stage.

Published weights may have any layout of :mod:`scripts.weights.key_maps`, also behind what wrappers put before every
name (``module.``, ``_orig_mod.``, ``model.``). Stable Diffusion's autoencoder has three colour channels, ours one grey
channel: the first convolution's weights are summed over the three, which is exact for grey images, and the last
convolution's are averaged.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from scripts.networks.autoencoder import LatentAutoencoder, StableDiffusionAutoencoder
from scripts.networks.unet import StableDiffusionUNet
from scripts.weights import key_maps
from scripts.weights.checkpoints import CheckpointError, load_tensors, read_metadata, save_network
from scripts.weights.parts import PARTS
from scripts.weights.published import neighbouring_config, open_weights
from scripts.weights.stated import agreed

logger = logging.getLogger(__name__)

PUBLISHED_LATENT_SCALE = 0.18215
"""Stable Diffusion's scale, measured on photographs; training the autoencoder replaces it by that of crops."""

KEPT = "kept"

SUMMED = "three colours summed into grey"

AVERAGED = "three colours averaged into grey"

GROWN = "kept, new input channels at zero"

NEW = "new, drawn at random"
"""This and the four above say where a tensor comes from."""

_UNUSED = r"^model_ema\.(decay|num_updates)$|^first_stage_model\.loss\.|^(en|de)coder\.blocks\.\d+\.proj_attn\."
"""Tensors of published files that their own networks never use (for the last, see LatentAutoencoder)."""


_WRAPPERS = r"(?:(?<=\.)|^)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
"""Of torch.compile, FSDP and activation checkpointing."""

_AVERAGED = r"(^|[._])ema[._]"
"""In the names of a moving average (EMA), beside which a file may hold the weights themselves."""


class LoadedNetwork(NamedTuple):
    """A network with given weights, the layout that they had, and by name where each tensor comes from."""

    network: Any
    layout: str
    origins: dict[str, str]


def initial_autoencoder(arguments: Mapping[str, Any], pretrained: str | Path | None = None) -> LatentAutoencoder:
    """A new autoencoder, or one that starts from published weights.

    Args:
        arguments: of :class:`scripts.networks.StableDiffusionAutoencoder`.
        pretrained: any file or folder that :func:`scripts.weights.open_weights` opens.
    """
    if pretrained is None:
        return StableDiffusionAutoencoder(**arguments)
    return _detach_from_file(start_autoencoder(arguments, pretrained))


def initial_unet(
    arguments: Mapping[str, Any], context_dim: int, pretrained: str | Path | None = None
) -> StableDiffusionUNet:
    """A new U-Net, or one that starts from published weights.

    Args:
        arguments: of :class:`scripts.networks.StableDiffusionUNet`.
        context_dim: width of the context. Where it differs from that of the weights (768 in Stable Diffusion 1.5),
            the keys and values of cross-attention are drawn at random.
        pretrained: any file or folder that :func:`scripts.weights.open_weights` opens.
    """
    if pretrained is None:
        return StableDiffusionUNet(**{**arguments, "context_dim": context_dim})
    return _detach_from_file(start_unet({**arguments, "context_dim": context_dim}, pretrained, train=True))


def conditional_unet(
    path: str | Path,
    context_dim: int,
    concat_channels: int = 4,
    keep_weights: bool = True,
    pretrained: str | Path | None = None,
) -> StableDiffusionUNet:
    """The unconditional stage's U-Net grown to take ``concat_channels`` more input channels (Eq. 10).

    Args:
        path: weights of the unconditional stage.
        context_dim: width of the context; where it differs from the stored one, the keys and values of cross-attention
            are drawn at random.
        keep_weights: keep the first convolution's weights and set those of the new channels to zero, so that the grown
            network computes the same as before; False draws that convolution at random (the authors' choice).
        pretrained: ``models_dir`` of a finished model, whose U-Net, grown already, is taken in place of ``path``'s.
    """
    finished = None if pretrained is None else Path(pretrained) / PARTS["unet_conditional"]
    path = finished or path
    config = {**read_metadata(path, "StableDiffusionUNet")["config"], "context_dim": context_dim}
    config["in_channels"] += 0 if finished else concat_channels
    new = () if keep_weights or finished else ("conv_in.conv.",)
    return _detach_from_file(_start(StableDiffusionUNet, config, load_tensors(path), path, new=new))


def start_autoencoder(arguments: Mapping[str, Any], source: str | Path) -> LoadedNetwork:
    """The autoencoder of ``source``, its tensors memory-mapped from the file.

    Raises:
        CheckpointError: the file cannot be opened, or does not hold this network; lists what is missing.
    """
    tensors = open_weights(source, "autoencoder")
    generative = any(re.search(r"(^|\.)quant_conv_mu\.", name) for name in tensors)
    network_class = LatentAutoencoder if generative else StableDiffusionAutoencoder
    started = _start(network_class, agreed(arguments, source, "autoencoder"), tensors, source)
    if started.layout not in (key_maps.OURS, key_maps.GENERATIVE):
        scale = neighbouring_config(source, "autoencoder").get("scaling_factor", PUBLISHED_LATENT_SCALE)
        started.network.latent_scale.fill_(scale)
    return started


def start_unet(
    arguments: Mapping[str, Any], source: str | Path, averaged: bool = True, train: bool = False
) -> LoadedNetwork:
    """The U-Net of ``source``, its tensors memory-mapped from the file, except for those that are new.

    Args:
        arguments: of :class:`scripts.networks.StableDiffusionUNet`. Input channels that the file does not have start
            at zero; where ``context_dim`` differs, the keys and values of cross-attention are drawn at random.
            What the network predicts is taken from the files where these say it (:mod:`scripts.weights.stated`).
        averaged: take the moving average (EMA) of a file that has both, as diffusers' folders do.
        train: the network is trained on, and may be trained to predict something else, or by other noise.

    Raises:
        CheckpointError: the file cannot be opened, does not hold this network, lists what is missing, or contradicts
            ``arguments``.
    """
    tensors = open_weights(source, "unet")
    arguments = agreed(arguments, source, "unet", train)
    started = _start(StableDiffusionUNet, arguments, tensors, source, averaged=averaged)
    if "prediction_type" not in arguments:
        logger.warning(
            "%s: nothing says what this U-Net predicts and by which noise it learnt; assumed are %s and %s, or what "
            "unet_shape says (prediction_type, beta_schedule)",
            *(source, started.network.prediction_type, started.network.beta_schedule),
        )
    return started


def convert_published(
    source: str | Path,
    models_dir: str | Path,
    autoencoder: Mapping[str, Any],
    unet: Mapping[str, Any],
    parts: Sequence[str] = ("autoencoder", "unet"),
    averaged: bool = True,
) -> None:
    """Converts published weights to this bundle's format in ``models_dir``, and prints what became of each tensor.

    Args:
        autoencoder, unet: arguments of the networks.
        parts: networks to convert, ``autoencoder``, ``unet`` or both; nothing is written unless all of them fit.
    """
    started = {}
    if "autoencoder" in parts:
        started["autoencoder"] = start_autoencoder(autoencoder, source)
    if "unet" in parts:
        started["unet_unconditional"] = start_unet(unet, source, averaged)
    for name, part in started.items():
        Console().print(origin_table(part))
        path = save_network(part.network, Path(models_dir) / f"{name}.safetensors", extra={"layout": part.layout})
        Console().print(f"Wrote {path}", soft_wrap=True)


def origin_table(started: LoadedNetwork) -> Table:
    """A table of where the weights come from: counts of tensors and numbers, and names of tensors that are not kept."""
    network = started.network
    table = Table("weights", "tensors", "numbers", "which", title=f"{type(network).__name__} from {started.layout}")
    state = network.state_dict()
    for origin in dict.fromkeys(started.origins.values()):
        names = [name for name, its in started.origins.items() if its == origin]
        shown = "" if origin == KEPT else ", ".join(sorted({_family(name) for name in names}))
        table.add_row(origin, str(len(names)), f"{sum(state[name].numel() for name in names):,}", shown)
    return table


def _family(name: str) -> str:
    """The name of a tensor for the table; cross-attention weights of all levels share one."""
    return "*." + ".".join(name.split(".")[-3:]) if ".transformer_blocks." in name else name


def _start(
    network_class: type[nn.Module],
    arguments: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    source: str | Path,
    averaged: bool = True,
    new: tuple[str, ...] = (),
) -> LoadedNetwork:
    """Builds a network from ``tensors`` of any known layout; names that start with ``new`` are drawn at random."""
    tensors = _unwrapped(tensors)
    with torch.device("meta"):  # saves memory and time for initial weights that are replaced below
        network: Any = network_class(**arguments)
    layout, prefix, table = _layout(network, tensors, averaged, source)
    state, origins, faults = {}, {}, []
    for name, own in network.state_dict().items():
        if name.startswith(new):
            state[name], origins[name] = _reinitialised(network, name), NEW
        elif name == "latent_scale" and name not in table:
            state[name] = torch.ones(())
        elif table[name] not in tensors:
            faults.append(f"{table[name]} is missing")
        elif (fitted := _fitted(network, name, tensors[table[name]], own.shape)) is None:
            faults.append(f"{table[name]} has shape {list(tensors[table[name]].shape)}, expected {list(own.shape)}")
        else:
            state[name], origins[name] = fitted
    faults += [f"{name} has no place" for name in _unknown(tensors, table, prefix)]
    if faults:
        more = f"; and {len(faults) - 12} more" if len(faults) > 12 else ""
        raise CheckpointError(
            f"{source}: these weights do not fit {network_class.__name__} {network.config}, which has "
            f"{len(table)} tensors, by the names of {layout}: {'; '.join(faults[:12])}{more}. "
            "Give a whole file of such a network, or change the shape."
        )
    network.load_state_dict(state, assign=True)
    counts = Counter(origins.values())
    logger.info("%s: tensors %s", source, "; ".join(f"{origin}: {count}" for origin, count in counts.items()))
    return LoadedNetwork(network, layout, origins)


def _unwrapped(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors by names without the words that PyTorch's wrappers put anywhere into them."""
    renamed = {re.sub(_WRAPPERS, "", name): tensor for name, tensor in tensors.items()}
    return renamed if len(renamed) == len(tensors) else tensors


def _layout(
    network: nn.Module, tensors: Mapping[str, Tensor], averaged: bool, source: str | Path
) -> tuple[str, str, dict[str, str]]:
    """The layout with most of its names in the file, what stands before each of them there, and the key map with it."""
    places: dict[str, list[str]] = {}  # of each end of a name, what precedes it
    for name in tensors:
        words = name.split(".")
        for start in range(len(words)):
            places.setdefault(".".join(words[start:]), []).append(".".join([*words[:start], ""]))
    tables = key_maps.key_maps_of(network)
    counts = {
        (layout, prefix): count
        for layout, table in tables.items()
        for prefix, count in Counter(prefix for name in table.values() for prefix in places.get(name, ())).items()
    }
    most, size = max(counts.values(), default=0), len(tables[key_maps.OURS])
    if most < size / 2:
        raise CheckpointError(
            f"{source}: these weights do not fit {type(network).__name__}: of its {size} tensors the file has {most} "
            f"by the names of any layout ({', '.join(tables)}). Its own {len(tensors)} are "
            f"{', '.join([*tensors][:3])}, .. Give a file of this network; import_weights.yaml converts one network "
            "alone with parts."
        )
    best: dict[frozenset[str], tuple[str, str, dict[str, str]]] = {}
    for (layout, prefix), count in counts.items():
        if count == most:
            table = {own: prefix + theirs for own, theirs in tables[layout].items()}
            best.setdefault(frozenset(tensors.keys() & table.values()), (layout, prefix, table))
    means = [each for found, each in best.items() if all(re.search(_AVERAGED, name) for name in found)]
    others = [each for each in best.values() if each not in means]
    chosen = (means if averaged else others) or [*best.values()]
    if len(chosen) > 1:
        raise CheckpointError(
            f"{source}: holds the network {len(chosen)} times, behind "
            f"{' and '.join(repr(prefix) for _, prefix, _ in chosen)}. Save the one that is meant alone."
        )
    return chosen[0]


def _unknown(tensors: Mapping[str, Tensor], table: Mapping[str, str], prefix: str) -> list[str]:
    """Tensors whose names begin like those of the key map, all behind ``prefix``, but are not in it."""
    known = {name.removeprefix(prefix) for name in table.values()}
    roots = {name.split(".")[0] for name in known if "." in name}
    behind = {name: name.removeprefix(prefix) for name in tensors if name.startswith(prefix)}
    others = [name for name, rest in behind.items() if rest.split(".")[0] in roots and rest not in known]
    return [name for name in others if not re.search(_UNUSED, behind[name])]


def _fitted(network: nn.Module, name: str, stored: Tensor, shape: torch.Size) -> tuple[Tensor, str] | None:
    """A stored tensor in the shape wanted, in float32, and its origin; None where it does not fit."""
    if stored.shape != shape and stored.squeeze().shape == torch.Size([n for n in shape if n != 1]):
        stored = stored.reshape(shape)  # a linear layer and a 1 x 1 convolution have the same weights
    if stored.shape == shape:
        return stored.float(), KEPT
    stored = stored.float()  # before summing, which float16 would round
    if isinstance(network, LatentAutoencoder):
        if _differs_in(stored.shape, shape, dim=1, sizes=(3, 1)):
            return stored.sum(dim=1, keepdim=True), SUMMED
        if _differs_in(stored.shape, shape, dim=0, sizes=(3, 1)):
            return stored.mean(dim=0, keepdim=True), AVERAGED
    elif name == "conv_in.conv.weight":
        missing = shape[1] - stored.shape[1]
        if missing > 0 and _differs_in(stored.shape, shape, dim=1):
            return nn.functional.pad(stored, (0, 0, 0, 0, 0, missing)), GROWN
    elif re.search(r"\.attn2\.to_[kv]\.weight$", name) and _differs_in(stored.shape, shape, dim=1):
        return _reinitialised(network, name), NEW
    return None


def _differs_in(stored: Sequence[int], wanted: Sequence[int], dim: int, sizes: tuple[int, int] | None = None) -> bool:
    """Whether two shapes are equal except in dimension ``dim``, where they have the two ``sizes``, if given."""
    if len(stored) != len(wanted) or len(stored) <= dim:
        return False
    others = all(a == b for index, (a, b) in enumerate(zip(stored, wanted, strict=True)) if index != dim)
    return others and sizes in (None, (stored[dim], wanted[dim]))


def _reinitialised(network: nn.Module, name: str) -> Tensor:
    """A new value of a tensor, drawn as its layer initialises it."""
    layer, _, kind = name.rpartition(".")
    module: Any = network.get_submodule(layer).to_empty(device="cpu")
    module.reset_parameters()
    return getattr(module, kind).detach()


def _detach_from_file(started: LoadedNetwork) -> Any:
    """The network with its tensors copied to memory, so that training does not depend on the mapped file."""
    state = {name: tensor.clone() for name, tensor in started.network.state_dict().items()}
    started.network.load_state_dict(state, assign=True)
    return started.network
