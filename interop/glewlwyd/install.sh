#!/usr/bin/env bash
# Gets Glewlwyd from Debian into GLEWLWYD_HOME: configuring the package fails where nothing answers its questions, so
# only its files are taken, and its libraries are installed.
set -euo pipefail
cd "$(dirname "$0")"
source ../apt.sh
source home.sh
[ ! -e "$GLEWLWYD_HOME" ] || exit 0

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
(cd "$folder" && apt-get download -qq glewlwyd glewlwyd-common)
mapfile -t libraries < <(dpkg-deb -f "$folder"/glewlwyd_*.deb Depends | grep -oE '\blib[^ ,]+')
apt_install "${libraries[@]}" sqlite3 openssl
for package in "$folder"/*.deb; do dpkg-deb -x "$package" "$folder/root"; done
mkdir -p "$(dirname "$GLEWLWYD_HOME")"
mv "$folder/root" "$GLEWLWYD_HOME"
