"""From a filmed actor to a packed avatar, every stage once and small: the stages fit and the folder loads."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from realtime.contract import SAMPLE_RATE

pytestmark = pytest.mark.usefixtures("torch", "gl_context")


@pytest.fixture
def few_voices(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two short recordings are all the speech there is."""
    import training.voices as voices
    from dataset.phones import load_utterances

    few = [u for u in load_utterances(data_folder) if u.corpus == "librispeech" and u.seconds < 6][:2]
    monkeypatch.setattr(voices, "load_utterances", lambda data: few)


# A face that is trained in a second.
TINY: dict[str, Any] = {
    "steps": 2,
    "frame_step": 4,
    "frames_per_step": 2,
    "pixels_per_frame": 64,
    "pixels_kept_per_frame": 256,
    "lambda_vgg": 0,
    "frequencies": 4,
    "voice_frames": 8,
}


@pytest.fixture(scope="module")
def packed(
    dataset_folder: Path, encoder_path: Path, data_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    import training.voices as voices
    from dataset.folder import load_dataset
    from dataset.phones import load_utterances
    from export.baked import BakeConfig, bake
    from export.pack import pack
    from training.composition import CompositionTraining
    from training.composition import train as train_composition
    from training.embeddings import embed_dataset
    from training.encoders import load_encoder
    from training.face import train as train_face
    from training.face_networks import FaceConfig, load_face

    few = [u for u in load_utterances(data_folder) if u.corpus == "librispeech" and u.seconds < 6][:3]
    place = tmp_path_factory.mktemp("avatar")
    face_config = FaceConfig(**TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(voices, "load_utterances", lambda data: few)
        face = train_face(face_config, dataset_folder=dataset_folder, encoder_path=encoder_path, folder=place / "face")
    dataset = load_dataset(dataset_folder)
    windows = embed_dataset(load_encoder(encoder_path)[0], dataset, 1000)
    bake_config = BakeConfig(
        displacement_rank=3,
        color_rank=4,
        latents=12,
        full_latents=6,
        subset=50,
        mean_latents=1,
        held_out_latents=2,
        network_steps=5,
    )
    report = bake(dataset, load_face(face)[0], windows, place / "baked", bake_config)
    assert set(report) >= {"color_psnr", "color_psnr_by_rank", "displacement_error_mm"}
    composition_config = CompositionTraining(steps=2, batch=2, targets=4, held_out_targets=2, lambda_vgg=0)
    composition = train_composition(
        composition_config,
        dataset_folder=dataset_folder,
        encoder_path=encoder_path,
        face_path=face,
        baked=place / "baked",
        folder=place / "composition",
    )
    sample = dataset_folder.parent / "hum.wav"
    pack(
        dataset_folder=dataset_folder,
        encoder_path=encoder_path,
        face_path=face,
        baked=place / "baked",
        composition_path=composition,
        out=place / "tiny",
        name="Tiny",
        consent="a test",
        sample=sample,
    )
    assert '"own_lips_l1"' in (place / "face" / "log.jsonl").read_text(), "her own speech is learnt once more"
    for picture in ("face/held_out.png", "face/log.png", "composition/held_out.png", "composition/log.png"):
        assert (place / picture).stat().st_size > 1000
    return place / "tiny"


def test_the_packed_folder_loads_and_renders(packed: Path) -> None:
    from realtime.audio.block import Block
    from realtime.audio.ring import AudioRing
    from realtime.avatar import load_avatar
    from realtime.face.pipeline import FacePipeline

    avatar = load_avatar(packed)
    assert avatar.lookahead_samples == 1000 and avatar.targets == ("baked", "onnx", "tensorrt")
    assert avatar.info["consent"] == "a test" and avatar.info["provenance"]["face"]["frequencies"] == 4
    assert len(avatar.source_pose) == 2 * 20 - 2, "there and back, each turning point once"
    ring = AudioRing(SAMPLE_RATE)
    ring.write(Block(0, np.zeros(SAMPLE_RATE, np.float32)))
    for target in ("baked", "onnx"):
        with FacePipeline(avatar, ring, target) as pipeline:
            picture = pipeline.render(0)
            assert (picture.width, picture.height) == (512, 512)


def test_a_new_projection_leaves_the_rest_of_the_face(
    torch: Any, packed: Path, dataset_folder: Path, encoder_path: Path, few_voices: None, tmp_path: Path
) -> None:
    """For another encoder the projection is trained from nothing, for the same one from what it was."""
    from safetensors.torch import load_file, save_file

    from networks.audio_encoder import AudioEncoder
    from training.projection import ProjectionTraining, train

    torch.manual_seed(7)
    other = tmp_path / "encoder.safetensors"
    state = {k: v.half().contiguous() for k, v in AudioEncoder().state_dict().items() if "num_batches" not in k}
    save_file(state, other, {"config": json.dumps({"lookahead_samples": 1000})})
    face = packed.parent / "face" / "face.safetensors"
    config = ProjectionTraining(steps=2, voice_frames=8, film_frames=4, learning_rate=1e-5)
    before = load_file(face)
    distance = {}
    for name, encoder in (("other", other), ("same", encoder_path)):
        path = train(
            config,
            dataset_folder=dataset_folder,
            face_path=face,
            before=encoder_path,
            encoder_path=encoder,
            folder=tmp_path / name,
        )
        after = load_file(path)
        assert after.keys() == before.keys()
        changed = {k.split(".")[0] for k in before if not torch.equal(before[k], after[k])}
        assert changed <= {"projection", "rest_latent"} and "projection" in changed
        key = "projection.features.0.weight"
        distance[name] = float((after[key].float() - before[key].float()).abs().mean())
    assert distance["other"] > 20 * distance["same"]


def test_two_actors_share_the_projection(
    torch: Any, packed: Path, dataset_folder: Path, encoder_path: Path, few_voices: None, tmp_path: Path
) -> None:
    """Trained in turns, each has deformation and colour of its own; the projection has learnt from both."""
    from safetensors.torch import load_file

    from training.face import train
    from training.face_networks import FaceConfig

    config = FaceConfig(**TINY, ema_decay=0.0)
    trained = partial(train, config, dataset_folder=dataset_folder, encoder_path=encoder_path)
    one = load_file(trained(folder=tmp_path / "face", second=dataset_folder))
    other = load_file(tmp_path / "face" / "second" / "face.safetensors")
    alone = load_file(trained(folder=tmp_path / "alone"))
    assert one.keys() == other.keys()

    def differ(a: dict[str, Any], b: dict[str, Any], part: str) -> bool:
        return any(not torch.equal(a[k], b[k]) for k in a if k.startswith(part))

    for part in ("deformation", "color"):
        assert differ(one, other, part), "begun with other weights"
    # The second actor took the last turn; the first's copy is from the turn before it.
    assert differ(one, alone, "projection") and differ(one, other, "projection")
    key = "projection.features.0.weight"
    assert (one[key] - other[key]).abs().max() < 2 * config.learning_rate, "one network, a step apart"


def test_a_face_goes_on_from_that_of_an_avatar(packed: Path, tmp_path: Path) -> None:
    """The first actor's networks are the avatar's, the second has its projection alone; another input is refused."""
    from realtime.errors import MiravoxError
    from training.face import begin_actors
    from training.face_networks import FaceConfig, load_face

    materials: list[Any] = [None, None]
    config = FaceConfig(**TINY, init=str(packed))
    first, second = begin_actors(config, tmp_path, materials)
    before = load_face(packed)[0].state_dict()
    for actor, new in ((first, set()), (second, {"deformation", "color"})):
        state = actor.networks.state_dict()
        assert {k.split(".")[0] for k, v in before.items() if bool((state[k] != v).any())} == new
    assert first.networks.projection is second.networks.projection
    with pytest.raises(MiravoxError, match="--frequencies"):
        begin_actors(FaceConfig(**{**TINY, "frequencies": 5}, init=str(packed)), tmp_path, materials)


def test_fidelity_of_every_network(
    packed: Path, dataset_folder: Path, measured_lips: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what is inside the mask is painted; each network, and another avatar beside it, has its figures."""
    import bench.fidelity as bench
    from bench import held_out
    from bench.fidelity_table import table
    from bench.reenactment import AT_REST, TRUE_FACE, TRUE_MESH, Reenactment
    from dataset.folder import load_dataset
    from realtime.avatar import load_avatar
    from training.inpaint import Inpaint

    avatar, dataset = load_avatar(packed), load_dataset(dataset_folder)
    frame = next(t.first for t in dataset.takes if t.held_out)
    ((_, image),) = dataset.frames({frame})
    results = {}
    for network in ("color", "onnx", "baked"):
        reenactment = Reenactment(avatar, dataset, Inpaint(dataset), network)
        painted = results[network] = reenactment.paint(frame, image)
        reenactment.close()
        assert np.array_equal(painted.image[painted.mask == 0], image[painted.mask == 0])
        assert (painted.image[painted.mask == 1] != image[painted.mask == 1]).any()
        assert (painted.vertices is None) == (network == "baked") and painted.covered.any()
    unknown = (results["color"].mask == 1) & ~results["color"].covered
    assert not results["color"].image[unknown].any(), "the colour network alone leaves what it does not cover"

    spoken = {"own voice": measured_lips, "never heard": measured_lips}
    monkeypatch.setattr(bench, "held_out_articulation", lambda _: spoken)
    monkeypatch.setattr(held_out, "RUN", 3)  # frames that the networks paint cost seconds
    figures, share = bench.fidelity(
        avatar, dataset, ("color", "baked"), 3, sheet=tmp_path / "sheet.png", beside=(avatar,), bounded=True
    )
    assert {"color", "baked", "strided8", "geometry", "flicker_ratio", "seam_ratio", "lse"} <= figures.keys()
    for network in ("color", "baked", "strided8"):
        parts = figures[network]
        assert isinstance(parts, dict) and {"frame", "face", "lower_face", "mouth"} <= parts.keys()
        assert 0 < parts["lower_face"]["psnr"] < parts["frame"]["psnr"]
    bounds: dict[str, Any] = {name: figures[name] for name in (TRUE_MESH, TRUE_FACE, AT_REST)}
    assert bounds[TRUE_FACE]["face"]["psnr"] > bounds[TRUE_MESH]["face"]["psnr"], "the frame's own pixels"
    assert figures["lse"] is None and 0 < share < 0.3 and (tmp_path / "sheet.png").stat().st_size > 1000
    assert "| strided8 | mouth |" in table(figures, share)


def test_ablation(
    packed: Path,
    dataset_folder: Path,
    encoder_path: Path,
    few_voices: None,
    measured_lips: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each variant lacks what it is named for, and what is there already is not trained again."""
    import bench.fidelity
    import bench.held_out
    from bench.ablation import ablation, table
    from realtime.avatar import load_avatar
    from realtime.errors import MiravoxError
    from training.ablation import train
    from training.face_networks import FaceConfig, load_face

    runs, datasets = tmp_path / "runs", (dataset_folder, dataset_folder)
    with pytest.raises(MiravoxError, match="no variant"):
        ablation(load_avatar(packed), runs, dataset_folder, 3)
    train(FaceConfig(**TINY), datasets, encoder_path, runs, ("x", "w"))
    written = {path: path.stat().st_mtime_ns for path in runs.rglob("face.safetensors")}
    train(FaceConfig(**TINY), datasets, encoder_path, runs, ("x", "w", "voices"))
    assert written == {path: path.stat().st_mtime_ns for path in written}
    assert {str(path.parent.relative_to(runs)) for path in written} == {"x", "w", "w/second"}
    configs = {name: load_face(runs / name / "face.safetensors")[1] for name in ("x", "w", "voices")}
    assert {n: (c.window, c.latent_noise > 0, c.voice_frames > 0) for n, c in configs.items()} == {
        "x": (1, False, False),
        "w": (9, True, False),
        "voices": (9, True, True),
    }

    spoken = {"own voice": measured_lips, "never heard": measured_lips}
    monkeypatch.setattr(bench.fidelity, "held_out_articulation", lambda _: spoken)
    monkeypatch.setattr(bench.held_out, "RUN", 3)
    figures = ablation(load_avatar(packed), runs, dataset_folder, 3)
    assert list(figures) == ["x", "w", "voices"] and figures["w"]["actors"] == 2 and figures["x"]["steps"] == 2
    rows = table(figures).splitlines()
    assert rows[2].startswith("| x | 1 | no | 1 | no |") and "(39.43)" in rows[2] and "90 %" in rows[4]


def test_composition_is_trained_on_patches(
    torch: Any, packed: Path, dataset_folder: Path, encoder_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from networks.composition import Composition
    from training.composition import CompositionTraining, train

    seen: list[tuple[int, ...]] = []
    real = Composition.forward

    def watched(self: Composition, layers: Any) -> Any:
        if self.training:
            seen.append(tuple(layers.shape))
        return real(self, layers)

    monkeypatch.setattr(Composition, "forward", watched)
    config = CompositionTraining(
        network="dilated", side=64, patch=32, steps=2, batch=2, targets=4, held_out_targets=1, lambda_vgg=0
    )
    place = packed.parent
    path = train(
        config,
        dataset_folder=dataset_folder,
        encoder_path=encoder_path,
        face_path=place / "face" / "face.safetensors",
        baked=place / "baked",
        folder=tmp_path / "run",
    )
    assert seen == [(2, 6, 32, 32)] * 2 and path.is_file()


def test_packed_networks_are_the_trained_ones(packed: Path) -> None:
    from export.parity import check_avatar

    assert all(d.fits for d in check_avatar(packed))
