#!/usr/bin/env bash
# serve.sh FOLDER ORTHANC USER PASSWORD_FILE: OHIF at http://localhost:8080/ on the archive ORTHANC (such as
# http://127.0.0.1:8042), behind nginx. FOLDER gets OHIF, which npm fetches as it is published, and nginx's files.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" && folder=$(realpath "$1")
OHIF=3.12.0
if [ ! -f "$folder/ohif/index.html" ]; then
  (cd "$folder" && npm pack --silent "@ohif/app@$OHIF" > /dev/null && tar -xzf "ohif-app-$OHIF.tgz" && mv package/dist ohif && rm -r package ohif-app-*.tgz)
fi
cp "$here/ohif.js" "$folder/ohif/app-config.js"
sed "s#PLACE#$folder#g" "$here/nginx.conf" > "$folder/nginx.conf"
(umask 077 && printf 'proxy_pass %s;\nproxy_set_header Authorization "Basic %s";\n' "$2" "$(printf '%s:%s' "$3" "$(cat "$4")" | base64 -w0)" > "$folder/orthanc.conf")
exec nginx -c "$folder/nginx.conf" -e "$folder/error.log"
