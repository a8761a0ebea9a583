#!/usr/bin/env bash
# Installs what APMGSRN needs beside ParaView: `bash plugin/install.sh` (for use) or `bash plugin/install.sh tests`.
#
# - System packages by apt, as root or with passwordless sudo; otherwise it says what to type and stops.
# - A `.venv` at the project's root, on top of ParaView's own Python, that adds torch, safetensors and tqdm.
#   ParaView's numpy, vtk and mpi4py stay the only ones: the constraints below keep pip from adding its own.
#   What ParaView's Python has of them already (Debian's python3-torch from 2.4 on) is used.
# - The CPU kernels, built by cmake into apmgsrn_core/kernels/lib where there is a C++ compiler.
# - pip is used as this computer has it set up. Without a CUDA GPU the CPU build of torch is preferred
#   wherever pip is set up to find it.
#
# Run it as often as you like: when all is there it only checks that (a fraction of a second).
set -euo pipefail

root="$(CDPATH="" cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
venv="$root/.venv"
level="${1:-use}"
torch_cpu="2.13.0"

say() { printf 'install.sh: %s\n' "$*"; }
fail() { printf 'install.sh: %s\n' "$@" >&2; exit 1; }

case "$level" in
  use | tests) ;;
  *) fail "unknown argument '$level'; allowed: nothing, tests" ;;
esac

# Two runs at the same time: the second waits. The lock lies on the folder and dies with the process.
if command -v flock >/dev/null; then
  exec 9<"$root"
  flock -n 9 || { say "another installation is running here; waiting for it"; flock 9; }
fi

# ---- 1. system packages -------------------------------------------------------------------------
if [ "$(id -u)" -eq 0 ]; then as_root=(); else as_root=(sudo -n); fi
can_administer() { [ "$(id -u)" -eq 0 ] || { command -v sudo >/dev/null && sudo -n true 2>/dev/null; }; }

missing_packages() {
  local needed=() wanted=() tool
  for tool in paraview pvpython pvbatch pvserver; do
    command -v "$tool" >/dev/null || needed+=(paraview python3-paraview)
  done
  # A ParaView from apt gets its companions from apt too.
  if [ "${#needed[@]}" -gt 0 ] || [ -d /usr/lib/python3/dist-packages/paraview ]; then
    [ -e /usr/lib/python3/dist-packages/mpi4py ] || needed+=(python3-mpi4py)
    /usr/bin/python3 -c 'import ensurepip' 2>/dev/null || needed+=(python3-venv)
    # ParaView's icons are SVG; without this its tool bars are blank.
    if compgen -G '/usr/lib/*/libQt5Widgets.so.5' >/dev/null; then
      compgen -G '/usr/lib/*/qt5/plugins/iconengines/libqsvgicon.so' >/dev/null || wanted+=(libqt5svg5)
    fi
  fi
  command -v xvfb-run >/dev/null || needed+=(xvfb)
  command -v xauth >/dev/null || needed+=(xauth)
  # For the CPU kernels; without them torch does their work, several times slower.
  command -v "${CXX:-c++}" >/dev/null || [ -n "${CXX:-}" ] || wanted+=(g++)
  command -v cmake >/dev/null || wanted+=(cmake)
  command -v make >/dev/null || wanted+=(make)
  if [ "$level" = tests ]; then # the tests that want these are skipped without them
    command -v mpirun >/dev/null || wanted+=(openmpi-bin)
    command -v xdotool >/dev/null || wanted+=(xdotool)
  fi
  if [ "${#needed[@]}" -gt 0 ] || { [ "${#wanted[@]}" -gt 0 ] && can_administer; }; then
    printf '%s\n' "${needed[@]}" "${wanted[@]}" | sort -u | xargs
  fi
}

install_packages() {
  command -v apt-get >/dev/null ||
    fail "these packages are missing, and there is no apt-get to install them with: $*" \
      "install ParaView 5.11 or newer with Python, and Xvfb with xauth, so that they are on PATH; then run this command again"
  can_administer ||
    fail "these packages are missing and need an administrator: $*" \
      "on Debian or Ubuntu, type:" \
      "  sudo apt-get update && sudo apt-get install --no-install-recommends $*" \
      "then run this command again"
  say "installing $* (by apt-get)"
  # Descriptor 9 (the lock) stays here: a daemon that a package starts must not hold it.
  [ "$round" -gt 1 ] || "${as_root[@]}" apt-get -q -o DPkg::Lock::Timeout=300 update 9<&- >/dev/null ||
    say "'apt-get update' failed; trying with the package lists that are there"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@" 9<&- </dev/null >/dev/null
}

# The second round is for what only shows once ParaView is there.
for round in 1 2 3; do
  packages="$(missing_packages)"
  [ -n "$packages" ] || break
  [ "$round" -lt 3 ] || fail "apt-get ended well, but this is still missing: $packages"
  # shellcheck disable=SC2086  # a list of words
  install_packages $packages
done

# ---- 2. the CPU kernels -------------------------------------------------------------------------
# Built again when their sources or the compiler have changed; what the build says is kept beside the library.
build_kernels() {
  local target="$root/apmgsrn_core/kernels/lib" work state
  [ -f "$root/CMakeLists.txt" ] && [ -d "$root/apmgsrn_core/kernels/cpu" ] || return 0 # an installed tree has its own
  state="$(cat "$root"/apmgsrn_core/kernels/cpu/* "$root/CMakeLists.txt" | cksum) ${CXX:-} $("${CXX:-c++}" --version 2>/dev/null | head -n 1 || true)"
  [ "$(cat "$target/.state" 2>/dev/null)" != "$state" ] || return 0
  mkdir -p "$target" 2>/dev/null && [ -w "$target" ] || { say "cannot write to $target: the CPU kernels are not built"; return 0; }
  rm -f "$target"/.state "$target"/lib*
  if ! command -v cmake >/dev/null; then
    say "no cmake: the CPU kernels are not built, torch does their work several times slower"
    return 0
  fi
  work="$(mktemp -d)"
  say "building the CPU kernels"
  if cmake -S "$root" -B "$work" -DAPMGSRN_KERNEL_DIR="$target" >"$target/build.log" 2>&1 9<&- &&
    cmake --build "$work" --parallel "$(nproc)" >>"$target/build.log" 2>&1 9<&-; then
    compgen -G "$target/lib*" >/dev/null || say "no C++ compiler: the CPU kernels are not built, torch does their work several times slower"
    printf '%s\n' "$state" >"$target/.state"
  else
    rm -f "$target"/lib*
    say "the CPU kernels could not be built (see $target/build.log); torch does their work several times slower"
  fi
  rm -rf "$work"
}
build_kernels

# ---- 3. the .venv -------------------------------------------------------------------------------
gpu=no
if [ -n "$(ls /proc/driver/nvidia/gpus 2>/dev/null)" ] || nvidia-smi -L >/dev/null 2>&1; then gpu=yes; fi

requirements=("safetensors>=0.4,<1" "tqdm>=4,<5") # the ranges of pyproject.toml
if [ "$level" = tests ]; then requirements+=("pytest>=7,<10" "hypothesis>=6,<7"); fi

# What was asked for, and on which Python: a stamp that holds it is written last of all.
request="$(printf '%s\n' "$(cksum <"${BASH_SOURCE[0]}")" "$gpu")"
python_of_venv() { "$venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }
is_installed() {
  local stamp
  for stamp in "$@"; do
    [ -f "$venv/.installed-$stamp" ] &&
      [ "$(cat "$venv/.installed-$stamp")" = "$request $(python_of_venv)" ] && return 0
  done
  return 1
}
# What is there for the tests is enough for use.
if [ "$level" = use ]; then wanted=(use tests); else wanted=(tests); fi
if is_installed "${wanted[@]}"; then exit 0; fi

# ParaView's own Python, asked from ParaView itself.
asked="$(pvpython -c 'import sys; print("apmgsrn:%d.%d:%s" % (sys.version_info[0], sys.version_info[1], sys.base_prefix))' \
  2>/dev/null | sed -n 's/^apmgsrn://p')" || true
[ -n "$asked" ] || fail "pvpython ($(command -v pvpython)) does not run: try  pvpython -c 'print(1)'"
version="${asked%%:*}"
python=""
for candidate in "${asked#*:}/bin/python$version" "/usr/bin/python$version" "$(command -v "python$version" || true)"; do
  # -s -E: only what belongs to that Python, no user or environment folders.
  if [ -x "$candidate" ] && "$candidate" -sE -c 'import numpy, vtkmodules, paraview' 2>/dev/null; then
    python="$candidate"
    break
  fi
done
[ -n "$python" ] ||
  fail "found no Python $version that has ParaView's numpy, vtkmodules and paraview" \
    "($(command -v pvpython) carries its own Python?); README, 'Kitware's binaries', says how to use such a ParaView"

# A torch that ParaView's Python already has is kept; otherwise without a GPU one exact torch.
own_torch=no
"$python" -sE -c 'import sys, torch; sys.exit(not (2, 4) <= tuple(map(int, torch.__version__.split(".")[:2])) < (3, 0))' \
  2>/dev/null && own_torch=yes
if [ "$gpu" = yes ]; then torch="torch>=2.4,<3"; else torch="torch==$torch_cpu"; fi

# An empty folder is as good as none: something may be mounted there.
is_there() { [ -n "$(ls -A "$venv" 2>/dev/null)" ]; }
if is_there && [ ! -e "$venv/.made-by-apmgsrn" ]; then
  fail "$venv exists and was not made by this script: move it away and run this command again"
fi
# Begun and not ended (or made for another Python): nothing in it is trusted.
if is_there && { [ -e "$venv/.unfinished" ] || [ "$(python_of_venv)" != "$version" ]; }; then
  say "removing an unfinished or outdated .venv"
  find "$venv" -mindepth 1 -delete
fi
mkdir -p "$venv"
touch "$venv/.made-by-apmgsrn" "$venv/.unfinished"
rm -f "$venv"/.installed-*

if [ ! -e "$venv/bin/pip" ]; then
  say "making .venv with $python"
  "$python" -m venv --system-site-packages "$venv"
fi
"$python" -sE - >"$venv/constraints.txt" <<'PYTHON'
import numpy
print("numpy==" + numpy.__version__)
try:
    import mpi4py
    print("mpi4py==" + mpi4py.__version__)
except ImportError:
    print("mpi4py<0")
print("vtk<0\nparaview<0")  # a pip vtk on the path crashes pvpython: no version is allowed
if int(numpy.__version__.split(".")[0]) < 2:
    print("imagecodecs<=2024.12.30")  # of the benchmarks; newer ones demand numpy 2
PYTHON

pip_install() {
  env -u PYTHONPATH -u PIP_USER -u PIP_TARGET "$venv/bin/python" -m pip --disable-pip-version-check --no-input \
    install --quiet --constraint "$venv/constraints.txt" "$@"
}
if [ "$own_torch" = yes ]; then say "installing ${requirements[*]} into .venv; torch is there"
else say "installing ${requirements[*]} $torch into .venv (a few minutes)"; fi
# The small ones first: where pip reaches nothing, they say so at once.
pip_install "${requirements[@]}" || fail "pip could not install: ${requirements[*]} (its message is above)"
if [ "$gpu$own_torch" = nono ] && ! pip_install "$torch+cpu" 2>/dev/null; then
  say "pip finds no CPU-only build of torch $torch_cpu here; it takes the general one, which is larger"
fi
if [ "$gpu$own_torch" = nono ] && [ "$level" = tests ]; then # torch for CUDA brings triton; its interpreter runs without a GPU
  pip_install --no-deps "triton==3.7.1" 2>/dev/null || say "pip finds no triton here; the tests of the GPU kernels are skipped"
fi
[ "$own_torch" = yes ] || pip_install "$torch" || fail "pip could not install: $torch (its message is above)"

# ---- 4. does it hold together? ------------------------------------------------------------------
check='
import os, sys
import numpy, vtkmodules, safetensors, torch, tqdm
venv = os.path.realpath(sys.argv[1]) + os.sep
for module in (numpy, vtkmodules):
    if os.path.realpath(module.__file__).startswith(venv):
        sys.exit("%s lies in .venv, but it must be the one of ParaView" % module.__name__)
if sys.argv[2] == "yes" and torch.version.cuda is None:
    print("install.sh: note: there is a CUDA GPU, but pip found a CPU build of torch only")
print("install.sh: torch %s, numpy %s, Python %s" % (torch.__version__, numpy.__version__, sys.version.split()[0]))
'
env -u PYTHONPATH "$venv/bin/python" -c "$check" "$venv" "$gpu" ||
  fail "the .venv does not hold together (see above); delete $venv and run this command again"
PYTHONPATH="$(echo "$venv"/lib/python*/site-packages)" pvpython -c 'import numpy, vtkmodules, torch' >/dev/null ||
  fail "pvpython cannot import torch from .venv (see above)"

printf '%s\n' "$request $(python_of_venv)" >"$venv/.installed-$level"
rm -f "$venv/.unfinished"
say "done"
