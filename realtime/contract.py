"""Every network's name, inputs and outputs (name, shape, dtype, range), and the constants they share. No torch import.

Shape letters, used as suffixes all over the project:
    S samples of one window      M mel bands          F mel frames       E embedding     T window of embeddings
    K latent                     V template vertices  N points, any count  H, W pixels   B batch
"""

from __future__ import annotations

from dataclasses import dataclass

SAMPLE_RATE = 16_000  # Hz, mono; the index of a sample is the only clock
FRAME_RATE = 25  # frames per second
FRAME_SECONDS = 1 / FRAME_RATE
SAMPLES_PER_FRAME = SAMPLE_RATE // FRAME_RATE  # 640: frame k shows the speech at sample 640 k
assert SAMPLES_PER_FRAME * FRAME_RATE == SAMPLE_RATE

# Mel spectrogram: Wav2Lip's settings, so that its published weights can be loaded.
MEL_BANDS = 80
MEL_FRAMES = 16
MEL_WINDOW = 800  # samples, also n_fft
MEL_HOP = 200  # samples
WINDOW_SAMPLES = MEL_WINDOW + (MEL_FRAMES - 1) * MEL_HOP  # 3800 samples make one embedding
LOOKAHEAD_STEP = 200  # samples: lookahead is a multiple of this
DEFAULT_LOOKAHEAD = 1800  # samples = 112.5 ms

EMBEDDING = 512  # E
EMBEDDINGS = 9  # T: the window is the embeddings of frames k-8 .. k
LATENT = 64  # K
FREQUENCIES = 16  # L of the positional encoding, thesis equation 3.3

MASKS = ("whole", "big", "jaw", "mouth")  # weighted regions of the template, thesis Table 3.5
REGIONS = (*MASKS, "inpaint")


@dataclass(frozen=True)
class Tensor:
    """One input or output.

    A negative extent in `shape` is free; `low` and `high` bound the values, None is unbounded.
    """

    name: str
    shape: tuple[int, ...]
    meaning: str
    dtype: str = "float32"
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Network:
    """What goes into a network and what comes out, in order."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


ANY = -1

AUDIO_ENCODER = Network(
    "audio_encoder",
    (
        Tensor(
            "mel", (ANY, 1, MEL_BANDS, MEL_FRAMES), "mel spectrogram, band 0 lowest, frame 15 newest", low=-4, high=4
        ),
    ),
    (
        Tensor("embedding", (ANY, EMBEDDING), "a_E, after ReLU", low=0),
        Tensor("presence", (ANY, 1), "probability that somebody speaks", low=0, high=1),
    ),
)
PROJECTION = Network(
    "projection",
    (Tensor("embeddings", (ANY, EMBEDDINGS, EMBEDDING), "A_TE, oldest first", low=0),),
    (Tensor("latent", (ANY, LATENT), "b_K, zero mean and unit variance over its 64 values"),),
)
DEFORMATION = Network(
    "deformation",
    (
        Tensor("points", (ANY, 3), "canonical points of the template (lips parted), scaled by its box to [-1, 1]"),
        Tensor("latent", (1, LATENT), "b_K"),
    ),
    (Tensor("displacement", (ANY, 3), "displacement from the neutral point, centimetres"),),
)
COLOR = Network(
    "color",
    (
        Tensor("points", (ANY, 3), "points scaled by the template's box to [-1, 1]; deformed ones may leave it"),
        Tensor("latent", (1, LATENT), "b_K"),
    ),
    (Tensor("rgb", (ANY, 3), "sRGB-encoded", low=0, high=1),),
)
COMPOSITION = Network(
    "composition",
    (Tensor("layers", (ANY, 6, ANY, ANY), "eroded source RGB, then rendered face over it RGB", low=0, high=1),),
    (Tensor("rgb", (ANY, 3, ANY, ANY), "sRGB-encoded", low=0, high=1),),
)
COEFFICIENTS = Network(
    "coefficients",
    (Tensor("latent", (ANY, LATENT), "b_K"),),
    (
        Tensor("displacement", (ANY, ANY), "d_k(b): factors of the baked displacement components"),
        Tensor("color", (ANY, ANY), "c_k(b): factors of the baked colour components"),
    ),
)
NETWORKS = (AUDIO_ENCODER, PROJECTION, DEFORMATION, COLOR, COMPOSITION, COEFFICIENTS)
# What a GPU runs: a kernel encodes the points, since float16 cannot hold the encoding's argument.
ENCODED_COLOR = Network(
    "color",
    (
        Tensor("encoded", (ANY, ANY), "gamma(p): 6 L values, zeros up to a multiple of 8", "float16", low=-1, high=1),
        Tensor("latent", (1, LATENT), "b_K"),
    ),
    (Tensor("rgb", (ANY, 3), "sRGB-encoded", low=0, high=1),),
)
PLAN_NETWORKS = (AUDIO_ENCODER, PROJECTION, DEFORMATION, ENCODED_COLOR, COMPOSITION)  # of the target tensorrt


def encoded_width(frequencies: int) -> int:
    """How many values of `encoded` a point has: 6 L, and zeros up to a multiple of 8, as tensor cores want it."""
    return -(-6 * frequencies // 8) * 8


def check_shape(tensor: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether `shape` is one that `tensor` allows."""
    return len(shape) == len(tensor.shape) and all(w in (ANY, s) for w, s in zip(tensor.shape, shape, strict=True))
