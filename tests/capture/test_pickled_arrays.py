"""Nothing of a pickle is executed; test_convert_model.py reads a whole one."""

from __future__ import annotations

from pathlib import Path

import pytest

from capture.pickled_arrays import read_pickled_arrays
from realtime.errors import MiravoxError


@pytest.mark.parametrize("data", [b"no pickle", b"cos\nsystem\n(S'touch ran'\ntR.", b""])
def test_a_pickle_of_something_else_is_refused(data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flame.pkl").write_bytes(data)
    with pytest.raises(MiravoxError, match="pickle|dictionary"):
        read_pickled_arrays(tmp_path / "flame.pkl", "a pickle of arrays", "Look elsewhere.")
    assert not (tmp_path / "ran").exists()
