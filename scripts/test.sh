#!/bin/sh
# Make .venv-test, install edgepose with what its tests need, run every check. Arguments go to pytest: test.sh -m slow
# All checks run; the exit code is 1 if any of them failed.
set -eu
cd "$(dirname "$0")/.."
. scripts/_venv.sh
make_venv .venv-test
bin=$(pwd)/.venv-test/bin
"$bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,train,export,openvino,ncnn]"
PATH=$bin:$PATH
export PATH
failed=""
ruff check . || failed="$failed ruff"
lint-imports --no-logo || failed="$failed lint-imports"
if pyright --version >/dev/null 2>&1; then
    pyright || failed="$failed pyright"
else
    echo "pyright skipped: it needs Node.js, which is neither installed nor downloadable here"
fi
pytest "$@" || failed="$failed pytest"
[ -z "$failed" ] || echo "failed:$failed" >&2
[ -z "$failed" ]
