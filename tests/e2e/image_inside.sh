#!/bin/sh
# Runs inside the image, as its user: starts the server as the image does, asks
# for its capabilities over the socket and over TLS, compresses the demo model,
# reads the metrics, stops the server.  Called by image.sh.
set -eu

say() { echo "  inside: $*"; }
fail() { echo "  inside: FAILED: $*" >&2; exit 1; }
local_call() { linchpin --endpoint unix:/run/linchpin/linchpin.sock --quiet "$@"; }
tls_call() { linchpin --endpoint localhost:50051 --tls-ca /etc/linchpin/tls/ca.crt --quiet "$@"; }

[ "$(id -u)" = 10001 ] || fail "runs as $(id -u)"
if [ -e /expect-read-only ]; then
  if touch /usr/x 2> /dev/null || touch /etc/x 2> /dev/null; then fail "root file system is writable"; fi
fi

linchpin-entrypoint &
server=$!
trap 'kill $server 2> /dev/null || true' EXIT
tries=0
until local_call capabilities > /tmp/capabilities 2> /tmp/error; do
  tries=$((tries + 1))
  kill -0 $server 2> /dev/null || fail "the server ended"
  [ $tries -lt 100 ] || fail "no answer after 10 s: $(cat /tmp/error)"
  sleep 0.1
done
say "capabilities after about $tries tries:"
sed 's/^/    /' /tmp/capabilities

tls_call --tls-cert /etc/linchpin/tls/client.crt --tls-key /etc/linchpin/tls/client.key \
  capabilities > /dev/null || fail "no answer over TLS"
if tls_call capabilities > /dev/null 2>&1; then fail "answered a client without a certificate"; fi
say "TLS: a client with a certificate is answered, one without is not"

local_call demo-model /output/demo
local_call compress /output/demo /output/demo-w4a16 --proof joint \
  --proof-tokens /output/demo/tokens.json | sed 's/^/    /'
local_call verify /output/demo-w4a16 > /dev/null || fail "does not verify"
if local_call demo-model /usr/share/demo > /dev/null 2>&1; then fail "wrote outside its roots"; fi
say "compressed, verified: $(du -sk /output/demo | cut -f1) kB to $(du -sk /output/demo-w4a16 | cut -f1) kB"

# The image has no curl.
bash -c 'exec 3<> /dev/tcp/127.0.0.1/9464
         printf "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n" >&3; cat <&3' > /tmp/metrics
grep '^linchpin_jobs_total{kind="compress",result="ok"} 1' /tmp/metrics | sed 's/^/    /'
grep -q '^linchpin_jobs_total{kind="compress",result="ok"} 1' /tmp/metrics || fail "no metrics"

kill -TERM $server
wait $server || fail "the server's exit status is $?"
trap - EXIT
rm -rf /output/demo /output/demo-w4a16
say "stopped with status 0"
