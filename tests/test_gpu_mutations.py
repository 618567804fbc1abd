"""Planted mistakes in the GPU code, of the kinds that are easily made: the frame loop on the fakes must notice each.

Run as a program, this file plants one after another, each in a process of its own, since some end in a crash.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
SIZE, FRAMES = 256, (0, 1, 2)  # of both buckets
MOST_SECONDS = 60
NOTICED, UNNOTICED, STALE, BROKEN = (
    10,
    11,
    12,
    13,
)  # how a process ends that planted a mistake; any other way is a crash

MUTATIONS: tuple[tuple[str, str, str], ...] = (
    # The frame loop.
    ("gpu_pipeline", "row, array, row, self.size, self.stream)", "row, array, row // 2, self.size, self.stream)"),
    ("gpu_pipeline", "            row = 4 * F4 * self.size\n", "            row = 3 * F4 * self.size\n"),
    ("gpu_pipeline", "        self.cuda.unmap(resources, self.stream)\n\n", "        return\n\n"),
    ("gpu_pipeline", "                array = self.cuda.mapped_array(self.map_resource)\n",
     "                array = self.__dict__.setdefault('array', self.cuda.mapped_array(self.map_resource))\n"),
    ("gpu_pipeline", "                    address, size = self.cuda.mapped_buffer(resource)\n",
     "                    address, size = self.__dict__.setdefault('b', self.cuda.mapped_buffer(resource))\n"),
    ("gpu_pipeline", "self.graphs[self.bucket_of_frame[k]]", "self.graphs[min(self.graphs)]"),
    ("gpu_pipeline", "bucket_of(int((self.inpaint.mask(k) > 0).sum()), sizes)", "bucket_of(1, sizes)"),
    ("gpu_pipeline", "            self.cuda.synchronize(self.stream)\n        with self.timer.measure(\"conversion\")",
     "        with self.timer.measure(\"conversion\")"),
    ("gpu_pipeline", "        self.cuda.clear(at[\"count\"], self.sizes[\"count\"], stream)\n", ""),
    ("gpu_pipeline", "        self.cuda.clear(at[\"face\"], self.sizes[\"face\"], stream)\n", ""),
    ("gpu_pipeline", "        self.color[bucket].enqueue()\n", ""),
    ("gpu_pipeline", "        self.composition.enqueue()\n", ""),
    ("gpu_pipeline", "        self.deformation.enqueue()\n", ""),
    ("gpu_pipeline", "self._keep(cuda.register_texture(mesh_map.glo), self._unregister)",
     "cuda.register_texture(mesh_map.glo)"),
    ("gpu_pipeline", "self._keep(self.cuda.end_capture(self.stream), self.cuda.destroy_graph)",
     "self.cuda.end_capture(self.stream)"),
    ("gpu_pipeline", "self.place[:] = self.inpaint.boxes[k]", "self.place[:] = self.inpaint.boxes[0]"),
    ("gpu_pipeline", "        self.mask[:] = self.inpaint.mask(k)\n", "        self.mask[:] = self.inpaint.mask(0)\n"),
    ("gpu_pipeline", "        self.frame[self.size :, 0::2] = u\n        self.frame[self.size :, 1::2] = v\n",
     "        self.frame[self.size :, 0::2] = v\n        self.frame[self.size :, 1::2] = u\n"),
    ("gpu_pipeline", "\"index\": F4 * capacity", "\"index\": 2 * capacity"),
    ("gpu_pipeline", "\"encoded\": 2 * self.padded * capacity", "\"encoded\": self.padded * capacity"),
    ("gpu_pipeline", "capacity=bucket, count=at[\"count\"]", "capacity=1, count=at[\"count\"]"),
    # TensorRT.
    ("engine", "        binding.enqueue()\n        self.cuda.synchronize(self.stream)\n", ""),
    ("engine", "        self.cuda.synchronize(self.stream)\n        return tuple(", "        return tuple("),
    ("engine", "set_tensor_address(name, pointers[name])", "set_tensor_address(name, min(pointers.values()))"),
    ("engine", "rest.callback(self.cuda.free, pointer)", "pass"),
    # CUDA.
    ("gl_cuda", "to, to_pitch, array, 0, 0, width_bytes, height, kind, stream",
     "to, width_bytes // 2, array, 0, 0, width_bytes, height, kind, stream"),
    ("gl_cuda", "to, to_pitch, array, 0, 0, width_bytes, height, kind, stream",
     "to, to_pitch, array, 0, 1, width_bytes, height - 1, kind, stream"),
    ("gl_cuda", "array.nbytes, self.runtime.cudaMemcpyKind.cudaMemcpyHostToDevice",
     "array.nbytes // 2, self.runtime.cudaMemcpyKind.cudaMemcpyHostToDevice"),
    ("gl_cuda", "kernel, *grid, *block, 0, stream,", "kernel, *grid, *grid, 0, stream,"),
    ("gl_cuda", "kernel, *grid, *block, 0, stream,", "kernel, *grid, *block, 0, 0,"),
    ("gl_cuda", "        self._call(self.runtime.cudaMemsetAsync, to, 0, nbytes, stream)\n",
     "        self._call(self.runtime.cudaMemsetAsync, to, 1, nbytes, stream)\n"),
    ("gl_cuda", "        self._call(self.runtime.cudaFreeHost, array.ctypes.data)\n", "        return\n"),
    ("gl_cuda", "        self._call(self.runtime.cudaGraphExecDestroy, executable)\n", "        return\n"),
    ("gl_cuda", "        self._call(self.runtime.cudaGraphicsUnregisterResource, resource)\n", "        return\n"),
    # Kernels: how they are launched, and what they do.
    ("kernels", "return (-(-width // block[0]), -(-height // block[1]), 1)",
     "return (width // block[0], height // block[1], 1)"),
    ("kernels", "return (-(-width // block[0]), -(-height // block[1]), 1)",
     "return (-(-height // block[0]), -(-width // block[1]), 1)"),
    ("kernels", "place, mask, low, high, width,", "place, mask, high, low, width,"),
    ("kernels", "\"scatter\", stream, LINE, (capacity, 1)", "\"scatter\", stream, LINE, (1, 1)"),
)  # fmt: skip


def mutated(name: str, before: str, after: str) -> types.ModuleType:
    """A module of realtime/ with one piece of its text replaced. Raises LookupError if it does not have that piece."""
    path = ROOT / "realtime" / f"{name}.py"
    text = path.read_text()
    if before not in text:
        raise LookupError(f"{name}: {before!r}")
    module = types.ModuleType(f"mutated_{name}")
    sys.modules[module.__name__] = module  # where dataclasses look for it
    exec(compile(text.replace(before, after, 1), str(path), "exec"), module.__dict__)
    return module


def frames_of(files: dict[str, Path], module: types.ModuleType | None = None) -> list[np.ndarray]:
    """A few frames, every plane, painted with a mutated module, if there is one; everything must be given back."""
    from fake_gpu import FakeGpu
    from realtime import gpu_pipeline
    from realtime.audio_input import Block
    from realtime.audio_ring import AudioRing
    from realtime.sound_file import read_speech
    from realtime.yuv import planes

    avatar, gpu, pipeline_type = short_loop(), FakeGpu(files), gpu_pipeline.GpuPipeline
    with pytest.MonkeyPatch.context() as patch:
        gpu.cuda.guard_gl(patch)
        if module is not None and hasattr(module, "GpuPipeline"):
            pipeline_type = module.GpuPipeline
        elif module is not None:
            for name in ("probe_interop", "Kernels", "PlanEngine"):
                if hasattr(module, name):
                    patch.setattr(gpu_pipeline, name, getattr(module, name))
            gpu.make_cuda = getattr(module, "Cuda", gpu.make_cuda)
        ring = AudioRing(32_000)
        ring.write(Block(0, read_speech(avatar.sample).samples[:32_000]))
        found = []
        with pipeline_type(avatar, ring, SIZE, device=gpu.open()) as pipeline:
            assert pipeline.without_interop is None, pipeline.without_interop
            for k in FRAMES:
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


def plant(files: dict[str, Path], wanted: Path, name: str, before: str, after: str) -> int:
    try:
        module = mutated(name, before, after)
    except LookupError:
        return STALE
    try:
        found = frames_of(files, module)
    except Exception:  # noqa: BLE001  a violation, an error of CUDA, whatever else: all of them are noticed
        return NOTICED
    with np.load(wanted) as arrays:
        same = all(np.array_equal(f, arrays[f"arr_{i}"]) for i, f in enumerate(found))
    return UNNOTICED if same else NOTICED


def main(folder: Path) -> None:
    """Prints how the process of each mutation ended, as JSON."""
    from fake_gpu import small_networks

    files, wanted = small_networks(short_loop(), folder), folder / "wanted.npz"

    def keep(*_: object) -> int:
        np.savez(wanted, *frames_of(files))
        return 0

    assert in_a_process(keep) == 0, "the frame loop fails without a mistake"
    print(json.dumps([in_a_process(lambda m=m: plant(files, wanted, *m)) for m in MUTATIONS]))


@pytest.fixture(scope="module")
def ends(ada: Path, tmp_path_factory: pytest.TempPathFactory) -> list[int]:
    folder = str(tmp_path_factory.mktemp("mutations"))
    search = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, __file__, folder], cwd=ROOT, env={**os.environ, "PYTHONPATH": search}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[int] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("number", range(len(MUTATIONS)))
def test_a_planted_mistake_is_noticed(ends: list[int], number: int) -> None:
    name, before, after = MUTATIONS[number]
    assert ends[number] != BROKEN, "this test itself is broken"
    assert ends[number] != STALE, f"realtime/{name}.py no longer reads {before!r}: plant the mistake anew"
    assert ends[number] != UNNOTICED, f"realtime/{name}.py with {after!r} for {before!r} paints the same"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
