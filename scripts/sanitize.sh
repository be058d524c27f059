#!/bin/sh
# Build native/ with the address and undefined behaviour sanitizers, run the cases of the tests on every code path and then
# $1 (default 20000) random changes of them. Needs a C++ compiler, CMake and edgepose with its extras `dev` and `train`.
set -eu
cd "$(dirname "$0")/.."
PYTHONPATH=$(pwd)/src${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH
build=build/sanitize
cmake -S native -B "$build" -DEDGEBIN_SANITIZE=ON -DEDGEBIN_TOOLS=ON >/dev/null
cmake --build "$build" --parallel 2
${PYTHON:-python3} tests/_edgebin_cases.py "$build/cases"
for path in $("$build/edgebin-run" 2>&1 | sed 's/.*paths: //'); do
    for case in "$build"/cases/*.case; do "$build/edgebin-run" "$case" "$path" "$build/out"; done
    echo "path $path: no fault"
done
"$build/edgebin-fuzz" "${1:-20000}" "${2:-1}" "$build"/cases/*.case
