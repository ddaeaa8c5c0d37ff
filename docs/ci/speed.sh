#!/bin/sh
# Judge this checkout's server against the baseline, or with --accept make it a session of the baseline:
#   sh speed.sh            exit status 0: no slower, or not decided; 1: slower
#   sh speed.sh --accept
# PROVIDER, SUITES and BASELINE may be set; without them the embedded model is measured by suites/.
set -eu

cpu=$(grep -m 1 'model name' /proc/cpuinfo | cksum | cut -d ' ' -f 1)
todo="--modellens-gate tokens_per_second:-15%"
if [ "${1:-}" = --accept ]; then todo=--modellens-update-baseline; fi

# shellcheck disable=SC2086  # what is to be done may be two words
python -m pytest --provider "${PROVIDER:-local}" "${SUITES:-suites/}" --junitxml=junit.xml \
    --modellens-baseline "${BASELINE:-main-$cpu}" $todo
