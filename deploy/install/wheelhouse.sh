#!/usr/bin/env bash
# wheelhouse.sh PYTHON FOLDER: all that an installation without a network needs (deploy/INSTALL.md), in one folder:
#   wheels/, requirements.lock, namd-VERSION.tar.gz (the last commit, with SHA256SUMS of its own), SHA256SUMS
# TORCH=FILE.whl: a site's own wheel of torch without CUDA; what only CUDA needs is left out then, and torchvision, which
#                 would have to be of the same build and which inference does not need
# KEY=FILE.pem:   private key that signs the checksums (SHA256SUMS.sig)
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$1 out=$2
[ -z "$(git status --porcelain)" ] || { echo "wheelhouse: there are changes that are in no commit; expected none" >&2; exit 2; }
rm -rf "$out" && mkdir -p "$out/wheels"

if [ -n "${TORCH:-}" ]; then
  version=$(basename "$TORCH" | cut -d- -f2)
  grep -vE '^(torch|torchvision|triton|bitsandbytes|cuda-[a-z]+|nvidia-[a-z0-9-]+)==' requirements.lock > "$out/requirements.lock"
  echo "torch==${version//%2B/+}" >> "$out/requirements.lock"
  cp "$TORCH" "$out/wheels/"
else
  cp requirements.lock "$out/"
fi
# wheel, not download: what is published as sources is built here, where there is a network
"$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --find-links "$out/wheels" -w "$out/wheels" -r "$out/requirements.lock"

version=$("$python" -c 'from data_prep.version import VERSION; print(VERSION)')
name=namd-$version place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
git archive --prefix="$name/" HEAD | tar -x --no-same-permissions -C "$place"
cp "$out/requirements.lock" "$place/$name/"
chmod -R go-w "$place"
(cd "$place/$name" && find bundle data_prep deploy -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum > SHA256SUMS)
tar -czf "$out/$name.tar.gz" --owner=0 --group=0 --sort=name -C "$place" "$name"

cd "$out"
find . -type f ! -name 'SHA256SUMS*' -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum > SHA256SUMS
if [ -n "${KEY:-}" ]; then
  openssl dgst -sha256 -sign "$KEY" -out SHA256SUMS.sig SHA256SUMS
else
  echo "wheelhouse: not signed; give KEY=private.pem to sign it"
fi
echo "$out: $(find wheels -type f | wc -l) wheels, $(du -sm . | cut -f1) MB, $name"
