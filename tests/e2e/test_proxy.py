"""'PROXY protocol v1 and v2 from trusted networks, so that limits and logs see the real client
behind a load balancer': swaks writes the headers, haproxy is a real balancer."""
import os
import socket
import subprocess
import tempfile
import unittest

import world
from world import Raw, Relay, message, tool

LISTEN = '[[listen]]\naddress = "127.0.0.1:{port}"\nmode = "relay"\ntls = "{tls}"\nproxy_protocol = true\n'


class Haproxy:
    """haproxy in front of one port, on loopback."""

    def __init__(self, case, to, version):
        self.port = world.free_port()
        self.folder = tempfile.mkdtemp(prefix="smtpd-haproxy-")
        case.addCleanup(subprocess.run, ["rm", "-rf", self.folder])
        config = os.path.join(self.folder, "haproxy.cfg")
        send = "send-proxy-v2" if version == 2 else "send-proxy"
        with open(config, "w") as file:
            file.write("defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n"
                       "  timeout server 30s\nlisten smtp\n"
                       f"  bind 127.0.0.1:{self.port}\n  server relay 127.0.0.1:{to} {send}\n")
        self.process = subprocess.Popen([tool("haproxy"), "-db", "-f", config],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        case.addCleanup(self.close)
        world.wait_for(self._listens, "haproxy to listen")

    def _listens(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(world.PATIENCE)


def last_word(raw):
    """What the relay still says: b"" when it just closed (a reset, where bytes were unread)."""
    try:
        return raw.reply()
    except ConnectionResetError:
        return b""


class Proxy(unittest.TestCase):
    def relay(self, networks='["127.0.0.0/8"]', tls="none", limits=""):
        self.port = world.free_port()
        return Relay(self, limits=limits, extra=LISTEN.format(port=self.port, tls=tls) +
                     f'[proxy]\ntrusted_networks = {networks}\n')

    def swaks(self, *options):
        return subprocess.run(
            ["swaks", "--server", f"127.0.0.1:{self.port}", "--to", "alice@local.test", "--from",
             "a@b.test", "--helo", "client.test", *options], text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=world.PATIENCE)

    def test_the_client_of_the_header_is_seen_in_logs_and_received(self):
        """'so that ... logs see the real client': both versions, both families, by swaks."""
        relay = self.relay()
        for version, family, source, shown in (
                ("1", "TCP4", "192.0.2.7", "[192.0.2.7]"),
                ("1", "TCP6", "2001:db8::7", "[IPv6:2001:db8::7]"),
                ("2", "AF_INET", "192.0.2.8", "[192.0.2.8]"),
                ("2", "AF_INET6", "2001:db8::8", "[IPv6:2001:db8::8]")):
            dest = "198.51.100.1" if ":" not in source else "2001:db8::1"
            protocol = ["--proxy-protocol", "STREAM"] if version == "2" else []
            mark = relay.log_mark()
            done = self.swaks("--proxy-version", version, "--proxy-family", family, *protocol,
                              "--proxy-source", source, "--proxy-source-port", "40000",
                              "--proxy-dest", dest, "--proxy-dest-port", "25")
            self.assertEqual(done.returncode, 0, done.stdout)
            event = relay.wait_event("receive.accepted", mark)
            self.assertEqual(event["peer"], source)
            connected = [e for e in relay.events("receive.connected")
                         if e["session"] == event["session"]][0]
            self.assertEqual(connected["proxy"], "127.0.0.1")
            world.wait_for(lambda: any(shown.encode() in m for m in relay.maildir("alice")),
                           f"{shown} in Received")

    def test_limits_are_those_of_the_real_client(self):
        """'so that limits ... see the real client': one address is full, the next is not."""
        relay = self.relay(limits="connections_per_address = 2\n")

        def connect(source):
            raw = Raw(self.port, greet=False)
            self.addCleanup(raw.close)
            raw.send(f"PROXY TCP4 {source} 198.51.100.1 40000 25\r\n")
            return raw.reply()
        self.assertTrue(connect("192.0.2.7").startswith(b"220"))
        self.assertTrue(connect("192.0.2.7").startswith(b"220"))
        self.assertTrue(connect("192.0.2.7").startswith(b"421"))
        self.assertTrue(connect("192.0.2.8").startswith(b"220"))
        # trusted_networks of [relay] means the client, not the balancer.
        raw = Raw(self.port, greet=False)
        self.addCleanup(raw.close)
        raw.send("PROXY TCP4 192.0.2.9 198.51.100.1 40000 25\r\nEHLO c.test\r\n"
                 "MAIL FROM:<a@b.test>\r\nRCPT TO:<r@x.test>\r\n")
        replies = [raw.reply() for _ in range(4)]
        self.assertTrue(replies[3].startswith(b"550 5.7.1"), replies)
        self.assertEqual(relay.status()["receive"]["connections_refused"], 1)

    def test_who_is_no_balancer_is_not_believed(self):
        """'from trusted networks': others may not even connect; a trusted one must write it."""
        relay = self.relay(networks='["192.0.2.0/24"]')
        with Raw(self.port, greet=False) as raw:
            raw.send("PROXY TCP4 192.0.2.7 198.51.100.1 40000 25\r\n")
            self.assertEqual(last_word(raw), b"")
        self.assertIn("trusted_networks", relay.wait_event("net.proxy_refused")["message"])
        relay.write_config(extra=LISTEN.format(port=self.port, tls="none") +
                           '[proxy]\ntrusted_networks = ["127.0.0.1"]\n')
        mark = relay.log_mark()
        relay.signal(1)
        world.wait_for(lambda: relay.event("server.reloaded", mark), "the reload")
        with Raw(self.port, greet=False) as raw:
            raw.send("EHLO client.test\r\n")
            self.assertEqual(last_word(raw), b"")
        self.assertIn("no PROXY header", relay.wait_event("net.proxy_refused", mark)["message"])
        # Where nobody expects it, a header is no command.
        with relay.raw() as raw:
            self.assertTrue(raw.say("PROXY TCP4 192.0.2.7 198.51.100.1 40000 25")
                            .startswith(b"500"))

    def test_haproxy_in_front(self):
        """'behind a load balancer': a real one, both versions; TLS passes through."""
        for version in (1, 2):
            relay = self.relay(tls="implicit")
            balancer = Haproxy(self, self.port, version)
            import smtplib
            client = smtplib.SMTP_SSL("127.0.0.1", balancer.port, timeout=world.PATIENCE,
                                      context=relay.tls_context(), local_hostname="client.test",
                                      source_address=("127.0.0.9", 0))
            client.sendmail("a@b.test", ["alice@local.test"], message("alice@local.test"))
            client.quit()
            event = relay.wait_event("receive.accepted")
            self.assertEqual(event["peer"], "127.0.0.9")

    def test_proxy_protocol_needs_its_networks(self):
        """The rule between the options has its sentence and its place."""
        relay = Relay(self, start=False)
        relay.write_config(extra=LISTEN.format(port=1, tls="none"))
        self.assertIn("proxy.trusted_networks", relay.command("check", code=1))


if __name__ == "__main__":
    world.main()
