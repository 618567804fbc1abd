"""What every training shares: checkpoints without pickles, a log of losses, and their curve as PNG."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from realtime.errors import MiravoxError
from realtime.whole_file import replacing

CHECKPOINT = "checkpoint.safetensors"
CHECKPOINT_SECONDS = 120.0


def open_run(folder: Path, config: Any, resume: bool) -> None:
    """Makes the run folder and saves the config beside the result.

    Raises MiravoxError if the folder holds another run that is not to be resumed, or one of another config.
    """
    saved, wanted = folder / "config.json", json.loads(json.dumps(dataclasses.asdict(config)))
    if (folder / CHECKPOINT).exists():
        if not resume:
            raise MiravoxError(
                str(folder),
                found="the checkpoint of an earlier run",
                wanted="an empty folder",
                remedy="Add --resume to go on with it, or name another folder.",
            )
        if json.loads(saved.read_text()) != wanted:
            raise MiravoxError(
                str(saved),
                found="another configuration than this run's",
                wanted="the same one, to resume",
                remedy="Start with the options of the first run, or name another folder.",
            )
    folder.mkdir(parents=True, exist_ok=True)
    saved.write_text(json.dumps(wanted, indent=2) + "\n")


class Checkpoint:
    """Modules, an Adam optimizer and the step, saved every few minutes as one safetensors file, replaced as a whole."""

    def __init__(self, folder: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> None:
        self.path = folder / CHECKPOINT
        self.modules, self.optimizer = modules, optimizer
        self.saved_at = time.monotonic()

    def load(self) -> int:
        """Restores everything and returns the step to go on with; 0 if there is no checkpoint."""
        if not self.path.exists():
            return 0
        tensors = load_file(self.path)
        for name, module in self.modules.items():
            prefix = f"module.{name}."
            module.load_state_dict({k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)})
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".")
                state.setdefault(int(index), {})[name] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
        return int(tensors["step"])

    def save(self, step: int) -> None:
        """Writes everything; `step` is the one to go on with."""
        tensors = {f"module.{n}.{k}": v for n, m in self.modules.items() for k, v in m.state_dict().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in values.items()}
        tensors["step"] = torch.tensor(step)
        with replacing(self.path) as partial:
            save_file({k: v.contiguous().clone() for k, v in tensors.items()}, partial)
        self.saved_at = time.monotonic()

    def save_if_due(self, step: int) -> None:
        """Saves if the last time is CHECKPOINT_SECONDS ago."""
        if time.monotonic() - self.saved_at > CHECKPOINT_SECONDS:
            self.save(step)


def log_line(folder: Path, **values: float) -> None:
    """Appends one line to log.jsonl: the step, the wall clock, the losses and figures at that step."""
    with (folder / "log.jsonl").open("a") as f:
        f.write(json.dumps({"unix_seconds": round(time.time(), 1), **values}) + "\n")


def plot_log(folder: Path) -> Path:
    """Draws every figure of log.jsonl against the step, as log.png."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    names = [n for n in dict.fromkeys(n for row in rows for n in row) if n not in ("step", "unix_seconds")]
    figure, axes = pyplot.subplots(1, len(names), figsize=(3.6 * len(names), 3), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        points = [(row["step"], row[name]) for row in rows if name in row]
        axis.plot(*zip(*points, strict=True), lw=1)
        axis.set(title=name, xlabel="step")
    figure.tight_layout()
    figure.savefig(folder / "log.png", dpi=90)
    pyplot.close(figure)
    return folder / "log.png"
