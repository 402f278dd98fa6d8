"""What the processes of a run tell each other beside their collectives: a failure, a stop, facts.

All of it goes through the key-value store of jax.distributed, which needs no device and no main
thread, so it works while the main thread hangs in a collective. A process that dies without a word
or is frozen is noticed because its beats stay away: process 0 looks at those of the others, the
others at whether process 0 answers. Before and after that, and where process 0 itself is killed,
jax's own heartbeats end the processes, with a message of jax.
"""

import json
import math
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import jax
from absl import logging

from omnivore_jax.core.dist import HEARTBEAT
from omnivore_jax.core.errors import UserError

POLL = 0.5
"""Seconds between two looks into the store."""
GRACE = 10.0
"""Seconds that a process which failed may take to clear up and end."""
PATIENCE = 300.0
"""Seconds to wait for a process that starts later than this one."""
LOST = 134
"""Exit code of a process that lost another one: what the abort of jax gives a shell too."""
BROKEN = ("gloo ", "nccl", "closed by peer", "reset by peer", "socket closed", "unavailable:")
"""What messages of a collective say where the process at the other end is gone."""
LEFT = "left"
"""The last beat of a process that has ended in order."""


class Stopped(Exception):
    """The run ends early because it was asked to; `code` is the exit code.

    `together`: all processes agreed on it, so none need be told.
    """

    def __init__(self, message: str, code: int, together: bool = False):
        super().__init__(message)
        self.code, self.together = code, together


class Peers:
    """Watches the other processes in a thread; alone it does nothing. A context manager.

    An error that leaves the block ends the others too, within seconds and with a line that names
    this process; so does a process that gives no sign of life for `heartbeat` seconds. Made after
    `dist.initialize`.
    """

    def __init__(self, heartbeat: float = HEARTBEAT) -> None:
        self._client: Any = _client() if jax.process_count() > 1 else None
        self._told, self._wanted, self._posted = False, False, False
        self._asked, self._stop = 0, None
        self._heartbeat, self._answer = heartbeat, time.monotonic()
        self._beats, self._next_beat = 0, 0.0
        self._seen: dict[int, tuple[str, float]] = {}
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peers", daemon=True)
        self._guard = threading.Thread(target=self._await_answers, name="answers", daemon=True)

    def __enter__(self) -> "Peers":
        if self._client is not None:
            self._answer = time.monotonic()
            self._thread.start()
            self._guard.start()
        return self

    def __exit__(self, _: type | None, error: BaseException | None, __: object) -> None:
        self._tell_on_exit(_, error, __)
        self._closed.set()
        if self._client is not None:
            self._thread.join(PATIENCE)

    def tell(self, error: BaseException) -> None:
        """Tells the others that this process fails, before it clears up; a second call is idle."""
        agreed = isinstance(error, Stopped) and error.together
        if self._client is None or self._told or agreed:
            return
        if _is_broken(error):
            # Most likely another process is gone: the watcher finds out which, and ends this one.
            logging.warning("a collective failed (%s); waiting for who is gone", _line(error))
            self._closed.wait(1.5 * self._heartbeat + GRACE)
        self._told = True
        code = _exit_code(error)
        reason = _line(error)
        note = json.dumps({"reason": reason, "code": code})
        self._set("failed", note)
        # Clearing up may wait for the others, in a barrier of Orbax or of jax's own shutdown.
        ending = threading.Timer(GRACE, _end, (reason, code))
        ending.daemon = True
        ending.start()
        if jax.process_index() == 0:  # the store ends with this process: let the others read it
            self._await_readers(set())

    @contextmanager
    def fails_early(self) -> Iterator[None]:
        """Tells the others of an error before what is around the block waits for them."""
        with ExitStack() as stack:
            stack.push(self._tell_on_exit)
            yield

    def _tell_on_exit(self, _: type | None, error: BaseException | None, __: object) -> bool:
        if error is not None:
            self.tell(error)
        return False

    def compare(self, topic: str, facts: Mapping[str, Any]) -> None:
        """Compares what must be equal everywhere with what process 0 has.

        Raises:
            UserError: a fact differs; names it, both values and this host.

        """
        if self._client is None:
            return
        if jax.process_index() == 0:
            self._set(f"facts/{topic}", json.dumps(facts))
            return
        key = _key(f"facts/{topic}", 0)
        first = json.loads(self._client.blocking_key_value_get(key, int(PATIENCE * 1000)))
        own = json.loads(json.dumps(facts))
        lines = differences(first, own, jax.process_index())
        if lines:
            raise UserError(f"{'; '.join(lines)}; start every host with the same config and files")

    def ask_to_stop(self) -> None:
        """Asks all processes to stop after the same step; safe in a signal handler."""
        self._wanted = True

    def stops_at(self, step: int) -> bool:
        """Says whether to stop after `step`; every process must ask after every step."""
        if self._client is None:
            return self._wanted
        with self._lock:
            self._asked = step
            return self._stop is not None and step >= self._stop

    def _watch(self) -> None:
        while not self._closed.wait(POLL):
            try:
                self._look()
                self._answer = time.monotonic()
            except jax.errors.JaxRuntimeError:  # process 0 is gone; jax ends this process itself
                return
        with suppress(jax.errors.JaxRuntimeError):
            self._set("beat", LEFT)

    def _await_answers(self) -> None:
        """Ends this process where process 0, which has the store, is frozen."""
        while not self._closed.wait(POLL):
            silent = time.monotonic() - self._answer
            if silent > self._heartbeat and jax.process_index() > 0 and not self._told:
                _end(_lost(0, silent), LOST)

    def _look(self) -> None:
        if time.monotonic() >= self._next_beat:
            self._beat()
        if not self._told:
            for process, note in self._get("failed").items():
                self._follow(process, json.loads(note))
            for reason in self._get("lost").values():
                self._set("ended", "")
                _end(reason, LOST)
        if self._wanted and not self._posted:
            self._posted = True
            self._set("stop", "")
        if self._stop is None and self._get("stop"):
            self._agree()

    def _beat(self) -> None:
        """Gives a sign of life; process 0 also looks at those of the others."""
        self._next_beat = time.monotonic() + self._heartbeat / 10
        self._beats += 1
        self._set("beat", str(self._beats))
        if jax.process_index() > 0 or self._told:
            return
        now = time.monotonic()
        for process, beat in self._get("beat").items():
            latest, since = self._seen.get(process, ("", now))
            if beat != latest:
                self._seen[process] = (beat, now)
            elif beat != LEFT and process > 0 and now - since > self._heartbeat:
                self._told, reason = True, _lost(process, now - since)
                self._set("lost", reason)
                self._await_readers({process})
                _end(reason, LOST)

    def _follow(self, process: int, note: Mapping[str, Any]) -> None:
        if not self._told:
            self._told = True
            self._set("ended", "")
            if jax.process_index() == 0:
                # The store ends with this process, and jax aborts whoever still needs it: the one
                # that failed has until its own timer to clear up and say why.
                time.sleep(1.2 * GRACE)
            _end(f"host {process} failed: {note['reason']}", note["code"])

    def _agree(self) -> None:
        """Agrees on the step after the latest that any process has asked about.

        The lock keeps the main thread from going on meanwhile; the watchers alone wait.
        """
        client = self._client
        with self._lock:
            self._set("at", str(self._asked))
            keys = [_key("at", process) for process in range(jax.process_count())]
            wait = int(PATIENCE * 1000)
            self._answer = math.inf  # whoever stays away here is left to jax
            self._stop = 1 + max(int(client.blocking_key_value_get(key, wait)) for key in keys)

    def _await_readers(self, lost: set[int]) -> None:
        until = time.monotonic() + GRACE / 2
        others = set(range(1, jax.process_count())) - lost
        while time.monotonic() < until:
            if others <= {*self._get("ended"), *self._get("failed")}:
                return
            time.sleep(POLL / 5)

    def _set(self, topic: str, value: str) -> None:
        key = _key(topic, jax.process_index())
        # The store takes no empty value.
        self._client.key_value_set(key, value or "-", allow_overwrite=True)

    def _get(self, topic: str) -> dict[int, str]:
        entries = self._client.key_value_dir_get(_key(topic))
        return {int(key.rpartition("/")[2]): value for key, value in entries}


def differences(first: Mapping[str, Any], own: Mapping[str, Any], process: int) -> list[str]:
    """Lists what differs between process 0 and process `process`, sorted by name."""
    keys = [key for key in {**first, **own} if first.get(key, "none") != own.get(key, "none")]
    return [
        f"{key}={own.get(key, 'none')} on host {process}, {first.get(key, 'none')} on host 0"
        for key in sorted(keys)
    ]


def _client() -> Any:
    # No public name leads to the store; Orbax and multihost_utils take the same way.
    from jax._src import distributed

    return distributed.global_state.client


def _key(topic: str, process: int | str = "") -> str:
    return f"omnivore/{topic}/{process}"


def _line(error: BaseException) -> str:
    return " ".join(f"{error}".split()) or type(error).__name__


def _lost(process: int, seconds: float) -> str:
    return f"host {process} gave no sign of life for {seconds:.0f} s: it is dead or frozen"


def _is_broken(error: BaseException) -> bool:
    """Says whether an error is that of a collective whose other end is gone."""
    said = str(error).lower()
    # A collective that fails while it is dispatched is a ValueError.
    ours = isinstance(error, UserError) or not isinstance(error, RuntimeError | ValueError)
    return not ours and any(word in said for word in BROKEN)


def _exit_code(error: BaseException) -> int:
    if isinstance(error, Stopped):
        return error.code
    if _is_broken(error):
        return LOST
    return 2 if isinstance(error, UserError) else 1


def _end(reason: str, code: int) -> None:
    """Ends the process although its main thread may hang where nothing can interrupt it."""
    logging.error("%s; this host ends with it", reason)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
