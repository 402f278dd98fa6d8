#!/usr/bin/env bash
# Keeps a run going where no scheduler does: starts the main command, and again whenever it ends
# with 42 (it was asked to stop and has saved its state); MAX_RESTARTS times at most where it was
# killed (137; 143 before it could save) or lost another host (134). Other codes are passed on.
#
#     launch/supervise.sh --config=configs/swin_l.py
#
# On several hosts: the same command on each, as launch/tpu_vm.sh does.
#
# SIGTERM, SIGINT (Ctrl-C) or SIGHUP to this script, or to its whole group, stops the run for good:
# it saves its state and the same command goes on from there. The exit code is then the run's own:
# 42 where the state is saved.
set -u
child=
stopping=
lives=${MAX_RESTARTS:-20}

# The run must get one SIGTERM, whoever gets the signal: so it has a process group of its own, which
# a terminal and `kill -- -GROUP` do not reach, and further signals are not passed on.
set -m
# shellcheck disable=SC2317,SC2329  # the trap calls it
stop() {
    [ -n "$stopping" ] && return
    stopping=1
    [ -n "$child" ] && kill -TERM "$child" 2>/dev/null
}
trap stop TERM INT HUP

# `wait` returns early when a signal comes; only a child that is gone has told its exit code.
await() {
    while true; do
        wait "$child"
        code=$?
        kill -0 "$child" 2>/dev/null || break
    done
    # it may have ended just when a signal came: then `code` is that of the signal
    wait "$child" 2>/dev/null
    again=$?
    [ "$again" -ne 127 ] && code=$again
}

while [ -z "$stopping" ]; do
    "${PYTHON:-python}" -m omnivore_jax.main "$@" &
    child=$!
    # a signal that came before `child` was known
    [ -n "$stopping" ] && kill -TERM "$child" 2>/dev/null
    await
    [ -n "$stopping" ] && exit "$code"
    case $code in
        42) ;;
        134 | 137 | 143) [ $((lives--)) -gt 0 ] || exit "$code" ;;
        *) exit "$code" ;;
    esac
    echo "supervise: the run ended with $code, starting it again" >&2
done
exit 42
