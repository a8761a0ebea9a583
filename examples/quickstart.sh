#!/usr/bin/env bash
# The whole way once: `bash examples/quickstart.sh` installs what is missing, trains a model of examples/data/ in
# ParaView, opens it again, and leaves model, history and picture in quickstart_output/. Arguments go to quickstart.py.
set -euo pipefail

root="$(CDPATH="" cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
bash "$root/plugin/install.sh"
source "$root/plugin/env.sh"

# ParaView 5.11 renders only where there is an X server; without a screen it gets a virtual one.
screen=()
if [ -z "${DISPLAY:-}" ]; then screen=(xvfb-run -a -s "-screen 0 1600x1000x24 -noreset"); fi
cd "$root"
exec "${screen[@]}" pvpython examples/quickstart.py "$@"
