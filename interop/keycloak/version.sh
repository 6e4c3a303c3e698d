# shellcheck shell=bash
# To be sourced: which Keycloak, and where it is.
version=26.7.3
KEYCLOAK_HOME=${KEYCLOAK_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/fastify-oidc-interop/keycloak-$version}
