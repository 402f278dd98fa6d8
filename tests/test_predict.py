"""The command `predict`, as a person types it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import media

ROOT = Path(__file__).parents[1]
WEIGHTS = f"--weights={Path(__file__).parent / 'before' / 'before.safetensors'}"


def predict(*arguments):
    command = [sys.executable, "-m", "omnivore_jax.predict", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)


def test_a_folder_is_answered_in_words_and_on_a_page(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(media.jpeg(media.scene(1)))
    (tmp_path / "clip.mp4").write_bytes(media.clip(n=20))
    (tmp_path / "photo[red].png").write_bytes(media.png(media.scene(2)))
    page = tmp_path / "page.html"
    done = predict(tmp_path, WEIGHTS, f"--report={page}")
    assert done.returncode == 0, done.stderr
    assert "photo.jpg: image, head image" in done.stdout
    assert "view 1 x 1: 8 frames at stride 2 in the middle" in done.stdout
    assert done.stdout.count(" %  ") == 15
    content = page.read_text()
    assert content.count("<img") == 3 and "photo[red].png" in content


def test_json_names_what_is_damaged(tmp_path):
    whole = media.jpeg(media.scene(1))
    (tmp_path / "a.jpg").write_bytes(whole)
    (tmp_path / "b.jpg").write_bytes(whole[: len(whole) // 3])
    done = predict(tmp_path, WEIGHTS, "--json", "--top=2")
    assert done.returncode == 2
    first, second = json.loads(done.stdout)
    assert len(first["answers"]) == 2 and first["modality"] == "image"
    assert "fault" in second and "Traceback" not in done.stderr
    assert f"{tmp_path / 'b.jpg'} cannot be read" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((WEIGHTS,), "no file given"),
        (("{there}",), "--weights is missing"),
        (("{none}", WEIGHTS), "none.jpg: No such file"),
        (("{there}", "--weights={none}"), "none.jpg"),
        (("{there}", WEIGHTS, "--report={none}/page.html"), "none.jpg is not a folder"),
        (("{there}", WEIGHTS, "--head=audio"), "--head=audio"),
    ],
)
def test_mistakes_are_one_line(tmp_path, arguments, words):
    (tmp_path / "x.jpg").write_bytes(media.jpeg(media.scene(1)))
    names = {"there": tmp_path / "x.jpg", "none": tmp_path / "none.jpg"}
    done = predict(*(argument.format(**names) for argument in arguments))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and words in done.stderr
    assert not done.stdout
