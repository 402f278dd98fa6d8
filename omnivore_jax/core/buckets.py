"""Paths in a bucket, `gs://BUCKET/...` and `s3://BUCKET/...`, with the methods of pathlib.

The one place that speaks to an object store. What objects cannot do (renaming, appending, being
read by a library that wants a file) is refused, never done on a local folder called `gs:`.
"""

import atexit
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import cache
from importlib.util import find_spec
from pathlib import Path, PosixPath
from typing import Any

from omnivore_jax.core.errors import UserError

SCHEMES = re.compile(r"(gs|s3):/")
"""How our URLs begin; `Path` makes one slash of two."""
PACKAGES = {"gs": "gcsfs", "s3": "s3fs"}
BLOCK = 1 << 26
"""Bytes that a reader asks the store for at once."""


def is_object(path: str | Path | None) -> bool:
    """Tells whether a path that a user gave lies in a bucket."""
    return path is not None and SCHEMES.match(str(path)) is not None


def place(path: str | Path) -> Path:
    """Gives the path that reads and writes where the user said: in a bucket or on a disk.

    Raises:
        UserError: the URL names no bucket, or what speaks to it is not installed.

    """
    if not is_object(path):
        return Path(path)
    found = ObjectPath(str(path))
    if len(found.parts) < 2 or ".." in found.parts:
        raise UserError(f"{path} names no place in a bucket; write gs://BUCKET/FOLDER")
    if find_spec(PACKAGES[found.scheme]) is None:
        raise UserError(
            f"{found} needs the package {PACKAGES[found.scheme]}, which is not installed; "
            "pip install -r requirements-cloud.txt"
        )
    return found


def check_run(workdir: Path) -> None:
    """Refuses a bucket that no run can lie in.

    Raises:
        UserError: it is of another store than those that Orbax writes checkpoints to.

    """
    if isinstance(workdir, ObjectPath) and workdir.scheme != "gs":
        raise UserError(
            f"{workdir}: Orbax writes checkpoints to disks and gs:// only; use a disk that all "
            "hosts share for the run, and copy what is to stay (aws s3 sync)"
        )


class ObjectPath(PosixPath):
    """A path in a bucket: an object, or what stands for a folder, the prefix of some.

    An object is written at once: whole, or not at all. FileNotFoundError as of pathlib; all else
    that the store refuses is a UserError.
    """

    @property
    def scheme(self) -> str:
        return self.parts[0].removesuffix(":")

    def __str__(self) -> str:
        scheme, *rest = self.parts or (".",)
        return "/".join([f"{scheme}/", *rest])

    def __fspath__(self) -> str:
        raise UserError(f"{self} lies in a bucket, and a local file is needed; copy it here first")

    def relative_to(self, other: Any, *_: Any, **__: Any) -> Path:
        """What follows after `other`, as a path of no bucket."""
        return Path(*super().relative_to(other).parts)

    def absolute(self) -> "ObjectPath":
        return self

    def resolve(self, strict: bool = False) -> "ObjectPath":
        return self

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        return self._type() is not None

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return self._type() == "file"

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self._type() == "directory"

    def is_symlink(self) -> bool:
        return False

    def iterdir(self) -> Iterator["ObjectPath"]:
        with _asking(self) as store:
            rows = store.ls(str(self), detail=False)
        names = sorted({row.rstrip("/").rpartition("/")[2] for row in rows} - {""})
        return (self / name for name in names)

    def glob(self, pattern: str, **_: Any) -> Iterator["ObjectPath"]:
        """Those directly below whose name fits; none where there is no such folder."""
        try:
            names = list(self.iterdir())
        except FileNotFoundError:
            return iter(())
        return (path for path in names if fnmatchcase(path.name, pattern))

    def files(self) -> list["ObjectPath"]:
        """All objects below, from one listing."""
        return [self / name for name in self.sizes()]

    def sizes(self) -> dict[str, int]:
        """Bytes of all objects below by their path from here, from one listing."""
        with _asking(self) as store:
            rows = store.find(str(self), detail=True)
        prefix = f"{'/'.join(self.parts[1:])}/"
        return {
            key.removeprefix(prefix): row["size"]
            for key, row in rows.items()
            if key.startswith(prefix) and not key.endswith("/")
        }

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: a folder is there as long as something is in it."""

    def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        self.write_bytes(b"")

    def open(self, mode: str = "r", *_: Any, **__: Any) -> Any:
        if mode != "rb":
            raise UserError(f"{self} lies in a bucket and is written as a whole (mode {mode!r})")
        with _asking(self) as store:
            return store.open(str(self), "rb", block_size=BLOCK, cache_type="readahead")

    def read_bytes(self) -> bytes:
        with _asking(self) as store:
            return store.cat_file(str(self))

    def read_text(self, encoding: str | None = None, *_: Any, **__: Any) -> str:
        return self.read_bytes().decode(encoding or "utf-8")

    def write_bytes(self, data: Any) -> int:
        with _asking(self) as store:
            store.pipe_file(str(self), bytes(data))
        return len(data)

    def upload(self, file: Path) -> None:
        """Makes this object of a local file."""
        with _asking(self) as store:
            store.put_file(str(file), str(self))

    def download(self, file: Path) -> None:
        """Copies this object to a local file."""
        file.parent.mkdir(parents=True, exist_ok=True)
        with _asking(self) as store:
            store.get_file(str(self), str(file))

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            with _asking(self) as store:
                store.rm_file(str(self))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def check_free(self) -> None:
        """Refuses a destination of an object before work is done for it.

        Raises:
            UserError: it is a bucket or a folder, or the bucket is not there or not to be listed.

        """
        if len(self.parts) < 3:
            raise UserError(f"{self} is a bucket; name a file in it")
        try:
            files = self.files()
        except FileNotFoundError as error:
            raise UserError(f"the bucket of {self} is not there; make it first") from error
        if files:
            raise UserError(f"{self} is a folder; name a file in it")

    def remove(self) -> None:
        """Deletes all objects below, if there are any."""
        for file in self.files():
            file.unlink(missing_ok=True)

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        raise UserError(f"{self} lies in a bucket and has no times and rights of a file")

    def rename(self, target: Any) -> "ObjectPath":
        raise UserError(f"{self} lies in a bucket, where nothing can be renamed")

    def replace(self, target: Any) -> "ObjectPath":
        return self.rename(target)

    def _type(self) -> str | None:
        try:
            with _asking(self) as store:
                return store.info(str(self))["type"]
        except FileNotFoundError:
            return None


def files_below(folder: Path) -> list[Path]:
    """Lists all files below a folder, wherever it lies."""
    if isinstance(folder, ObjectPath):
        return [*folder.files()]
    return [path for path in folder.rglob("*") if path.is_file()]


def local_copy(path: str | Path) -> Path:
    """Gives a path that any library can read.

    The path itself, or a copy of the object or of all below it, which goes with this process.

    Raises:
        UserError: it is in a bucket, and not there or not to be read.

    """
    source = place(path)
    if not isinstance(source, ObjectPath):
        return source
    target = _scratch() / str(len(list(_scratch().iterdir()))) / source.name
    if source.is_file():
        source.download(target)
        return target
    files = source.files()
    if not files:
        raise UserError(f"{source} is not there; see what is: {_listing(source)}")
    for file in files:
        file.download(target / file.relative_to(source))
    return target


@cache
def _scratch() -> Path:
    """A folder of this process for copies; deleted when it ends."""
    folder = Path(tempfile.mkdtemp(prefix="omnivore_jax-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def _store(scheme: str) -> Any:
    # Buckets with real folders are spoken to as any other: else every call asks what kind it is.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    import fsspec

    # What another host has written is seen at once only where no listing is remembered.
    return fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True)


@contextmanager
def _asking(path: ObjectPath) -> Iterator[Any]:
    """Gives the store; turns what it says into one line, but that an object is not there."""
    try:
        yield _store(path.scheme)
    except FileNotFoundError:
        raise
    except _faults(path.scheme) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(
            f"{path} cannot be read or written: {reason}; see that this machine may use the "
            f"bucket: {_listing(path)}"
        ) from error


@cache
def _faults(scheme: str) -> tuple[type[Exception], ...]:
    """What the packages raise: errors of the net, of rights, of the service."""
    if scheme == "s3":
        from botocore import exceptions  # pyright: ignore[reportMissingImports]

        return OSError, exceptions.BotoCoreError, exceptions.ClientError
    from gcsfs.retry import HttpError  # pyright: ignore[reportMissingImports]
    from google.auth.exceptions import GoogleAuthError  # pyright: ignore[reportMissingImports]

    return OSError, HttpError, GoogleAuthError


def _listing(path: ObjectPath) -> str:
    """A command with which a person can see what is there."""
    command = {"gs": "gcloud storage ls", "s3": "aws s3 ls"}[path.scheme]
    return f"{command} {path.parent if len(path.parts) > 2 else path}"
