# The environment in which paraview, pvpython, pvbatch and pvserver have the APMGSRN plugin:
#
#     source plugin/env.sh          (bash or zsh, from any folder, as often as you like)
#
# It sets PYTHONPATH (the .venv with torch, this folder's packages) and PV_PLUGIN_CONFIG_FILE (names the XML files
# that ParaView loads at its start). An installed tree (CMakeLists.txt) has the same layout and uses this same file.

_apmgsrn_env() {
  [ -z "${ZSH_VERSION:-}" ] || emulate -L sh
  local root packages config xml text folder list
  root="$(readlink -f -- "$1")" || return 1 # an installation links to this file from bin/
  root="$(dirname -- "$(dirname -- "$root")")"

  # 1. Where Python looks. Front to back: our packages, then what .venv adds to ParaView's own.
  packages=""
  for folder in "$root"/.venv/lib/python3*/site-packages; do
    [ ! -d "$folder" ] || packages="$folder"
  done
  if [ -z "$packages" ] && [ ! -f "$root/apmgsrn.plugins.xml" ]; then
    echo "plugin/env.sh: $root/.venv is missing; type:  bash \"$root/plugin/install.sh\"" >&2
    return 1
  fi
  list=":${PYTHONPATH:-}:"
  for folder in "$packages" "$root" "$root/plugin"; do
    [ -n "$folder" ] || continue
    list="${list//":$folder:"/:}"
    list=":$folder$list"
  done
  list="${list#:}"
  export PYTHONPATH="${list%"${list##*[!:]}"}"

  # 2. What ParaView loads. ParaView accepts a relative file name only below the folder of the configuration file, so
  #    a checkout gets one with absolute names, written again when the checkout has moved; an installation brings its own.
  config="$root/apmgsrn.plugins.xml"
  if [ ! -f "$config" ]; then
    config="$root/.venv/apmgsrn.plugins.xml"
    text="<Plugins>"
    for xml in "$root"/xml/*.xml; do
      [ -f "$xml" ] || continue
      xml="$(printf '%s' "$xml" | sed -e 's/&/\&amp;/g' -e 's/</\&lt;/g' -e 's/"/\&quot;/g')"
      folder="${xml##*/}"
      text="$text
  <Plugin name=\"${folder%.xml}\" filename=\"$xml\" auto_load=\"1\"/>"
    done
    text="$text
</Plugins>"
    if [ "$(cat "$config" 2>/dev/null)" != "$text" ]; then
      # Renamed into place: a ParaView that starts meanwhile reads the old or the new file, whole.
      { printf '%s\n' "$text" >"$config.$$" && mv -f "$config.$$" "$config"; } || return 1
    fi
  fi
  export PV_PLUGIN_CONFIG_FILE="$config"

  # 3. torch computes with the OpenMP library that ParaView has loaded. Its threads spin while they wait, which on
  #    cores that are shared makes a training step several times slower; it reads this only once, at its start.
  export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"
}

if [ -n "${BASH_VERSION:-}" ]; then
  _apmgsrn_env "${BASH_SOURCE[0]}"
elif [ -n "${ZSH_VERSION:-}" ]; then
  eval '_apmgsrn_env "${(%):-%x}"' # zsh's name of this file; bash cannot parse it
else
  echo "plugin/env.sh: source it from bash or zsh" >&2
  false
fi
