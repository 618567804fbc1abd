"""Which TensorRT is taken, its one logger, and the GPUs that TensorRT-RTX runs on."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from realtime.errors import MiravoxError
from realtime.gpu import tensorrt_module


def test_one_logger_a_process(trt: ModuleType) -> None:
    log = tensorrt_module.logger(trt)
    assert tensorrt_module.logger(trt) is log
    log.messages.clear()
    assert tensorrt_module.complaints(trt) == "no reason given"
    log.log(trt.ILogger.Severity.INFO, "so it goes")
    assert not log.messages and tensorrt_module.complaints(trt) == "no reason given"
    log.log(trt.ILogger.Severity.WARNING, "beware")
    assert tensorrt_module.complaints(trt) == "beware"
    log.log(trt.ILogger.Severity.ERROR, "broken")
    log.log(trt.ILogger.Severity.INTERNAL_ERROR, "very")
    assert tensorrt_module.complaints(trt) == "broken; very"


def test_tensorrt_comes_before_rtx(trt: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    proper = ModuleType("tensorrt")
    monkeypatch.setitem(sys.modules, "tensorrt", proper)
    assert tensorrt_module.load_tensorrt() is proper
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert tensorrt_module.load_tensorrt() is trt
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(MiravoxError, match="TensorRT: found .*tensorrt.*; wanted .*pip install"):
        tensorrt_module.load_tensorrt()
