"""Which of EGL's devices is CUDA's, and whether CUDA and OpenGL share memory: probed, with the reason why not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import moderngl
import numpy as np
import pytest

from realtime.gpu.cuda import Cuda
from realtime.gpu.interop import interop_device, probe_interop
from tests.fake_cuda import FakeCuda


@pytest.fixture
def fake() -> FakeCuda:
    return FakeCuda()


@pytest.fixture
def cuda(fake: FakeCuda) -> Cuda:
    return Cuda(0, fake.runtime, fake.driver)


EGL = """
#include <stdint.h>
#include <string.h>
static unsigned devices(int room, void** found, int* count) {
    for (int i = 0; i < 3 && i < room; i++) found[i] = (void*)(intptr_t)(0x700000001000 + i);
    *count = 3;
    return 1;
}
static unsigned attribute(void* device, int name, intptr_t* value) {
    intptr_t index = (intptr_t)device - 0x700000001000;
    if (name != 0x323A || index == 1) return 0;  /* the second one is no CUDA device */
    *value = index == 0 ? 1 : 0;
    return 1;
}
void* eglGetProcAddress(const char* name) {
    if (!strcmp(name, "eglQueryDevicesEXT")) return (void*)devices;
    return strcmp(name, MISSING) && !strcmp(name, "eglQueryDeviceAttribEXT") ? (void*)attribute : 0;
}
"""


def build_egl(folder: Path, missing: str) -> str:
    (folder / "egl.c").write_text(EGL.replace("MISSING", f'"{missing}"'))
    library = folder / f"libfake-egl-{missing or 'all'}.so"
    subprocess.run(["g++", "-x", "c", "-shared", "-fPIC", "-o", library, folder / "egl.c"], check=True)
    return str(library)


def test_the_gpu_of_egl_is_found_by_its_cuda_number(tmp_path: Path) -> None:
    library = build_egl(tmp_path, "")
    assert [interop_device(device, library) for device in (0, 1, 2)] == [2, 0, None]
    assert interop_device(0, build_egl(tmp_path, "eglQueryDeviceAttribEXT")) is None
    assert interop_device(0, "libEGL-that-is-not-there.so") is None


def test_a_software_renderer_is_no_cuda_device(gl: moderngl.Context, fake: FakeCuda) -> None:
    assert fake.has_gpu or interop_device(0) is None


def test_interop_is_probed(fake: FakeCuda, cuda: Cuda, guarded: moderngl.Context) -> None:
    assert probe_interop(cuda, guarded) is None
    cuda.close()
    fake.check_leaks()


@pytest.mark.parametrize(
    ("name", "code", "after"),
    [
        ("cudaStreamCreateWithFlags", 2, 0),
        ("cudaMalloc", 2, 0),
        ("cudaGraphicsGLRegisterImage", 304, 0),
        ("cudaGraphicsGLRegisterBuffer", 304, 0),
        ("cudaGraphicsMapResources", 999, 0),
        ("cudaStreamSynchronize", 700, 0),
    ],
)
def test_a_probe_that_fails_gives_the_reason(
    fake: FakeCuda, cuda: Cuda, guarded: moderngl.Context, name: str, code: int, after: int
) -> None:
    fake.fail(name, code, after)
    reason = probe_interop(cuda, guarded)
    assert reason is not None
    assert f"{name}: found error {code}" in reason
    assert str(guarded.info["GL_RENDERER"]) in reason
    cuda.close()
    fake.check_leaks()


def test_a_probe_compares_what_it_reads(
    fake: FakeCuda, cuda: Cuda, gl: moderngl.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    texture, buffer = fake.gl.texture, fake.gl.buffer
    with monkeypatch.context() as patch:
        patch.setattr(fake.gl, "texture", lambda glo: np.zeros_like(texture(glo)))
        assert probe_interop(cuda, gl) == "CUDA does not read from a texture what OpenGL has written"
    monkeypatch.setattr(fake.gl, "buffer", lambda glo, data=None: buffer(glo, None if data is None else 0 * data))
    assert probe_interop(cuda, gl) == "OpenGL does not read from a buffer what CUDA has written"
    cuda.close()
