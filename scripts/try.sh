#!/bin/sh
# Make .venv, install edgepose into it, find the people in examples/photos, write pictures and JSON to examples/out.
set -eu
cd "$(dirname "$0")/.."
. scripts/_venv.sh
make_venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt .
.venv/bin/edgepose predict examples/photos --out examples/out
echo "annotated pictures and JSON: $(pwd)/examples/out"
