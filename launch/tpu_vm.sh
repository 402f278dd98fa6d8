#!/usr/bin/env bash
# Trains on a TPU pod of Google Cloud, from a laptop with gcloud. In this order:
#
#     export PROJECT=my-project ZONE=us-east5-a TYPE=v5p-128 VERSION=v2-alpha-tpuv5
#     export SHARE=10.0.0.2:/omnivore             # NFS (Filestore): data, runs; /mnt/omnivore there
#     ssh-add ~/.ssh/google_compute_engine        # gcloud asks for it where there are many workers
#     launch/tpu_vm.sh create                     # queues for the pod and waits until it is there
#     launch/tpu_vm.sh setup                      # mounts SHARE, installs HEAD of this repository
#     launch/tpu_vm.sh run --config=configs/swin_l.py --workdir=/mnt/omnivore/runs/swin_l
#     launch/tpu_vm.sh logs                       # of host 0, WORKER=3 of another; Ctrl-C leaves it
#     launch/tpu_vm.sh stop                       # saves; `run` with the same flags goes on
#     launch/tpu_vm.sh resume --config=... --workdir=...    # where the pod was taken away
#     launch/tpu_vm.sh delete
#
# --dry-run before the command prints what gcloud and git would be asked, and asks nothing.
# NAME=omnivore names the pod, SPOT=1 asks for one that may be taken away, PROJECT is gcloud's own
# where it is empty. Data lies in /mnt/omnivore/data, see docs/clusters.md.
set -eu
name=${NAME:-omnivore} zone=${ZONE:-us-east5-a} type=${TYPE:-v5p-128} share=${SHARE:-}
version=${VERSION:-v2-alpha-tpuv5} project=${PROJECT:-} spot=${SPOT:-} worker=${WORKER:-0}
mount=/mnt/omnivore dry=

wrong() {
    echo "tpu_vm.sh: $1" >&2
    exit 2
}

# Runs a command, or prints it as a shell reads it.
call() {
    if [ -z "$dry" ]; then
        "$@"
        return
    fi
    local words=() word
    for word in "$@"; do
        [[ $word =~ ^[[:alnum:]_./:=@%+,-]+$ ]] || word="'${word//\'/\'\\\'\'}'"
        words+=("$word")
    done
    echo "${words[*]}"
}

tpu() { # GROUP VERB NAME ARGUMENTS...
    call gcloud compute tpus "$@" --zone="$zone" ${project:+--project="$project"}
}

on() { # WORKERS COMMAND
    tpu tpu-vm ssh "$name" --worker="$1" --command="$2"
}

ask() {
    state=$(tpu queued-resources describe "$name" --format="value(state.state)")
    echo "$state"
}

create() {
    tpu queued-resources create "$name" --node-id="$name" --accelerator-type="$type" \
        --runtime-version="$version" ${spot:+--spot}
    until ask && [ -n "$dry" ] || [ "$state" = ACTIVE ]; do
        [[ $state != FAILED && $state != SUSPENDED ]] || wrong "$name is $state; delete it"
        sleep 30
    done
}

setup() {
    archive=${TMPDIR:-/tmp}/omnivore_jax.tar.gz
    call git archive --format=tar.gz --output="$archive" HEAD
    tpu tpu-vm scp "$archive" "$name:omnivore_jax.tar.gz" --worker=all
    on all "set -e
mkdir -p omnivore_jax && tar -xzf omnivore_jax.tar.gz -C omnivore_jax
sudo apt-get -q update
sudo apt-get -qy -o DPkg::Lock::Timeout=300 install nfs-common python3-pip
sudo mkdir -p $mount && { mountpoint -q $mount || sudo mount -t nfs ${share@Q} $mount; }
[ -w $mount ] || sudo chmod a+rwx $mount
PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install -q --user uv
~/.local/bin/uv venv -q --allow-existing --python=3.12 venv
~/.local/bin/uv pip install -q --python=venv/bin/python -r omnivore_jax/requirements-tpu.txt
~/.local/bin/uv pip install -q --python=venv/bin/python -r omnivore_jax/requirements-cloud.txt"
}

run() {
    on all "kill -0 \$(cat run.pid) 2>/dev/null && { echo 'runs already' >&2; exit 2; }
cd omnivore_jax
export PYTHON=~/venv/bin/python OMNIVORE_DATA=$mount/data
nohup launch/supervise.sh ${*@Q} >>~/run.log 2>&1 </dev/null &
echo \$! >~/run.pid"
}

stop() {
    on all "kill -TERM \$(cat run.pid)"
}

logs() {
    on "$worker" "tail -n 100 -F run.log"
}

delete() {
    tpu queued-resources delete "$name" --force --quiet
}

# A spot pod that was taken away stays as SUSPENDED; one that was only restarted lacks the mount.
resume() {
    ask
    if [ "$state" != ACTIVE ]; then
        delete
        create
    fi
    setup
    run "$@"
}

if [ "${1:-}" = --dry-run ]; then
    dry=1
    shift
fi
verb=${1:-}
[ $# -eq 0 ] || shift
cd "$(dirname "$0")/.."
case $verb in
    run | resume) [[ " $*" == *" --config="* && " $*" == *" --workdir="* ]] ||
        wrong "$verb needs --config=FILE and --workdir=$mount/FOLDER" ;;
    create | setup | logs | stop | delete) [ $# -eq 0 ] || wrong "$verb takes no $1" ;;
    *) wrong "'$verb' is not create, setup, run, logs, stop, resume or delete" ;;
esac
[[ $verb != setup && $verb != resume || $share == *:/* ]] ||
    wrong "SHARE=$share is no NFS folder; give HOST:/FOLDER"
"$verb" "$@"
