#!/usr/bin/env bash
# Installs LemonLDAP::NG from Debian.
set -euo pipefail
cd "$(dirname "$0")"
source ../apt.sh
if [ ! -e /usr/share/perl5/Lemonldap/NG/Portal/Main.pm ]; then
  apt_install liblemonldap-ng-portal-perl lemonldap-ng-fastcgi-server libstring-random-perl libio-string-perl openssl
fi
