"""Readout: the phones that can be read from the window of embeddings A_TE, by a network of the projection's size.

It measures what an encoder tells the projection; no avatar holds it.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from realtime.contract import EMBEDDING, EMBEDDINGS

LOOKAHEADS = (600, 1200, 1800, 2400, 3200, 6000)  # samples: nominally 40, 75, 110, 150, 200 and 370 ms


@dataclass(frozen=True)
class ReadoutConfig:
    """Widths: features of each embedding, hidden units over the window, and the phones told apart."""

    features: int = 128
    hidden: int = 256
    phones: int = 40
    dropout: float = 0.3


class Readout(nn.Module):
    """Features of every embedding, then one hidden layer over all nine; a softmax for each of LOOKAHEADS."""

    def __init__(self, config: ReadoutConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or ReadoutConfig()
        self.features = nn.Sequential(nn.Linear(EMBEDDING, config.features), nn.ReLU(), nn.Dropout(config.dropout))
        self.window = nn.Sequential(
            nn.Linear(EMBEDDINGS * config.features, config.hidden),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, len(LOOKAHEADS) * config.phones),
        )

    def forward(self, windows_BTE: Tensor) -> Tensor:
        """float32 [B, 9, 512], oldest first -> logits [B, 6, P]: the phone at each of LOOKAHEADS before the end of the
        newest embedding's window.
        """
        logits_BP: Tensor = self.window(self.features(windows_BTE).flatten(1))
        return logits_BP.reshape(-1, len(LOOKAHEADS), self.config.phones)
