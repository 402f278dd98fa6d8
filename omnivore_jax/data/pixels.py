"""A decoded frame of a clip to pixels as a player shows them: colours, size and orientation."""

import av
import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter
from jaxtyping import Shaped, UInt8

ITU601, FCC = 5, 4
MATRICES = {1: 1, 4: FCC, 7: 7, 9: 9, 10: 9}
"""swscale's matrices (SWS_CS_*) by `frame.colorspace` (ISO/IEC 23091-2): ITU 709, FCC, SMPTE 240M,
BT.2020. What is not here is read as ITU 601."""


class Converter:
    """Makes upright RGB of a clip's frames; holds what the conversion needs from frame to frame."""

    def __init__(self):
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame, width: int, height: int) -> UInt8[np.ndarray, "h w 3"]:
        """Converts a frame, resized to `width` x `height` before it is turned upright.

        Matrix and range are those that the frame states; ITU 601 and the narrow range where it
        states none.
        """
        coded = {} if frame.format.is_rgb else _coding(frame)
        # One thread: the loader has its own, and each would prepare the conversion for itself.
        rgb = self._reformatter.reformat(frame, width, height, "rgb24", **coded, threads=1)
        return _upright(rgb.to_ndarray(), frame)


def upright(pixels: Shaped[np.ndarray, "h w c"], matrix: bytes) -> Shaped[np.ndarray, "h2 w2 c"]:
    """Turns and mirrors a picture by a display matrix, to the nearest quarter turn.

    `matrix`: a b u c d v x y w, little-endian (ISO/IEC 14496-12, 6.2.2): a point (p, q) of the
    picture is shown at (a p + c q, b p + d q), up to a shift.
    """
    a, b, _, c, d = (int(value) for value in np.frombuffer(matrix[:20], "<i4"))
    if abs(b) + abs(c) > abs(a) + abs(d):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _upright(pixels: np.ndarray, frame: av.VideoFrame) -> np.ndarray:
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return pixels if matrix is None else upright(pixels, bytes(matrix))


def _coding(frame: av.VideoFrame) -> dict[str, int]:
    """How the colours of a frame are coded, in the words of `reformat`."""
    matrix = MATRICES.get(frame.colorspace, ITU601)
    full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    return {
        "src_colorspace": matrix,
        # of no meaning for RGB, but some versions heed no matrix that equals its destination's
        "dst_colorspace": ITU601 if matrix == FCC else FCC,
        "src_color_range": ColorRange.JPEG if full else ColorRange.MPEG,
        "dst_color_range": ColorRange.JPEG,
    }
