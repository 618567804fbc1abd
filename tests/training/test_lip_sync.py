"""LSE: known offsets are found, the published network's shape is taken, what is none of its files is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from realtime.errors import MiravoxError

pytestmark = pytest.mark.usefixtures("torch")


@pytest.mark.parametrize("ahead", [-4, 0, 7])
def test_a_known_offset_is_found(torch: Any, ahead: int) -> None:
    """Sound that says at row k what the mouth says at row k + ahead."""
    from training.lip_sync import lip_sync

    said = torch.randn(120, 1024, generator=torch.Generator().manual_seed(0))
    mouth, sound = said[20:100], said[20 + ahead : 100 + ahead]
    found = lip_sync(mouth, sound + 0.1 * torch.randn(80, 1024))
    assert found.offset == ahead
    assert found.distance < 0.3 * (found.distance + found.confidence), "far from the others"
    nothing = lip_sync(torch.randn(80, 1024), torch.randn(80, 1024))
    assert nothing.confidence < 0.1 * found.confidence


def test_the_network_has_the_published_shape(torch: Any, tmp_path: Path) -> None:
    from networks.syncnet import SyncNet
    from training.lip_sync import embed_clip, load_syncnet

    network = SyncNet().eval()
    shapes = {k: tuple(v.shape) for k, v in network.state_dict().items()}
    assert shapes["netcnnaud.18.weight"] == (512, 256, 5, 4) and shapes["netfcaud.3.weight"] == (1024, 512)
    assert shapes["netcnnlip.0.weight"] == (96, 3, 5, 7, 7) and shapes["netcnnlip.18.weight"] == (512, 256, 1, 6, 6)
    torch.save(network.state_dict(), tmp_path / "syncnet_v2.model")
    loaded = load_syncnet(tmp_path / "syncnet_v2.model")
    faces = [np.full((224, 224, 3), 7 * k, np.uint8) for k in range(7)]
    speech = (0.1 * np.random.default_rng(0).standard_normal(8 * 640)).astype(np.float32)
    mouth, sound = embed_clip(loaded, faces, speech)
    assert mouth.shape == sound.shape == (3, 1024)
    again = network.face(torch.tensor(np.stack(faces[2:7])[..., ::-1].transpose(3, 0, 1, 2)[None].astype(np.float32)))
    assert torch.allclose(mouth[2], again[0], atol=1e-4)


def test_what_are_no_weights_is_refused(torch: Any, tmp_path: Path) -> None:
    from networks.syncnet import SyncNet
    from training.lip_sync import embed_clip, load_syncnet

    with pytest.raises(MiravoxError, match="no such file"):
        load_syncnet(tmp_path / "absent.model")
    torch.save({"netcnnaud.0.weight": torch.zeros(64, 1, 5, 5)}, tmp_path / "other.model")
    with pytest.raises(MiravoxError, match="netcnnaud"):
        load_syncnet(tmp_path / "other.model")
    (tmp_path / "text.model").write_text("no weights")
    with pytest.raises(MiravoxError, match="only tensors"):
        load_syncnet(tmp_path / "text.model")
    with pytest.raises(MiravoxError, match="longer one"):
        embed_clip(SyncNet().eval(), [np.zeros((224, 224, 3), np.uint8)] * 3, np.zeros(1920, np.float32))


def test_mfcc_of_a_tone() -> None:
    """100 frames a second; the energy is that of 16-bit samples; a higher tone tilts the spectrum the other way."""
    from training.lip_sync import mfcc

    t = np.arange(16_000) / 16_000
    low, high = (mfcc(np.asarray(0.1 * np.sin(2 * np.pi * hz * t), np.float32)) for hz in (300, 5000))
    assert low.shape == (13, 99)
    amplitude = 3276.7 * abs(1 - 0.97 * np.exp(-2j * np.pi * 300 / 16_000))
    power = np.log(amplitude**2 / 2 * 400 / 2)  # a window's energy, by Parseval for half of the spectrum
    assert low[0, 10:90].mean() == pytest.approx(power, abs=0.05)
    assert low[1, 50] > high[1, 50]


def test_the_face_is_cropped_as_a_detector_would() -> None:
    from training.lip_sync import crop_face, face_box

    points = np.array([[100.0, 80.0], [200.0, 220.0]])
    left, top, side = face_box(points)
    assert side == 196 and top == 80 and left == 52, "1.4 times the longer side, from the brow on down"
    image = np.zeros((256, 256, 3), np.uint8)
    image[80:220, 100:200] = 255
    crop = crop_face(image, (left, top, side))
    assert crop.shape == (224, 224, 3) and crop[100, 112].min() == 255
    assert crop[-1, 0].tolist() == [110, 110, 110], "outside of the frame"
