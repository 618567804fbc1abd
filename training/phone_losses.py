"""Losses on phones and visemes, shared by the audio encoder and the readout."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dataset.phones import LIPS_TOGETHER, PHONES, VISEME_OF_PHONE, VISEMES

LABEL_JITTER = (0.2, 0.6, 0.2)  # weight of the labels 10 ms before, at, and 10 ms after: alignments err by as much


def phone_loss(logits: Tensor, labels: Tensor, closure_weight: float, smoothing: float) -> Tensor:
    """Cross entropy, the mean; P, B and M weigh `closure_weight`.

    Args:
        logits: [..., 40], of PHONES.
        labels: int64 [..., 3], the phone 10 ms before, at and 10 ms after, weighted by LABEL_JITTER.
        smoothing: share of the target that is spread over all phones.
    """
    logits, labels = logits.reshape(-1, logits.shape[-1]), labels.reshape(-1, 3)
    target = torch.zeros_like(logits).scatter_add_(1, labels, torch.tensor(LABEL_JITTER).expand(len(labels), 3))
    weight = torch.tensor([closure_weight if p in LIPS_TOGETHER else 1.0 for p in PHONES])
    return F.cross_entropy(logits, target, weight, label_smoothing=smoothing)


def viseme_loss(logits: Tensor, labels: Tensor, closure_weight: float) -> Tensor:
    """Cross entropy of the phones' sums by viseme; arguments as of phone_loss, of the labels the middle one counts."""
    viseme = visemes_of(logits.softmax(-1)).clamp_min(1e-6).log()
    truth = torch.from_numpy(VISEME_OF_PHONE)[labels[..., 1]]
    weight = torch.ones(len(VISEMES))
    weight[VISEME_OF_PHONE[PHONES.index("P")]] = closure_weight
    return F.nll_loss(viseme.flatten(0, -2), truth.flatten(), weight)


def visemes_of(probability: Tensor) -> Tensor:
    """Phone probabilities [..., 40] -> viseme probabilities [..., 13]."""
    sums = torch.zeros(len(PHONES), len(VISEMES))
    sums[torch.arange(len(PHONES)), torch.from_numpy(VISEME_OF_PHONE)] = 1
    return probability @ sums
