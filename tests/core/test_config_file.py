import subprocess
import sys

import pytest
from ml_collections import ConfigDict

from omnivore_jax.core import config_file
from omnivore_jax.core.errors import UserError

HEAD = "from ml_collections import ConfigDict\n\n\n"
FAILURES = {
    "syntax": ("def get_config(:\n", 1, "SyntaxError: invalid syntax"),
    "import": ("import nosuchmodule\n", 1, "ModuleNotFoundError: No module named 'nosuchmodule'"),
    "name": (HEAD + "def get_config():\n    return nosuch\n", 5, "NameError: name 'nosuch' is not"),
    "key": (HEAD + "def get_config(a='x'):\n    return {}[a]\n", 5, "KeyError: 'x'"),
    "zero": (HEAD + "def get_config():\n    return 1 / 0\n", 5, "ZeroDivisionError: division by"),
    "file": (HEAD + "def get_config():\n    return open('/nosuch')\n", 5, "FileNotFoundError: "),
    "exit": (HEAD + "import sys\nsys.exit(3)\n", 5, "SystemExit: 3"),
    "a library": (
        HEAD + "def get_config():\n    return ConfigDict({'step': 1}).stesp\n",
        5,
        "AttributeError: ",
    ),
    "many lines": (
        HEAD + "def get_config():\n    raise RuntimeError('a\\nb' + 999 * ' word')\n",
        5,
        "RuntimeError: a b word",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_config_that_fails_is_one_line_with_file_line_and_the_words(tmp_path, name):
    text, number, words = FAILURES[name]
    (tmp_path / "c.py").write_text(text)
    with pytest.raises(UserError) as failure:
        config_file.load(f"{tmp_path}/c.py")
    message = str(failure.value)
    assert message.startswith(f"--config={tmp_path}/c.py: {tmp_path}/c.py, line {number}: {words}")
    assert "\n" not in message and len(message) < 900 and failure.value.__cause__ is not None


def test_an_argument_that_get_config_does_not_take_is_told_at_its_line(tmp_path):
    (tmp_path / "c.py").write_text(HEAD + "def get_config():\n    return ConfigDict()\n")
    with pytest.raises(
        UserError, match=r"c.py:x: .*/c.py, line 4: TypeError: get_config\(\) takes"
    ):
        config_file.load(f"{tmp_path}/c.py:x")


def test_a_mistake_in_a_file_that_the_config_imports_is_told_there(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "helper_of_a_config.py").write_text("\n\nlist(1)\n")
    (tmp_path / "c.py").write_text("import helper_of_a_config\n")
    with pytest.raises(UserError, match=r"/helper_of_a_config.py, line 3: TypeError: 'int' object"):
        config_file.load(f"{tmp_path}/c.py")


@pytest.mark.parametrize("value", ["None", "{'steps': 1}", "3"])
def test_a_config_that_is_none_or_no_config_dict_is_told(tmp_path, value):
    (tmp_path / "c.py").write_text(f"def get_config():\n    return {value}\n")
    with pytest.raises(UserError, match=r"c.py returns a (NoneType|dict|int); return a ConfigDict"):
        config_file.load(f"{tmp_path}/c.py")
    (tmp_path / "c.py").write_text("config = 3\n")
    with pytest.raises(UserError, match=r"/c.py has no get_config; define that function"):
        config_file.load(f"{tmp_path}/c.py")


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("{}/nothing.py", "--config={}/nothing.py cannot be read: No such file or directory"),
        ("{}", "--config={} cannot be read: Is a directory"),
        ("gs://bucket/c.py", "--config=gs://bucket/c.py is a URL"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(tmp_path, argument, says):
    with pytest.raises(UserError) as failure:
        config_file.load(argument.format(tmp_path))
    assert str(failure.value).startswith(says.format(tmp_path))


def test_a_config_is_read_afresh_and_leaves_the_path_of_modules_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    for steps in (1, 2):  # within a second, and of the same length
        (tmp_path / "c.py").write_text(
            HEAD
            + "from dataclasses import dataclass\nfrom configs import joint\n\n"
            + f"@dataclass\nclass A:\n    a: 'int' = {steps}\n\n"
            + "def get_config(b):\n    return ConfigDict({'a': A().a, 'b': b})\n"
        )
        assert config_file.load("c.py:x:y") == ConfigDict({"a": steps, "b": "x:y"})
    assert sys.path == path and [file.name for file in tmp_path.iterdir()] == ["c.py"]


COMMAND = """
from omnivore_jax.core import command, config_file
CONFIG = config_file.define_flag()
command.run(lambda argv: print(CONFIG.value.a))
"""


@pytest.mark.parametrize("debug", [[], ["--debug"], ["--debug=true"]])
def test_the_traceback_is_shown_only_when_asked_for(tmp_path, debug):
    (tmp_path / "c.py").write_text(HEAD + "def get_config():\n    return ConfigDict({'a': 1})\n")
    (tmp_path / "d.py").write_text(HEAD + "def get_config():\n    return nosuch\n")

    def run(*arguments):
        call = [sys.executable, "-c", COMMAND, *arguments]
        done = subprocess.run(call, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    assert run(f"--config={tmp_path}/c.py", "--config.a=5", *debug) == (0, "5\n", "")
    code, out, err = run(f"--config={tmp_path}/d.py", "--config.a=5", *debug)
    assert (code, out) == (2, "")
    last = err.splitlines()[-1]
    assert f"{tmp_path}/d.py, line 5: NameError: name 'nosuch' is not defined" in last
    assert err.count("\n") == 1 or debug and "return nosuch\n" in err
