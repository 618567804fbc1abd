"""What is read from embeddings while the audio encoder is trained, and when it is measured; dropped at export."""

from __future__ import annotations

from torch import Tensor, nn

from networks.contract import EMBEDDING, EMBEDDINGS

LOOKAHEADS = (600, 1200, 1800, 2400, 3200, 6000)  # samples: nominally 40, 75, 110, 150, 200 and 370 ms
ONE_EMBEDDING_REACH = 3200  # samples: what lies further back is not within one embedding's window
ARTICULATION = ("aperture", "width", "closed")  # centimetres of opening, spread less rounding, a logit


class SpeechHeads(nn.Module):
    """Linear heads: phones from one embedding, phones from the window A_TE of embeddings, and the mouth's shape."""

    def __init__(self, phones: int) -> None:
        super().__init__()
        self.phones = phones
        self.phone = nn.Linear(EMBEDDING, phones)  # at the encoder's own lookahead
        self.ahead = nn.Linear(EMBEDDING, phones * sum(x <= ONE_EMBEDDING_REACH for x in LOOKAHEADS))
        self.window = nn.Linear(EMBEDDINGS * EMBEDDING, phones * len(LOOKAHEADS))
        self.articulation = nn.Linear(EMBEDDING, len(ARTICULATION))

    def phones_at(self, windows_BTE: Tensor) -> Tensor:
        """float32 [B, 9, 512], oldest first -> logits [B, 6, P]: the phone at each of LOOKAHEADS before the end of the
        window.
        """
        logits_BP: Tensor = self.window(windows_BTE.flatten(1))
        return logits_BP.reshape(-1, len(LOOKAHEADS), self.phones)

    def phones_near(self, embedding_BE: Tensor) -> Tensor:
        """float32 [B, 512] -> logits [B, 5, P]: the same from one embedding, as far back as it reaches."""
        logits_BP: Tensor = self.ahead(embedding_BE)
        return logits_BP.reshape(len(embedding_BE), -1, self.phones)
