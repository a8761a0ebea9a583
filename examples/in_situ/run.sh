#!/usr/bin/env bash
# In situ, once: `bash examples/in_situ/run.sh` installs what is missing, simulates the Taylor-Green vortex on two ranks, which
# train a neural volume of it while it runs, opens that as an animation, and leaves all in in_situ_output/. Arguments go to
# simulate.py. RANKS=4 takes another number of ranks.
set -euo pipefail

root="$(CDPATH="" cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd -P)"
output="" restart=no words=("$@")
for index in "${!words[@]}"; do
  case "${words[index]}" in
    -h | --help) sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}"; help=yes ;;
    --restart) restart=yes ;;
    --output) output="${words[index + 1]:-}" ;;
    --output=*) output="${words[index]#*=}" ;;
  esac
done
bash "$root/plugin/install.sh"
source "$root/plugin/env.sh"
if [ -n "${help:-}" ]; then exec "$root/.venv/bin/python" "$root/examples/in_situ/simulate.py" --help; fi
if [ -z "$output" ]; then
  cd "$root"
  output=in_situ_output
  set -- "$@" --output "$output"
  [ "$restart" = yes ] || rm -f "$output"/flow.apmgsrn "$output"/state.npz # else the same simulation would train nothing
fi

# One thread for each rank; several ranks on a small machine, also as root in a container.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# ParaView 5.11 renders only where there is an X server; without a screen it gets a virtual one.
screen=()
if [ -z "${DISPLAY:-}" ]; then screen=(xvfb-run -a -s "-screen 0 1600x1000x24 -noreset"); fi

"${screen[@]}" mpirun --oversubscribe --bind-to none -np "${RANKS:-2}" \
  "$root/.venv/bin/python" "$root/examples/in_situ/simulate.py" "$@"
exec "${screen[@]}" pvpython "$root/examples/in_situ/animation.py" "$output"
