# shellcheck shell=bash
# To be sourced: where Glewlwyd is.
GLEWLWYD_HOME=${GLEWLWYD_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/fastify-oidc-interop/glewlwyd}
