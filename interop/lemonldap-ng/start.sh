#!/usr/bin/env bash
# Starts the portal of LemonLDAP::NG on http://127.0.0.1:8963, in the foreground.
set -euo pipefail
cd "$(dirname "$0")"

./install.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{conf,sessions/lock,psessions/lock,cache}
openssl genrsa -out "$work/key.pem" 2048 2>/dev/null
openssl rsa -in "$work/key.pem" -pubout -out "$work/public.pem" 2>/dev/null
node -e '
  const { readFileSync, writeFileSync } = require("node:fs")
  const [work] = process.argv.slice(1)
  const conf = JSON.parse(readFileSync("lmConf-1.json", "utf8").replaceAll("@WORK@", work))
  conf.oidcServicePrivateKeySig = readFileSync(`${work}/key.pem`, "utf8")
  conf.oidcServicePublicKeySig = readFileSync(`${work}/public.pem`, "utf8")
  writeFileSync(`${work}/conf/lmConf-1.json`, JSON.stringify(conf))
' "$work"
cat >"$work/lemonldap-ng.ini" <<INI
[all]
logLevel = ${OIDC_INTEROP_LOG_LEVEL:-warn}
[configuration]
type = File
dirName = $work/conf
localStorage = Cache::FileCache
localStorageOptions = { 'namespace' => 'interop', 'default_expires_in' => 600, 'cache_root' => '$work/cache' }
[portal]
staticPrefix = /static
templateDir = /usr/share/lemonldap-ng/portal/templates
languages = en
INI
LLNG_DEFAULTCONFFILE=$work/lemonldap-ng.ini plackup -E deployment --host 127.0.0.1 --port 8963 portal.psgi &
portal=$!
trap 'kill $portal; rm -rf "$work"' EXIT
trap 'exit 0' TERM INT
wait $portal
