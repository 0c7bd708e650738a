#!/usr/bin/env bash
# Installs the Debian packages that the given lists name, as far as they are missing.
#
#   deploy/install_packages.sh LIST...        a list has one package per line; # starts a comment
set -euo pipefail

missing=()
for package in $(cat "$@" | sed 's/#.*//'); do
  state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null || true)
  [ "$state" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

command -v apt-get > /dev/null || {
  echo "install_packages.sh: no apt-get here: install by hand what ${missing[*]} are on Debian 12" >&2
  exit 1
}
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo > /dev/null || {
    echo "install_packages.sh: to install ${missing[*]} run it as root, or install sudo" >&2
    exit 1
  }
  as_root=(sudo)
fi
echo "installing ${missing[*]}"
"${as_root[@]}" apt-get -qq update
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
  apt-get -qq install -y --no-install-recommends "${missing[@]}" > /dev/null
