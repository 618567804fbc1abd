"""SharedEngines: what all pipelines of one avatar can share, since nobody changes it."""

from __future__ import annotations

import threading

from ..avatar import Avatar
from ..contract import AUDIO_ENCODER, COMPOSITION, PROJECTION, Network
from ..errors import MiravoxError
from .baked_face import BAKED_FILES, Baked
from .engine import REMEDY, Engine


class SharedEngines:
    """The networks of an avatar in ONNX Runtime, and its baked textures: one copy for any number of pipelines on any
    threads, which spares memory and the cores' caches. Each is loaded when it is first asked for.
    """

    def __init__(self, avatar: Avatar) -> None:
        self._avatar = avatar
        self._engines: dict[str, Engine] = {}
        self._baked: Baked | None = None
        self._loading = threading.Lock()

    def engine(self, network: Network) -> Engine:
        """One network of the contract, from targets/onnx. Raises MiravoxError if its file is not that network."""
        with self._loading:
            if network.name not in self._engines:
                engine = Engine(self._avatar.file(f"targets/onnx/{network.name}.onnx"), network)
                if network is COMPOSITION:
                    self._check_side(engine)
                self._engines[network.name] = engine
            return self._engines[network.name]

    def speech(self) -> tuple[Engine, Engine]:
        """Audio encoder and projection."""
        return self.engine(AUDIO_ENCODER), self.engine(PROJECTION)

    def baked(self) -> Baked:
        """The textures and components of the target baked."""
        with self._loading:
            if self._baked is None:
                paths = [self._avatar.file(f"targets/baked/{name}") for name in BAKED_FILES]
                self._baked = Baked.load(paths[0].parent)
            return self._baked

    def _check_side(self, composition: Engine) -> None:
        """The network composes squares of the size that avatar.json says."""
        side, found = self._avatar.composition_size, composition.output_shapes["rgb"]
        if found != (1, 3, side, side):
            raise MiravoxError(
                str(composition.path),
                found=f"a network that makes {list(found)}",
                wanted=f"[1, 3, {side}, {side}], as composition_size in avatar.json says",
                remedy=REMEDY,
            )
