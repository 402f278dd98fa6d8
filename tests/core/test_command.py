import subprocess
import sys

import pytest

CONFIG = """
from ml_collections import ConfigDict

def get_config():
    return ConfigDict({"steps": 3, "rate": 0.1})
"""
COMMAND = """
import os, signal, time
from ml_collections import config_flags
from omnivore_jax.core.command import run
from omnivore_jax.core.errors import UserError

CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)

def main(argv):
    if CONFIG.value.steps < 0:
        raise UserError(f"config.steps={CONFIG.value.steps}; use a positive number")
    if CONFIG.value.steps > 100:
        raise ZeroDivisionError("a fault of ours")
    if CONFIG.value.steps > 50:
        # a shell's background jobs ignore it
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

run(main)
"""


@pytest.mark.parametrize(
    ("flag", "code", "says"),
    [
        ("--config.steps=4", 0, ""),
        ("--config.stesp=4", 2, 'Did you mean "steps"'),
        ("--config.rate=fast", 2, "could not convert string to float: 'fast'"),
        ("--nosuch=1", 2, "Unknown command line flag 'nosuch'"),
        ("--config.steps=-1", 2, "config.steps=-1; use a positive number"),
        ("--config.steps=51", 130, ": stopped\n"),
        ("--config.steps=101", 1, "ZeroDivisionError: a fault of ours"),
    ],
)
def test_a_mistake_of_the_user_is_one_line_and_a_fault_of_ours_a_traceback(
    tmp_path, flag, code, says
):
    (tmp_path / "config.py").write_text(CONFIG)
    call = [sys.executable, "-c", COMMAND, f"--config={tmp_path}/config.py", flag]
    done = subprocess.run(call, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (code, "") and says in done.stderr
    assert code != 2 or done.stderr.count("\n") == 1


@pytest.mark.parametrize("flag", ["--help", "--helpshort", "--helpfull"])
def test_help_is_a_success(tmp_path, flag):
    (tmp_path / "config.py").write_text(CONFIG)
    call = [sys.executable, "-c", COMMAND, f"--config={tmp_path}/config.py", flag]
    done = subprocess.run(call, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and "flags:" in done.stdout


def test_a_key_that_the_config_lacks_is_named_whole(tmp_path):
    (tmp_path / "config.py").write_text(CONFIG)
    call = [sys.executable, "-c", COMMAND, f"--config={tmp_path}/config.py", "--config.zzz=4"]
    done = subprocess.run(call, capture_output=True, text=True)
    assert (
        done.returncode == 2 and "--config.zzz=4: the config does not have this key" in done.stderr
    )
    assert done.stderr.count("\n") == 1


def test_a_reader_that_has_had_enough_is_no_traceback(tmp_path):
    program = "from omnivore_jax.core.command import run; run(lambda argv: print('x' * 10_000_000))"
    done = subprocess.run(
        f'{sys.executable} -c "{program}" | head -c 10', shell=True, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("x" * 10, "")


def test_types_are_the_configs_whatever_the_shell_says(monkeypatch):
    program = (
        "import sys, jax.numpy as jnp; from omnivore_jax.core.command import run; "
        "run(lambda argv: print(jnp.ones(2).dtype, jnp.arange(2).dtype))"
    )
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("float32 int32\n", "")


def test_a_command_may_open_as_many_files_as_the_system_allows():
    program = (
        "import resource; from omnivore_jax.core.command import run; "
        "run(lambda argv: print(resource.getrlimit(resource.RLIMIT_NOFILE)))"
    )
    call = f"ulimit -Sn 100; ulimit -Hn 500; exec {sys.executable} -c '{program}'"
    done = subprocess.run(["bash", "-c", call], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("(500, 500)\n", "")
