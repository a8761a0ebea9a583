#!/usr/bin/env bash
# The tests in another ParaView: `bash tests/run.sh paraview5 | paraview6 [quick | long] [core] [plugin] [gui] [pytest arguments]`
#
# The Debian release that has that ParaView, with its Python and torch, is set up in a folder beside the system
# (4.3 GB, two to five minutes the first time; as root, for chroot), from the Debian mirror that this computer's apt uses, and
# kept. The checkout is seen there as /project, with a .venv and CPU kernels of its own. The arguments are those of
# tests/run.sh; without a stage: plugin and gui. Nothing of this computer's ParaView, Python or .venv takes part.
#
#   APMGSRN_PARAVIEW5, APMGSRN_PARAVIEW6
#                   the folders; /var/cache/apmgsrn/paraview5 and paraview6 without them. `rm -rf` one to have it set up anew
set -uo pipefail

root="$(CDPATH="" cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
name="${1:-}"
case "$name" in
  paraview5) release=trixie folder="${APMGSRN_PARAVIEW5:-}" ;; # 5.13
  paraview6) release=forky folder="${APMGSRN_PARAVIEW6:-}" ;;  # 6.1
  *) printf 'tests/other_paraview.sh: the first argument is paraview5 or paraview6\n' >&2; exit 2 ;;
esac
shift
system="${folder:-/var/cache/apmgsrn/$name}"
packages=(paraview python3-paraview python3-torch python3-safetensors python3-tqdm python3-mpi4py openmpi-bin
  python3-venv python3-setuptools python3-pytest python3-hypothesis g++ cmake make git
  xvfb xauth xdotool imagemagick qt6-svg-plugins)

say() { printf "$name: %s\n" "$*"; }
fail() { printf "$name: %s\n" "$@" >&2; exit 1; }

# ---- what this computer has ---------------------------------------------------------------------
# The mirror of Debian's main archive: the first of apt's sources that has it, of whatever release.
mirror() {
  apt-get indextargets --format '$(CREATED_BY)|$(ORIGIN)|$(LABEL)|$(REPO_URI)' 2>/dev/null |
    sed -n 's/^Packages|Debian|Debian|//p' | head -n 1
}

can_set_up() {
  [ "$(uname -s)" = Linux ] || fail "needs Linux, this is $(uname -s)"
  [ "$(id -u)" -eq 0 ] || fail "needs root, for chroot; type:  sudo bash tests/run.sh $name"
  command -v apt-get >/dev/null || fail "needs a Debian mirror that apt knows, and there is no apt-get here"
  [ -n "$(mirror)" ] || fail "apt's sources name no mirror of Debian's main archive (try  apt-get update  first)"
  unshare --mount true 2>/dev/null || fail "needs mount namespaces (unshare --mount), which this computer does not allow"
}

# ---- the folder ---------------------------------------------------------------------------------
# Runs a command in there; its mounts are seen by that command alone and go with it. /tmp is this computer's, where X
# servers agree on their numbers.
inside() {
  unshare --mount bash -c '
    system="$1" root="$2"; shift 2
    mkdir -p "$system/project" "$system/kept/venv" "$system/kept/kernels" "$root/.venv" "$root/apmgsrn_core/kernels/lib"
    mount --rbind /dev "$system/dev" && mount -t proc proc "$system/proc" && mount --rbind /sys "$system/sys" &&
      mount --bind /tmp "$system/tmp" && mount --bind "$root" "$system/project" &&
      mount --bind "$system/kept/venv" "$system/project/.venv" &&
      mount --bind "$system/kept/kernels" "$system/project/apmgsrn_core/kernels/lib" || exit 1
    own=(PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive PIP_NO_INDEX=1)
    own+=(PYTHONUNBUFFERED=1) # what a run that is ended has told
    for name in OMP_NUM_THREADS "${!APMGSRN_@}"; do [ -z "${!name:-}" ] || own+=("$name=${!name}"); done
    exec env -i "${own[@]}" chroot "$system" "$@"
  ' bash "$system" "$root" "$@"
}

set_up() {
  local log="$system.log"
  mkdir -p "$(dirname -- "$system")" && : >"$log" || fail "cannot write to $(dirname -- "$system")"
  [ ! -e "$system" ] || [ -e "$system.unfinished" ] ||
    fail "$system exists and was not made by this script: name another folder by APMGSRN_${name^^}"
  say "setting up Debian $release in $system (two to five minutes; $log tells how far it is)"
  touch "$system.unfinished"
  rm -rf -- "$system"
  if ! command -v debootstrap >/dev/null; then
    apt-get -q -y install --no-install-recommends debootstrap >>"$log" 2>&1 </dev/null ||
      fail "cannot install debootstrap (see $log)"
  fi
  # The script is named: an older debootstrap does not know the release. Signatures are checked with this computer's keys.
  debootstrap --variant=minbase --include=ca-certificates "$release" "$system" "$(mirror)" /usr/share/debootstrap/scripts/sid \
    >>"$log" 2>&1 || fail "debootstrap failed (see $log)"
  # How this computer's apt reaches and checks the mirror holds there too.
  apt-config dump | grep -E '^Acquire::(Check-|https?::)' >"$system/etc/apt/apt.conf.d/90host"
  cp -L /etc/resolv.conf /etc/hosts "$system/etc/"
  touch "$system/.made-by-apmgsrn"
  rm -f "$system.unfinished"
}

# The packages that are there are kept in the mark.
install_packages() {
  [ "$(cat "$system/.made-by-apmgsrn")" != "${packages[*]}" ] || return 0
  say "installing ParaView and what the tests need ($system.log tells how far it is)"
  { inside apt-get -q update && inside apt-get -q -y install --no-install-recommends "${packages[@]}"; } \
    >>"$system.log" 2>&1 </dev/null || fail "apt-get failed in $system (see $system.log)"
  printf '%s' "${packages[*]}" >"$system/.made-by-apmgsrn"
}

can_set_up
exec 9<"$root/tests" && flock -n 9 || { say "another run is there; waiting for it"; flock 9; }
[ -e "$system/.made-by-apmgsrn" ] || set_up
install_packages

# ---- the tests ----------------------------------------------------------------------------------
tier=()
case "${1:-}" in quick | long) tier=("$1"); shift ;; esac
case "${1:-}" in core | plugin | gui) ;; *) set -- plugin gui "$@" ;; esac
say "$(inside pvpython --version 2>/dev/null), $(inside python3 --version), in $system"
inside bash /project/tests/run.sh ${tier[@]+"${tier[@]}"} "$@"
