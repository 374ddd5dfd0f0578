"""'Keeping abuse out on port 25 and everywhere': each control with its log field, and each off for
who logged in or stands in trusted_networks. Clients are raw sockets, swaks and smtp-source."""
import base64
import os
import re
import subprocess
import time
import unittest

import world
from world import PASSWORD, USER, Raw, Relay, tool

NOBODY = '["192.0.2.0/24"]'  # trusted_networks without loopback: every client is a stranger

LOG_IN = "AUTH PLAIN " + base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode()


class Abuse(unittest.TestCase):
    def raw(self, port, **more):
        raw = Raw(port, **more)
        self.addCleanup(raw.close)
        return raw

    def wait(self, relay, name, count=1, **fields):
        """The last event of that name with these fields, once there are so many of them."""
        def found():
            events = [e for e in relay.events(name)
                      if all(e.get(key) == value for key, value in fields.items())]
            return events if len(events) >= count else None
        return world.wait_for(found, f"{name} {fields}")[-1]

    def metric(self, relay, name, **labels):
        """A counter, as `smtpd status` shows it."""
        return next(sample["value"] for family in relay.status()["metrics"]
                    if family["name"] == f"smtpd_{name}_total"
                    for sample in family["samples"] if sample["labels"] == labels)


class Connections(Abuse):
    """'connections and rates per network'"""

    def test_connections_of_a_network(self):
        """A /24 has its limit, whatever the addresses in it; another /24 has its own."""
        relay = Relay(self, trusted=NOBODY, limits="connections_per_network = 3\n")
        for host in (1, 2, 3):
            self.assertEqual(self.raw(relay.relay_port, source=f"127.0.5.{host}").greeting[:3],
                             b"220")
        refused = self.raw(relay.relay_port, source="127.0.5.4")
        self.assertEqual(refused.greeting, b"421 4.7.0 Too many connections from your network")
        self.assertEqual(refused.reply(), b"")
        event = self.wait(relay, "receive.refused")
        self.assertEqual((event["peer"], event["rule"], event["reply"]["enhanced"]),
                         ("127.0.5.4", "connections_per_network", "4.7.0"))
        self.assertEqual(self.raw(relay.relay_port, source="127.0.6.1").greeting[:3], b"220")

    def test_who_logs_in_gives_the_place_back(self):
        """'off for authenticated users': a log-in frees the place in the network, and the rate."""
        relay = Relay(self, trusted=NOBODY, limits=(
            'connections_per_network = 1\nconnection_rate = ["1/h"]\nconnection_rate_per_network = ["1/h"]\n'))
        for _ in range(3):
            client = relay.client()
            self.addCleanup(client.close)
        self.assertEqual(self.raw(relay.relay_port).greeting[:3], b"220")
        self.assertEqual(self.raw(relay.relay_port).greeting[:3], b"421")

    def test_trusted_networks_are_spared(self):
        relay = Relay(self, limits='connections_per_network = 1\nconnection_rate = ["1/h"]\n')
        for _ in range(4):
            self.assertEqual(self.raw(relay.relay_port).greeting[:3], b"220")

    def test_new_connections_in_a_time(self):
        """smtp-source makes ten, one after the other; five may come."""
        relay = Relay(self, trusted=NOBODY, limits='connection_rate = ["5/h", "100/d"]\n')
        subprocess.run([tool("smtp-source"), "-s", "1", "-m", "10", "-f", "a@b.test", "-t",
                        "alice@local.test", f"inet:127.0.0.1:{relay.relay_port}"],
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=world.PATIENCE)
        self.wait(relay, "receive.refused")
        for _ in range(5):  # the refused ones spend nothing, and are all refused
            raw = self.raw(relay.relay_port)
            self.assertEqual(raw.greeting, b"421 4.7.0 Too many new connections from your address:"
                             b" try again later")
            raw.close()
        self.wait(relay, "receive.refused", count=6)
        self.assertEqual(len(relay.events("receive.connected")), 5)
        self.assertEqual({e["rule"] for e in relay.events("receive.refused")}, {"connection_rate"})
        self.assertEqual(self.metric(relay, "limits_reached", limit="connection_rate"),
                         len(relay.events("receive.refused")))
        self.assertEqual(self.raw(relay.relay_port, source="127.0.0.2").greeting[:3], b"220")


    def test_new_connections_of_a_network_in_a_time(self):
        """'connections and rates per network': each address comes once, the network too often."""
        relay = Relay(self, trusted=NOBODY, limits=(
            'connection_rate = ["2/h"]\nconnection_rate_per_network = ["3/h"]\n'))
        for last in (1, 2, 3):
            self.assertEqual(self.raw(relay.relay_port, source=f"127.0.5.{last}").greeting[:3], b"220")
        self.assertEqual(self.raw(relay.relay_port, source="127.0.5.4").greeting,
                         b"421 4.7.0 Too many new connections from your network: try again later")
        self.assertEqual(self.wait(relay, "receive.refused")["rule"], "connection_rate_per_network")
        self.assertEqual(self.metric(relay, "limits_reached", limit="connection_rate_per_network"), 1)
        self.assertEqual(self.raw(relay.relay_port, source="127.0.6.1").greeting[:3], b"220")


class Greeting(Abuse):
    """'a greeting delay that catches early talkers'"""

    def test_who_talks_before_the_greeting_is_closed(self):
        relay = Relay(self, trusted=NOBODY, policy='greeting_delay = "1h"\n')
        raw = self.raw(relay.relay_port, greet=False)
        raw.send("EHLO spam.test\r\n")
        self.assertEqual(raw.reply(), b"554 5.5.1 Wait for the greeting before you talk")
        self.assertEqual(raw.reply(), b"")
        self.assertEqual(self.wait(relay, "receive.rejected")["rule"], "greeting_delay")
        self.assertEqual(self.wait(relay, "receive.disconnected")["reason"],
                         "talked before the greeting")
        self.assertEqual(self.metric(relay, "strangers_refused", rule="greeting_delay"), 1)
        # Who waits is not answered yet; on the other listeners, and trusted, there is no delay.
        client = relay.client()
        client.quit()
        relay.write_config(trusted='["127.0.0.0/8"]')
        relay.signal(1)
        self.wait(relay, "server.reloaded")
        self.assertEqual(self.raw(relay.relay_port).greeting[:3], b"220")

    def test_who_waits_is_greeted(self):
        """swaks waits, and its mail is taken."""
        relay = Relay(self, trusted=NOBODY, policy='greeting_delay = "300ms"\n')
        done = subprocess.run(
            ["swaks", "--server", f"127.0.0.1:{relay.relay_port}", "--to", "alice@local.test",
             "--from", "a@b.test", "--helo", "client.test"], text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=world.PATIENCE)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertEqual(relay.events("receive.rejected"), [])

    def test_a_relay_that_leaves_does_not_wait_for_greetings(self):
        relay = Relay(self, trusted=NOBODY, policy='greeting_delay = "1h"\n')
        raw = self.raw(relay.relay_port, greet=False)
        world.wait_for(lambda: relay.events("receive.connected"), "the connection")
        relay.signal(15)
        self.assertEqual(raw.reply()[:9], b"421 4.3.2")
        self.assertEqual(relay.wait_exit(), 0)


class Helo(Abuse):
    """'HELO ... checks'"""

    GOOD = ("client.test", "[127.0.0.1]")
    BAD = {"localhost": "a name without a dot", "relay.test": "our own name",
           "RELAY.test": "our own name", "192.0.2.1": "an address without brackets",
           "[192.0.2.7]": "another address", "[IPv6:2001:db8::1]": "another address",
           "[nonsense]": "no address in brackets"}

    def rcpt(self, relay, helo, to="alice@local.test"):
        raw = self.raw(relay.relay_port)
        self.assertEqual(raw.say(f"EHLO {helo}")[:3], b"250")
        raw.say("MAIL FROM:<a@b.test>")
        reply = raw.say(f"RCPT TO:<{to}>")
        raw.close()
        return reply

    def test_bad_names_are_refused_at_rcpt(self):
        relay = Relay(self, trusted=NOBODY, policy='helo_checks = "reject"\n')
        for helo in self.GOOD:
            self.assertEqual(self.rcpt(relay, helo)[:3], b"250", helo)
        for helo, reason in self.BAD.items():
            with self.subTest(helo=helo):
                self.assertEqual(self.rcpt(relay, helo).decode(),
                                 f"550 5.7.1 Your EHLO names {reason}")
                self.assertEqual(self.rcpt(relay, helo, "postmaster@local.test")[:3], b"250")
                self.wait(relay, "receive.helo_suspect", helo=helo, reason=reason)
        event = self.wait(relay, "receive.rejected", count=len(self.BAD))
        self.assertEqual((event["rule"], event["recipient"]), ("helo_checks", "alice@local.test"))
        # Our own address, at the address it is said to.
        raw = self.raw(relay.relay_port, source="127.0.0.2")
        raw.say("EHLO [127.0.0.1]")
        self.wait(relay, "receive.helo_suspect", helo="[127.0.0.1]", reason="our own address")

    def test_logged_only_and_not_at_all(self):
        relay = Relay(self, trusted=NOBODY, policy='helo_checks = "log"\n')
        self.assertEqual(self.rcpt(relay, "localhost")[:3], b"250")
        self.wait(relay, "receive.helo_suspect", reason="a name without a dot")

    def test_off_for_who_logged_in_or_is_trusted(self):
        relay = Relay(self, trusted=NOBODY, policy='helo_checks = "reject"\n')
        raw = self.raw(relay.relay_port)
        raw.say("EHLO localhost")
        raw.starttls(relay.tls_context())
        raw.say("EHLO localhost")
        self.assertEqual(raw.say(LOG_IN)[:3], b"235")
        raw.say("MAIL FROM:<a@b.test>")
        self.assertEqual(raw.say("RCPT TO:<alice@local.test>")[:3], b"250")
        relay = Relay(self, policy='helo_checks = "reject"\n')
        self.assertEqual(self.rcpt(relay, "localhost")[:3], b"250")
        self.assertEqual(relay.events("receive.helo_suspect"), [])


class Errors(Abuse):
    """'unknown-recipient and error limits with a tarpit and a disconnect'"""

    def harvest(self, relay, count, source=None):
        raw = self.raw(relay.relay_port, source=source)
        raw.say("EHLO client.test")
        raw.say("MAIL FROM:<a@b.test>")
        return raw, [raw.say(f"RCPT TO:<u{n}@local.test>") for n in range(count)]

    def test_unknown_recipients_end_the_session_and_are_remembered(self):
        relay = Relay(self, trusted=NOBODY,
                      policy='unknown_recipients = 4\ntarpit = "off"\noffenders = "1h"\n')
        raw, replies = self.harvest(relay, 4)
        self.assertEqual([r[:9] for r in replies], [b"550 5.1.1"] * 3 + [b"421 4.7.0"])
        self.assertEqual(replies[3], b"421 4.7.0 Too many unknown recipients")
        self.assertEqual(raw.reply(), b"")
        self.wait(relay, "receive.rejected", rule="unknown_recipients", recipient="u3@local.test")
        self.assertEqual(self.metric(relay, "limits_reached", limit="unknown_recipients"), 1)
        barred = self.raw(relay.relay_port)
        self.assertEqual(barred.greeting,
                         b"421 4.7.0 Too many errors from your address: try again later")
        self.wait(relay, "receive.refused", rule="offenders")
        self.assertEqual(self.raw(relay.relay_port, source="127.0.0.2").greeting[:3], b"220")

    def test_errors_end_the_session(self):
        relay = Relay(self, trusted=NOBODY, policy='errors = 3\ntarpit = "off"\n')
        raw = self.raw(relay.relay_port)
        self.assertEqual([raw.say("FROB")[:9] for _ in range(3)],
                         [b"500 5.5.2", b"500 5.5.2", b"421 4.7.0"])
        self.wait(relay, "receive.rejected", rule="errors")
        self.assertEqual(self.raw(relay.relay_port).greeting[:3], b"220")  # not remembered

    def test_a_failed_log_in_is_held_back_once(self):
        """It is slowed already (auth.failure_delay): the tarpit adds nothing, and what comes behind
        it is answered behind it."""
        relay = Relay(self, start=False, trusted=NOBODY, policy='errors = 4\ntarpit = "1h"\n')
        with open(relay.config_path) as file:
            text = file.read().replace("[auth]", '[auth]\nfailure_delay = "10ms"')
        with open(relay.config_path, "w") as file:
            file.write(text)
        relay.start()
        raw = self.raw(relay.submission)
        raw.say("EHLO client.test")
        raw.starttls(relay.tls_context())
        raw.say("EHLO client.test")
        wrong = "AUTH PLAIN " + base64.b64encode(b"\0app\0wrong").decode()
        self.assertEqual([raw.say(wrong)[:9] for _ in range(4)],
                         [b"535 5.7.8"] * 3 + [b"421 4.7.0"])
        self.assertEqual(raw.reply(), b"")

    def test_the_tarpit_holds_replies_back_and_grows(self):
        """The log has the line before the client has its reply; what is behind waits too."""
        relay = Relay(self, trusted=NOBODY, policy='unknown_recipients = 4\ntarpit = "400ms"\n')
        began = time.monotonic()
        raw, replies = self.harvest(relay, 3)
        self.assertEqual([r[:3] for r in replies], [b"550"] * 3)
        # Two are free; the third waits once. (The loop counts whole milliseconds.)
        self.assertGreaterEqual(time.monotonic() - began, 0.39)
        self.wait(relay, "receive.rejected", recipient="u2@local.test")
        self.assertEqual(len([e for e in relay.events("receive.rejected")
                              if e["recipient"] == "u2@local.test"]), 1)
        raw.send("RCPT TO:<u9@local.test>\r\nNOOP\r\n")
        self.assertEqual(raw.reply()[:3], b"421")

    def test_off_for_who_logged_in_or_is_trusted(self):
        policy = 'unknown_recipients = 2\nerrors = 2\ntarpit = "1h"\n'
        relay = Relay(self, policy=policy)
        self.assertEqual({r[:3] for r in self.harvest(relay, 6)[1]}, {b"550"})
        relay = Relay(self, trusted=NOBODY, policy=policy)
        client = relay.client()
        self.addCleanup(client.close)
        client.docmd("MAIL FROM:<a@b.test>")
        self.assertEqual({client.docmd(f"RCPT TO:<u{n}@local.test>")[0] for n in range(6)}, {550})
        self.assertEqual({client.docmd("FROB")[0] for _ in range(6)}, {500})


class Page(unittest.TestCase):
    """docs/abuse.md: its example and its commands, as they are written."""

    def test_the_example_is_taken_and_the_commands_run(self):
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs",
                               "abuse.md")) as file:
            page = file.read()
        example = page.split("```toml\n")[1].split("```")[0]
        sections = {part.split("]")[0].strip("["): part.split("]", 1)[1].strip()
                    for part in example.split("\n\n") if not part.startswith("[[")}
        tables = "\n".join(part for part in example.split("\n\n") if part.startswith("[["))
        relay = Relay(self, trusted=NOBODY, limits=sections["limits"], policy=sections["policy"],
                      extra=tables)
        commands = re.findall(r"(?m)^    (smtpd .*)$", page)
        self.assertEqual(len(commands), 2)
        os.symlink(world.BINARY, os.path.join(relay.folder, "smtpd"))
        environment = dict(os.environ, PATH=relay.folder + ":" + os.environ["PATH"])
        for command in commands:
            words = command.split() + ([] if "check" in command else
                                       ["--config", relay.config_path])
            done = subprocess.run(words, cwd=relay.folder, env=environment, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  timeout=world.PATIENCE)
            self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("emory", done.stdout)


if __name__ == "__main__":
    world.main()
