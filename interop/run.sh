#!/usr/bin/env bash
# Starts the providers that need no account, runs the matrix against them, and stops them. install.sh comes before.
# The build must be there. The output of the providers is in the folder that the first argument names.
set -euo pipefail
cd "$(dirname "$0")/.."
logs=${1:-$(mktemp -d)}
groups=()

# Each provider is a process group of its own, so that what it has started ends with it.
start() {
  setsid "interop/$1/start.sh" >"$logs/$1.log" 2>&1 &
  groups+=($!)
}

finish() {
  for group in "${groups[@]}"; do kill -- "-$group" 2>/dev/null || true; done
  wait
}
trap finish EXIT

start oidc-provider
start keycloak
start lemonldap-ng
start glewlwyd
status=0
OIDC_INTEROP_OIDC_PROVIDER=http://127.0.0.1:8961 \
  OIDC_INTEROP_LEMONLDAP_NG=http://127.0.0.1:8963/ \
  OIDC_INTEROP_GLEWLWYD=http://127.0.0.1:8964/api/oidc \
  OIDC_INTEROP_KEYCLOAK=http://127.0.0.1:8962/realms/interop \
  node dist/interop/index.js || status=$?
[ "$status" -eq 0 ] || tail -n 20 "$logs"/*.log
exit "$status"
