"""The user's cache: where it is, and that each of its files is whole or absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from realtime.errors import MiravoxError
from realtime.gpu import cache
from realtime.gpu.cache import check_writable, keep, kept


def test_the_cache_is_where_the_user_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/somewhere")
    assert cache.plan_folder() == Path("/var/somewhere/miravox/plans")
    assert cache.kernel_folder() == Path("/var/somewhere/miravox/kernels")
    for value in ("", "not/absolute"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache.cache_folder() == Path.home() / ".cache" / "miravox"


def test_what_is_kept_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "plan"
    assert kept(path) is None
    for data in (b"one", b""):
        keep(path, data)
        assert kept(path) == data and list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "plan"
    for attempt in (lambda: keep(path, b"plan"), lambda: check_writable(path.parent)):
        with pytest.raises(MiravoxError, match="file: found .*; wanted a folder that can be written.*XDG_CACHE_HOME"):
            attempt()
    assert kept(path) is None
    check_writable(tmp_path / "new")
    assert not list((tmp_path / "new").iterdir())


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "plan").mkdir()
    with pytest.raises(MiravoxError, match="plan: found Is a directory; wanted a file that can be read. Delete it"):
        kept(tmp_path / "plan")
