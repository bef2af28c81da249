#!/usr/bin/env bash
# audit.sh PIP_AUDIT LOCK: known vulnerabilities of every package of a lock. Fails where one is known, and where fewer were
# audited than are locked: pip-audit says "no known vulnerabilities" of packages that it skipped, too.
set -uo pipefail
found=$(mktemp)
trap 'rm -f "$found"' EXIT
"$1" --requirement "$2" --no-deps --disable-pip --progress-spinner off --format json > "$found"
python3 - "$2" "$found" <<'PY'
import json, re, sys
lock = set(re.findall(r"^([\w.-]+)==", open(sys.argv[1]).read(), flags=re.M))
try:
    told = json.load(open(sys.argv[2]))["dependencies"]
except ValueError:
    sys.exit("audit: pip-audit answered nothing; is there a network?")
audited = [each for each in told if "skip_reason" not in each]
for each in audited:
    for fault in each["vulns"]:
        print(f"{each['name']} {each['version']}: {fault['id']}, mended in {', '.join(fault['fix_versions']) or 'no version'}")
count = sum(len(each["vulns"]) for each in audited)
print(f"audit: {len(audited)} of {len(lock)} locked packages audited, {count} known vulnerabilities")
if len(audited) < len(lock):
    print("audit: of the others the registry knows nothing; ask one that does, as pypi.org")
sys.exit(bool(count) or len(audited) < len(lock) or not lock)
PY
