"""The manifests and the Dockerfile of launch/, against schemas where a package has them."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.launch.test_scripts import find

JOBSET, SKY, DOCKERFILE = (
    Path("launch") / name for name in ("gke_jobset.yaml", "skypilot.yaml", "Dockerfile")
)
JOBSET_KEYS = {
    "": {"apiVersion", "kind", "metadata", "spec"},
    "spec": {"failurePolicy", "network", "replicatedJobs", "successPolicy", "suspend"},
    "failurePolicy": {"maxRestarts", "restartStrategy", "rules"},
    "rules": {"action", "name", "onJobFailureReasons", "targetReplicatedJobs"},
    "replicatedJobs": {"name", "replicas", "template", "dependsOn", "groupName"},
}
"""Keys of jobset.x-k8s.io/v1alpha2 around the Job that a JobSet holds."""
SKY_KEYS = {
    "": {"name", "num_nodes", "resources", "workdir", "envs", "setup", "run", "file_mounts"},
    "resources": {"accelerators", "use_spot", "job_recovery", "infra", "disk_size", "image_id"},
    "job_recovery": {"strategy", "max_restarts_on_errors", "recover_on_exit_codes"},
}
"""Keys of a task of SkyPilot that its documentation has, of those that a training needs."""
AGAIN = {42, 134, 137, 143}
"""Exit codes that a restart mends, as in launch/slurm.sbatch."""


@pytest.fixture(scope="module")
def jobset():
    return yaml.safe_load(JOBSET.read_text())


def test_the_jobset_has_only_keys_of_its_api_and_a_valid_job(jobset):
    spec, policy = jobset["spec"], jobset["spec"]["failurePolicy"]
    (rule,), (job,) = policy["rules"], spec["replicatedJobs"]
    parts = zip(JOBSET_KEYS, (jobset, spec, policy, rule, job), strict=True)
    for name, part in parts:
        assert set(part) <= JOBSET_KEYS[name], name
    assert jobset["apiVersion"] == "jobset.x-k8s.io/v1alpha2" and jobset["kind"] == "JobSet"
    assert re.fullmatch(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", rule["name"])
    validate = pytest.importorskip("kubernetes_validate").validate
    template = {"apiVersion": "batch/v1", "kind": "Job"} | job["template"]
    validate(template, "1.33", strict=True)
    template["spec"]["template"]["spec"]["containers"][0]["mounts"] = []
    with pytest.raises(Exception, match="mounts"):
        validate(template, "1.33", strict=True)


def test_the_jobset_has_a_pod_a_host_and_ends_only_for_mistakes(jobset):
    (replicated,), (rule,) = (
        jobset["spec"]["replicatedJobs"],
        jobset["spec"]["failurePolicy"]["rules"],
    )
    job = replicated["template"]["spec"]
    pod = job["template"]["spec"]
    (train,) = pod["containers"]
    sides = map(int, pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x"))
    chips = 1
    for side in sides:
        chips *= side
    per_host = train["resources"]["limits"]["google.com/tpu"]
    assert job["completions"] == job["parallelism"] == chips // per_host == 16
    assert train["resources"]["requests"] == train["resources"]["limits"]
    assert (job["completionMode"], job["backoffLimit"], pod["restartPolicy"]) == (
        *("Indexed", 0),
        "Never",
    )
    assert (rule["action"], rule["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
    (failure,) = job["podFailurePolicy"]["rules"]
    codes = failure["onExitCodes"]
    assert (failure["action"], codes["operator"], set(codes["values"])) == (
        *("FailJob", "NotIn"),
        AGAIN,
    )
    assert codes["containerName"] == train["name"]


def test_paths_of_the_jobset_lie_on_the_volume_that_it_mounts(jobset):
    (replicated,) = jobset["spec"]["replicatedJobs"]
    pod = replicated["template"]["spec"]["template"]["spec"]
    (train,) = pod["containers"]
    (mount,), (volume,) = train["volumeMounts"], pod["volumes"]
    assert mount["name"] == volume["name"]
    flags = dict(word[2:].split("=") for word in train["command"] if word.startswith("--"))
    paths = [flags["workdir"], *(entry["value"] for entry in train["env"])]
    assert all(path.startswith(f"{mount['mountPath']}/") for path in paths)
    assert train["command"][:3] == ["python", "-m", "omnivore_jax.main"]


def sky():
    return yaml.safe_load(SKY.read_text())


def test_the_task_of_skypilot_has_documented_keys_and_recovers_from_what_a_restart_mends():
    task = sky()
    resources = task["resources"]
    parts = zip(SKY_KEYS, (task, resources, resources["job_recovery"]), strict=True)
    for name, part in parts:
        assert set(part) <= SKY_KEYS[name], name
    assert set(resources["job_recovery"]["recover_on_exit_codes"]) <= AGAIN
    for part in ("setup", "run"):
        done = subprocess.run(["bash", "-n"], input=task[part], text=True, capture_output=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_node_of_skypilot_has_its_number_and_the_address_of_the_first(tmp_path):
    python = tmp_path / "venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    task = sky()
    environment = task["envs"] | {
        "SHARE": "10.0.0.2:/omnivore",
        "HOME": str(tmp_path),
        "SKYPILOT_NODE_IPS": "10.0.0.3\n10.0.0.4",
        "SKYPILOT_NUM_NODES": "2",
        "SKYPILOT_NODE_RANK": "1",
    }
    done = subprocess.run(
        ["bash", "-c", task["run"]], env=os.environ | environment, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == [
        *("-m", "omnivore_jax.main", "--config=configs/swin_l.py"),
        *("--workdir=/mnt/omnivore/runs/swin_l", "--coordinator=10.0.0.3:8476"),
        *("--num_processes=2", "--process_id=1"),
    ]


def test_the_dockerfile_copies_what_is_there_and_knows_every_device():
    text = re.sub(r"\\\n", " ", DOCKERFILE.read_text())
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    assert {line[0] for line in lines} <= {"FROM", "ARG", "WORKDIR", "COPY", "RUN", "CMD"}
    kept = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().splitlines()
    for line in lines:
        for source in line[1:-1] if line[0] == "COPY" else []:
            assert Path(source).exists(), source
            assert any(Path(source).match(rule[1:]) for rule in kept if rule[0] == "!"), source
    for device in ("gpu", "tpu"):
        assert Path(f"requirements-{device}.txt").is_file()
    hadolint = find("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed; the rest holds")
    done = subprocess.run([hadolint, str(DOCKERFILE)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("device", "installs"),
    [
        ("cpu", "requirements.txt"),
        ("gpu", "requirements-gpu.txt"),
        ("tpu", "requirements-tpu.txt"),
        ("cuda", None),
    ],
)
def test_the_dockerfile_installs_the_list_of_the_device(tmp_path, device, installs):
    text = re.sub(r"\\\n", " ", DOCKERFILE.read_text())
    (step,) = re.findall(r"^RUN (.*)$", text, re.MULTILINE)
    (tmp_path / "pip").write_text('#!/bin/sh\necho "${@: -1}"\n'.replace("/bin/sh", "/bin/bash"))
    (tmp_path / "pip").chmod(0o755)
    environment = os.environ | {"DEVICE": device, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", step], env=environment, capture_output=True, text=True)
    if installs is None:
        assert (done.returncode, done.stderr) == (2, "DEVICE=cuda; use cpu, gpu or tpu\n")
    else:
        assert (done.returncode, done.stdout) == (0, f"{installs}\n")
