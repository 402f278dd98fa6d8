"""A run whose folder is in a bucket: its small files lie here, and go there before every seal.

Objects cannot be appended to, so rows, events and pages are written to a folder of this machine,
which begins as a copy of what is in the bucket. The bucket decides: what a killed process had
written here and not sent is forgotten, and resuming makes the same rows again. Checkpoints are
written to the bucket itself, by every host.
"""

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from absl import logging

from omnivore_jax.core.buckets import ObjectPath
from omnivore_jax.core.errors import UserError

CHECKPOINTS = "checkpoints"
NOT_READ = {CHECKPOINTS, "tensorboard", "profile"}
"""What a process never reads again from where it keeps the small files."""


class Mirror:
    """Where a run lies, and where this process reads and writes its small files."""

    def __init__(self, workdir: Path, folder: Path | None = None) -> None:
        """`folder`: of this process, for a workdir in a bucket; None: the workdir itself."""
        self.workdir = workdir
        self.folder = workdir if folder is None else folder
        self.checkpoints = workdir / CHECKPOINTS
        self._sent: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def pull(self) -> None:
        """Copies what is in the bucket here."""
        if not isinstance(self.workdir, ObjectPath):
            return
        for file in self.workdir.files():
            name = file.relative_to(self.workdir)
            if name.parts[0] not in NOT_READ:
                file.download(self.folder / name)
                self._sent[str(name)] = _version(self.folder / name)

    def push(self) -> None:
        """Sends what has changed here since; from any thread.

        Raises:
            UserError: the bucket does not take it.

        """
        if not isinstance(self.workdir, ObjectPath):
            return
        with self._lock, tempfile.TemporaryDirectory() as scratch:
            for path in sorted(self.folder.rglob("*")):
                name = str(path.relative_to(self.folder))
                if path.name.startswith(".") or not path.is_file():
                    continue
                version = _version(path)
                if self._sent.get(name) != version:
                    # a copy, as rows may be added meanwhile
                    still = Path(shutil.copyfile(path, Path(scratch) / "file"))
                    (self.workdir / name).upload(still)
                    self._sent[name] = version

    def shown(self, path: Path) -> Path:
        """The path that the user knows of a file here."""
        return self.workdir / path.relative_to(self.folder)


@contextmanager
def mirrored(workdir: Path, *, read_only: bool = False) -> Iterator[Mirror]:
    """Gives the mirror of a run for the time of the block; sends what is new at its end.

    `read_only`: where the bucket does not take that, a warning is enough.

    Raises:
        UserError: the bucket cannot be read, or does not take what is new.

    """
    if not isinstance(workdir, ObjectPath):
        yield Mirror(workdir)
        return
    with _own_folder() as folder:
        mirror = Mirror(workdir, folder)
        mirror.pull()
        try:
            yield mirror
        except BaseException:
            _push_or_warn(mirror)
            raise
        if read_only:
            _push_or_warn(mirror)
        else:
            mirror.push()


def _push_or_warn(mirror: Mirror) -> None:
    try:
        mirror.push()
    except UserError as error:
        logging.warning("%s", error)


@contextmanager
def _own_folder() -> Iterator[Path]:
    """A folder that goes with the block; those of processes that were killed go first."""
    base = Path(tempfile.gettempdir()) / f"omnivore_jax-{os.getuid()}"
    base.mkdir(mode=0o700, exist_ok=True)
    for left in base.iterdir():
        if not _runs(left.name):
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}.", dir=base))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _runs(name: str) -> bool:
    """Tells whether the process that made a folder is another one that still runs."""
    number = name.partition(".")[0]
    if not number.isdecimal() or int(number) == os.getpid():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _version(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
