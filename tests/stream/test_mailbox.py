"""One slot between two threads."""

from __future__ import annotations

import threading

from realtime.stream.mailbox import Mailbox


def test_the_newest_frame_wins() -> None:
    mailbox: Mailbox[int] = Mailbox()
    assert mailbox.take_now() is None
    for k in range(3):
        assert mailbox.put(k) is (k > 0)
    assert mailbox.take() == 2
    mailbox.close()
    assert mailbox.take() is None


def test_a_reader_waits_for_an_item_and_for_the_end() -> None:
    mailbox: Mailbox[int] = Mailbox()
    taken: list[int | None] = []
    reader = threading.Thread(target=lambda: taken.extend([mailbox.take(), mailbox.take()]))
    reader.start()
    mailbox.put(5)
    while not taken and mailbox._item is not None:
        pass
    mailbox.close()
    reader.join(60)
    assert taken == [5, None]
