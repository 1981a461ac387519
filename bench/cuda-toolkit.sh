#!/usr/bin/env bash
# The home of a CUDA toolkit, on standard output: the one of this machine, or else NVIDIA's compiler from the Python registry,
# installed below target/cuda. Ends with an error, and says why, where there is neither.
set -euo pipefail
cd "$(dirname "$0")/.."

for home in "${CUDA_HOME:-}" "${CUDA_PATH:-}" /usr/local/cuda; do
  if [ -n "$home" ] && [ -x "$home/bin/nvcc" ]; then
    echo "$home"
    exit
  fi
done

packages=$PWD/target/cuda
home=$packages/nvidia/cu13
if [ ! -e "$home/complete" ]; then
  rm -rf "$packages"
  python3 -m pip install --quiet --no-deps --disable-pip-version-check --root-user-action ignore --target "$packages" \
    nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 \
    nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 >&2 ||
    { echo "no CUDA toolkit here, and none from the Python registry" >&2; exit 1; }
  ln -sf libcudart.so.13 "$home/lib/libcudart.so"
  touch "$home/complete"
fi
echo "$home"
