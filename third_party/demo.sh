#!/bin/bash
# demo.sh   a self-contained relay on loopback: own certificate, own user, own data folder, a local
# mailbox, and a next hop that keeps what it gets. Needs no internet. Ctrl-C ends all of it; what
# was made stays in build/demo. Called by: third_party/bootstrap.sh demo
set -euo pipefail
cd "$(dirname "$(realpath "$0")")/.."

binary=build/release/smtpd
folder=$PWD/build/demo
submission=${DEMO_PORT:-2587}
hop=${DEMO_HOP_PORT:-2526}
mkdir -p "$folder/data"

if [ ! -e "$folder/relay.crt" ]; then
    openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -days 365 \
        -keyout "$folder/relay.key" -out "$folder/relay.crt" -subj /CN=localhost \
        -addext "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1" 2>/dev/null
fi
cat >"$folder/smtpd.toml" <<T
[server]
hostname = "relay.demo.test"
data_dir = "$folder/data"
postmaster = "alice@demo.test"
[tls]
certificate = "$folder/relay.crt"
key = "$folder/relay.key"
[auth]
users_file = "$folder/users"
[queue]
allow_network_filesystem = true            # a demonstration may run on any disk
[log]
format = "text"
[[listen]]
address = ["127.0.0.1:$submission", "[::1]:$submission"]
[[local]]
domain = "demo.test"
maildir = "$folder/mail/{user}"
users = ["alice"]
[[route]]
name = "demo-hop"
match = "*"
host = "127.0.0.1"
port = $hop
tls = "off"
T
# A machine without IPv6 takes the IPv4 address alone.
python3 -c 'import socket; socket.socket(socket.AF_INET6).bind(("::1", 0))' 2>/dev/null ||
    sed -i 's/, "\[::1\]:[0-9]*"//' "$folder/smtpd.toml"
echo demo | "$binary" user add demo --config "$folder/smtpd.toml" >/dev/null

cat <<W

smtpd listens on localhost:$submission (STARTTLS). Log in as demo, password demo.
Send a message to a local mailbox and to the outside world (in another terminal):

  printf 'From: you@demo.test\r\nTo: friend@example.com\r\nSubject: hello\r\n\r\nIt works.\r\n' | curl -sS --ssl-reqd --cacert $folder/relay.crt --url smtp://localhost:$submission --user demo:demo --mail-from you@demo.test --mail-rcpt alice@demo.test --mail-rcpt friend@example.com -T -

  swaks --server localhost:$submission --tls --auth PLAIN --auth-user demo --auth-password demo --from you@demo.test --to alice@demo.test,friend@example.com

Where it arrives:
  alice@demo.test      $folder/mail/alice/new/
  friend@example.com   $folder/hop/            (every other domain goes to the demo next hop)
Look at the relay:
  $PWD/$binary status --config $folder/smtpd.toml
  $PWD/$binary queue list --config $folder/smtpd.toml
Ctrl-C ends it.

W
python3 third_party/demo_hop.py "$hop" "$folder/hop" &
hop_pid=$!
trap 'kill "$hop_pid" 2>/dev/null || true' EXIT
"$binary" run --config "$folder/smtpd.toml" &
relay_pid=$!
trap 'kill -TERM "$relay_pid" 2>/dev/null || true; wait "$relay_pid" || true; kill "$hop_pid" 2>/dev/null || true' EXIT
trap 'exit 0' INT TERM
wait "$relay_pid"
