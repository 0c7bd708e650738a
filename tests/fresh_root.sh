#!/usr/bin/env bash
# Runs the two commands of the README in a bare Debian 12, with nothing in any cache, and tells what each took.
#
#   tests/fresh_root.sh [DIRECTORY]     DIRECTORY, default build/fresh-root, is made anew and kept; needs root
#
# What is committed is cloned into it, and LINCHPIN_SHARED (default ../shared) stands beside it. FRESH_FILES lists files and
# folders of this machine that its network asks for, as certificates, and FRESH_ENVIRONMENT variables (NAME=VALUE) likewise.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
shared=$(realpath "${LINCHPIN_SHARED:-$root/../shared}")

# Mounts end with the process that sees them.
if [ -z "${FRESH_MOUNTS-}" ]; then
  exec env FRESH_MOUNTS=own unshare --mount --pid --fork --kill-child bash "$0" "$@"
fi

place=$(realpath -m "${1:-$root/build/fresh-root}")
command -v debootstrap > /dev/null || echo debootstrap | bash "$root/deploy/install_packages.sh" -
rm -rf --one-file-system "$place"
mkdir -p "$place"
debootstrap --variant=minbase bookworm "$place" > "$place.log" 2>&1
git clone --quiet "$root" "$place/root/linchpin"
mkdir "$place/root/shared"
mount --bind -o ro "$shared" "$place/root/shared"
mount -t proc proc "$place/proc"
mount --rbind /sys "$place/sys"
mount --rbind /dev "$place/dev"
for file in /etc/resolv.conf ${FRESH_FILES-}; do
  mkdir -p "$place$(dirname "$file")"
  rm -rf "$place$file"
  cp -rL "$file" "$place$file"
done

# timed COMMAND...: runs it in the new root, in the clone.
timed() {
  local started=$SECONDS
  chroot "$place" /usr/bin/env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 ${FRESH_ENVIRONMENT-} bash -c 'cd /root/linchpin && exec "$@"' bash "$@" < /dev/null
  echo "== $* took $(((SECONDS - started) / 60)) min $(((SECONDS - started) % 60)) s in a bare Debian $(cat "$place/etc/debian_version")"
}

timed deploy/quickstart.sh
timed tests/run.sh
