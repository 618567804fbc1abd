"""Export: ONNX says what torch says, baking factors faithfully, an avatar's files fit its reference weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from networks import contract
from realtime.errors import MiravoxError

pytestmark = pytest.mark.usefixtures("torch")


def rounded(module: Any) -> Any:
    """The module with float16 numbers as weights, as they ship."""
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_floating_point():
            tensor.data = tensor.data.half().float()
    return module.eval()


def test_onnx_agrees_with_torch_float64(torch: Any, tmp_path: Path) -> None:
    """Network by network, with the free extents at another size than the exporter saw, and L = 16 in the colour
    network.
    """
    from export.coefficients import Coefficients
    from export.onnx import export_onnx
    from export.parity import TOLERANCE, compare
    from networks.color import Color
    from networks.composition import STRIDED16, Composition

    torch.manual_seed(1)
    made: dict[str, tuple[contract.Network, Any]] = {
        contract.COLOR.name: (contract.COLOR, Color()),
        contract.COMPOSITION.name: (contract.COMPOSITION, Composition(STRIDED16)),
        contract.COEFFICIENTS.name: (contract.COEFFICIENTS, Coefficients(4, 6)),
    }
    torch.nn.init.normal_(made["composition"][1].decoder[-1].weight, std=0.1)  # it starts as the identity otherwise
    for name, (network, module) in made.items():
        path = tmp_path / f"{name}.onnx"
        export_onnx(rounded(module), network, path, 64)
        for difference in compare(module, network, path, 64):
            assert difference.fits, difference
    assert TOLERANCE == 1e-4


def test_parity_sees_a_difference(torch: Any, tmp_path: Path) -> None:
    from export.coefficients import Coefficients
    from export.onnx import export_onnx
    from export.parity import compare

    module = rounded(Coefficients(4, 6))
    export_onnx(module, contract.COEFFICIENTS, tmp_path / "c.onnx")
    module.color.bias.data += 0.01
    assert [d.fits for d in compare(module, contract.COEFFICIENTS, tmp_path / "c.onnx", 64)] == [True, False]


def test_weights_are_stored_in_float16(torch: Any, tmp_path: Path) -> None:
    import onnx

    from export.coefficients import Coefficients
    from export.onnx import SMALL, export_onnx

    export_onnx(Coefficients(4, 6), contract.COEFFICIENTS, tmp_path / "c.onnx")
    model = onnx.load(tmp_path / "c.onnx")
    large = [i for i in model.graph.initializer if np.prod(i.dims) >= SMALL]
    assert large and all(i.data_type == onnx.TensorProto.FLOAT16 for i in large)
    assert model.opset_import[0].version == 20
    assert str(Path(__file__).parents[1]).encode() not in (tmp_path / "c.onnx").read_bytes(), "no path of this machine"


def test_factors_recover_a_low_rank_function(torch: Any) -> None:
    """A function of known rank 3: from a third of its points and a few latents, all points of all latents."""
    from export.baked import factor

    rng = np.random.default_rng(0)
    mix, components, mean = rng.normal(size=(64, 3)), rng.normal(size=(3, 90)), rng.normal(size=90)
    some = rng.choice(90, 30, replace=False)

    def full(latent: Any) -> np.ndarray:
        return np.asarray(mean + np.tanh(latent.numpy()[0] @ mix / 8) @ components, np.float32)

    latents = torch.from_numpy(rng.normal(size=(200, 64)).astype(np.float32))
    factors = factor(lambda b: full(b)[some], full, latents, 3, np.arange(0, 200, 8), "test")
    rebuilt = factors.mean + factors.coefficients @ factors.components
    truth = np.stack([full(b[None]) for b in latents])
    assert np.abs(rebuilt - truth).max() < 0.02 * truth.std()
    two = factor(lambda b: full(b)[some], full, latents, 2, np.arange(0, 200, 8), "test")
    assert np.abs(two.mean + two.coefficients @ two.components - truth).max() > 0.1 * truth.std()


def test_texels_lie_on_the_drawn_triangles() -> None:
    """At vertices the vertices' values; within a cell, what the rasteriser interpolates over its two triangles."""
    from export.baked import Region, texel_points, upsample

    rng = np.random.default_rng(0)
    values = rng.normal(size=(12, 3)).astype(np.float32)
    region = Region(
        slice(0, 3),
        slice(0, 4),
        np.arange(12, dtype=np.int32),
        np.zeros((0, 3), np.int32),
        np.zeros((12, 2), np.float32),
    )
    texels = texel_points(values, region, (3, 4), 4).reshape(9, 13, 3)
    assert np.allclose(texels[::4, ::4], values.reshape(3, 4, 3))
    a, b, d, e = values[0], values[1], values[5], values[4]
    assert np.allclose(texels[2, 2], (a + d) / 2, atol=1e-6)  # on the diagonal
    assert np.allclose(texels[1, 3], a + 0.75 * (b - a) + 0.25 * (d - b), atol=1e-6)
    assert np.allclose(texels[3, 1], a + 0.75 * (e - a) + 0.25 * (d - e), atol=1e-6)
    coarse = texel_points(values, region, (3, 4), 2).reshape(5, 7, 3)
    fine = upsample(coarse)
    assert fine.shape == (9, 13, 3) and np.allclose(fine[::2, ::2], coarse)


def test_adas_networks_agree_with_her_reference_weights(ada: Path) -> None:
    from export.parity import check_avatar

    differences = check_avatar(ada)
    assert {d.network for d in differences} == {n.name for n in contract.NETWORKS}
    assert all(d.fits for d in differences), [d for d in differences if not d.fits]


def test_an_encoder_comes_from_an_avatar_too(ada: Path, torch: Any) -> None:
    """`make avatar` trains with the encoder that ships."""
    from realtime.avatar import load_avatar
    from realtime.engine import Engine
    from training.encoders import load_encoder, lookahead_of

    encoder, config = load_encoder(ada)
    assert lookahead_of(config) == load_avatar(ada).lookahead_samples
    mel = np.random.default_rng(0).uniform(-4, 4, (2, 1, 80, 16)).astype(np.float32)
    with torch.no_grad():
        embedding, presence = encoder(torch.from_numpy(mel))
    found = Engine(ada / "targets" / "onnx" / "audio_encoder.onnx", contract.AUDIO_ENCODER).run(mel)
    assert np.abs(found[0] - embedding.numpy()).max() < 1e-3 and np.abs(found[1] - presence.numpy()).max() < 1e-4


def test_an_engine_refuses_another_network(ada: Path) -> None:
    from realtime.engine import Engine
    from realtime.errors import MiravoxError

    with pytest.raises(MiravoxError, match="wanted .*embeddings"):
        Engine(ada / "targets" / "onnx" / "color.onnx", contract.PROJECTION)
    engine = Engine(ada / "targets" / "onnx" / "projection.onnx", contract.PROJECTION)
    with pytest.raises(ValueError, match="wanted float32"):
        engine.run(np.zeros((1, 9, 511), np.float32))


def test_a_broken_network_file_is_told(ada: Path, tmp_path: Path) -> None:
    from realtime.engine import Engine
    from realtime.errors import MiravoxError

    cut = tmp_path / "projection.onnx"
    shutil.copyfile(ada / "targets" / "onnx" / "projection.onnx", cut)
    cut.write_bytes(cut.read_bytes()[:1000])
    with pytest.raises(MiravoxError, match="ONNX Runtime refuses"):
        Engine(cut, contract.PROJECTION)


def test_drawn_lines_keep_ends_rims_and_distance() -> None:
    from export.baked import DRAWN_CM, thinned

    gaps = np.full(40, DRAWN_CM / 3)
    gaps[30:] = 2 * DRAWN_CM
    kept = thinned(3, 36, gaps, [17])
    assert kept[0] == 3 and kept[-1] == 35 and 17 in kept
    assert kept[:5] == [3, 6, 9, 12, 15] and kept[-5:] == [31, 32, 33, 34, 35]


def test_the_fidelity_card_is_kept(ada: Path, tmp_path: Path) -> None:
    from export.card import write_card
    from realtime.avatar import load_avatar

    shutil.copytree(ada, tmp_path / "ada")
    parts = {"frame": {"psnr": 39.0, "ssim": 0.99, "mse": 0.0001}, "seam_ratio": 1.1}
    figures = {
        "baked": parts, "true mesh": parts, "flicker_ratio": 1.1, "seam_ratio": 1.0, "teeth_sharpness": 0.8,
        "lse": None, "lse_reason": "no weights",
        "geometry": {"aperture_mm": 1.2, "width_mm": 0.4, "closure": 0.9, "own_voice": {}},
    }  # fmt: skip
    result = {
        "figures": figures, "commit": "abc", "hardware": {"cores": 2}, "config": {"frames": "60"}, "inpaint_share": 0.08
    }  # fmt: skip
    (tmp_path / "result.json").write_text(json.dumps(result))
    write_card(tmp_path / "ada", tmp_path / "result.json")
    card = load_avatar(tmp_path / "ada").info["fidelity"]
    assert card["baked"] == parts and card["lips"] == {"aperture_mm": 1.2, "width_mm": 0.4, "closure": 0.9}
    assert card["measured"]["commit"] == "abc" and card["lse"] is None and "true mesh" not in card

    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(MiravoxError, match="bench fidelity"):
        write_card(tmp_path / "ada", tmp_path / "result.json")
    assert load_avatar(tmp_path / "ada").info["fidelity"] == card
