"""SyncNet: how far a mouth is from a sound (Chung and Zisserman 2016), with the layers of the published weights.

It judges finished videos (training/lip_sync.py); no avatar holds it.
"""

from __future__ import annotations

from torch import Tensor, nn

SYNC_EMBEDDING = 1024
MFCC_COEFFICIENTS, MFCC_FRAMES = 13, 20  # 10 ms apart: 0.2 s
FACE_FRAMES, FACE_SIDE = 5, 224  # 0.2 s at 25 frames a second; pixels


def _stage(convolution: nn.Module, norm: nn.Module, *pool: nn.Module) -> list[nn.Module]:
    return [convolution, norm, nn.ReLU(), *pool]


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, SYNC_EMBEDDING))


class SyncNet(nn.Module):
    """Two towers of seven convolutions into one space: 0.2 s of sound, and five frames of a face.

    Parameter names are those of the published file (`netcnnaud`, `netfcaud`, `netcnnlip`, `netfclip`).
    """

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_stage(nn.Conv2d(1, 64, 3, padding=1), nn.BatchNorm2d(64), nn.MaxPool2d(1)),
            *_stage(nn.Conv2d(64, 192, 3, padding=1), nn.BatchNorm2d(192), nn.MaxPool2d(3, (1, 2))),
            *_stage(nn.Conv2d(192, 384, 3, padding=1), nn.BatchNorm2d(384)),
            *_stage(nn.Conv2d(384, 256, 3, padding=1), nn.BatchNorm2d(256)),
            *_stage(nn.Conv2d(256, 256, 3, padding=1), nn.BatchNorm2d(256), nn.MaxPool2d(3, 2)),
            *_stage(nn.Conv2d(256, 512, (5, 4)), nn.BatchNorm2d(512)),
        )
        self.netfcaud = _head()
        flat, half = (1, 3, 3), (1, 2, 2)
        self.netcnnlip = nn.Sequential(
            *_stage(nn.Conv3d(3, 96, (5, 7, 7), half), nn.BatchNorm3d(96), nn.MaxPool3d(flat, half)),
            *_stage(nn.Conv3d(96, 256, (1, 5, 5), half, (0, 1, 1)), nn.BatchNorm3d(256)),
            nn.MaxPool3d(flat, half, (0, 1, 1)),
            *_stage(nn.Conv3d(256, 256, flat, padding=(0, 1, 1)), nn.BatchNorm3d(256)),
            *_stage(nn.Conv3d(256, 256, flat, padding=(0, 1, 1)), nn.BatchNorm3d(256)),
            *_stage(nn.Conv3d(256, 256, flat, padding=(0, 1, 1)), nn.BatchNorm3d(256), nn.MaxPool3d(flat, half)),
            *_stage(nn.Conv3d(256, 512, (1, 6, 6)), nn.BatchNorm3d(512)),
        )
        self.netfclip = _head()

    def sound(self, mfcc: Tensor) -> Tensor:
        """float32 [B, 1, 13, 20] -> [B, 1024]."""
        embedding: Tensor = self.netfcaud(self.netcnnaud(mfcc).flatten(1))
        return embedding

    def face(self, frames: Tensor) -> Tensor:
        """float32 [B, 3, 5, 224, 224], BGR in 0 .. 255, oldest first -> [B, 1024]."""
        embedding: Tensor = self.netfclip(self.netcnnlip(frames).flatten(1))
        return embedding
