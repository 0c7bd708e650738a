#!/bin/sh
# Starts linchpin-server in its image.
#
# Listens on a unix socket; where a certificate is mounted, on port 50051 with
# TLS as well; where a ca.crt lies beside it, only for clients whose certificate
# it signed.  Arguments that start with a dash are added to the server's;
# anything else is run instead of it.
set -eu

case ${1:--} in
  -*) ;;
  *) exec "$@" ;;
esac

tls=${LINCHPIN_TLS_DIR:-/etc/linchpin/tls}
if [ -f "$tls/tls.crt" ]; then
  if [ -f "$tls/ca.crt" ]; then
    set -- --tls-client-ca "$tls/ca.crt" "$@"
  else
    echo "linchpin-entrypoint: no $tls/ca.crt: every client that trusts the certificate may call" >&2
  fi
  set -- --listen 0.0.0.0:50051 --tls-cert "$tls/tls.crt" --tls-key "$tls/tls.key" "$@"
fi
exec linchpin-server --listen unix:/run/linchpin/linchpin.sock \
  --read-root /models --write-root /output "$@"
