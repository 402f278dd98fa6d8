"""launch/tpu_vm.sh: what it asks gcloud, and what its commands do on a worker."""

import json
import re
import shutil
import time
from pathlib import Path

import pytest

from tests.launch.test_scripts import call, fake

__all__ = ["fake"]
POD = {"SHARE": "10.0.0.2:/omnivore", "PROJECT": "mine", "TMPDIR": "/tmp"}
RUN = ["--config=configs/swin_l.py", "--workdir=/mnt/omnivore/runs/it's a"]
WHERE = "--zone=us-east5-a --project=mine"
STATE = (
    f"gcloud compute tpus queued-resources describe omnivore '--format=value(state.state)' {WHERE}"
)
CREATE = (
    "gcloud compute tpus queued-resources create omnivore --node-id=omnivore "
    f"--accelerator-type=v5p-128 --runtime-version=v2-alpha-tpuv5 {WHERE}"
)
DELETE = f"gcloud compute tpus queued-resources delete omnivore --force --quiet {WHERE}"
SETUP = f"""\
git archive --format=tar.gz --output=/tmp/omnivore_jax.tar.gz HEAD
gcloud compute tpus tpu-vm scp /tmp/omnivore_jax.tar.gz omnivore:omnivore_jax.tar.gz --worker=all {WHERE}
gcloud compute tpus tpu-vm ssh omnivore --worker=all '--command=set -e
mkdir -p omnivore_jax && tar -xzf omnivore_jax.tar.gz -C omnivore_jax
sudo apt-get -q update
sudo apt-get -qy -o DPkg::Lock::Timeout=300 install nfs-common python3-pip
sudo mkdir -p /mnt/omnivore && {{ mountpoint -q /mnt/omnivore || sudo mount -t nfs '\\''10.0.0.2:/omnivore'\\'' /mnt/omnivore; }}
[ -w /mnt/omnivore ] || sudo chmod a+rwx /mnt/omnivore
PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install -q --user uv
~/.local/bin/uv venv -q --allow-existing --python=3.12 venv
~/.local/bin/uv pip install -q --python=venv/bin/python -r omnivore_jax/requirements-tpu.txt
~/.local/bin/uv pip install -q --python=venv/bin/python -r omnivore_jax/requirements-cloud.txt' {WHERE}"""  # noqa: E501
SSH = "gcloud compute tpus tpu-vm ssh omnivore"


def pod(*arguments, **more):
    return call("launch/tpu_vm.sh", *arguments, **(POD | more))


@pytest.mark.parametrize(
    ("verb", "prints"),
    [
        ("create", f"{CREATE}\n{STATE}"),
        ("setup", SETUP),
        ("logs", f"{SSH} --worker=0 '--command=tail -n 100 -F run.log' {WHERE}"),
        ("stop", f"{SSH} --worker=all '--command=kill -TERM $(cat run.pid)' {WHERE}"),
        ("delete", DELETE),
    ],
)
def test_a_dry_run_prints_every_command_and_runs_none(fake, verb, prints):
    for program in ("gcloud", "git"):
        fake(program)
    assert pod("--dry-run", verb) == (0, f"{prints}\n", "")
    assert fake.called() == []


def test_a_dry_resume_prints_deleting_creating_setup_and_the_run(fake):
    fake("gcloud")
    code, out, _ = pod("--dry-run", "resume", *RUN)
    _, run, _ = pod("--dry-run", "run", *RUN)
    assert (code, out) == (0, "\n".join([STATE, DELETE, CREATE, STATE, SETUP, run]))
    assert fake.called() == []


def test_variables_name_the_pod():
    names = {"NAME": "pod", "ZONE": "z", "TYPE": "v6e-256", "VERSION": "v", "SPOT": "1"}
    _, out, _ = pod("--dry-run", "create", **(names | {"PROJECT": ""}))
    first = out.splitlines()[0].split()
    assert first[5:] == [
        *("pod", "--node-id=pod", "--accelerator-type=v6e-256", "--runtime-version=v"),
        *("--spot", "--zone=z"),
    ]
    assert "--worker=3" in pod("--dry-run", "logs", WORKER="3")[1]


def states(fake, *names):
    """Lets gcloud tell one state of the pod after another; nobody sleeps."""
    fake("sleep")
    told = "\n".join(f"{i}) echo {name} ;;" for i, name in enumerate(names, 1))
    count = "n=$(grep -c describe ${0%/bin/*}/called)"
    fake("gcloud", f"[[ $* != *describe* ]] || {{ {count}; case $n in {told}\nesac; }}")


def verbs(fake):
    return [line.split()[4] for line in fake.called() if line.startswith("gcloud")]


def test_create_waits_until_the_pod_is_there(fake):
    states(fake, "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE")
    code, out, _ = pod("create")
    assert (code, out.split()) == (0, ["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"])
    assert verbs(fake) == ["create", "describe", "describe", "describe"]


def test_create_ends_where_the_pod_is_refused(fake):
    states(fake, "ACCEPTED", "FAILED")
    code, _, err = pod("create")
    assert (code, err) == (2, "tpu_vm.sh: omnivore is FAILED; delete it\n")


@pytest.mark.parametrize(("state", "first"), [("ACTIVE", []), ("SUSPENDED", ["delete", "create"])])
def test_resume_makes_a_new_pod_only_where_the_old_one_is_gone(fake, state, first):
    fake("git")
    states(fake, state, "ACTIVE")
    assert pod("resume", *RUN)[0] == 0
    again = [*first, "describe"] if first else []
    assert verbs(fake) == ["describe", *again, "scp", "ssh", "ssh"]


def test_nothing_follows_a_command_that_failed(fake):
    fake("git")
    fake("gcloud", "echo no permission >&2; exit 1")
    code, _, err = pod("setup")
    assert code != 0 and "no permission" in err and verbs(fake) == ["scp"]


def test_the_run_on_a_worker_has_its_flags_and_is_not_started_twice(fake, tmp_path):
    # what gcloud would run on a worker is run here, in another home
    found = '[[ $word != --command=* ]] || exec bash -c "${word#*=}"'
    fake("gcloud", f"cd {tmp_path}; for word; do {found}; done")
    launch = tmp_path / "omnivore_jax/launch"
    launch.mkdir(parents=True)
    note = 'printf "%s\\n" "$PYTHON" "$OMNIVORE_DATA" "$@"; exec sleep 60'
    (launch / "supervise.sh").write_text(f"#!/bin/bash\n{note}\n")
    (launch / "supervise.sh").chmod(0o755)
    home = {"HOME": str(tmp_path)}

    assert pod("run", *RUN, **home)[0] == 0
    log, number = tmp_path / "run.log", int((tmp_path / "run.pid").read_text())
    end = time.monotonic() + 10
    while len(log.read_text().splitlines()) < 4 and time.monotonic() < end:
        time.sleep(0.01)
    told = [f"{tmp_path}/venv/bin/python", "/mnt/omnivore/data", *RUN]
    try:
        assert log.read_text().splitlines() == told
        code, _, err = pod("run", *RUN, **home)
        assert (code, err) == (2, "runs already\n")
    finally:
        assert pod("stop")[0] == 0
    end = time.monotonic() + 10
    while Path(f"/proc/{number}").exists() and time.monotonic() < end:
        time.sleep(0.01)
    assert not Path(f"/proc/{number}").exists()
    assert pod("stop")[0] != 0  # nothing runs any more


def rejected(commands, folder):
    """What gcloud says against commands, without asking anybody."""
    listed = folder / "commands.json"
    listed.write_text(json.dumps([{"command_string": command} for command in commands]))
    settings = {
        "CLOUDSDK_CONFIG": str(folder / "gcloud"),
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
    }
    lint = ["gcloud", "meta", "lint-gcloud-commands", f"--commands-file={listed}"]
    code, out, err = call(*lint, **settings)
    assert code == 0, err
    results = json.loads(out)
    assert len(results) == len(commands)
    return [result["error_message"] for result in results if not result["success"]]


@pytest.mark.slow
def test_gcloud_knows_every_command_and_flag(tmp_path):
    if shutil.which("gcloud") is None:
        pytest.skip("gcloud is not installed")
    printed = [pod("--dry-run", verb, SPOT="1")[1] for verb in ("create", "setup", "logs", "stop")]
    printed += [pod("--dry-run", "resume", *RUN)[1]]
    documented = Path("docs/clusters.md").read_text().replace("\\\n", "")
    printed += [line.strip() for line in documented.splitlines() if line.startswith("    gcloud ")]
    # a command for workers goes on over several lines, of which gcloud only passes on
    commands = re.sub(
        r"'--command=.*?' --zone", "--command=true --zone", "\n".join(printed), flags=re.S
    )
    commands = sorted({line for line in commands.splitlines() if line.startswith("gcloud ")})
    assert len(commands) == 11 and rejected(commands, tmp_path) == []
    assert "--node" in rejected([f"{DELETE} --node=1"], tmp_path)[0]
