#!/bin/bash
# Builds the image of deploy/Dockerfile without a daemon and runs it: once with
# buildah, once with its root file system read-only.
#
#   tests/e2e/image.sh
#
# Needs Debian 12, root, about 15 GB and, cold, some 30 minutes on two cores, so
# it is no part of tests/run.sh.  The base image is made with debootstrap from
# the package mirror that this machine's apt uses.  JOBS: compilers at once.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
work=${LINCHPIN_IMAGE_DIR:-$root/build/image}
base_image=localhost/linchpin-base:bookworm
image=localhost/linchpin:test

say() { echo "image.sh: $*"; }
builder() { buildah --storage-driver vfs --root "$work/store" --runroot "$work/run" "$@"; }

install_tools() {
  command -v buildah debootstrap openssl > /dev/null && return
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends buildah debootstrap openssl
}

# Debian's mirror as apt here has it.
mirror() {
  apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
    awk '$1 == "bookworm" && $2 == "main" { print $3; exit }'
}

# The security updates of that mirror, as a line for sources.list.
updates() {
  apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
    awk '$1 ~ /^bookworm-/ && $2 == "main" { print "deb " $3 " " $1 " main" }' | sort -u
}

make_base() {
  builder images -q "$base_image" > /dev/null 2>&1 && return
  local tree=$work/base container
  rm -rf "$tree"
  debootstrap --variant=minbase bookworm "$tree" "$(mirror)" > "$work/debootstrap.log"
  updates >> "$tree/etc/apt/sources.list"
  # What the slim images leave out.
  rm -rf "$tree"/var/cache/apt/* "$tree"/var/lib/apt/lists/* "$tree"/var/log/* \
         "$tree"/usr/share/{doc,man,info,locale}/*
  container=$(builder from scratch)
  builder add -q "$container" "$tree" / > /dev/null
  builder commit -q --rm "$container" "$base_image" > /dev/null
  rm -rf "$tree"
}

build_image() {
  builder bud --isolation chroot --format docker -f deploy/Dockerfile -t "$image" \
    --build-arg "BASE_IMAGE=$base_image" --build-arg "JOBS=${JOBS:-}" . > "$work/bud.log" 2>&1 ||
    { tail -n 40 "$work/bud.log"; exit 1; }
}

# A certificate authority, and with it a certificate for the server and one for a client.
make_certificates() {
  local tls=$work/tls
  rm -rf "$tls" && mkdir -p "$tls"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ca \
    -keyout "$work/ca.key" -out "$tls/ca.crt" 2> /dev/null
  local name
  for name in tls client; do
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \
      -keyout "$tls/$name.key" -out "$work/$name.csr" 2> /dev/null
    openssl x509 -req -in "$work/$name.csr" -CA "$tls/ca.crt" -CAkey "$work/ca.key" \
      -CAcreateserial -days 2 -out "$tls/$name.crt" 2> /dev/null \
      -extfile <(echo "subjectAltName=DNS:localhost,IP:127.0.0.1")
  done
  chmod -R a+rX "$tls" && chmod a+r "$tls"/*.key
}

check_configuration() {
  local configuration
  configuration=$(builder inspect --type image "$image")
  grep -q '"User": "10001:10001"' <<< "$configuration"
  grep -q '"Healthcheck"' <<< "$configuration"
}

run_with_buildah() {
  local container
  container=$(builder from --pull-never "$image")
  builder run --isolation chroot -v "$root/tests/e2e/image_inside.sh:/image_inside.sh:ro" \
    -v "$work/tls:/etc/linchpin/tls:ro" "$container" -- sh /image_inside.sh
  builder rm "$container" > /dev/null
}

# The same in a mount namespace where nothing but the declared volumes can be written.
run_read_only() {
  local container tree
  container=$(builder from --pull-never "$image")
  tree=$(builder mount "$container")
  cp "$root/tests/e2e/image_inside.sh" "$tree/"
  touch "$tree/expect-read-only"
  cp "$work"/tls/* "$tree/etc/linchpin/tls/"
  mkdir -p "$work/view"
  TREE=$tree VIEW=$work/view unshare --mount --pid --fork bash -euc '
    mount --bind "$TREE" "$VIEW"
    mount -o remount,ro,bind "$VIEW"
    for volume in run/linchpin output; do
      mount -t tmpfs -o uid=10001,gid=10001,mode=0700 tmpfs "$VIEW/$volume"
    done
    mount -t tmpfs -o mode=1777 tmpfs "$VIEW/tmp"
    mount -t proc proc "$VIEW/proc"
    mount --bind /dev "$VIEW/dev"
    exec chroot --userspec=10001:10001 "$VIEW" env -i PATH=/usr/local/bin:/usr/bin:/bin \
      LINCHPIN_METRICS=127.0.0.1:9464 sh /image_inside.sh'
  builder umount "$container" > /dev/null
  builder rm "$container" > /dev/null
}

mkdir -p "$work"
install_tools
started=$SECONDS
make_base
say "base image ready after $((SECONDS - started)) s"
started=$SECONDS
build_image
say "built in $((SECONDS - started)) s; $(grep '^collected' "$work/bud.log")"
builder images "$image"
make_certificates
check_configuration
say "running with buildah"
run_with_buildah
say "running with a read-only root file system"
run_read_only
say "passed"
