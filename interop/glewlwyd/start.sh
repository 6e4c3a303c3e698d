#!/usr/bin/env bash
# Starts Glewlwyd on http://127.0.0.1:8964, in the foreground, with a database of its own. setup.js registers the
# clients and users.
set -euo pipefail
cd "$(dirname "$0")"
./install.sh
source home.sh

work=$(mktemp -d)
server=
finish() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 0' TERM INT

zcat "$GLEWLWYD_HOME"/usr/share/doc/glewlwyd/database/init.sqlite3.sql.gz | sqlite3 "$work/glewlwyd.db"
openssl genrsa -out "$work/key.pem" 2048 2>/dev/null
openssl rsa -in "$work/key.pem" -pubout -out "$work/public.pem" 2>/dev/null
cat >"$work/glewlwyd.conf" <<CONF
port = 8964
bind_address = "127.0.0.1"
external_url = "http://127.0.0.1:8964"
login_url = "login.html"
api_prefix = "api"
log_mode = "console"
log_level = "${OIDC_INTEROP_LOG_LEVEL:-WARNING}"
cookie_secure = 0
session_key = "GLEWLWYD2_SESSION_ID"
admin_scope = "g_admin"
profile_scope = "g_profile"
user_module_path = "$GLEWLWYD_HOME/usr/lib/glewlwyd/user"
client_module_path = "$GLEWLWYD_HOME/usr/lib/glewlwyd/client"
user_auth_scheme_module_path = "$GLEWLWYD_HOME/usr/lib/glewlwyd/scheme"
plugin_module_path = "$GLEWLWYD_HOME/usr/lib/glewlwyd/plugin"
static_files_path = "$GLEWLWYD_HOME/usr/share/glewlwyd/webapp"
hash_algorithm = "SHA512"
database = { type = "sqlite3", path = "$work/glewlwyd.db" };
static_files_mime_types = ( { extension = ".html", mime_type = "text/html" } )
CONF
"$GLEWLWYD_HOME/usr/bin/glewlwyd" --config-file="$work/glewlwyd.conf" &
server=$!
node setup.js http://127.0.0.1:8964 "$work"
wait "$server"
