# shellcheck shell=bash
# To be sourced: installs packages of Debian, after others that do the same.

apt_install() {
  local as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  # RUNLEVEL: no service is started.
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends \
    --no-upgrade -o DPkg::Lock::Timeout=600 "$@" >/dev/null
}
