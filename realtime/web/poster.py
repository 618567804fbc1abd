"""The avatar at rest, as JPEG."""

from __future__ import annotations

from io import BytesIO

import av
from av.video.reformatter import Colorspace

from ..avatar import Avatar
from ..face.source_loop import open_source_loop


def poster(avatar: Avatar, size: int) -> bytes:
    """The first frame of the source loop, `size` pixels a side: shown while the first frame is on its way."""
    with open_source_loop(avatar.file("source.mp4"), avatar.info["width"]) as source, BytesIO() as memory:
        frame = next(source.decode(video=0))
        with av.open(memory, "w", format="mjpeg") as picture:
            stream = picture.add_stream("mjpeg", rate=1, options={"qscale": "3"})
            stream.width = stream.height = size
            stream.pix_fmt = "yuvj420p"
            # JPEG means BT.601, whatever the video is.
            colors = {"src_colorspace": Colorspace.ITU709, "dst_colorspace": Colorspace.ITU601}
            picture.mux(stream.encode(frame.reformat(size, size, "yuvj420p", **colors)))
            picture.mux(stream.encode(None))
        return memory.getvalue()
