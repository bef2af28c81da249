#!/usr/bin/env bash
# offline_install.sh WHEELHOUSE PUBLIC_KEY: runs the lines under "Install" of deploy/INSTALL.md in a network namespace that
# has no network, into a folder of its own in the place of /opt/namd. The self-test has to pass.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
wheelhouse=$(realpath "$1") key=$(realpath "$2") place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
ln -s "$wheelhouse" "$place/wheelhouse"
cp "$key" "$place/namd.pem"
sed -n '/^## Install$/,/^## Run/s/^    //p' "$root/deploy/INSTALL.md" | sed "s#/opt/namd#$place/opt#g" > "$place/install.sh"
[ "$(wc -l < "$place/install.sh")" -ge 9 ] || { echo "offline_install: deploy/INSTALL.md has no lines to run" >&2; exit 1; }
start=$SECONDS
cd "$place"
env -i PATH="$PATH" HOME="$place" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" PIP_CONFIG_FILE=/dev/null unshare --map-root-user --net bash -eu install.sh
echo "installed offline in $((SECONDS - start)) s: $(du -sm opt | cut -f1) MB, $(ls opt/current/.venv/lib/python3.11/site-packages | grep -c dist-info) packages"
