#!/usr/bin/env bash
# Checks the types of everything in TypeScript: the package by building it, its tests, and what is
# built upon it (the examples, the pages of the browser tests).
set -euo pipefail
cd "$(dirname "$0")/.."

npm run --silent --workspace @resonantgenesis/sdk build
node_modules/.bin/tsc -p sdk/typescript/tests
for config in console/tsconfig.json examples/*/tsconfig.json tests/browser/*/tsconfig.json; do
    folder="$(dirname "$config")"
    # Only vue-tsc can read a component's types.
    compiler=tsc
    [[ -z "$(find "$folder/src" -name '*.vue' -print -quit 2>/dev/null)" ]] || compiler=vue-tsc
    "node_modules/.bin/$compiler" --noEmit -p "$folder"
done
