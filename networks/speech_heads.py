"""What is read from embeddings while the audio encoder is trained, and when it is measured; dropped at export."""

from __future__ import annotations

from torch import Tensor, nn

from networks.readout import LOOKAHEADS
from realtime.contract import EMBEDDING

ONE_EMBEDDING_REACH = 3200  # samples: what lies further back is not within one embedding's window
ARTICULATION = ("aperture", "width", "closed")  # centimetres of opening, spread less rounding, a logit


class SpeechHeads(nn.Module):
    """Linear heads: the phone at several lookaheads and the mouth's shape, from one embedding."""

    def __init__(self, phones: int, dropout: float = 0.15) -> None:
        super().__init__()
        self.phones = phones
        self.dropout = nn.Dropout(dropout)
        self.phone = nn.Linear(EMBEDDING, phones)  # at the encoder's own lookahead
        self.ahead = nn.Linear(EMBEDDING, phones * sum(x <= ONE_EMBEDDING_REACH for x in LOOKAHEADS))
        self.articulation = nn.Linear(EMBEDDING, len(ARTICULATION))

    def forward(self, embedding_BE: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """float32 [B, 512] -> logits [B, P] of the phone at the encoder's own lookahead, logits [B, 5, P] at those of
        LOOKAHEADS that one embedding reaches, ARTICULATION [B, 3].
        """
        dropped_BE = self.dropout(embedding_BE)
        ahead: Tensor = self.ahead(dropped_BE)
        return self.phone(dropped_BE), ahead.unflatten(1, (-1, self.phones)), self.articulation(dropped_BE)
