"""Speak and see: an avatar says what you say, live in the browser.

python run_stream.py [--source browser|mic|silence|FILE] [--loop] [--device NAME] [--list-devices]
                     [--avatar DIR] [--target auto|baked|onnx|tensorrt] [--size N]
                     [--record OUT.mp4] [--force] [--window] [--offline] [--dry-run] [--verbose] [--version]
                     [--host ADDRESS] [--port N] [--token TOKEN] [--tls-cert PEM --tls-key PEM]
                     [--ice-server URL[,USERNAME,CREDENTIAL]] [--max-sessions N]

Where Miravox is installed the same command is called `miravox`.
"""

from __future__ import annotations

import sys

from realtime.cli import main

if __name__ == "__main__":
    sys.exit(main(prog="python run_stream.py"))
