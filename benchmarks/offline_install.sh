#!/usr/bin/env bash
# offline_install.sh WHEELHOUSE PUBLIC_KEY [NEWER]: runs the lines under "Install" of deploy/INSTALL.md in a network namespace
# that has no network, into a folder of its own in the place of /opt/namd. The self-test has to pass. With a wheelhouse of
# another version, signed by the same key, then those of an upgrade to it and of going back.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
wheelhouse=$(realpath "$1") key=$(realpath "$2") newer=${3:+$(realpath "$3")} place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cp "$key" "$place/namd.pem"
cd "$place"

# run NAME BEGIN END [VERSION]: the lines of code between two lines of the document, but what asks systemd; VERSION for BEFORE
run() {
  sed -n "/^$2/,/^$3/s/^    //p" "$root/deploy/INSTALL.md" | sed "s#/opt/namd#$place/opt#g; s#namd-BEFORE#${4:-}#g; /^systemctl/d" > "$1.sh"
  [ -s "$1.sh" ] || { echo "offline_install: deploy/INSTALL.md has no lines to run: $1" >&2; exit 1; }
  local start=$SECONDS
  env -i PATH="$PATH" HOME="$place" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" PIP_CONFIG_FILE=/dev/null unshare --map-root-user --net bash -eu "$1.sh"
  echo "$1, offline, in $((SECONDS - start)) s: $(readlink opt/current), $(du -smL opt/current | cut -f1) MB, $(ls opt/current/.venv/lib/python3.11/site-packages | grep -c dist-info) packages"
}

ln -s "$wheelhouse" wheelhouse
run install "## Install" "## Run"
if [ -n "$newer" ]; then
  before=$(readlink opt/current)
  ln -sfn "$newer" wheelhouse
  run upgrade "## Install" "## Run"
  [ "$(readlink opt/current)" != "$before" ] || { echo "offline_install: $3 is of the same version" >&2; exit 1; }
  run back "\*\*To go back\*\*" "To remove" "$before"
  [ "$(readlink opt/current)" = "$before" ]
fi
