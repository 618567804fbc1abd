"""Speak and see: an avatar says what you say, live in the browser.

python run_stream.py [--source browser|mic|silence|FILE] [--loop] [--device NAME] [--list-devices]
                     [--avatar DIR] [--target auto|baked|onnx|tensorrt] [--size N]
                     [--record OUT.mp4] [--window] [--offline] [--dry-run]
                     [--host ADDRESS] [--port N] [--token TOKEN] [--tls-cert PEM --tls-key PEM]
                     [--ice-server URL[,USERNAME,CREDENTIAL]] [--max-sessions N]
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from types import FrameType

from realtime.config import parse_config
from realtime.errors import MiravoxError
from realtime.targets import resolved


def terminate(number: int, frame: FrameType | None) -> None:
    """Ends the run as Ctrl-C does, so that no half-written file stays behind."""
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 2 for a fault that the user can mend, 130 when interrupted."""
    signal.signal(signal.SIGTERM, terminate)
    try:
        config = resolved(parse_config(sys.argv[1:] if arguments is None else arguments))
        # Each way of running is imported when it is taken: the command line answers at once.
        if config.dry_run:
            print(config.to_json())
        elif config.list_devices:
            from realtime.sources import list_devices

            print(list_devices())
        elif config.offline:
            from realtime.offline import render

            print(render(config))
        else:
            from realtime.serve import serve

            serve(config)
    except MiravoxError as error:
        print(f"miravox: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("miravox: interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
