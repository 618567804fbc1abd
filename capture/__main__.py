"""From a few minutes of video to a live avatar, stage by stage, each finished one kept.

python -m capture VIDEO... --name NAME --consent TEXT [--out DIR] [--only STAGE] [--model F] [--encoder AVATAR] ...
python -m capture check VIDEO... [--report F] [--json F]

Stages, in the folder --out:

    check      check/           footage examined; usable takes, cropped, without loss
    track      track/           the face model fitted to every frame
    dataset    dataset/         what training reads
    train      face/            projection, deformation, colour
    export     baked/, composition/    the networks as textures, and the network that blends them in
    pack       avatar/          the avatar folder; fidelity on held-out takes, a sample video

A stage is done anew if what went into it has changed; then all later ones are, too. index.html tells of all of them.
"""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Sequence
from pathlib import Path

from capture.check import check_only
from capture.job import STAGES, Job
from capture.run import run
from dataset.phones import data_folder
from realtime.config import DEFAULT_AVATAR
from realtime.errors import MiravoxError


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    checking = list(arguments[:1]) == ["check"]
    parser = argparse.ArgumentParser(
        prog="python -m capture check" if checking else "python -m capture",
        description="Says whether footage is good enough for an avatar."
        if checking
        else "Makes an avatar of the person in a video. `python -m capture check VIDEO` only looks at it.",
    )
    parser.add_argument("videos", type=Path, nargs="+", metavar="VIDEO", help="anything that FFmpeg reads; each a take")
    parser.add_argument(
        "--encoder",
        type=Path,
        default=DEFAULT_AVATAR,
        metavar="AVATAR",
        help="avatar whose audio encoder the new one takes over; its lips tell how far sound and picture are apart"
        " (default: Ada)",
    )
    parser.add_argument(
        "--side", type=int, metavar="PIXELS", help="of the square around the head; by default what fits"
    )
    landmarks = data_folder() / "models" / "face_landmarker.task"
    parser.add_argument(
        "--landmarks",
        type=Path,
        default=landmarks if landmarks.is_file() else None,
        metavar="F",
        help="MediaPipe's face_landmarker.task, whose blendshape scores tracking starts from",
    )
    if checking:
        parser.add_argument("--report", type=Path, metavar="F", help="write the report page there")
        parser.add_argument("--json", type=Path, metavar="F", help="write the verdicts there")
        return parser.parse_args(arguments[1:], argparse.Namespace(command="check"))
    parser.add_argument("--name", required=True, help="of the avatar")
    parser.add_argument("--consent", default="", help="who consented to being shown, and how that is known")
    parser.add_argument("--out", type=Path, metavar="DIR", help="working folder; by default build/capture/NAME")
    parser.add_argument("--only", choices=STAGES, metavar="STAGE", help=f"run one stage alone: {', '.join(STAGES)}")
    parser.add_argument("--anyway", action="store_true", help="go on although the footage check says fail")
    model = data_folder() / "face_model" / "ict_facekit_light.npz"
    parser.add_argument(
        "--model", type=Path, default=model, metavar="F", help="3D morphable model (default: %(default)s)"
    )
    parser.add_argument("--modes", type=int, default=50, help="identity modes that are fitted (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="of training the face; by default training.face's")
    parser.add_argument(
        "--held-out",
        nargs="+",
        default=(),
        metavar="TAKE",
        help="takes not trained on; by default the last tenth",
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="F",
        help="phone timings of the recordings, one JSON object a line, for lips that close on P, B and M",
    )
    parser.add_argument("--licence", default="all rights reserved", help="of the footage")
    return parser.parse_args(arguments, argparse.Namespace(command="make"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 2 for what the user can mend (such as the footage), 130 if interrupted."""
    o = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        if o.command == "check":
            return check_only(
                o.videos, encoder=o.encoder, landmarks=o.landmarks, side=o.side, page=o.report, verdicts=o.json
            )
        folder = "".join(c if c.isalnum() else "-" for c in o.name.lower())
        job = Job(
            videos=tuple(o.videos),
            name=o.name,
            consent=o.consent,
            work=o.out or Path("build/capture") / folder,
            encoder=o.encoder,
            landmarks=o.landmarks,
            side=o.side,
            model=o.model,
            modes=o.modes,
            steps=o.steps,
            licence=o.licence,
            anyway=o.anyway,
            held_out=tuple(o.held_out),
            labels=o.labels,
        )
        return run(job, o.only)
    except MiravoxError as error:
        print(f"miravox: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print("miravox: the disk is full; what is finished is kept. Free some space, and start again.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("miravox: interrupted; what is finished is kept. Start again to go on.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
