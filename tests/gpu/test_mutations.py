"""Planted mistakes in the GPU code, of the kinds that are easily made: the frame loop on the fakes must notice each.

Run as a program, this file plants one after another, each in a process of its own, since some end in a crash.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_loader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
GPU = ROOT / "realtime" / "gpu"
SIZE, FRAMES = 256, (0, 1, 2)  # of both buckets
MOST_SECONDS = 60
# How a process ends that planted a mistake; any other way is a crash.
NOTICED, UNNOTICED, STALE, BROKEN = 10, 11, 12, 13

# By module of realtime/gpu: what stands there, exactly once, and what is planted instead.
MISTAKES: dict[str, list[tuple[str, str]]] = {
    "pipeline": [
        ("self.graphs[self.bucket_of_frame[k]]", "self.graphs[min(self.graphs)]"),
        ("            self.cuda.synchronize(self.stream)\n        with self.timer", "        with self.timer"),
        ("self.cuda.clear(b.count, b.count.nbytes, stream)", ""),
        ("self.cuda.clear(b.face, b.face.nbytes, stream)", ""),
        ("self.color[bucket].enqueue()", ""),
        ("self.composition.enqueue()", ""),
        ("self.deformation.enqueue()", ""),
        ("capacity=bucket,\n", "capacity=1,\n"),
        ("self.cuda.destroy_graph)", "lambda graph: None)"),
        ("self.cuda.free_pinned)", "lambda array: None)"),
        ("lambda opened: opened.close())", "lambda opened: None)"),
        ("staged.place[:] = self.inpaint.boxes[k]", "staged.place[:] = self.inpaint.boxes[0]"),
        ("staged.mask[:] = self.inpaint.mask(k)", "staged.mask[:] = self.inpaint.mask(0)"),
        ("self.cuda.upload(buffers.latent, staged.latent, self.stream)", ""),
        ("(buffers.low, low)", "(buffers.low, high)"),
        ('"latent": buffers.latent, "rgb"', '"latent": buffers.place, "rgb"'),
    ],
    "nv12": [
        ("0::2] = u\n    nv12[len(y) :, 1::2] = v", "0::2] = v\n    nv12[len(y) :, 1::2] = u"),
        ("v[:] = nv12[size:, 1::2]", "v[:] = nv12[size:, 0::2]"),
    ],
    "buffers": [
        ("index=take(WORD * capacity)", "index=take(2 * capacity)"),
        ("encoded=take(2 * extents.padded * capacity)", "encoded=take(extents.padded * capacity)"),
        ("face=take(4 * pixels)", "face=take(3 * pixels)"),
        ("refined=take(WORD * 3 * side * side)", "refined=take(2 * 3 * side * side)"),
        ("spare=take(WORD * 4 * cells)", "spare=take(WORD * 3 * cells)"),
        ("rows, columns = cell_counts", "columns, rows = cell_counts"),
    ],
    "position_map": [
        ("row, array, row, mesh", "row, array, row // 2, mesh"),
        ("self.map_row_bytes = 4 * WORD", "self.map_row_bytes = 3 * WORD"),
        ("            raise\n        cuda.unmap(resources, stream)\n", "            raise\n"),
        ("= cuda.mapped_array(self.texture)", "= vars(self).setdefault('array', cuda.mapped_array(self.texture))"),
        ("= cuda.mapped_buffer(resource)", "= vars(self).setdefault('buffer', cuda.mapped_buffer(resource))"),
        ("map_texture.glo), self._unregister)", "map_texture.glo), lambda texture: None)"),
        ("mesh.rasteriser.render(pose_44)", ""),
        ("        cuda.synchronize(stream)\n        seen_V3", "        seen_V3"),
        ("rasteriser.draw(self.vertices_V3,", "rasteriser.draw(seen_V3,"),
        ("cuda.upload(mesh.buffers.positions, self.position_HW4, stream)", ""),
    ],
    "profiles": [
        ("[bucket_of(int((boxes.mask(k) > 0).sum()), sizes) for k", "[bucket_of(1, sizes) for k"),
    ],
    "release_stack": [
        ("self._releases.callback(self._release, thing, release)", "pass"),
    ],
    "interop": [
        ("undo.callback(cuda.free, pointer)", "pass"),
        ("undo.callback(cuda.unregister, resources[-1])", "pass"),
        ("        finally:\n            cuda.unmap(resources, stream)\n", "        finally:\n            pass\n"),
    ],
    "plan_engine": [
        ("        binding.enqueue()\n        self.cuda.synchronize(self.stream)\n", ""),
        ("        self.cuda.synchronize(self.stream)\n        return tuple(", "        return tuple("),
        ("set_tensor_address(name, pointers[name])", "set_tensor_address(name, min(pointers.values()))"),
        ("rest.callback(self.cuda.free, pointer)", "pass"),
    ],
    "cuda": [
        ("to, to_pitch, array,", "to, width_bytes // 2, array,"),
        ("array, 0, 0, width_bytes, height, kind", "array, 0, 1, width_bytes, height - 1, kind"),
        ("_address(array), array.nbytes,", "_address(array), array.nbytes // 2,"),
        ("kernel, *grid, *block, 0, stream,", "kernel, *grid, *grid, 0, stream,"),
        ("kernel, *grid, *block, 0, stream,", "kernel, *grid, *block, 0, 0,"),
        ("cudaMemsetAsync, to, 0, nbytes", "cudaMemsetAsync, to, 1, nbytes"),
        ("self._call(self.runtime.cudaFreeHost, array.ctypes.data)", "return"),
        ("self._call(self.runtime.cudaGraphExecDestroy, executable)", "return"),
        ("self._call(self.runtime.cudaGraphicsUnregisterResource, resource)", "return"),
    ],
    "kernels": [
        ("(-(-width // block[0]), -(-height // block[1]), 1)", "(width // block[0], height // block[1], 1)"),
        ("(-(-width // block[0]), -(-height // block[1]), 1)", "(-(-height // block[0]), -(-width // block[1]), 1)"),
        ("place, mask, low, high)", "place, mask, high, low)"),
        ('"scatter", stream, LINE, (capacity, 1)', '"scatter", stream, LINE, (1, 1)'),
    ],
}
MUTATIONS = [(module, before, after) for module, pairs in MISTAKES.items() for before, after in pairs]
# What the frame loop on the fakes does not run, and the tests that do.
ELSEWHERE = {
    "__init__": "",
    "cache": "test_cache.py",
    "cuda_error": "test_cuda.py",
    "device_frame": "test_device_frame.py",
    "kernel_compiler": "test_kernel_compiler.py",
    "opened_gpu": "test_opened_gpu.py",
    "plan_cache": "test_plan_cache.py",
    "plans": "test_plans.py",
    "tensorrt_module": "test_tensorrt_module.py",
}


class Planted(SourceFileLoader):
    """Finds and loads one module of realtime/gpu with a piece of its text replaced."""

    def __init__(self, module: str, before: str, after: str) -> None:
        """Raises LookupError unless the module has that piece exactly once, SyntaxError for what is no Python."""
        super().__init__(f"realtime.gpu.{module}", str(GPU / f"{module}.py"))
        text = (GPU / f"{module}.py").read_text()
        if text.count(before) != 1:
            raise LookupError(f"{module}: {before!r}")
        self.code: CodeType = compile(text.replace(before, after), self.path, "exec", dont_inherit=True)

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        return spec_from_loader(name, self) if name == self.name else None

    def get_code(self, fullname: str) -> CodeType:
        return self.code


def frames_of(files: dict[str, Path]) -> list[np.ndarray]:
    """A few frames, every plane; with memory that OpenGL and CUDA share, and without. Everything must be given back."""
    from realtime.audio.block import Block
    from realtime.audio.ring import AudioRing
    from realtime.audio.sound_file import read_speech
    from realtime.face.yuv import planes
    from realtime.gpu.pipeline import GpuPipeline
    from tests.fake_gpu import FakeGpu

    avatar, gpu, found = short_loop(), FakeGpu(files), []
    with pytest.MonkeyPatch.context() as patch:
        gpu.cuda.guard_gl(patch)
        for shared, frames in ((True, FRAMES), (False, FRAMES[:1])):
            if not shared:
                gpu.cuda.fail("cudaGraphicsGLRegisterImage", 304)
            ring = AudioRing(32_000)
            ring.write(Block(0, read_speech(avatar.sample).samples[:32_000]))
            with GpuPipeline(avatar, ring, SIZE, gpu=gpu.open()) as pipeline:
                assert (pipeline.without_interop is None) == shared, pipeline.without_interop
                for k in frames:
                    found += [plane.copy() for plane in planes(pipeline.render(k))]
            gpu.cuda.check_leaks()
    return found


def short_loop() -> Any:
    """Ada with a few poses, far apart, and with every second mask smaller."""
    from realtime.avatar import load_avatar

    whole = load_avatar(ROOT / "avatars" / "ada")
    masks = whole.source_mask[::90].copy()
    masks[1::2, : masks.shape[1] // 2] = 0
    return replace(whole, source_pose=whole.source_pose[::90], source_box=whole.source_box[::90], source_mask=masks)


def in_a_process(run: Any) -> int:
    """What a copy of this process ends with after `run`."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.alarm(MOST_SECONDS)  # some mistakes end in a loop
    end = BROKEN
    try:
        end = run()
    finally:
        os._exit(end)


def plant(files: dict[str, Path], wanted: Path, module: str, before: str, after: str) -> int:
    try:
        planted = Planted(module, before, after)
    except LookupError:
        return STALE
    for name in [n for n in sys.modules if f"{n}.".startswith(("realtime.gpu.", "tests.fake_", "bench."))]:
        del sys.modules[name]  # whoever imports the module must get this one
    sys.meta_path.insert(0, planted)
    try:
        found = frames_of(files)
    except Exception:  # noqa: BLE001  a violation, an error of CUDA, whatever else: all of them are noticed
        return NOTICED
    finally:
        if sys.modules[planted.name].__loader__ is not planted:
            os._exit(BROKEN)
    with np.load(wanted) as arrays:
        same = all(np.array_equal(f, arrays[f"arr_{i}"]) for i, f in enumerate(found))
    return UNNOTICED if same else NOTICED


def main(folder: Path) -> None:
    """Prints how the process of each mutation ended, as JSON."""
    from tests.fake_gpu import small_networks

    files, wanted = small_networks(short_loop(), folder), folder / "wanted.npz"

    def keep(*_: object) -> int:
        np.savez(wanted, *frames_of(files))
        return 0

    assert in_a_process(keep) == 0, "the frame loop fails without a mistake"
    print(json.dumps([in_a_process(lambda m=m: plant(files, wanted, *m)) for m in MUTATIONS]))


@pytest.fixture(scope="module")
def ends(ada: Path, tmp_path_factory: pytest.TempPathFactory) -> list[int]:
    folder = str(tmp_path_factory.mktemp("mutations"))
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu.test_mutations", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[int] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("number", range(len(MUTATIONS)))
def test_a_planted_mistake_is_noticed(ends: list[int], number: int) -> None:
    module, before, after = MUTATIONS[number]
    assert ends[number] != BROKEN, "this test itself is broken"
    assert ends[number] != STALE, f"realtime/gpu/{module}.py does not read {before!r} once: plant the mistake anew"
    assert ends[number] != UNNOTICED, f"realtime/gpu/{module}.py with {after!r} for {before!r} paints the same"


def test_every_module_is_tried_here_or_elsewhere() -> None:
    """A module that is new, or renamed, must be entered above."""
    modules = {path.stem for path in GPU.glob("*.py")}
    assert modules == {*MISTAKES, *ELSEWHERE} and all(MISTAKES.values()) and not MISTAKES.keys() & ELSEWHERE.keys()
    for module, test in ELSEWHERE.items():
        if test:
            source = (Path(__file__).with_name(test)).read_text()
            assert f"realtime.gpu.{module} import" in source or f"realtime.gpu import {module}" in source, test
    assert not (GPU / "__init__.py").read_text()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
