#!/bin/sh
# Writes requirements.txt and builder.txt: versions and hashes of all that the image installs. Needs Python 3.13 and
# the package index; run it from the root of the sources, when a dependency changes.
set -eu
here=deploy/image
python3.13 -m venv /tmp/lock
/tmp/lock/bin/pip install -q pip-tools
compile="/tmp/lock/bin/pip-compile -q --generate-hashes --strip-extras --allow-unsafe --no-header --no-annotate \
    --no-emit-index-url --no-emit-find-links --no-emit-trusted-host"
CUVEE_COMPILE=0 $compile --extra kv-events --extra redis --extra zstd -o $here/requirements.txt pyproject.toml
printf 'mypy>=1.20\nsetuptools>=77\nwheel\n' | $compile -o $here/builder.txt -
for file in requirements builder; do
    { echo "# Made by deploy/image/lock.sh."; cat $here/$file.txt; } >/tmp/locked && cp /tmp/locked $here/$file.txt
done
