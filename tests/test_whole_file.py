"""A file is there as a whole or not at all, whatever happens while it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from realtime.whole_file import replacing


def test_the_file_appears_when_all_of_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    path.write_text("old")
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
        assert partial.parent == tmp_path and partial.name.startswith(".") and partial.suffix == ".json"
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["figures.json"]


@pytest.mark.parametrize("fault", [RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_of_a_file_that_was_not_finished(tmp_path: Path, fault: type[BaseException]) -> None:
    path = tmp_path / "figures.json"
    for before in (None, "old"):
        if before is not None:
            path.write_text(before)
        with pytest.raises(fault), replacing(path) as partial:
            partial.write_text("half of it")
            raise fault
        assert [p.read_text() for p in tmp_path.iterdir()] == ([] if before is None else [before])


def test_what_was_never_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "figures.json"):
        pass
    with pytest.raises(OSError), replacing(tmp_path / "absent" / "figures.json") as partial:
        partial.write_text("no such folder")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError), replacing(tmp_path / "folder") as partial:
        partial.write_text("a folder is in its place")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    """Both write a whole file; the last one to finish stays."""
    path = tmp_path / "cache"
    with replacing(path) as first:
        with replacing(path) as second:
            first.write_text("first")
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first" and len(list(tmp_path.iterdir())) == 1


def test_a_link_stays_and_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target, link, plain = tmp_path / "elsewhere" / "file", tmp_path / "link", tmp_path / "plain"
    target.write_text("old")
    link.symlink_to(target)
    with replacing(link) as partial:
        partial.write_text("new")
    plain.write_text("")
    assert link.is_symlink() and target.read_text() == "new"
    assert target.stat().st_mode == plain.stat().st_mode
