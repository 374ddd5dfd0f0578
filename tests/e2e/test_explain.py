"""'smtpd explain ADDRESS prints, without sending anything, the route, the MX set with addresses, the TLS
policy and where it came from, the limits in force and their present state, and what would happen next.'"""
import json
import shutil
import tempfile
import unittest

import world
from test_dane import Validating, digest_of
from test_deliver import send
from world import Dns, Hop, Relay, make_certificate

ZONES = {"one.test": "@ MX 10 mx1\n@ MX 20 mx2\nmx1 A 127.0.0.31\nmx2 A 127.0.0.32\nmx2 AAAA ::1",
         "null.test": "@ MX 0 .", "gone.test": "mx A 127.0.0.31\n@ MX 10 nowhere.gone.test."}


class Explain(unittest.TestCase):
    def explain(self, relay, address, code=0):
        return json.loads(relay.command("explain", address, "--json", code=code))

    def test_the_mail_exchangers_with_their_addresses_and_the_rule(self):
        port = world.free_port()
        relay = Relay(self, dns=Dns(self, ZONES), delivery=f"port = {port}\n", extra=(
            '[[destination]]\nmatch = ["mx2.one.test", "other.test"]\nconnections = 3\ntls = "required"\n'))
        said = self.explain(relay, "a@one.test")
        self.assertEqual((said["kind"], said["lane"], said["destination"].split("#")[0]),
                         ("hosts", "one.test", "mx1.one.test>mx2.one.test"))
        self.assertEqual([(h["name"], h["preference"], set(h["addresses"])) for h in said["hosts"]],
                         [("mx1.one.test", 10, {"127.0.0.31"}), ("mx2.one.test", 20, {"127.0.0.32", "::1"})])
        self.assertEqual((said["limits"]["connections"], said["tls"], said["match"], said["port"]),
                         (3, "required", ["mx2.one.test", "other.test"], port))
        self.assertIsNone(said["state"])
        text = relay.command("explain", "a@one.test")
        self.assertIn("the mail exchangers of one.test", text)
        self.assertRegex(text, r"20  mx2.one.test (127.0.0.32, ::1|::1, 127.0.0.32)")
        self.assertIn('[[destination]] that matches "mx2.one.test" and others', text)
        self.assertIn("messages without a limit, new connections without a limit", text)
        self.assertIn("a message is tried at once", text)
        # A domain alone, and one of no rule.
        self.assertEqual(self.explain(relay, "ONE.test")["lane"], "one.test")

    def test_what_is_known_of_a_destination_that_fails(self):
        port = world.free_port()
        relay = Relay(self, dns=Dns(self, ZONES), delivery=f"port = {port}\n")
        send(relay, ["a@one.test"])  # nobody is there
        relay.wait_event("deliver.destination_backoff")
        said = self.explain(relay, "b@one.test")
        self.assertGreater(said["state"]["backs_off_until_ms"], 0)
        self.assertTrue(all(h["backs_off_until_ms"] > 0 for h in said["hosts"]))
        text = relay.command("explain", "b@one.test")
        self.assertRegex(text, "next +the destination backs off: tried in ")
        self.assertIn("it failed: not tried again before", text)

    def test_what_has_no_way(self):
        relay = Relay(self, dns=Dns(self, ZONES))
        for address, status in (("a@null.test", "5.1.10"), ("a@nothing.one.test", "5.1.2"), ("a@gone.test", "5.4.4")):
            said = self.explain(relay, address)
            self.assertEqual((said["kind"], said["status"]), ("fail", status))
            text = relay.command("explain", address)
            self.assertIn(f"nowhere: {status}", text)
            self.assertIn("given back to its sender at once", text)
        said = self.explain(relay, "alice@local.test")
        self.assertEqual(said["kind"], "local")
        self.assertIn("a mailbox of this server", relay.command("explain", "alice@local.test"))
        self.assertIn("address is a mail address, or a domain", relay.command("explain", "a b@c", code=1))
        relay.command("explain", code=2)

    def test_a_route(self):
        hop = Hop(self)
        relay = Relay(self, hop=hop.port)
        send(relay, ["a@any.test"])
        relay.wait_empty()
        said = self.explain(relay, "b@any.test")
        self.assertEqual((said["route"], said["port"], said["hosts"][0]["addresses"]), ("hop", hop.port, ["127.0.0.1"]))
        self.assertEqual(said["state"]["connections"], 1)  # it rests
        self.assertEqual((said["scope"], said["paces"][0]["ceiling"], said["suspension"]), ("route:hop", 20, None))
        self.assertRegex(relay.command("explain", "b@any.test"),
                         r"pace +\d of 20 connections allowed now, 0 in use; messages without a limit")
        self.assertIn(f'the host of [[route]] "hop", port {hop.port}', relay.command("explain", "b@any.test"))
        self.assertEqual(hop.delivered(), {"a@any.test": 1})  # nothing was sent

    def test_dane(self):
        port = world.free_port()
        certificate = make_certificate(self.folder(), "own", "anything.test")
        dns = Validating(self, {"sure.test": f"mx A 127.0.0.41\n_{port}._tcp.mx TLSA 3 1 1 {digest_of(certificate[0], 1)}\n"
                                "one MX 10 mx"}, ["sure.test"])
        relay = Relay(self, dns=dns, delivery=f"port = {port}\n")
        said = self.explain(relay, "a@one.sure.test")
        self.assertTrue(said["is_authentic"])
        self.assertEqual(said["hosts"][0]["dane"], "match")
        self.assertIn("DANE: the certificate must fit", relay.command("explain", "a@one.sure.test"))

    def folder(self):
        folder = tempfile.mkdtemp(prefix="smtpd-explain-")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        return folder


if __name__ == "__main__":
    world.main()
