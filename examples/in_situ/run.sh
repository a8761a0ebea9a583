#!/usr/bin/env bash
# In situ, once: `bash examples/in_situ/run.sh` installs what is missing, simulates the Taylor-Green vortex on two ranks, which
# train a neural volume of it while it runs, opens that as an animation, and leaves all in in_situ_output/. Arguments go to
# simulate.py. RANKS=4 takes another number of ranks.
set -euo pipefail

root="$(CDPATH="" cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd -P)"
bash "$root/plugin/install.sh"
source "$root/plugin/env.sh"
cd "$root"
output=in_situ_output
case " $* " in *" --restart "*) ;; *) rm -f "$output/flow.apmgsrn" ;; esac # else the same simulation would train nothing

# One thread for each rank; several ranks on a small machine, also as root in a container.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# ParaView 5.11 renders only where there is an X server; without a screen it gets a virtual one.
screen=()
if [ -z "${DISPLAY:-}" ]; then screen=(xvfb-run -a -s "-screen 0 1600x1000x24 -noreset"); fi

"${screen[@]}" mpirun --oversubscribe --bind-to none -np "${RANKS:-2}" \
  "$root/.venv/bin/python" examples/in_situ/simulate.py --output "$output" "$@"
exec "${screen[@]}" pvpython examples/in_situ/animation.py "$output"
