#!/usr/bin/env bash
# Ask for open advisories of the locked dependencies of a release. Exits with 1 if there is one, or
# if a service cannot be reached: nobody then knows.
set -euo pipefail
cd "$(dirname "$0")/.."

status=0
python3 -m venv build/audit
build/audit/bin/pip install --quiet --disable-pip-version-check pip-audit
build/audit/bin/pip-audit --strict --disable-pip --require-hashes --requirement requirements/image.txt || status=1
npm audit --omit=dev || status=1
exit "$status"
