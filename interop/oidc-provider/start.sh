#!/usr/bin/env bash
# Builds and starts oidc-provider (npm, a devDependency) on http://127.0.0.1:8961, in the foreground.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ -e dist/interop/oidc-provider/start.js ] || npm run --silent build
exec node dist/interop/oidc-provider/start.js 8961
