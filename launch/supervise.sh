#!/usr/bin/env bash
# Keeps a run going where no scheduler does: starts the main command, and again whenever it ends with 42 (it was asked to
# stop and has saved its state) or is killed. Any other exit code is passed on.
#
#     launch/supervise.sh --config=configs/swin_l.py
#
# A SIGTERM to this script stops the run for good: the run saves its state, the same command goes on from there.
set -u
stopping=
trap 'stopping=1; kill -TERM "$child" 2>/dev/null' TERM INT
while true; do
    "${PYTHON:-python}" -m omnivore_jax.main "$@" &
    child=$!
    wait "$child"
    code=$?
    if [ -n "$stopping" ]; then
        wait "$child"
        exit 42
    fi
    case $code in
        42 | 137) echo "supervise: the run ended with $code, starting it again" >&2 ;;
        *) exit "$code" ;;
    esac
done
