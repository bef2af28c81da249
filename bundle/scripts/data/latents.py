"""A dataset of scaled latents, each encoded once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from monai.data import Dataset
from monai.transforms import Compose
from torch import Tensor, nn

from scripts.data.transforms import centre, preprocessing, rotation

logger = logging.getLogger(__name__)


class LatentDataset(Dataset):
    """A MONAI dataset of scaled latents in place of crops, for a frozen autoencoder.

    At the first access all crops are encoded in every rotation and kept in memory; later accesses draw a rotation. That
    gives the same latents as encoding rotated crops in every step, without its time.

    Args:
        data: MONAI items with paths under ``keys``.
        keys: the crops to encode; those of one item are rotated alike.
        autoencoder: a :class:`scripts.networks.LatentAutoencoder`.
        image_size: side in pixels of the central square that is encoded.
        rotations: degrees; each access draws one of them.
        batch_size: crops encoded at once.
    """

    def __init__(
        self,
        data: Sequence[dict[str, Any]],
        keys: Sequence[str],
        autoencoder: nn.Module,
        image_size: int = 64,
        rotations: Sequence[int] = (0,),
        batch_size: int = 64,
    ) -> None:
        super().__init__(list(data))
        self.keys = tuple(keys)
        self.autoencoder: Any = autoencoder.eval()
        self.image_size = image_size
        self.rotations = tuple(rotations)
        self.batch_size = batch_size
        self._latents: dict[str, Tensor] = {}

    def __getitem__(self, index: int) -> dict[str, Any]:  # type: ignore[override]
        """The item with each key as a latent (C, h, w), all in the same rotation."""
        if not self._latents:
            crops = len(self.data) * len(self.keys)
            turned = f", each in {len(self.rotations)} rotations" if len(self.rotations) > 1 else ""
            logger.info(f"Encoding {crops} crops into latents{turned}")
            self._latents = {key: self._encode(key) for key in self.keys}
        turn = int(torch.randint(len(self.rotations), ())) if len(self.rotations) > 1 else 0
        return self.data[index] | {key: self._latents[key][index, turn] for key in self.keys}

    @torch.no_grad()
    def _encode(self, key: str) -> Tensor:
        """The latents of all items, (items, rotations, C, h, w), on the CPU."""
        device = next(self.autoencoder.parameters()).device
        load = preprocessing([key])
        whole = [load({key: item[key]}) for item in self.data]
        turns = [Compose([rotation([key], angle), centre([key], self.image_size)]) for angle in self.rotations]
        crops = torch.stack([turn(item)[key].as_tensor() for item in whole for turn in turns])
        latents = [
            self.autoencoder.encode_stage_2_inputs(part.to(device)).cpu() for part in crops.split(self.batch_size)
        ]
        return torch.cat(latents).unflatten(0, (len(whole), len(turns)))
