"""What the kinds of gates share: how sure a path is of a cell, and the mixture of two predictions."""

import torch
from torch import Tensor


def path_confidence(p: Tensor) -> Tensor:
    """Return the largest probability, entropy / ln C and the margin of the two largest, of probabilities (B, C), as (B, 3)."""
    top = p.topk(2, dim=-1).values
    entropy = torch.special.entr(p).sum(-1) / torch.log(torch.tensor(float(p.shape[-1]), device=p.device))
    return torch.stack([top[:, 0], entropy, top[:, 0] - top[:, 1]], dim=-1)


def mix(g: Tensor, other_p: Tensor, global_p: Tensor) -> Tensor:
    """Return the mixture `(1 − g)·p_other + g·p_global` (B, C); g (B,) is the weight of the global path."""
    return (1 - g[:, None]) * other_p + g[:, None] * global_p
