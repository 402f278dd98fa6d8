"""A Slurm cluster of one node with two invented GPUs, all of it on 127.0.0.1 and in one folder."""

import getpass
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.core.test_dist import free_port

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "munged")
INSTALL = "OMNIVORE_INSTALL_SLURM"
"""Environment variable: 1 lets a test install what is missing, by apt-get."""

CONFIG = """
ClusterName=loopback
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
# A job that was queued again waits until its credential has expired, two minutes by default.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SchedulerParameters=bf_interval=2,sched_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=localhost NodeAddr=127.0.0.1 CPUs=2 CoresPerSocket=2 RealMemory=4000 Gres=gpu:2
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
GPUS = "Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n"


class Unavailable(Exception):
    """Slurm is not here, or does not start; says why."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that runs, to which jobs can be submitted."""

    folder: Path

    def call(self, *command: str, environment: Mapping[str, str] | None = None) -> str:
        """Runs a command of Slurm; gives what it prints."""
        conf = {"SLURM_CONF": str(self.folder / "slurm.conf")}
        done = subprocess.run(
            command, env=os.environ | conf | (environment or {}), capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
        return done.stdout

    def submit(self, *arguments: str, environment: Mapping[str, str]) -> str:
        """Submits a job; gives its number."""
        return self.call("sbatch", "--parsable", *arguments, environment=environment).strip()

    def job(self, number: str) -> dict[str, str]:
        """What `scontrol show job` says, by name: JobState, Restarts, ExitCode, ..."""
        words = self.call("scontrol", "show", "job", "--oneliner", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Starts the daemons, and ends them.

    Raises:
        Unavailable: a program is missing, or the node does not come up.

    """
    _find_programs()
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    ports = {"controller": free_port(), "node": free_port()}
    conf = folder / "slurm.conf"
    conf.write_text(CONFIG.format(folder=folder, user=getpass.getuser(), **ports))
    (folder / "gres.conf").write_text(GPUS)
    munge = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "seed", "log")]
    daemons = [
        # --force: the folder of a test is closed to other users
        ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *munge],
        ["slurmctld", "-D", "-f", str(conf)],
        ["slurmd", "-D", "-f", str(conf), "-N", "localhost"],
    ]
    with ExitStack() as stack:
        for daemon in daemons:
            log = stack.enter_context((folder / f"{daemon[0]}.out").open("wb"))
            process = subprocess.Popen(daemon, stdout=log, stderr=log)
            stack.callback(_end, process)
            time.sleep(1)
        running = Cluster(folder)
        _await_node(running)
        yield running


def _find_programs() -> None:
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"  # where daemons lie, which not every shell names
    os.environ["PATH"] = path
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing and os.environ.get(INSTALL) == "1":
        _install()
        missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        raise Unavailable(f"{missing[0]} is not installed; {INSTALL}=1 lets the test install it")


def _install() -> None:
    packages = ["--no-install-recommends", "slurm-wlm", "munge"]
    for command in (["update"], ["install", "-y", *packages]):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        try:
            subprocess.run(
                ["apt-get", *command], env=environment, check=True, capture_output=True, text=True
            )
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", "") or str(error)
            raise Unavailable(f"apt-get {command[0]}: {said.strip().splitlines()[-1]}") from error


def _await_node(running: Cluster) -> None:
    said, end = "", time.monotonic() + 30
    while time.monotonic() < end:
        try:
            said = running.call("sinfo", "--noheader", "--format=%T %E").strip()
        except RuntimeError as error:
            said = str(error).strip()
        if said.startswith("idle"):
            return
        time.sleep(0.5)
    raise Unavailable(f"the node of Slurm does not come up: {said.splitlines()[-1:]}")


def _end(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
