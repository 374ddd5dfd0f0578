"""'smtpd explain ADDRESS prints, without sending anything, the route, the MX set with addresses, the TLS
policy and where it came from, the limits in force and their present state, and what would happen next.'"""
import json
import shutil
import tempfile
import threading
import time
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

    def test_the_hosts_of_a_pool_with_what_is_remembered_of_them_by_its_sources(self):
        hop = Hop(self, host="127.0.0.32")
        extra = "".join(f'[[source]]\nname = "{name}"\naddress = "{ip}"\n\n'
                        for name, ip in (("one", "127.0.0.2"), ("two", "127.0.0.3")))
        extra += '[[pool]]\nname = "main"\nsources = ["one", "two"]\n'
        extra += '[[destination]]\nmatch = "mx1.one.test"\n'
        relay = Relay(self, dns=Dns(self, ZONES), delivery=f'port = {hop.port}\npool = "main"\n', extra=extra)
        before = self.explain(relay, "b@one.test")
        self.assertIsNone(before["state"])
        self.assertEqual([h["backs_off_until_ms"] for h in before["hosts"]], [0, 0])
        send(relay, ["a@one.test"])  # nobody is at the first host
        relay.wait_empty()
        said = self.explain(relay, "b@one.test")
        dead, alive = said["hosts"]
        first = next(s["name"] for s in said["sources"] if s["connections"])
        self.assertGreater(dead["backs_off_until_ms"], time.time() * 1000)
        self.assertEqual((dead["backs_off_source"], dead["backs_off_sources"]), (first, 1))
        self.assertEqual((alive["backs_off_until_ms"], alive["backs_off_source"], alive["backs_off_sources"]),
                         (0, None, 0))
        self.assertEqual({k: said["state"][k] for k in ("connections", "attempts", "ready", "backs_off_until_ms")},
                         {"connections": 1, "attempts": 0, "ready": 0, "backs_off_until_ms": 0})
        self.assertRegex(relay.command("explain", "b@one.test"),
                         rf"10  mx1.one.test 127.0.0.31, it failed: not tried again before .* by source {first}\n")
        send(relay, ["a@one.test"])  # the other source has its turn: it learns for itself
        relay.wait_empty()
        said = self.explain(relay, "b@one.test")
        self.assertEqual(said["hosts"][0]["backs_off_sources"], 2)
        self.assertEqual(said["state"]["connections"], 2)
        self.assertRegex(relay.command("explain", "b@one.test"), r"by source (one|two), nor for now by 1 other\n")

    def test_a_pool_whose_sources_all_back_off(self):
        relay = Relay(self, dns=Dns(self, ZONES), delivery=f'port = {world.free_port()}\npool = "main"\n', extra=(
            '[[source]]\nname = "one"\naddress = "127.0.0.2"\n\n[[pool]]\nname = "main"\nsources = ["one"]\n'))
        send(relay, ["a@one.test"])
        relay.wait_event("deliver.destination_backoff")
        said = self.explain(relay, "b@one.test")
        self.assertTrue(all(h["backs_off_source"] == "one" for h in said["hosts"]))
        self.assertGreater(said["state"]["backs_off_until_ms"], time.time() * 1000)
        self.assertIn("source one: ", said["state"]["fault"])
        self.assertRegex(relay.command("explain", "b@one.test"),
                         "next +the destination backs off: tried in .*: source one: ")

    def test_a_host_of_a_pool_where_tls_was_broken(self):
        def answer(stage, argument, session):
            if stage == "starttls":
                session.connection.sendall(b"220 go\r\n" + b"not TLS at all" * 20)
                return "DROP"
            return None
        hop = Hop(self, answer, host="127.0.0.32", capabilities=["STARTTLS"])
        relay = Relay(self, dns=Dns(self, {"two.test": "@ MX 10 mx\nmx A 127.0.0.32"}),
                      delivery=f'port = {hop.port}\npool = "main"\n', extra=(
            '[[source]]\nname = "one"\naddress = "127.0.0.2"\n\n[[pool]]\nname = "main"\nsources = ["one"]\n'))
        send(relay, ["a@two.test"])
        relay.wait_empty()
        host = self.explain(relay, "b@two.test")["hosts"][0]
        self.assertGreater(host["in_clear_until_ms"], time.time() * 1000)
        self.assertEqual((host["in_clear_source"], host["in_clear_sources"]), ("one", 1))
        self.assertIn("TLS was broken there by source one\n", relay.command("explain", "b@two.test"))

    def test_mail_that_waits_for_a_pool_is_counted(self):
        goes_on = threading.Event()

        def answer(stage, *_):
            if stage == "dot":
                goes_on.wait(world.PATIENCE)
        hop = Hop(self, answer, host="127.0.0.32")
        relay = Relay(self, dns=Dns(self, {"two.test": "@ MX 10 mx\nmx A 127.0.0.32"}),
                      delivery=f'port = {hop.port}\npool = "main"\nconnections = 1\n', extra=(
            '[[source]]\nname = "one"\naddress = "127.0.0.2"\n\n[[pool]]\nname = "main"\nsources = ["one"]\n'))
        for _ in range(3):
            send(relay, ["a@two.test"])
        state = world.wait_for(lambda: (lambda s: s["ready"] and s["attempts"] and s)(
            self.explain(relay, "b@two.test")["state"] or {"ready": 0}), "mail that waits")
        goes_on.set()
        self.assertGreaterEqual(state["connections"], 1)
        relay.wait_empty()

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
