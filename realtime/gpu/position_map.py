"""The network's displacement -> position map, in linear memory of the GPU: drawn by OpenGL, between two steps of CUDA.

Where OpenGL and CUDA share memory (interop.py), CUDA writes the displaced vertices into OpenGL's own buffers and copies
the map out of OpenGL's texture. Elsewhere, as in WSL2, both go through page-locked memory of the host.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np

from ..arrays import FloatArray
from ..avatar import Avatar
from ..face.rasteriser import Rasteriser
from .buffers import WORD, Buffers
from .cuda import Cuda
from .cuda_error import CudaError
from .kernels import Kernels
from .release_stack import ReleaseStack


class DisplacedMesh:
    """An avatar's mesh in GPU memory, to be displaced by CUDA and drawn by OpenGL."""

    def __init__(
        self, avatar: Avatar, cuda: Cuda, stream: int, kernels: Kernels, buffers: Buffers, rasteriser: Rasteriser
    ) -> None:
        """`rasteriser` draws the avatar's triangles; its map is as large as the buffer `positions`."""
        self.avatar, self.cuda, self.stream, self.kernels, self.buffers = avatar, cuda, stream, kernels, buffers
        self.rasteriser = rasteriser
        self.map_row_bytes = 4 * WORD * rasteriser.camera.width

    def displace(self, vertices: int) -> None:
        """Writes displaced vertices, float32 [V, 3], cm, to this address. Only enqueues, as the network before it."""
        self.kernels.displace(
            self.stream,
            neutral=self.buffers.neutral,
            displacement=self.buffers.displacement,
            vertices=vertices,
            values=self.avatar.template.size,
        )


class SharedPositionMap:
    """By way of memory that OpenGL and CUDA share. Registered with CUDA as long as `held` has it."""

    def __init__(self, mesh: DisplacedMesh, held: ReleaseStack) -> None:
        self.mesh, rasteriser, cuda = mesh, mesh.rasteriser, mesh.cuda
        displaced = [rasteriser.positions]
        with rasteriser.context:
            if mesh.avatar.color_input == "deformed":
                displaced.append(rasteriser.values)
            else:
                rasteriser.values.write(np.ascontiguousarray(mesh.avatar.canonical, np.float32))
            self.vertices = [held.keep(cuda.register_buffer(b.glo), self._unregister) for b in displaced]
            self.texture = held.keep(cuda.register_texture(rasteriser.map_texture.glo), self._unregister)

    def _unregister(self, resource: int) -> None:
        with self.mesh.rasteriser.context:
            self.mesh.cuda.unregister(resource)

    def draw(self, pose_44: FloatArray) -> None:
        """Fills the buffer `positions` for a head pose, float32 [4, 4], object to camera. Only enqueues."""
        mesh, cuda, stream, row = self.mesh, self.mesh.cuda, self.mesh.stream, self.mesh.map_row_bytes
        with mesh.rasteriser.context:  # another one may be current on this thread
            with self._mapped(self.vertices):
                for resource in self.vertices:
                    address, nbytes = cuda.mapped_buffer(resource)
                    assert nbytes == mesh.buffers.vertices.nbytes
                    mesh.displace(address)
            mesh.rasteriser.render(pose_44)
            with self._mapped([self.texture]):  # where its array lies may change every time
                array = cuda.mapped_array(self.texture)
                cuda.copy_from_array(mesh.buffers.positions, row, array, row, mesh.rasteriser.camera.height, stream)

    @contextlib.contextmanager
    def _mapped(self, resources: Sequence[int]) -> Iterator[None]:
        """In this block OpenGL must not touch them, and outside of it CUDA must not."""
        cuda, stream = self.mesh.cuda, self.mesh.stream
        cuda.map(resources, stream)
        try:
            yield
        except BaseException:  # whatever it is: it is the error to tell, and nothing may stay mapped
            with contextlib.suppress(CudaError):
                cuda.unmap(resources, stream)
            raise
        cuda.unmap(resources, stream)


class HostPositionMap:
    """By way of page-locked memory of the host, which waits for the vertices. `held` has the memory."""

    def __init__(self, mesh: DisplacedMesh, held: ReleaseStack) -> None:
        self.mesh, cuda, buffers = mesh, mesh.cuda, mesh.buffers
        vertices, positions = (
            held.keep(cuda.pinned(buffer.nbytes), cuda.free_pinned).view(np.float32)
            for buffer in (buffers.vertices, buffers.positions)
        )
        self.vertices_V3 = vertices.reshape(-1, 3)
        self.position_HW4 = positions.reshape(mesh.rasteriser.map_HW4.shape)

    def draw(self, pose_44: FloatArray) -> None:
        """Fills the buffer `positions` for a head pose, float32 [4, 4], object to camera."""
        mesh, cuda, stream = self.mesh, self.mesh.cuda, self.mesh.stream
        mesh.displace(mesh.buffers.vertices)
        cuda.download(self.vertices_V3, mesh.buffers.vertices, stream)
        cuda.synchronize(stream)
        seen_V3 = self.vertices_V3 if mesh.avatar.color_input == "deformed" else mesh.avatar.canonical
        self.position_HW4[:] = mesh.rasteriser.draw(self.vertices_V3, pose_44, seen_V3)
        cuda.upload(mesh.buffers.positions, self.position_HW4, stream)
