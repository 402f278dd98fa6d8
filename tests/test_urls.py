"""No command takes a URL for a path: it would make a local folder called `gs:`.

Tests/test_main.py has the uses of `main`.
"""

import subprocess
import sys

import pytest

USES = {
    "prepare --src": ["prepare", "folder", "--src={}", "--out=/tmp/nowhere"],
    "prepare --out": ["prepare", "folder", "--src=/tmp", "--out={}"],
    "verify --out": ["prepare", "verify", "--out={}"],
    "from-torch SRC": ["convert", "from-torch", "{}", "a.safetensors"],
    "from-torch DST": ["convert", "from-torch", "/tmp/a.pth", "{}"],
    "to-torch SRC": ["convert", "to-torch", "{}", "a.torch"],
    "adapt DST": ["convert", "adapt", "/tmp/a.safetensors", "{}"],
    "inspect": ["convert", "inspect", "{}"],
    "diff": ["convert", "diff", "/tmp/a", "{}"],
    "report WORKDIR": ["report", "{}"],
    "report --compare": ["report", "/tmp", "--compare={}"],
}


@pytest.mark.parametrize("use", USES)
def test_a_url_is_one_line_and_exit_2(use, tmp_path):
    command, *arguments = [text.format("gs://bucket/run") for text in USES[use]]
    call = [sys.executable, "-m", f"omnivore_jax.{command}", *arguments]
    done = subprocess.run(call, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert "gs://bucket/run is a URL" in done.stderr and done.stderr.count("\n") == 1, done.stderr
