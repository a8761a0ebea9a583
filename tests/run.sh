#!/usr/bin/env bash
# The tests: `bash tests/run.sh [paraview5 | paraview6] [quick | long | shuffled] [core] [plugin] [gui] [pytest arguments]`
#
#   quick    at most 3 minutes: without the tests marked slow, mpi or gui
#   nothing  what CI runs: all but those marked long
#   long     everything; hours are allowed
#   shuffled what CI runs, twice, each time in another order; `--randomly-seed=N` repeats the one of a seed that was printed
#
#   paraview5 ..., paraview6 ...  the same with ParaView 5.13 or 6.1, which it sets up in a folder of its own
#                                 (tests/other_paraview.sh); never in CI
#
# Three stages, each a pytest run of its own (name some to run only those): core in plain Python, plugin in pvpython,
# gui in ParaView's window. All of them run even when one fails; the exit status is 0 only when all passed. core runs beside
# the other two, and its output comes last. Installs what is missing first. pytest arguments (-k name, -x, ...) go to every stage.
set -uo pipefail

root="$(CDPATH="" cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
cd "$root" || exit 1
case "${1:-}" in paraview5 | paraview6) exec bash tests/other_paraview.sh "$@" ;; esac

tier=default
case "${1:-}" in quick | long | shuffled) tier="$1"; shift ;; esac
stages=()
while :; do
  case "${1:-}" in core | plugin | gui) stages+=("$1"); shift ;; *) break ;; esac
done
[ "${#stages[@]}" -gt 0 ] || stages=(core plugin gui)

# The limits are for a hang, not for speed: a rank that waits for another would wait for ever.
case "$tier" in
  quick) selected="not slow and not mpi and not gui and not long"; limit=300 ;;
  default | shuffled) selected="not long"; limit=2400 ;;
  long) selected=""; limit=14400 ;;
esac

# Only this checkout decides what is tested; ParaView's settings and recent files go to a folder of their own.
unset PYTHONPATH PYTHONHOME PYTHONSTARTUP VIRTUAL_ENV PV_PLUGIN_PATH PV_PLUGIN_CONFIG_FILE
bash plugin/install.sh tests || exit 1
if [ "$tier" = shuffled ] && ! "$root/.venv/bin/python" -c "import pytest_randomly" 2>/dev/null; then
  "$root/.venv/bin/python" -m pip install --quiet --no-deps "pytest-randomly>=3,<6" || exit 1
fi
source plugin/env.sh || exit 1

home="$(mktemp -d)" || exit 1
running=() # processes to end with this one
trap 'rm -rf "$home"' EXIT
trap 'kill "${running[@]}" 2>/dev/null; exit 130' INT TERM HUP # timeout passes it on to the whole stage
mkdir -m 700 "$home/run"
export HOME="$home" XDG_CONFIG_HOME="$home/.config" XDG_CACHE_HOME="$home/.cache" XDG_RUNTIME_DIR="$home/run"
# Several ranks on a small machine, also as root in a container.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1

# By the environment: pvpython rewrites arguments that it does not know (-rs becomes --rs).
options=(-rfEs ${selected:+-m "$selected"})
[ "$tier" != shuffled ] || options+=(-p randomly)
options+=("$@")
export PYTEST_ADDOPTS="${options[*]@Q}"

# -noreset: after its last client Xvfb would start anew, and a program that connects meanwhile is aborted.
screen=(xvfb-run -a -s "-screen 0 1600x1000x24 -noreset")

run_stage() { # stage, number of pytest arguments
  local stage="$1" begin=$SECONDS command status result
  case "$stage" in
    core) command=("$root/.venv/bin/python" -m pytest tests --ignore=tests/paraview --ignore=tests/gui) ;;
    plugin) command=("${screen[@]}" pvpython -m pytest tests/paraview) ;;
    gui) command=("$root/.venv/bin/python" -m pytest tests/gui) ;;
  esac
  printf '\n==== %s tests (%s) ====\n' "$stage" "$tier"
  timeout --kill-after=20 "$limit" "${command[@]}" </dev/null &
  running+=("$!")
  wait "$!"
  status=$?
  unset 'running[-1]'
  case "$status" in
    0) result=passed ;;
    # Nothing to run: right where the tier or a pytest argument leaves all tests of a stage out.
    5) if [ "$tier" = quick ] || [ "$2" -gt 0 ]; then result="nothing selected"; else result="FAILED: no tests found"; fi ;;
    124 | 137) result="FAILED: ended after $limit s, its limit" ;;
    *) result="FAILED (exit status $status)" ;;
  esac
  printf '%-7s %-18s %5d s\n' "$stage" "$result" "$((SECONDS - begin))" >>"$home/report"
}

# In ParaView most tests wait for one process after the other: core runs beside them, and shows its output when it has ended.
beside() { # number of pytest arguments
  running=()
  trap 'kill "${running[@]}" 2>/dev/null; exit 130' INT TERM HUP
  trap - EXIT
  run_stage core "$1" >"$home/core.log" 2>&1
}

rounds=1
[ "$tier" != shuffled ] || rounds=2
for ((round = 1; round <= rounds; round++)); do
  core=""
  if [ "${#stages[@]}" -gt 1 ] && [[ " ${stages[*]} " = *" core "* ]]; then
    beside "$#" &
    core=$!
    running+=("$core")
  fi
  for stage in "${stages[@]}"; do
    [ -n "$core" ] && [ "$stage" = core ] || run_stage "$stage" "$#"
  done
  if [ -n "$core" ]; then
    wait "$core" || printf 'core    FAILED: ended before its tests did\n' >>"$home/report"
    running=()
    cat "$home/core.log"
  fi
done

printf '\n==== tests/run.sh (%s) ====\n' "$tier"
cat "$home/report"
! grep -q FAILED "$home/report"
