#!/usr/bin/env bash
# The home of a CUDA toolkit, on standard output: the one of this machine, or else NVIDIA's compiler from the Python registry,
# installed below target/cuda with stand-ins for the libraries that only a machine with a GPU has. Ends with an error, and
# says why, where there is neither.
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

# stand_in LIBRARY SONAME MODULE: a library to link against, with every function that cudarc's MODULE names. Where it is
# loaded too, each of them answers 100: to the driver's callers, that there is no device.
stand_in() {
  grep -oE 'pub unsafe fn [A-Za-z0-9_]+' "$cudarc/src/$3/sys/mod.rs" | awk '{ print "int " $4 "(void) { return 100; }" }' | sort -u |
    cc -shared -fPIC -w -x c - -Wl,-soname,"$2" -o "$home/lib/stubs/$2"
  ln -sf "$2" "$home/lib/stubs/$1"
}

if [ ! -e "$home/linkable" ]; then
  rm -rf "$packages"
  python3 -m pip install --quiet --no-deps --disable-pip-version-check --root-user-action ignore --target "$packages" \
    nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 \
    nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 >&2 ||
    { echo "no CUDA toolkit here, and none from the Python registry" >&2; exit 1; }
  ln -sf libcudart.so.13 "$home/lib/libcudart.so"
  cudarc=$(cargo metadata --format-version 1 --locked --all-features | python3 -c '
import json, os, sys
found = [p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "cudarc"]
print(os.path.dirname(found[0]))')
  mkdir -p "$home/lib/stubs"
  stand_in libcuda.so libcuda.so.1 driver
  stand_in libnvrtc.so libnvrtc.so.13 nvrtc
  stand_in libcurand.so libcurand.so.10 curand
  stand_in libcublas.so libcublas.so.13 cublas
  stand_in libcublasLt.so libcublasLt.so.13 cublaslt
  touch "$home/linkable"
fi
echo "$home"
