#!/bin/sh
# Measures the gateway against a bare httputil.ReverseProxy and whichever of
# nginx, HAProxy and Caddy are installed, on loopback, interleaved in one run;
# then jumps against a bare handler with one Redis pipeline. Needs only Go.
# It stops by itself. Flags: deploy/bench/run.sh -help
set -eu
cd "$(dirname "$0")/../.."
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT INT TERM
go build -o "$bin/bench" ./deploy/bench
go build -o "$bin/jumpgate" ./cmd/jumpgate
"$bin/bench" -jumpgate "$bin/jumpgate" "$@"
