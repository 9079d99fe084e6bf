#!/bin/sh
# Makes .venv-trl-oldest and .venv-trl-newest, where the TRL adapter is tested. Safe to run again.
# Needs about 2 GB of disk and some minutes. Usage: tests/adapters/make_trl_venvs.sh [PYTHON]
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
python=${1:-python3}
torch=2.13.0
transformers=5.23.0 # the one beside which both were tried

make_venv() { # NAME TRL
    venv="$root/.venv-trl-$1"
    stamp="$venv/.complete-trl-$2-torch-$torch-transformers-$transformers"
    if [ -e "$stamp" ]; then
        echo "$venv is complete"
        return
    fi
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    pip="$venv/bin/python -m pip --disable-pip-version-check"
    $pip install --quiet "torch==$torch+cpu" || $pip install --quiet "torch==$torch"
    $pip install --quiet "torch==$torch" "transformers==$transformers" "trl==$2" \
        -e "$root[trl,math]" "pytest>=8.3" "pytest-asyncio>=0.25" "hypothesis>=6.120"
    "$venv/bin/python" -c 'import torch, trl; print("torch", torch.__version__, "TRL", trl.__version__)'
    touch "$stamp"
}

make_venv oldest 0.29.1 # stepcredit/adapters/trl/versions.py
make_venv newest 1.16.0
