"""SharedEngines: what all pipelines of one avatar can share, since nobody changes it."""

from __future__ import annotations

import threading

from ..avatar import Avatar
from ..contract import AUDIO_ENCODER, PROJECTION, Network
from .baked_face import Baked
from .engine import Engine


class SharedEngines:
    """The networks of an avatar in ONNX Runtime, and its baked textures: one copy for any number of pipelines on any
    threads, which spares memory and the cores' caches. Each is loaded when it is first asked for.
    """

    def __init__(self, avatar: Avatar) -> None:
        self._targets = avatar.folder / "targets"
        self._engines: dict[str, Engine] = {}
        self._baked: Baked | None = None
        self._loading = threading.Lock()

    def engine(self, network: Network) -> Engine:
        """One network of the contract, from targets/onnx. Raises MiravoxError if its file is not that network."""
        with self._loading:
            if network.name not in self._engines:
                path = self._targets / "onnx" / f"{network.name}.onnx"
                self._engines[network.name] = Engine(path, network)
            return self._engines[network.name]

    def speech(self) -> tuple[Engine, Engine]:
        """Audio encoder and projection."""
        return self.engine(AUDIO_ENCODER), self.engine(PROJECTION)

    def baked(self) -> Baked:
        """The textures and components of the target baked."""
        with self._loading:
            if self._baked is None:
                self._baked = Baked.load(self._targets / "baked")
            return self._baked
