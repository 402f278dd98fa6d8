#!/usr/bin/env bash
# Trains on this machine with all its devices. From anywhere:
#
#     launch/local.sh --config=configs/swin_l.py
#
# It keeps the run going as supervise.sh does: started again after exit code 42 or a kill; Ctrl-C or
# SIGTERM saves and stops, and the same command goes on from there. Flags are those of the main
# command; PYTHON=... names another Python than that of `make env`.
set -eu
cd "$(dirname "$0")/.."
if [[ " $*" != *" --config="* ]]; then
    echo "local.sh: --config is missing; for example launch/local.sh --config=configs/demo.py" >&2
    exit 2
fi
if [ -z "${PYTHON:-}" ] && [ -x .venv/bin/python ]; then
    export PYTHON=.venv/bin/python
fi
exec launch/supervise.sh "$@"
