"""Mailbox: one slot between two threads, where the newest item wins."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """One slot between two threads: the newest item wins."""

    def __init__(self) -> None:
        self._filled = threading.Condition()
        self._item: T | None = None
        self._closed = False

    def put(self, item: T) -> bool:
        """Returns whether it took the place of an item that nobody had fetched."""
        with self._filled:
            replaced = self._item is not None
            self._item = item
            self._filled.notify()
            return replaced

    def take(self) -> T | None:
        """Waits for an item; None once the mailbox is closed."""
        with self._filled:
            self._filled.wait_for(lambda: self._item is not None or self._closed)
            item, self._item = self._item, None
            return None if self._closed else item

    def take_now(self) -> T | None:
        """The item, if there is one."""
        with self._filled:
            item, self._item = self._item, None
            return item

    def close(self) -> None:
        with self._filled:
            self._closed = True
            self._filled.notify_all()
