#!/bin/sh
# Collects programs and modules (.so) with what they need to run into one directory tree:
#
#   collect_runtime.sh DIR BASE_PACKAGES PROGRAM...
#
# DIR/usr/local/bin         the programs, without debugging symbols
# DIR/usr/local/lib/linchpin  the modules, likewise: what they load when they need it
# DIR/usr/lib/linchpin      the shared libraries that they load, directly or not,
#                           but for those of the packages listed in BASE_PACKAGES
# DIR/etc/ssl/certs         the authorities that stores' certificates come from
# DIR/etc/ld.so.conf.d      where the loader finds them (run ldconfig afterwards)
# DIR/var/lib/dpkg/status.d the records of their packages, as image scanners read them
# DIR/usr/share/doc         the licences of their packages
set -eu
directory=$1
base_packages=$2
shift 2

libraries=$directory/usr/lib/linchpin
records=$directory/var/lib/dpkg/status.d
mkdir -p "$directory/usr/local/bin" "$directory/usr/local/lib/linchpin" "$libraries" \
  "$directory/etc/ld.so.conf.d" "$records"
echo /usr/lib/linchpin > "$directory/etc/ld.so.conf.d/linchpin.conf"

# The package that installed a file, without its architecture.
package_of() {
  file=$(readlink -f "$1")
  # dpkg knows files of /lib by that name, wherever /lib leads.
  dpkg-query -S "$file" 2> /dev/null || dpkg-query -S "${file#/usr}"
}

if ldd "$@" | grep 'not found'; then
  echo "collect_runtime.sh: a library is missing" >&2
  exit 1
fi

ldd "$@" | sed -n 's/^\t\(.*\) => \(\/.*\) (0x.*)$/\1 \2/p' | sort -u |
while read -r name file; do
  package=$(package_of "$file")
  package=${package%%:*}
  if grep -qx "$package" "$base_packages"; then
    continue
  fi
  cp -L "$file" "$libraries/$name"
  dpkg-query -s "$package" > "$records/$package"
  mkdir -p "$directory/usr/share/doc/$package"
  if [ -f "/usr/share/doc/$package/copyright" ]; then
    cp -L "/usr/share/doc/$package/copyright" "$directory/usr/share/doc/$package/"
  fi
done

mkdir -p "$directory/etc/ssl/certs"
cp -L /etc/ssl/certs/ca-certificates.crt "$directory/etc/ssl/certs/"

for program in "$@"; do
  case $program in
    *.so) place=$directory/usr/local/lib/linchpin ;;
    *) place=$directory/usr/local/bin ;;
  esac
  strip -o "$place/$(basename "$program")" "$program"
done
echo "collected $(ls "$libraries" | wc -l) libraries of $(ls "$records" | wc -l) packages:" \
     "$(du -sm "$directory" | cut -f1) MB"
