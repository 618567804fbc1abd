"""What was made on a GPU is given back in the reverse order, whatever goes wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from realtime.gpu.cuda_error import CudaError
from realtime.gpu.release_stack import ReleaseStack


def refusing(code: int) -> Callable[[object], None]:
    def release(thing: object) -> None:
        raise CudaError("cudaFree", code, "refused")

    return release


def test_the_last_is_released_first() -> None:
    held, released = ReleaseStack(), list[str]()
    assert [held.keep(name, released.append) for name in ("a", "b", "c")] == ["a", "b", "c"]
    held.close()
    assert released == ["c", "b", "a"]
    held.close()
    assert released == ["c", "b", "a"], "once"


def test_a_refusal_keeps_nothing_else_and_the_first_one_is_told() -> None:
    held, released = ReleaseStack(), list[str]()
    held.keep("a", released.append)
    held.keep("b", refusing(2))
    held.keep("c", refusing(1))
    with pytest.raises(CudaError) as told:
        held.close()
    assert told.value.code == 1 and released == ["a"]


def test_what_is_no_refusal_is_raised_and_keeps_nothing_else() -> None:
    held, released = ReleaseStack(), list[str]()
    held.keep("a", released.append)
    held.keep("b", lambda thing: released[5])
    with pytest.raises(IndexError):
        held.close()
    assert released == ["a"]


def test_an_error_while_things_are_made_is_the_one_that_is_told() -> None:
    held, released = ReleaseStack(), list[str]()
    with pytest.raises(KeyError), held.released_on_error():
        held.keep("a", released.append)
        held.keep("b", refusing(2))
        raise KeyError("no such thing")
    assert released == ["a"]


def test_without_an_error_all_is_held_on() -> None:
    held, released = ReleaseStack(), list[str]()
    with held.released_on_error():
        held.keep("a", released.append)
    assert released == []
    held.close()
    assert released == ["a"]
