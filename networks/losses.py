"""Loss functions of thesis 3.7, each a pure function. Training files choose the factors lambda."""

from __future__ import annotations

import torch
from torch import Tensor

from realtime.contract import MASKS

MASK_WEIGHTS = {"whole": 32.0, "big": 128.0, "jaw": 128.0, "mouth": 256.0}  # Table 3.5


def l1_distance(p: Tensor, q: Tensor) -> Tensor:
    """d_1(p, q) = sum_i |p_i - q_i| over the last axis (equation 3.5)."""
    return (p - q).abs().sum(-1)


def mask_weight(masks: Tensor) -> Tensor:
    """sum_m m over the masks of Table 3.5: masks [..., 4] in [0, 1], in contract.MASKS order -> [...]."""
    weights = torch.tensor([MASK_WEIGHTS[m] for m in MASKS], dtype=masks.dtype, device=masks.device)
    return masks @ weights


def masked_l1(prediction: Tensor, target: Tensor, masks: Tensor) -> Tensor:
    """Mean over points of sum_m m d_1(c, c^) (equation 3.6 for colours, 3.7 for positions).

    Args:
        prediction, target: [..., 3].
        masks: [..., 4] in [0, 1], contract.MASKS order.
    """
    return (mask_weight(masks) * l1_distance(prediction, target)).mean()


def latent_l1(latent: Tensor) -> Tensor:
    """|b|_1, the mean over the batch (equation 3.4), b [B, 64] normalised and before noise."""
    return latent.abs().sum(-1).mean()


def total_loss(
    *,
    color_vgg: Tensor | float,
    color_l1: Tensor,
    deformation_l1: Tensor,
    latent: Tensor,
    lambda_vgg: float,
    lambda_color: float,
    lambda_deformation: float,
    lambda_latent: float,
) -> Tensor:
    """Equation 3.4: L = l_vgg L_VGGcol + l_col L_L1col + l_def L_L1deform + l_b |b|_1 (l_b is 1 in the thesis)."""
    return (
        lambda_vgg * color_vgg
        + lambda_color * color_l1
        + lambda_deformation * deformation_l1
        + lambda_latent * latent_l1(latent)
    )
