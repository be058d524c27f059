# Shared part of try.sh and test.sh: `make_venv FOLDER` makes a virtual environment with Python >= 3.11.
# $PYTHON chooses the interpreter; otherwise the first suitable one is taken.

make_venv() {
    venv=$1
    [ -x "$venv/bin/python" ] && "$venv/bin/python" -c 'import pip' 2>/dev/null && return 0
    for python in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            "$python" -m venv --clear "$venv" && return 0
            echo "could not make $venv with $python (on Debian and Ubuntu: apt install python3-venv)" >&2
            return 1
        fi
    done
    echo "edgepose needs Python 3.11 or newer; set PYTHON=/path/to/python3 if it is not on the PATH" >&2
    return 1
}
