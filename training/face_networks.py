"""The three networks of a face that are trained together, projection, deformation and colour, and their file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dataset.folder import Dataset
from networks.color import Color, ColorConfig
from networks.deformation import Deformation
from networks.projection import Projection, ProjectionConfig
from realtime.arrays import FloatArray
from realtime.contract import EMBEDDINGS, LATENT
from realtime.errors import MiravoxError
from realtime.whole_file import replacing


@dataclass(frozen=True)
class FaceConfig:
    """Everything that decides the result of a run of training.face.

    Lambdas are those of equation 3.4; the thesis gives no figures for them.
    """

    window: int = EMBEDDINGS  # T of the temporal weighting (Table 4.8); 1: the newest embedding alone
    color_input: str = "canonical"  # the 3D point that the colour network sees: canonical, or deformed as in Figure 3.1
    frequencies: int = 10  # L of the positional encoding
    steps: int = 3200
    frames_per_step: int = 16
    pixels_per_frame: int = 160
    vertices_per_frame: int = 64
    learning_rate: float = 6e-4
    lambda_color: float = 1.0
    lambda_deformation: float = 1.0
    lambda_vgg: float = 4.0
    lambda_latent: float = 0.01
    lambda_lips: float = 1.0  # of the lip aperture in the other voices
    lambda_change: float = 1.0  # of its change from frame to frame
    lambda_own: float = 1.0  # of lips and change of the film's own speech
    voice_frames: int = 128  # a step, of other voices; 0: the film alone
    own_frames: int = 64  # a step, of the film's own speech, beside other voices
    voice_vertices: int = 12  # a frame of them, besides the lips'
    stranger_share: float = 2.0  # how often every recording is embedded again, as of another speaker and microphone
    closure_weight: float = 4.0  # of frames that show P, B or M
    embedding_dropout: float = 0.1  # of the other voices' embeddings
    vgg_every: int = 10  # steps
    patch: int = 56  # pixels
    latent_noise: float = 0.2  # thesis 3.4
    ema_decay: float = 0.998
    frame_step: int = 2  # every which frame of the training takes is used: neighbours hardly differ
    pixels_kept_per_frame: int = 6144  # drawn once for each frame, held in memory
    init: str = ""  # avatar whose face the first actor begins with
    seed: int = 0


class FaceNetworks(nn.Module):
    """The three networks that are trained together."""

    def __init__(self, config: FaceConfig) -> None:
        super().__init__()
        self.color_input = config.color_input
        self.projection, self.deformation = Projection(ProjectionConfig(window=config.window)), Deformation()
        self.color = Color(ColorConfig(frequencies=config.frequencies))

    def shade(self, canonical: Tensor, neutral: Tensor, latent: Tensor, box_23: Tensor) -> Tensor:
        """RGB [..., N, 3] at points given by their canonical (scaled) and neutral (cm) positions."""
        if self.color_input == "deformed":
            deformed = neutral + self.deformation(canonical, latent)
            points = (deformed - box_23[0]) / (box_23[1] - box_23[0]) * 2 - 1
        else:
            assert self.color_input == "canonical"
            points = canonical
        rgb: Tensor = self.color(points, latent)
        return rgb


def load_face(path: Path) -> tuple[FaceNetworks, FaceConfig, FloatArray]:
    """The three networks of a run (face.safetensors) or of an avatar (its folder), their configuration and the rest
    latent [64].

    Raises MiravoxError if the file is not there.
    """
    file = path / "networks.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise MiravoxError(
            str(file), found="no such file", wanted="face.safetensors, or an avatar", remedy="Run training.face first."
        )
    state = {k: v.float() for k, v in load_file(file).items()}
    if path.is_dir():
        config = FaceConfig(**json.loads((path / "avatar.json").read_text())["provenance"]["face"])
        rest = load_file(path / "geometry.safetensors")["rest_latent"].numpy()
        parts = ("projection/", "deformation/", "color/")
        state = {k.replace("/", "."): v for k, v in state.items() if k.startswith(parts)}
    else:
        with safe_open(file, "pt") as f:
            config = FaceConfig(**json.loads((f.metadata() or {})["config"]))
        rest = state.pop("rest_latent").numpy()
    networks = FaceNetworks(config)
    networks.load_state_dict(state)
    return networks.eval(), config, rest


def save_face(
    config: FaceConfig, folder: Path, networks: FaceNetworks, rest: Tensor, **more: dict[str, object]
) -> Path:
    """Writes face.safetensors, float16: the three networks and the rest latent, with the configuration, and whatever
    `more` says about later training, in its metadata.
    """
    state = {k: v.half().contiguous() for k, v in networks.state_dict().items()} | {"rest_latent": rest.contiguous()}
    path = folder / "face.safetensors"
    metadata = {"config": json.dumps(asdict(config))} | {k: json.dumps(v) for k, v in more.items()}
    with replacing(path) as partial:
        save_file(state, partial, metadata)
    return path


@torch.no_grad()
def rest_latent(networks: FaceNetworks, dataset: Dataset, windows: FloatArray) -> Tensor:
    """Mean b [64] of the silent first take, normalised."""
    silent = dataset.takes[0]
    rest: Tensor = networks.projection(torch.from_numpy(windows[silent.first + EMBEDDINGS : silent.end])).mean(0)
    rest = (rest - rest.mean()) / rest.std(unbiased=False)
    assert rest.shape == (LATENT,)
    return rest
