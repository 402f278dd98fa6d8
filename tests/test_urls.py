"""No command takes a URL that it cannot use: it would make a local folder called `gs:`.

Tests/test_main.py has the uses of `main`, tests/test_bucket_files.py those that buckets serve.
"""

import subprocess
import sys

import pytest

USES = {
    "prepare --src": ["prepare", "folder", "--src={}", "--out=/tmp/nowhere"],
    "prepare --out": ["prepare", "folder", "--src=/tmp", "--out={}"],
    "verify --out": ["prepare", "verify", "--out={}"],
    "export OUT": ["export", "/tmp/a.safetensors", "{}"],
    "grid --workdir": ["grid", "train.seed=0,1", "--config=configs/demo.py", "--workdir={}"],
    "predict --depth": ["predict", "/tmp/a.png", "--weights=/tmp/a", "--depth={}"],
}
ON_NO_STORE = {
    "from-torch SRC": ["convert", "from-torch", "{}", "a.safetensors"],
    "from-torch DST": ["convert", "from-torch", "/tmp/a.pth", "{}"],
    "report WORKDIR": ["report", "{}"],
    "report --compare": ["report", "/tmp", "--compare={}"],
    "evaluate --data_root": ["evaluate", "--weights=/tmp/a", "--dataset=a", "--data_root={}"],
    "predict --weights": ["predict", "/tmp/a.png", "--weights={}"],
}
CASES = [(use, "gs://bucket/run", USES[use]) for use in USES]
CASES += [(use, "https://host/run", ON_NO_STORE[use]) for use in ON_NO_STORE]


@pytest.mark.parametrize(("url", "use"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
def test_a_url_is_one_line_and_exit_2(url, use, tmp_path):
    command, *arguments = [text.format(url) for text in use]
    call = [sys.executable, "-m", f"omnivore_jax.{command}", *arguments]
    done = subprocess.run(call, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{url} is a URL" in done.stderr and done.stderr.count("\n") == 1, done.stderr
