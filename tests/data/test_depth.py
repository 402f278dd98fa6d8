import numpy as np
import pytest

from omnivore_jax.core.errors import UserError
from omnivore_jax.data.depth import BASELINES, Intrinsics, depth_of, disparity_of, read_intrinsics

DEFAULTS = Intrinsics(0.0, 0.075, 0.001)


def disparity(values, fx=518.8579, baseline=0.075, missing="far", **how):
    return disparity_of(
        depth_of(np.array([values], np.uint16), 0.001, **how), fx, baseline, missing
    )[0]


@pytest.mark.parametrize(
    ("sensor", "fx", "product"),
    [("kv1", 518.8579, 38.9), ("kv2", 529.5, 39.7), ("xtion", 570.34, 54.2)],
)
def test_baseline_times_focal_length_are_those_of_the_sensors(sensor, fx, product):
    assert disparity([1000], fx, BASELINES[sensor])[0] == pytest.approx(
        product, abs=0.05
    )  # FACTS 8: 39, 39, 54


def test_depth_is_clipped_to_a_centimetre_and_fifty_metres():
    assert disparity([1, 10, 50_000, 65_535]) == pytest.approx(
        38.914 / np.array([0.01, 0.01, 50, 50]), rel=1e-4
    )


def test_missing_depth_is_the_far_end_or_as_in_the_released_pipeline_the_nearest():
    assert disparity([0])[0] == pytest.approx(38.914 / 50, rel=1e-4)
    assert disparity([0], missing="near")[0] == pytest.approx(3891.4, rel=1e-4)
    normalised = (min(disparity([0], missing="near")[0], 75) / 75 - 0.0418) / 0.0295
    assert normalised == pytest.approx(32, abs=0.6)  # FACTS 8: +32 sigma


def test_raw_sun_files_are_eight_times_the_metres_and_fit_the_published_mean():
    metres = np.array([1.6, 2.0, 2.6])
    raw = (
        np.round(metres * 1000).astype(np.uint16) << 3
    ).tolist()  # rotated left by 3 bits, none lost below 8 m
    assert disparity(raw) / 75 == pytest.approx(38.914 / (8 * metres) / 75, rel=1e-3)
    assert disparity(raw)[0] == pytest.approx(0.0418 * 75, rel=0.04)
    assert disparity(raw, rotated=True) == pytest.approx(38.914 / metres, rel=1e-3)


def test_rotating_back_caps_at_eight_metres_and_undoes_every_rotation():
    values = np.arange(65_536, dtype=np.uint32)
    rotated = ((values << 3) | (values >> 13)).astype(np.uint16)[None]
    assert np.allclose(depth_of(rotated, 0.001, rotated=True)[0], np.minimum(values / 1000, 8))


def test_the_nearest_file_says_the_focal_length_key_by_key(tmp_path):
    scene = tmp_path / "office" / "1" / "image"
    scene.mkdir(parents=True)
    assert read_intrinsics(tmp_path, scene, DEFAULTS) == DEFAULTS
    (tmp_path / "depth.json").write_text('{"fx": 500, "baseline": 0.1, "rotated": true}')
    (tmp_path / "office" / "1" / "intrinsics.txt").write_text("529.5 0 365\n0 529.5 265\n0 0 1\n")
    assert read_intrinsics(tmp_path, scene, DEFAULTS) == Intrinsics(529.5, 0.1, 0.001, True)


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("depth.json", '{"f": 1}', "unknown key 'f'"),
        ("depth.json", "{", "Expecting"),
        ("intrinsics.txt", "", "begin"),
    ],
)
def test_a_file_that_cannot_be_understood_is_named(tmp_path, file, text, says):
    (tmp_path / file).write_text(text)
    with pytest.raises(UserError, match=says) as error:
        read_intrinsics(tmp_path, tmp_path, DEFAULTS)
    assert str(tmp_path / file) in str(error.value)
