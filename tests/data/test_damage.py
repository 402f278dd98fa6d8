import av.error
import cv2
import pytest

from omnivore_jax.data.damage import DecodeError, reading

RAISED = [
    UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "bad"),
    ValueError("two\nlines"),
    cv2.error("OpenCV: assertion failed"),
    AttributeError(),
    OSError("short"),
    av.error.MemoryError(12, "a header states a size"),
]


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_is_raised_of_a_file_is_an_error_of_one_line(error):
    with pytest.raises(DecodeError, match=r"^[^\n]+$") as caught, reading():
        raise error
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_a_machine_at_its_end_and_a_wish_to_stop_are_no_damage(error):
    with pytest.raises(error), reading():
        raise error
