#!/usr/bin/env bash
# Starts Keycloak on http://127.0.0.1:8962 with the realm of realm.json, in the foreground. It builds itself at its
# first start. Without a cluster, and with the quick one of Java's two compilers, it needs less time.
set -euo pipefail
cd "$(dirname "$0")"
./install.sh
source version.sh
rm -rf "$KEYCLOAK_HOME/data/h2"
mkdir -p "$KEYCLOAK_HOME/data/import"
cp realm.json "$KEYCLOAK_HOME/data/import/interop-realm.json"
export JAVA_OPTS_APPEND='-XX:TieredStopAtLevel=1'
exec "$KEYCLOAK_HOME/bin/kc.sh" start --db=dev-file --cache=local --http-enabled=true \
  --http-host=127.0.0.1 --http-port=8962 --hostname=http://127.0.0.1:8962 --import-realm \
  --log-level="${OIDC_INTEROP_LOG_LEVEL:-warn}"
