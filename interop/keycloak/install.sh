#!/usr/bin/env bash
# Gets Keycloak from Maven Central into KEYCLOAK_HOME, with Maven and Java of Debian where there are none.
set -euo pipefail
cd "$(dirname "$0")"
source ../apt.sh
source version.sh
[ ! -e "$KEYCLOAK_HOME" ] || exit 0
hash mvn unzip java 2>/dev/null || apt_install maven unzip openjdk-17-jre-headless

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mvn -q -B dependency:copy -Dartifact="org.keycloak:keycloak-quarkus-dist:$version:zip" -DoutputDirectory="$folder"
unzip -q "$folder/keycloak-quarkus-dist-$version.zip" -d "$folder"
mkdir -p "$(dirname "$KEYCLOAK_HOME")"
mv "$folder/keycloak-$version" "$KEYCLOAK_HOME"
