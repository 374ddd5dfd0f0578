"""'DNSBL and DNSWL with weights over udns' and 'reverse-DNS checks', against knotd."""
import socket
import unittest

import world
from test_abuse import LOG_IN, NOBODY, Abuse
from world import Dns, Relay, message

# 127.0.0.x is listed in bl (2), sbl (3), wl (-4), as the name says; 9 gets a refusal to answer.
ZONES = {"bl.test": """
2.0.0.127 A 127.0.0.2
2.0.0.127 TXT "see https://bl.test/?ip=127.0.0.2"
3.0.0.127 A 127.0.0.2
4.0.0.127 A 127.0.0.11
9.0.0.127 A 127.255.255.254
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0 A 127.0.0.2
""", "sbl.test": """
2.0.0.127 A 127.0.0.3
2.0.0.127 TXT "heavier"
3.0.0.127 A 127.0.0.3
""", "wl.test": """
3.0.0.127 A 127.0.0.10
""", "127.in-addr.arpa": """
2.0.0 PTR good.names.test.
3.0.0 PTR liar.names.test.
""", "names.test": """
good A 127.0.0.2
good A 127.0.0.77
liar A 127.0.0.99
"""}
LISTS = """
[[dnsbl]]
zone = "bl.test"
weight = 2
answers = ["127.0.0.2", "127.0.0.4/30"]
[[dnsbl]]
zone = "sbl.test"
weight = 3
[[dnsbl]]
zone = "wl.test"
weight = -4
"""


class Screen(Abuse):
    @classmethod
    def setUpClass(cls):
        cls.case = unittest.TestCase()
        cls.dns = Dns(cls.case, ZONES)

    @classmethod
    def tearDownClass(cls):
        cls.case.doCleanups()

    def relay(self, policy="", lists=LISTS, trusted=NOBODY, dns=None):
        six = world.free_port()
        relay = Relay(self, trusted=trusted, dns=dns or self.dns, policy=policy, extra=lists +
                      f'[[listen]]\naddress = "[::1]:{six}"\nmode = "relay"\n')
        relay.six = six
        return relay

    def rcpt(self, relay, source, to="alice@local.test", **more):
        raw = self.raw(more.pop("port", relay.relay_port), source=source, **more)
        raw.say("EHLO client.test")
        self.assertEqual(raw.say("MAIL FROM:<a@b.test>")[:3], b"250")
        reply = raw.say(f"RCPT TO:<{to}>")
        raw.close()
        return reply.decode()

    def test_weights_are_added_and_the_heaviest_list_is_named(self):
        relay = self.relay('reject_weight = 2\n')
        self.assertEqual(self.rcpt(relay, "127.0.0.2"),
                         "554 5.7.1 127.0.0.2 is listed by sbl.test: heavier")
        event = self.wait(relay, "receive.rejected")
        self.assertEqual((event["rule"], event["recipient"]), ("dnsbl", "alice@local.test"))
        event = self.wait(relay, "receive.screened", peer="127.0.0.2")
        self.assertEqual(event["weight"], 5)
        self.assertEqual(set(event["lists"].split()), {"bl.test=2", "sbl.test=3"})
        # 2 + 3 - 4 is not enough; 127.0.0.11 is no answer that counts; nobody knows 127.0.0.5.
        for source, weight in (("127.0.0.3", 1), ("127.0.0.4", 0), ("127.0.0.5", 0)):
            self.assertTrue(self.rcpt(relay, source).startswith("250"), source)
            self.wait(relay, "receive.screened", peer=source, weight=weight)
        self.assertEqual(self.metric(relay, "strangers_refused", rule="dnsbl"), 1)
        self.assertEqual(self.metric(relay, "dnsbl_answers", result="listed"), 5)

    def test_ipv6_is_asked_by_nibbles(self):
        relay = self.relay()
        reply = self.rcpt(relay, None, port=relay.six, host="::1")
        self.assertEqual(reply, "554 5.7.1 ::1 is listed by bl.test")

    def test_postmaster_and_who_logged_in_or_is_trusted_are_spared(self):
        relay = self.relay()
        self.assertTrue(self.rcpt(relay, "127.0.0.2", "postmaster@local.test").startswith("250"))
        self.assertTrue(self.rcpt(relay, "127.0.0.2", "postmaster").startswith("250"))
        raw = self.raw(relay.relay_port, source="127.0.0.2")
        raw.say("EHLO client.test")
        raw.starttls(relay.tls_context())
        raw.say("EHLO client.test")
        self.assertEqual(raw.say(LOG_IN)[:3], b"235")
        raw.say("MAIL FROM:<a@b.test>")
        self.assertEqual(raw.say("RCPT TO:<alice@local.test>")[:3], b"250")
        relay = self.relay(trusted='["127.0.0.0/8"]')
        self.assertTrue(self.rcpt(relay, "127.0.0.2").startswith("250"))
        self.assertEqual(relay.events("receive.screened"), [])

    def test_a_list_that_fails_counts_nothing_and_is_told_once(self):
        """Nobody serves dead.test (REFUSED); bl.test refuses to answer about 127.0.0.9."""
        relay = self.relay(lists='[[dnsbl]]\nzone = "dead.test"\n' + LISTS)
        for source in ("127.0.0.5", "127.0.0.6", "127.0.0.9"):
            self.assertTrue(self.rcpt(relay, source).startswith("250"))
        self.wait(relay, "policy.dnsbl_failed", zone="bl.test")
        self.wait(relay, "policy.dnsbl_failed", zone="dead.test")
        self.assertEqual(len(relay.events("policy.dnsbl_failed")), 2)
        self.assertGreaterEqual(self.metric(relay, "dnsbl_answers", result="failed"), 4)

    def test_a_name_that_leads_back_is_in_received_and_the_log(self):
        relay = self.relay('reverse_dns = "log"\n', lists="")
        for source, state in (("127.0.0.2", "confirmed"), ("127.0.0.3", "unconfirmed"),
                              ("127.0.0.5", "none")):
            raw = self.raw(relay.relay_port, source=source)
            for line in ("EHLO client.test", "MAIL FROM:<a@b.test>", "RCPT TO:<alice@local.test>",
                         "DATA"):
                raw.say(line)
            raw.send(message(subject=state) + ".\r\n")
            self.assertEqual(raw.reply()[:3], b"250")
            self.wait(relay, "receive.screened", peer=source, reverse_dns=state)
        event = self.wait(relay, "receive.accepted", peer="127.0.0.2")
        self.assertEqual(event["client_name"], "good.names.test")
        raw = self.raw(relay.relay_port, source="127.0.0.2")
        for line in ("EHLO client.test", "MAIL FROM:<a@b.test>", "RCPT TO:<nobody@local.test>"):
            raw.say(line)
        event = self.wait(relay, "receive.rejected", peer="127.0.0.2")
        self.assertEqual(event["client_name"], "good.names.test")
        world.wait_for(lambda: len(relay.maildir("alice")) == 3, "the messages")
        received = {m.split(b"Subject: ")[1].split()[0]: m.split(b"by relay")[0].split()
                    for m in relay.maildir("alice")}
        self.assertIn(b"(good.names.test", received[b"confirmed"])
        self.assertIn(b"([127.0.0.3])", received[b"unconfirmed"])
        self.assertIn(b"([127.0.0.5])", received[b"none"])

    def test_a_name_can_be_required(self):
        relay = self.relay('reverse_dns = "require"\n', lists="")
        self.assertTrue(self.rcpt(relay, "127.0.0.2").startswith("250"))
        for source in ("127.0.0.3", "127.0.0.5"):
            self.assertEqual(self.rcpt(relay, source),
                             "550 5.7.25 Your address has no name that leads back to it")
            self.assertTrue(self.rcpt(relay, source, "postmaster@local.test").startswith("250"))
        self.wait(relay, "receive.rejected", rule="reverse_dns")
        # ::1 is in no zone of ours: nobody can tell, and that is no verdict.
        reply = self.rcpt(relay, None, port=relay.six, host="::1")
        self.assertTrue(reply.startswith("450 4.7.25 The name of your address"), reply)

    def test_other_name_servers_take_over_in_the_middle(self):
        """A reload with look-ups on their way to a server that says nothing."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))

            class Silent:
                address = "127.0.0.1:%d" % silent.getsockname()[1]
            relay = self.relay(dns=Silent)
            raw = self.raw(relay.relay_port, source="127.0.0.2")
            raw.say("EHLO client.test")
            raw.say("MAIL FROM:<a@b.test>")
            raw.send("RCPT TO:<alice@local.test>\r\n")
            self.assertTrue(silent.recv(512))
            relay.write_config(dns=self.dns)
            relay.signal(1)
            self.assertEqual(raw.reply()[:9], b"554 5.7.1")


if __name__ == "__main__":
    world.main()
