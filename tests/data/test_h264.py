import io

import av
import pytest

from omnivore_jax.data.h264 import may_hold_fields
from tests.fields import parameter_sets
from tests.media import encode


@pytest.mark.parametrize("format", ["mp4", "mpegts"])
@pytest.mark.parametrize(
    ("parameters", "fields"),
    [("bframes=2", False), ("cqm=jvt:8x8dct=1", False), ("interlaced=1", True)],
)
def test_the_parameters_say_whether_a_stream_may_hold_fields(format, parameters, fields):
    data = encode(2, format=format, codec="libx264", options={"x264-params": parameters})
    with av.open(io.BytesIO(data)) as container:
        head = container.streams.video[0].codec_context.extradata
        assert may_hold_fields(bytes(head or b"")) is fields


def test_where_nothing_can_be_read_nothing_is_promised():
    assert may_hold_fields(parameter_sets()) and may_hold_fields(b"")
    assert may_hold_fields(b"\0\0\1\x67\x64\0") and may_hold_fields(b"\1\x64")
