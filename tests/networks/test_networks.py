"""The networks: sizes of the thesis, shapes of the contract, and the formulas that are easy to get wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from realtime import contract

pytestmark = pytest.mark.usefixtures("torch")


def parameters(module: Any) -> int:
    return sum(p.numel() for p in module.parameters())


def test_sizes_are_those_of_the_thesis() -> None:
    from networks.audio_encoder import WAV2LIP, AudioEncoder
    from networks.color import Color
    from networks.composition import DILATED, STRIDED, STRIDED16, Composition
    from networks.deformation import Deformation
    from networks.projection import Projection

    assert parameters(AudioEncoder(WAV2LIP).audio_encoder) == pytest.approx(2.81e6, rel=0.002)
    assert parameters(Projection()) + parameters(Deformation()) + parameters(Color()) == pytest.approx(3.0e6, rel=0.03)
    assert parameters(Composition(DILATED)) == parameters(Composition(STRIDED)) == pytest.approx(2.35e6, rel=0.005)
    assert parameters(Composition(STRIDED16)) == pytest.approx(2.35e6 / 4, rel=0.01)


def test_encoder_takes_the_published_names(torch: Any) -> None:
    """Thirteen blocks, seven of them residual, named as in Wav2Lip's checkpoint."""
    from networks.audio_encoder import WAV2LIP, AudioEncoder, ConvBlock

    encoder = AudioEncoder(WAV2LIP)
    names = {k for k in encoder.state_dict() if k.startswith("audio_encoder.")}
    parts = ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked")
    assert names == {f"audio_encoder.{i}.conv_block.{p}" for i in range(13) for p in parts}
    assert sum(isinstance(b, ConvBlock) and b.residual for b in encoder.audio_encoder) == 7
    wanted = {0: (32, 1, 3), 3: (64, 32, 3), 6: (128, 64, 3), 9: (256, 128, 3), 11: (512, 256, 3), 12: (512, 512, 1)}
    for index, (outputs, inputs, kernel) in wanted.items():
        weight = encoder.state_dict()[f"audio_encoder.{index}.conv_block.0.weight"]
        assert tuple(weight.shape) == (outputs, inputs, kernel, kernel), index


def modules() -> list[tuple[contract.Network, Any]]:
    from export.coefficients import Coefficients
    from networks.audio_encoder import AudioEncoder
    from networks.color import Color
    from networks.composition import STRIDED16, Composition
    from networks.deformation import Deformation
    from networks.projection import Projection

    made = (AudioEncoder(), Projection(), Deformation(), Color(), Composition(STRIDED16), Coefficients(5, 7))
    return list(zip(contract.NETWORKS, made, strict=True))


def test_outputs_fit_the_contract(torch: Any) -> None:
    from export.onnx import example_inputs

    for network, module in modules():
        with torch.no_grad():
            outputs = module.eval()(*example_inputs(network, free=5))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        for tensor, output in zip(network.outputs, outputs, strict=True):
            assert contract.check_shape(tensor, tuple(output.shape)), f"{network.name}.{tensor.name}: {output.shape}"
            assert tensor.low is None or float(output.min()) >= tensor.low
            assert tensor.high is None or float(output.max()) <= tensor.high


def test_attention_weighs_the_window_and_b_is_normalised(torch: Any) -> None:
    """b = F w with softmax weights (equation 3.2), then zero mean and unit variance."""
    from networks.projection import Projection

    projection = Projection().eval()
    window = torch.rand(2, contract.EMBEDDINGS, contract.EMBEDDING)
    features = projection.features(window.transpose(1, 2))
    scores = projection.attention(features)[:, 0]
    weights = scores.exp() / scores.exp().sum(1, keepdim=True)
    latent = sum(features[:, :, t] * weights[:, t : t + 1] for t in range(contract.EMBEDDINGS))
    latent = latent - latent.mean(1, keepdim=True)
    expected = latent / latent.std(1, unbiased=False, keepdim=True)
    found = projection(window)
    assert torch.allclose(found, expected, atol=2e-2)
    assert float(found.detach().mean(1).abs().max()) < 1e-5


def test_positional_encoding_is_exact_at_high_frequencies(torch: Any) -> None:
    """Against float64 at L = 16, outside of [-1, 1] too, where deformed points may lie."""
    from networks.color import encode_position

    points = torch.linspace(-1.3, 1.3, 999).reshape(-1, 3)
    encoded = encode_position(points, 16).numpy()
    k = np.arange(16)
    angle = points.numpy().astype(np.float64)[..., None] * 2.0**k * np.pi
    expected = np.concatenate([np.sin(angle).reshape(len(points), -1), np.cos(angle).reshape(len(points), -1)], 1)
    assert np.abs(encoded - expected).max() < 1e-5


def test_masked_losses_are_equations_3_5_to_3_7(torch: Any) -> None:
    from networks.losses import latent_l1, masked_l1, total_loss

    prediction = torch.tensor([[0.5, 0.0, 1.0], [0.0, 0.0, 0.0]])
    target = torch.tensor([[0.0, 0.0, 0.5], [0.0, 1.0, 0.0]])
    masks = torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    expected = ((32 + 128) * 1.0 + (32 + 128 + 128 + 256) * 1.0) / 2
    assert float(masked_l1(prediction, target, masks)) == pytest.approx(expected)
    latent = torch.tensor([[1.0, -2.0], [0.5, 0.5]])
    assert float(latent_l1(latent)) == pytest.approx(2.0)
    total = total_loss(
        color_vgg=2.0,
        color_l1=torch.tensor(3.0),
        deformation_l1=torch.tensor(5.0),
        latent=latent,
        lambda_vgg=1,
        lambda_color=10,
        lambda_deformation=100,
        lambda_latent=1000,
    )
    assert float(total) == pytest.approx(2 + 30 + 500 + 2000)


def test_strided16_starts_as_the_identity(torch: Any) -> None:
    """Untrained, the residual network leaves the rendered face as it is."""
    from networks.composition import STRIDED16, Composition

    layers = torch.rand(1, 6, 32, 32)
    assert torch.equal(Composition(STRIDED16)(layers), layers[:, 3:])


def test_dilated_keeps_resolution_and_sees_far(torch: Any) -> None:
    """A changed input pixel moves outputs 31 pixels away (dilations 1 + 2 + 4 + 8 + 16), in the dilated network."""
    from networks.composition import Composition, CompositionConfig

    torch.manual_seed(0)
    network = Composition(CompositionConfig(base=4)).eval()
    layers = torch.rand(1, 6, 96, 96)
    changed = layers.clone()
    changed[0, :, 48, 48] += 1
    with torch.no_grad():
        moved = (network(changed) - network(layers)).abs().amax((0, 1))
    rows = torch.nonzero(moved.amax(1) > 0)[:, 0]
    assert int(rows.min()) <= 48 - 31 and int(rows.max()) >= 48 + 31


@pytest.mark.parametrize("window", [1, 4, 9])
def test_the_projection_sees_the_newest_embeddings_of_its_window(torch: Any, window: int) -> None:
    from networks.projection import Projection, ProjectionConfig

    torch.manual_seed(0)
    projection = Projection(ProjectionConfig(window=window)).eval()
    window_1TE = torch.randn(1, 9, 512)
    latent = projection(window_1TE)
    for age in range(9):  # 0 is the newest
        changed = window_1TE.clone()
        changed[:, 8 - age] += 1
        assert bool((projection(changed) == latent).all()) == (age >= window), age
