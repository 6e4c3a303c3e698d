#!/usr/bin/env bash
# Installs the providers that run.sh starts. Keycloak is a large download; the others are packages, one after the other.
set -euo pipefail
cd "$(dirname "$0")"
keycloak/install.sh &
lemonldap-ng/install.sh
glewlwyd/install.sh
wait $!
