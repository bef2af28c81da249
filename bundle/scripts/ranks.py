"""What the ranks of a training have in common, so that several compute the gradients of one with the same batch.

Each rank has its share of the batch, and ``DistributedDataParallel`` averages the ranks' gradients. A loss that is a
mean over samples needs no more than equal shares. Here is what others need: the samples of all ranks for one that
compares samples with each other, and the average of counts for one that leaves samples out. Where gradients are off,
as in validation, every rank has all samples, and both return what they are given.
"""

from __future__ import annotations

import ignite.distributed as idist
import torch
from torch import Tensor

from scripts.errors import UserError


def share(batch_size: int) -> int:
    """How many of a batch's samples one rank has.

    Raises:
        UserError: the batch cannot be divided equally.
    """
    ranks = idist.get_world_size()
    if batch_size % ranks:
        near = sorted({max(1, batch_size // ranks) * ranks, -(-batch_size // ranks) * ranks})
        raise UserError(
            f"batch_size is {batch_size}, which {ranks} processes cannot share equally. "
            f"Give --batch_size {' or '.join(map(str, near))}, or another number of processes."
        )
    return batch_size // ranks


def gathered(samples: Tensor) -> Tensor:
    """The samples of all ranks (R B, ..), of this rank's (B, ..), for a loss that every rank computes over them all.

    Its gradients reach this rank's samples R times, which the average over ranks divides by again. (Ignite's
    ``all_gather`` carries no gradients, and that of ``torch.distributed.nn`` is deprecated.)
    """
    ranks = training_ranks()
    if ranks == 1:
        return samples
    whole = idist.all_gather(samples.detach().contiguous())
    assert isinstance(whole, Tensor)
    parts = list(whole.chunk(ranks))
    own = samples.clone()
    if own.requires_grad:
        own.register_hook(lambda gradient: ranks * gradient)
    parts[idist.get_rank()] = own
    return torch.cat(parts)


def averaged(number: Tensor) -> Tensor:
    """A number's mean over ranks, without gradients."""
    ranks = training_ranks()
    return number if ranks == 1 else torch.as_tensor(idist.all_reduce(number.detach().clone())) / ranks


def training_ranks() -> int:
    """How many ranks share a batch; one where gradients are off."""
    return idist.get_world_size() if torch.is_grad_enabled() else 1
