"""ReleaseStack: what was made on a GPU, given back in the reverse order of its making, whatever happens."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

from .cuda_error import CudaError

T = TypeVar("T")


class ReleaseStack:
    """Things with what releases each. A GPU that has failed refuses to release, too: the rest is released all the same.

    Attributes:
        failure: the first error of CUDA among the releases.
    """

    def __init__(self) -> None:
        self._releases = contextlib.ExitStack()
        self.failure: CudaError | None = None

    def keep(self, thing: T, release: Callable[[T], object]) -> T:
        """The thing itself, which will be released before everything that was kept earlier."""
        self._releases.callback(self._release, thing, release)
        return thing

    def _release(self, thing: T, release: Callable[[T], object]) -> None:
        try:
            release(thing)
        except CudaError as error:
            self.failure = self.failure or error

    @contextlib.contextmanager
    def released_on_error(self) -> Iterator[None]:
        """An error in this block, whatever it is, leaves nothing held, and is the one that is raised."""
        try:
            yield
        except BaseException:  # cancellation, too, must leave nothing held
            self._releases.close()
            raise

    def close(self) -> None:
        """Releases everything. Raises `failure` if there was one."""
        self._releases.close()
        if self.failure is not None:
            raise self.failure
