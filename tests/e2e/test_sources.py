"""Sources and pools: which of our addresses mail goes out by, as the next hop sees it."""
import collections
import json
import os
import signal
import struct
import time
import unittest

import world
from world import Dns, Hop, Relay, message, wait_for


class Doors:
    """By which of our addresses each message came, and what was said in EHLO there."""

    def __init__(self):
        self.mails = []     # (address, sender)
        self.names = {}     # address -> names in EHLO
        self.connections = collections.Counter()
        self.refused = {}   # address -> what it is told at once
        self.deferred = {}  # address -> what MAIL is told

    def __call__(self, stage, argument, session):
        address = session.connection.getpeername()[0]
        if stage == "connect":
            self.connections[address] += 1
            return self.refused.get(address)
        if stage == "ehlo":
            self.names.setdefault(address, set()).add(argument.split(" ")[1])
        if stage == "mail" and address in self.deferred:
            return self.deferred[address]
        if stage == "mail":
            self.mails.append((address, argument.split("<")[1].split(">")[0]))
        return None

    def count(self):
        return collections.Counter(address for address, _ in self.mails)

    def of(self, sender):
        return {address for address, by in self.mails if by == sender}


def source(name, address, more=""):
    return f'[[source]]\nname = "{name}"\naddress = "{address}"\nehlo = "{name}.test"\n{more}\n'


def pool(name, sources, more=""):
    return f'[[pool]]\nname = "{name}"\nsources = {json.dumps(sources)}\n{more}\n'


class Case(unittest.TestCase):
    def setUp(self):
        self.doors = Doors()

    def hop(self, host="127.0.0.1", port=0, **parts):
        return Hop(self, self.doors, host=host, port=port, **parts)

    def submit(self, relay, count, sender="a@a.test", domain="dest.test"):
        with relay.relay_client() as client:
            for i in range(count):
                client.sendmail(sender, [f"r{i}@{domain}"], message(subject=f"{sender} {i}"))

    def wait_reason(self, relay, words):
        """Some group waits, and `queue why` says so."""
        def why():
            for group in relay.queue():
                text = relay.command("queue", "why", group["id"], code=None)  # or it has gone
                if words in text:
                    return text
            return None
        return wait_for(why, f"why: {words}")

    def route(self, port, more=""):
        return f'[[route]]\nname = "hop"\nmatch = ["*"]\nhost = "127.0.0.1"\nport = {port}\ntls = "off"\n{more}\n'

    def reload(self, relay, **changes):
        relay.write_config(**changes)
        mark = relay.log_mark()
        relay.signal(signal.SIGHUP)
        relay.wait_event("server.reloaded", mark)


class Pools(Case):
    def test_weights_names_and_reuse(self):
        hop = self.hop()
        relay = Relay(self, log_level="info", delivery='pool = "main"', extra=self.route(hop.port) +
                      source("one", "127.0.0.2") + source("two", "127.0.0.3") +
                      pool("main", ["one=3", "two"]))
        for i in range(1, 41):  # one at a time: no source is busy with another
            self.submit(relay, 1)
            wait_for(lambda: len(self.doors.mails) == i, "it")
            relay.wait_empty()
        self.assertEqual(self.doors.count(), {"127.0.0.2": 30, "127.0.0.3": 10})
        self.assertEqual(self.doors.names, {"127.0.0.2": {"one.test"}, "127.0.0.3": {"two.test"}})
        # Each message over a connection of its own source, and those were used again.
        self.assertLess(sum(self.doors.connections.values()), 40)
        wait_for(lambda: len(relay.events("deliver.delivered")) >= 40, "their lines in the log")
        sources = collections.Counter(e["source"] for e in relay.events("deliver.delivered"))
        self.assertEqual(sources, {"one": 30, "two": 10})

    def test_without_a_pool_the_system_chooses(self):
        hop = self.hop()
        relay = Relay(self, log_level="info", extra=self.route(hop.port) + source("one", "127.0.0.2") +
                      pool("main", ["one"]))
        self.submit(relay, 3)
        relay.wait_empty()
        self.assertEqual(self.doors.count(), {"127.0.0.1": 3})
        self.assertEqual(self.doors.names, {"127.0.0.1": {"relay.test"}})
        self.assertNotIn("source", relay.wait_event("deliver.delivered"))

    def test_the_pool_is_told_by_header_sender_tenant_and_destination_and_outlives_a_restart(self):
        hop = self.hop()
        names = {"header": 2, "sender": 3, "domain": 4, "tenant": 5, "route": 6}
        extra = "".join(source(name, f"127.0.0.{i}") for name, i in names.items())
        extra += pool("header", ["header"]) + pool("sender", ["sender"], 'senders = ["Boss@a.test"]')
        extra += pool("domain", ["domain"], 'sender_domains = ["*.news.test"]')
        extra += pool("tenant", ["tenant"], f'tenants = ["{world.USER}"]') + pool("route", ["route"])
        delivery = 'pool = "route"\npool_header = "X-Pool"\npool_users = ["*"]'
        relay = Relay(self, log_level="info", delivery=delivery, extra=extra + self.route(hop.port))
        self.doors.deferred = {f"127.0.0.{i}": "451 4.3.0 later" for i in range(1, 7)}
        with relay.client() as client:
            for sender, field in (("boss@a.test", ""), ("x@b.news.test", ""), ("y@c.test", ""),
                                  ("z@d.test", "X-Pool: header\r\n")):
                client.sendmail(sender, ["r@dest.test"], field + message(sender=sender))
            with self.assertRaises(world.smtplib.SMTPDataError) as refused:
                client.sendmail("z@d.test", ["r@dest.test"], "X-Pool: nowhere\r\n" + message())
            self.assertIn(b"names no pool", refused.exception.smtp_error)
        self.submit(relay, 1, sender="stranger@e.test")
        wait_for(lambda: len(relay.events("deliver.deferred")) == 5, "each was tried")
        wait_for(lambda: [g["attempts"] for g in relay.queue()] == [1] * 5, "the commits of it")
        relay.kill()
        relay.start()
        wait_for(lambda: len(relay.queue()) == 5, "all in the index")
        self.doors.deferred = {}
        relay.command("queue", "retry", "--all")
        relay.wait_empty()
        came = {sender: address for address, sender in self.doors.mails}
        self.assertEqual(came, {"boss@a.test": "127.0.0.3", "x@b.news.test": "127.0.0.4", "y@c.test": "127.0.0.5",
                                "z@d.test": "127.0.0.2", "stranger@e.test": "127.0.0.6"})
        self.assertFalse(any(b"X-Pool" in m["data"] for m in hop.messages))


class Explain(Case):
    def test_it_names_the_pool_and_the_sources(self):
        hop = self.hop()
        extra = source("one", "127.0.0.2") + source("gone", "192.0.2.77") + source("new", "127.0.0.4", "warm_up = [50]") + \
            pool("main", ["one=3", "gone", "new"]) + pool("other", ["new"], 'sender_domains = ["news.test"]')
        relay = Relay(self, log_level="info", delivery='pool = "main"', extra=self.route(hop.port) + extra)
        self.submit(relay, 1)
        relay.wait_empty()
        said = json.loads(relay.command("explain", "x@dest.test", "--json"))
        self.assertEqual(said["pool"], "main")
        self.assertEqual([(s["name"], s["weight"], s["waits"]) for s in said["sources"]],
                         [("one", 3, None), ("gone", 1, "source"), ("new", 1, None)])
        self.assertEqual(said["sources"][2]["warm_up"], {"day": 1, "quota": 50, "sent": 0})
        text = relay.command("explain", "x@dest.test", "--from", "a@news.test")
        self.assertIn("other", text)
        self.assertIn("warm-up day 1: 0 of 50 sent", text)
        self.assertNotIn("gone", text)
        text = relay.command("explain", "x@dest.test")
        self.assertIn("source gone: its address is none of this machine", text)
        relay.command("explain", "x@dest.test", "--from", code=2)


class Faults(Case):
    def relay(self, hop, sources, **parts):
        extra = "".join(source(*s) for s in sources) + pool("main", [s[0] for s in sources])
        return Relay(self, log_level="info", delivery='pool = "main"', extra=self.route(hop.port) + extra, **parts)

    def test_an_address_that_is_not_ours_is_set_aside_and_comes_back(self):
        hop = self.hop()
        relay = self.relay(hop, [("one", "127.0.0.2"), ("gone", "192.0.2.77")])
        self.submit(relay, 20)
        relay.wait_empty()
        self.assertEqual(self.doors.count(), {"127.0.0.2": 20})
        relay.wait_event("deliver.source_set_aside")
        [event] = relay.events("deliver.source_set_aside")
        self.assertEqual((event["source"], event["address"]), ("gone", "192.0.2.77"))
        # Alone: the mail waits, and goes by no other address.
        self.reload(relay, extra=relay.parts["extra"].replace('"one", "gone"', '"gone"'))
        self.submit(relay, 1)
        self.wait_reason(relay, "source gone: its address is none of this machine")
        self.assertEqual(len(self.doors.mails), 20)
        # A name keeps what is known of it; the address may change.
        self.reload(relay, extra=relay.parts["extra"].replace("192.0.2.77", "127.0.0.9"))
        relay.wait_empty()
        self.assertEqual(self.doors.count(), {"127.0.0.2": 20, "127.0.0.9": 1})
        relay.wait_event("deliver.source_restored")
        self.assertEqual(len(relay.events("deliver.source_restored")), 1)

    def test_a_source_that_is_refused_leaves_the_others_going(self):
        hop = self.hop()
        self.doors.refused = {"127.0.0.2": "421 4.7.0 blocked, go away"}
        relay = self.relay(hop, [("bad", "127.0.0.2"), ("good", "127.0.0.3")])
        self.submit(relay, 20)
        relay.wait_empty()
        self.assertEqual(self.doors.count(), {"127.0.0.3": 20})
        relay.wait_event("deliver.destination_backoff")
        [event] = relay.events("deliver.destination_backoff")
        self.assertEqual(event["source"], "bad")
        # Two attempts judge a path, whatever waits.
        self.assertLessEqual(self.doors.connections["127.0.0.2"], 2)

    def test_a_suspension_is_that_of_its_source(self):
        hop = self.hop()
        relay = self.relay(hop, [("bad", "127.0.0.2"), ("good", "127.0.0.3")])
        reaction = '[[reaction]]\ncode = "4xx"\ntext = "too much"\naction = "suspend"\nfor = "1h"\n'
        self.reload(relay, extra=relay.parts["extra"] + reaction)
        self.doors.deferred = {"127.0.0.2": "451 4.7.0 too much from you"}
        self.submit(relay, 20)
        wait_for(lambda: len(self.doors.mails) >= 15, "the others")
        wait_for(lambda: relay.events("deliver.pace_changed"), "the suspension")
        changes = [e for e in relay.events("deliver.pace_changed") if e["what"] == "suspended"]
        self.assertEqual({e["source"] for e in changes}, {"bad"})
        relay.command("queue", "retry", "--all")


class Families(Case):
    def test_a_source_asks_hosts_of_its_family_only(self):
        four = self.hop()
        six = self.hop(host="::1", port=four.port)
        zone = "both MX 10 m1\nfour MX 10 m2\nm1 A 127.0.0.1\nm1 AAAA ::1\nm2 A 127.0.0.1\n"
        dns = Dns(self, {"test": zone})
        del six
        relay = Relay(self, dns=dns, log_level="info",
                      delivery=f'pool = "main"\nport = {four.port}\ntls = "off"\ndane = false\nmta_sts = false',
                      extra=source("six", "::1") + pool("main", ["six"]))
        self.submit(relay, 5, domain="both.test")
        relay.wait_empty()
        self.assertEqual(self.doors.count(), {"::1": 5})
        self.submit(relay, 1, domain="four.test")
        self.wait_reason(relay, "source six: no host has an IPv6 address")
        self.assertEqual(self.doors.count(), {"::1": 5})
        extra = source("six", "::1") + source("four", "127.0.0.2") + pool("main", ["six", "four"])
        self.reload(relay, extra=extra)
        relay.wait_empty()
        self.assertEqual(self.doors.count(), {"::1": 5, "127.0.0.2": 1})


class WarmUp(Case):
    def setUp(self):
        super().setUp()
        self.preload, folder = world.preload(self, "world_shim.c")
        self.clock = os.path.join(folder, "clock")
        # Noon, so that the day does not end in the middle.
        self.noon = 12 * 3600 - int(time.time()) % 86400
        self.at(0)

    def at(self, days):
        with open(self.clock + ".new", "wb") as file:
            file.write(struct.pack("q", self.noon + days * 86400))
        os.rename(self.clock + ".new", self.clock)

    def test_a_day_has_its_quota_over_restarts_and_crashes(self):
        hop = self.hop()
        relay = Relay(self, log_level="info", delivery='pool = "main"', queue='expire = "30d"',
                      env={"LD_PRELOAD": self.preload, "CLOCK_FILE": self.clock},
                      extra=self.route(hop.port) + source("new", "127.0.0.2", "warm_up = [30, 60]") +
                      pool("main", ["new"]))
        self.submit(relay, 20)
        relay.wait_empty()
        self.assertEqual(self.doors.count(), {"127.0.0.2": 20})
        relay.stop()
        relay.start()
        self.submit(relay, 5)
        wait_for(lambda: len(self.doors.mails) == 25, "a stop loses nothing")
        relay.wait_empty()
        relay.kill()
        relay.start()
        self.submit(relay, 40)
        wait_for(lambda: relay.events("deliver.warm_up_full"), "the day is full")
        self.wait_reason(relay, "source new: it has sent the 30 messages of day 1 of its warm-up")
        relay.stop()  # the last of them may be on their way until then
        # A crash may cost a block, and gives nothing.
        self.assertLessEqual(len(self.doors.mails), 30)
        came = len(self.doors.mails)
        self.at(1)
        mark = relay.log_mark()
        relay.start()
        self.submit(relay, 40)
        relay.wait_event("deliver.warm_up_full", mark)
        self.wait_reason(relay, "source new: it has sent the 60 messages of day 2 of its warm-up")
        wait_for(lambda: len(self.doors.mails) - came >= 60, "the last of them")
        relay.stop()
        self.assertEqual(len(self.doors.mails) - came, 60)
        self.at(2)
        relay.start()
        relay.wait_empty()  # the days are over: there is no quota
        self.assertEqual(self.doors.count(), {"127.0.0.2": 105})

    def test_what_cannot_be_counted_is_not_sent(self):
        hop = self.hop()
        relay = Relay(self, log_level="info", delivery='pool = "main"', start=False,
                      env={"LD_PRELOAD": self.preload, "CLOCK_FILE": self.clock},
                      extra=self.route(hop.port) + source("new", "127.0.0.2", "warm_up = [30]") +
                      pool("main", ["new"]))
        os.makedirs(os.path.join(relay.data, "warm_up.new"), mode=0o700)
        relay.start()
        self.submit(relay, 3)
        relay.wait_event("deliver.warm_up_unwritable")
        self.assertEqual(self.doors.mails, [])
        os.rmdir(os.path.join(relay.data, "warm_up.new"))
        relay.wait_empty()
        self.assertEqual(self.doors.count(), {"127.0.0.2": 3})
        relay.stop()
        with open(os.path.join(relay.data, "warm_up"), "r+b") as file:
            file.write(b"x")
        relay.start()
        relay.wait_event("deliver.warm_up_unreadable")
        self.submit(relay, 1)
        self.wait_reason(relay, "source new: it has sent the 30 messages of day 1")
        self.assertEqual(len(self.doors.mails), 3)

    def test_the_rest_goes_by_the_others(self):
        hop = self.hop()
        relay = Relay(self, log_level="info", delivery='pool = "main"',
                      env={"LD_PRELOAD": self.preload, "CLOCK_FILE": self.clock},
                      extra=self.route(hop.port) + source("new", "127.0.0.2", "warm_up = [10]") +
                      source("old", "127.0.0.3") + pool("main", ["new", "old"]))
        self.submit(relay, 60)
        relay.wait_empty()
        self.assertEqual(self.doors.count(), {"127.0.0.2": 10, "127.0.0.3": 50})


if __name__ == "__main__":
    unittest.main()
