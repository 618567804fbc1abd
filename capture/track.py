"""What tracking finds: who is seen, from where, and how the face moves.

Shape letters: N frames of all takes, I identity modes, C expression shapes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from capture.energy import View
from realtime.arrays import FloatArray
from realtime.whole_file import replacing


@dataclass(frozen=True, kw_only=True)
class Track:
    """Who is seen, from where, and how the face moves: the frames of all takes, one take after the other."""

    alpha_I: FloatArray  # identity, standard deviations
    view: View
    pose_N44: FloatArray  # object to camera
    delta_NC: FloatArray  # weights of the expression shapes
    reprojection_N: FloatArray  # pixels, root mean square, a constant of each landmark taken off; NaN: no face found

    def save(self, path: Path) -> None:
        """Writes it as safetensors."""
        arrays = {
            "identity": self.alpha_I,
            "pose": self.pose_N44,
            "expression": self.delta_NC,
            "reprojection": self.reprojection_N,
        }
        view = json.dumps(asdict(self.view))
        with replacing(path) as partial:
            save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, partial, {"view": view})


def load_track(path: Path) -> Track:
    """What Track.save wrote."""
    with safe_open(path, "numpy") as file:
        view = View(**json.loads(file.metadata()["view"]))
        return Track(
            alpha_I=file.get_tensor("identity"),
            view=view,
            pose_N44=file.get_tensor("pose"),
            delta_NC=file.get_tensor("expression"),
            reprojection_N=file.get_tensor("reprojection"),
        )
