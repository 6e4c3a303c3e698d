#!/usr/bin/env bash
# Gets Keycloak from Maven Central and starts it on http://127.0.0.1:8962 with the realm of realm.json, in the foreground.
# Needs Maven, unzip and Java 17 or newer. The distribution, built for its database, is kept in KEYCLOAK_HOME.
set -euo pipefail
cd "$(dirname "$0")"
version=26.7.3
home=${KEYCLOAK_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/fastify-oidc-interop/keycloak-$version}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

install_tools() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    -o DPkg::Lock::Timeout=600 maven unzip openjdk-17-jre-headless >/dev/null
}

download() {
  local folder
  folder=$(mktemp -d)
  mvn -q -B dependency:copy -Dartifact=org.keycloak:keycloak-quarkus-dist:$version:zip -DoutputDirectory="$folder"
  unzip -q "$folder/keycloak-quarkus-dist-$version.zip" -d "$folder"
  mkdir -p "$(dirname "$home")"
  mv "$folder/keycloak-$version" "$home"
  rm -rf "$folder"
}

if [ ! -e "$home/lib/quarkus/quarkus-application.dat" ]; then
  command -v mvn unzip java >/dev/null || install_tools
  [ -e "$home/bin/kc.sh" ] || download
  "$home/bin/kc.sh" build --db=dev-file >/dev/null
fi
rm -rf "$home/data/h2"
mkdir -p "$home/data/import"
cp realm.json "$home/data/import/interop-realm.json"
exec "$home/bin/kc.sh" start --optimized --http-enabled=true --http-host=127.0.0.1 --http-port=8962 \
  --hostname=http://127.0.0.1:8962 --import-realm --log-level="${OIDC_INTEROP_LOG_LEVEL:-warn}"
