from dataclasses import replace

import numpy as np
import pytest

from omnivore_jax import prepare as command
from omnivore_jax.core.errors import UserError
from omnivore_jax.data.decode import Clip
from omnivore_jax.data.protocol import PROTOCOLS
from omnivore_jax.data.records import Record
from omnivore_jax.data.timeline import TESTS, rows_of, text, timeline
from omnivore_jax.data.transforms import ViewsTransform
from omnivore_jax.prepare import Options
from tests.media import SIDE, clip, encode, jpeg, number, part, png


@pytest.mark.parametrize("name", TESTS)
def test_the_frames_of_the_timeline_are_those_that_the_views_decode(name):
    data = clip("h264 of varying rate")
    protocol = replace(PROTOCOLS[name], crops=1, short_side=SIDE[0], size=SIDE[0])
    rgb = ViewsTransform("video", protocol)(Record("a", 0, data, "")).rgb
    rows = rows_of(Clip(data).times, name, protocol)
    assert len(rows) == len(rgb)
    # the crop hides 16 pixels, one square, at either side: bits 1 to 6 remain
    for row, frames in zip(rows, rgb, strict=True):
        seen = [
            sum(
                1 << bit
                for bit in range(1, 7)
                if frame[4:8, 16 * bit - 12 : 16 * bit - 4].mean() > 128
            )
            for frame in frames
        ]
        assert seen == [k & 0b1111110 for k in row.frames]


def test_every_row_decodes_to_its_frames_and_says_their_seconds():
    data = encode(90, format="mp4", codec="libx264", b_frames=3)
    video = Clip(data)
    rows = timeline(video.times)
    assert {row.name for row in rows} >= {*TESTS, "train stride, where=0.5"}
    for row in rows:
        assert [number(frame) for frame in video.frames(row.frames)] == row.frames.tolist()
        assert np.allclose(row.span, (row.frames.min() / 25, row.frames.max() / 25))
    first = text(rows).splitlines()[0]
    assert first.endswith("0.000 - 2.480 s  frames " + " ".join(map(str, range(0, 64, 2))))


@pytest.mark.parametrize("data", [b"no clip", png(part(0)), jpeg(part(1))])
def test_a_file_that_is_no_clip_is_refused_in_one_line(tmp_path, data):
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    with pytest.raises(UserError, match="a.mp4") as refusal:
        command.show_timeline(Options(src=str(path)))
    assert "\n" not in str(refusal.value)


def test_the_command_prints_a_line_per_clip(tmp_path, capsys):
    path = tmp_path / "a.mp4"
    path.write_bytes(clip())
    command.show_timeline(Options(src=str(path)))
    assert len(capsys.readouterr().out.splitlines()) == 9 + 1 + 4 + 4 + 1
