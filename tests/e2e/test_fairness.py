"""'Inside one destination the tenants share by deficit round-robin with weights, and a priority goes
first within a tenant: a newsletter of a million does not delay another tenant's password reset.'

SMTPD_FAIRNESS=1000000 runs the first test with a million messages, of whom nobody logged in (smtp-source
sends them); it takes some minutes, and is run by hand: SMTPD_BINARY=... python3 -m unittest test_fairness."""
import base64
import contextlib
import os
import signal
import subprocess
import threading
import time
import unittest

import world
from test_many import waiting_for
from test_pace import held_back
from world import PASSWORD, Dns, Hop, Raw, Relay, wait_for

NEWSLETTER = int(os.environ.get("SMTPD_FAIRNESS", "2000"))
FEEDERS = 20
LARGE = 20000
READY = 200  # groups that a destination reads ahead


class SlowHop(Hop):
    """Takes a message each `gap` seconds; while `gate` is shut the first one waits at its dot."""

    def __init__(self, case, gap):
        self.gap = gap
        self.gate = threading.Event()
        self.gate.set()
        super().__init__(case, self.be_slow)

    def be_slow(self, stage, argument, session):
        if stage == "dot":
            self.gate.wait(10 * world.PATIENCE)
            time.sleep(self.gap)

    def sent(self):
        return sent(self)


def sent(hop):
    with hop.lock:
        return list(hop.messages)


def add_users(relay):
    for user in ("anna", "bert"):
        relay.command("user", "add", user, stdin=PASSWORD + "\n")
    relay.signal(signal.SIGHUP)
    wait_for(lambda: any(e["message"].startswith("3 users") for e in relay.events("policy.users_loaded")),
             "the users to be known")


class Submitter:
    """A session of one user; the next transaction goes out with the end of the message."""

    def __init__(self, relay, user):
        self.raw = Raw(relay.submission, world.PATIENCE)
        self.raw.say("EHLO client.test")
        self.raw.starttls(relay.tls_context())
        self.raw.say("EHLO client.test")
        plain = base64.b64encode(f"\0{user}\0{PASSWORD}".encode()).decode()
        assert self.raw.say(f"AUTH PLAIN {plain}").startswith(b"235")

    def send(self, recipient, count=1, header=""):
        open_it = f"MAIL FROM:<app@example.test>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n"
        body = f"From: app@example.test\r\n{header}Subject: s\r\n\r\ntext\r\n.\r\n"
        self.raw.send(open_it)
        for left in range(count, 0, -1):
            for code in (b"250", b"250", b"354"):
                reply = self.raw.reply()
                assert reply.startswith(code), reply
            self.raw.send(body + (open_it if left > 1 else ""))
            reply = self.raw.reply()
            assert reply.startswith(b"250"), reply

    def close(self):
        self.raw.close()


def letters(messages):
    """The first letter of each recipient, in the order in which they left."""
    return "".join(message["recipients"][0][0] for message in messages)


class Fairness(unittest.TestCase):
    def relay_to(self, hop, delivery="", extra=""):
        relay = Relay(self, hop=hop.port, delivery="connections = 1\n" + delivery, extra=extra,
                      log_level="info")
        add_users(relay)
        return relay

    def submit(self, relay, user, recipient, count=1, header=""):
        with contextlib.closing(Submitter(relay, user)) as submitter:
            submitter.send(recipient, count, header)

    def fill(self, relay, count):
        if count > LARGE:
            subprocess.run([world.tool("smtp-source"), "-d", "-s", "200", "-m", str(count), "-l",
                            "500", "-f", "app@example.test", "-t", "a@x.test",
                            f"inet:127.0.0.1:{relay.relay_port}"], check=True,
                           stdout=subprocess.DEVNULL)
            return
        feeders = [threading.Thread(target=self.submit, args=(relay, "anna", "a@x.test",
                                                              count // FEEDERS))
                   for _ in range(FEEDERS)]
        for feeder in feeders:
            feeder.start()
        for feeder in feeders:
            feeder.join()

    def waits(self, relay, count):
        def is_so():
            queue = relay.status()["queue"]
            return queue["groups_waiting"] + queue["groups_leased"] >= count
        wait_for(is_so, f"{count} groups in the queue")

    def test_a_newsletter_does_not_delay_a_password_reset(self):
        hop = SlowHop(self, 0.1)
        relay = self.relay_to(hop)
        self.fill(relay, NEWSLETTER)
        submitter = Submitter(relay, "bert")
        self.addCleanup(submitter.close)
        queue = relay.status()["queue"]
        # The ready queue has overflown, and most of it is on disk.
        self.assertGreaterEqual(queue["groups_leased"], READY)
        self.assertGreater(queue["groups_waiting"], NEWSLETTER // 2)
        for resets in range(3):
            submitter.send("b@x.test")
            before, accepted = len(hop.sent()), time.monotonic()
            wait_for(lambda: letters(hop.sent()).count("b") > resets, "the password reset to leave")
            waited = time.monotonic() - accepted
            # Below zero: it left before we looked.
            between = [at for at, letter in enumerate(letters(hop.sent())) if letter == "b"][resets] - before
            print(f"{NEWSLETTER} messages wait: {between} of them left before it, {waited:.2f} s")
            # One is under way when the other comes.
            self.assertLessEqual(between, 2)
            time.sleep(0.5)

    def shut(self, delivery="", extra=""):
        """Everything waits behind one message of nobody who matters."""
        hop = SlowHop(self, 0)
        hop.gate.clear()
        relay = self.relay_to(hop, delivery, extra)
        client = relay.relay_client()
        client.sendmail("app@example.test", ["u@x.test"], world.message("u@x.test"))
        client.quit()
        wait_for(lambda: any(line == "DATA" for _, line in hop.commands), "the first to be sent")
        return hop, relay

    def order(self, hop, relay, count):
        hop.gate.set()
        wait_for(lambda: len(hop.sent()) == count + 1, "all of it")
        return letters(hop.sent())[1:]

    def test_weights_are_shares_and_a_reload_changes_them(self):
        three = '[[tenant]]\nname = "anna"\nweight = 3\n'
        hop, relay = self.shut(extra=three)
        self.submit(relay, "anna", "a@x.test", 300)
        self.submit(relay, "bert", "b@x.test", 300)
        self.waits(relay, 600)
        hop.gap = 0.01
        hop.gate.set()
        wait_for(lambda: len(hop.sent()) > 120, "some of it")
        self.assertAlmostEqual(letters(hop.sent()[1:101]).count("a"), 75, delta=3)
        hop.gate.clear()  # what is left must not leave before the reload
        relay.write_config(extra=three.replace("anna", "bert"))
        mark = relay.log_mark()
        relay.signal(signal.SIGHUP)
        relay.wait_event("server.reloaded", mark)
        at = len(hop.sent()) + 2
        hop.gate.set()
        wait_for(lambda: len(hop.sent()) > at + 100, "the rest of it")
        self.assertAlmostEqual(letters(hop.sent()[at:at + 100]).count("b"), 75, delta=4)
        hop.gap = 0
        wait_for(lambda: len(hop.sent()) == 601, "all of it")

    def test_a_priority_goes_first_within_its_tenant(self):
        hop, relay = self.shut('priority_header = "X-Priority-Class"\n')
        self.submit(relay, "anna", "l@x.test", 300, "X-Priority-Class: low\r\n")
        self.submit(relay, "anna", "n@x.test", 20, "X-Priority-Class: whatever\r\n")
        self.submit(relay, "anna", "h@x.test", 20, "x-priority-class: 9\r\n")
        self.submit(relay, "bert", "b@x.test", 20, "X-Priority-Class: -9\r\n")
        self.waits(relay, 361)
        order = self.order(hop, relay, 360)
        self.assertEqual(order.replace("b", ""), "h" * 20 + "n" * 20 + "l" * 300)
        # The other tenant's have their share, however unimportant they are there.
        self.assertAlmostEqual(order[:40].count("b"), 20, delta=2)
        self.assertIn(b"X-Priority-Class: low", hop.sent()[-1]["data"])
        accepted = {e["recipient"][0]: e.get("priority") for e in relay.events("receive.accepted")}
        self.assertEqual(accepted, {"u": None, "l": -4, "n": None, "h": 9, "b": -9})

    def test_a_field_names_the_tenant_of_who_may(self):
        hop, relay = self.shut('tenant_header = "X-Tenant"\ntenant_users = ["anna"]\n')
        self.submit(relay, "anna", "a@x.test", 250, "X-Tenant: shop\r\n")
        self.submit(relay, "anna", "b@x.test", 1, "x-tenant:  bank \r\nX-Tenant: shop\r\n")
        self.submit(relay, "bert", "c@x.test", 1, "X-Tenant: shop\r\n")  # he may not
        self.waits(relay, 253)
        order = self.order(hop, relay, 252)
        self.assertIn("b", order[:4])
        self.assertIn("c", order[:4])
        for message in hop.sent():
            self.assertNotIn(b"tenant", message["data"].lower())
        accepted = {e["recipient"]: e["tenant"] for e in relay.events("receive.accepted")
                    if "tenant" in e}
        self.assertEqual(accepted, {"a@x.test": "shop", "b@x.test": "bank", "c@x.test": "bert"})
        with self.assertRaisesRegex(AssertionError, "554 5.6.0 X-Tenant: names no tenant"):
            self.submit(relay, "anna", "a@x.test", 1, "X-Tenant: two words\r\n")


POOL = """
[[source]]
name = "one"
address = "127.0.0.1"
[[source]]
name = "two"
address = "127.0.0.2"
[[pool]]
name = "main"
sources = [{sources}]
"""


class Provider(unittest.TestCase):
    """One provider with one MX name for each of its customers: as many destinations, one limit."""
    CUSTOMERS = 300
    RULE = """
[[destination]]
name = "provider"
match = "*.prov.test"
message_rate = "100/10s"
connections = 2
"""

    def setUp(self):
        names = [f"d{i}" for i in range(self.CUSTOMERS)] + ["late"]
        zones = {"test": "".join(f"{name} MX 10 {name}.prov\n{name}.prov A 127.0.0.21\n"
                                 for name in names)}
        self.hop = Hop(self, host="127.0.0.21")
        self.delivery = f'port = {self.hop.port}\npriority_header = "X-Priority-Class"\n'
        self.dns = Dns(self, zones)

    def relay(self, delivery="", extra=""):
        relay = Relay(self, dns=self.dns, delivery=self.delivery + delivery,
                      extra=self.RULE + extra, log_level="info")
        add_users(relay)
        self.submitters = {user: Submitter(relay, user) for user in ("anna", "bert")}
        for submitter in self.submitters.values():
            self.addCleanup(submitter.close)
        self.the_relay = relay
        return relay

    def to_all_customers(self, user):
        """From several sessions: each waits for the disk."""
        def some_of_it(submitter, first):
            for i in range(first, self.CUSTOMERS, FEEDERS):
                submitter.send(f"{user[0]}@d{i}.test")
        with contextlib.ExitStack() as stack:
            feeders = [threading.Thread(target=some_of_it, args=(
                stack.enter_context(contextlib.closing(Submitter(self.the_relay, user))), first))
                for first in range(FEEDERS)]
            for feeder in feeders:
                feeder.start()
            for feeder in feeders:
                feeder.join()

    def newsletter(self):
        with held_back(self.the_relay, "rule:provider"):
            self.to_all_customers("anna")
        wait_for(lambda: len(sent(self.hop)) > 5, "some of it to leave")

    def between(self, user, recipient, header=""):
        """How many messages leave before this one, the only one with its letter, once it is accepted;
        below zero: it left before we looked."""
        letter = recipient[0]
        self.assertNotIn(letter, letters(sent(self.hop)))
        self.submitters[user].send(recipient, header=header)
        before = len(sent(self.hop))
        wait_for(lambda: letter in letters(sent(self.hop)), f"{recipient} to leave")
        between = letters(sent(self.hop)).index(letter) - before
        print(f"{between} left before {recipient}")
        return between

    def passes(self):
        self.newsletter()
        # One is under way, one is called, and one may be taken while this one is accepted and looked up.
        self.assertLessEqual(self.between("bert", "b@late.test"), 5)
        # Where the other's waits too.
        last = f"d{self.CUSTOMERS - 1}.test"
        self.assertLessEqual(self.between("bert", f"c@{last}"), 5)
        self.assertLessEqual(self.between("anna", "h@d9.test", "X-Priority-Class: high\r\n"), 5)
        left = letters(sent(self.hop)).count("a")
        print(f"a newsletter to {self.CUSTOMERS} customers: {left} of it had left")
        self.assertLess(left, self.CUSTOMERS // 2)

    def test_a_newsletter_to_all_customers_does_not_delay_a_password_reset_to_one_more(self):
        self.relay()
        self.passes()

    def test_nor_where_it_leaves_by_a_pool(self):
        self.relay(delivery='pool = "main"\n', extra=POOL.format(sources='"one", "two"'))
        self.passes()

    def test_weights_are_shares_of_the_provider(self):
        self.RULE = self.RULE.replace("100/10s", "400/10s")
        relay = self.relay(extra='[[tenant]]\nname = "anna"\nweight = 3\n')
        with held_back(relay, "rule:provider"):
            self.to_all_customers("anna")
            self.to_all_customers("bert")
            wait_for(lambda: waiting_for(relay, "suspended") == 2 * self.CUSTOMERS, "all of it to wait")
            self.assertEqual(sent(self.hop), [])
        # Those who look first go first: the shares begin once all have looked.
        wait_for(lambda: waiting_for(relay, "suspended") == 0, "all of it to be on its way")
        at = len(sent(self.hop)) + 3
        self.assertLess(at, self.CUSTOMERS)
        wait_for(lambda: len(sent(self.hop)) >= at + 80, "eighty more")
        self.assertAlmostEqual(letters(sent(self.hop)[at:at + 80]).count("a"), 60, delta=4)

    def test_all_of_it_leaves_whatever_happens_meanwhile(self):
        pool = POOL.format(sources='"one", "two"')
        relay = self.relay(delivery='pool = "main"\nidle_timeout = "200ms"\n', extra=pool)

        def reload(extra, rule=self.RULE):
            relay.write_config(extra=rule + extra)
            mark = relay.log_mark()
            relay.signal(signal.SIGHUP)
            relay.wait_event("server.reloaded", mark)
        for i in range(self.CUSTOMERS):
            self.submitters["anna"].send(f"a@d{i}.test")
            if i % 3 == 0:
                self.submitters["bert"].send(f"b@d{i}.test", 2, "X-Priority-Class: high\r\n")
        total = self.CUSTOMERS * 5 // 3
        faster = self.RULE.replace("100/10s", "400/10s")
        slow_to_connect = faster + 'connection_rate = "300/10s"\n'
        for step, (rule, extra) in enumerate([
                (faster, pool), (slow_to_connect, POOL.format(sources='"two"')), (self.RULE, pool),
                (slow_to_connect, ""), (faster, POOL.format(sources='"one"')), (faster, pool)]):
            delivery = self.delivery + ('pool = "main"\n' if extra else "")
            relay.write_config(delivery=delivery)
            reload(extra, rule)
            time.sleep(0.5)
            if step % 2:
                relay.command("destination", "suspend", "rule:provider", "--for", "1h")
                time.sleep(0.3)
                relay.command("destination", "resume", "rule:provider")
            relay.command("destination", "flush", "rule:provider")
            time.sleep(0.5)
        reload(pool, self.RULE.replace("100/10s", "2000/10s").replace("= 2", "= 5"))
        wait_for(lambda: len(sent(self.hop)) >= total, "all of it", 120)
        relay.wait_empty()
        self.assertEqual(len(sent(self.hop)), total)


if __name__ == "__main__":
    unittest.main()
