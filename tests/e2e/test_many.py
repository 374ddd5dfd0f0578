"""'It must hold' of the delivery engine: many destinations and connections at once, bad ones beside good
ones, a hundred thousand cold domains. Judged by what arrived, never by a time; SMTPD_MANY=full is the
full size, and prints figures (SMTPD_BINARY=build/release/smtpd python3 -m unittest -v test_many)."""
import os
import re
import threading
import time
import unittest

from internet import (HANGING, Internet, anonymous_kb, bad_domains, domains, open_outbound, submit,
                      wait_delivered)
from test_hold import exposition
from world import USER, Relay, wait_for

IS_FULL = os.environ.get("SMTPD_MANY") == "full"
LONG = 300 if IS_FULL else None


def relay_to(case, internet, delivery="", **parts):
    return Relay(case, dns=internet, delivery=f"port = {internet.port}\n{delivery}",
                 log_level="info", **parts)


def groups(relay):
    queue = relay.status()["queue"]
    return queue["groups_waiting"] + queue["groups_leased"]


def waiting_for(relay, why):
    found = re.search(rf'^smtpd_queue_waiting_groups{{reason="{why}"}} (\d+)', exposition(relay), re.M)
    return int(found[1]) if found else 0


def say(text):
    if IS_FULL:
        print(text, flush=True)


def lag(relay):
    """Of the last minute."""
    return f"loop lag {relay.status()['loop_lag']}"


class Crowd(unittest.TestCase):
    """'10,000 destinations with mail waiting and 5,000 open outbound connections in one process'."""
    DESTINATIONS = 10000 if IS_FULL else 300
    COPIES = 3

    def test_all_destinations_wait_half_are_connected_and_all_is_delivered_once(self):
        internet = Internet(self)
        relay = relay_to(self, internet, "connections = 1\n")
        half = self.DESTINATIONS // 2
        empty_kb = anonymous_kb(relay)
        # Those that say 421 wait in a back-off.
        sent = submit(relay, domains("busy", half), self.COPIES)
        wait_for(lambda: waiting_for(relay, "destination") == half * self.COPIES,
                 "the busy ones to wait", LONG)
        waiting_kb = anonymous_kb(relay)
        # Those that are held have a connection each, which waits behind its final dot.
        sent += submit(relay, domains("held", half), self.COPIES)
        wait_for(lambda: open_outbound(relay) >= half, "a connection to each", LONG)
        wait_for(lambda: internet.ask("count")["open"] == half, "those to be all", LONG)
        say(f"{half} destinations wait: {(waiting_kb - empty_kb) / half:.1f} KB each; {half} more have "
            f"an open connection: {(anonymous_kb(relay) - waiting_kb) / half:.1f} KB each; {lag(relay)}")
        self.assertEqual(open_outbound(relay), half)
        self.assertEqual(groups(relay), self.DESTINATIONS * self.COPIES)
        self.assertEqual(internet.delivered(), {})
        # Who comes anew does not wait for any of them.
        good = submit(relay, domains("good", 20))
        wait_delivered(internet, good, "the newcomers' mail")
        wait_for(lambda: groups(relay) == self.DESTINATIONS * self.COPIES,
                 "the newcomers' to be out of the queue")
        internet.ask("gate open")
        began = time.monotonic()

        def is_empty():
            relay.command("queue", "retry", "--all")
            return groups(relay) == 0
        wait_for(is_empty, "all of it to leave", LONG)
        say(f"let go: {len(sent)} messages in {time.monotonic() - began:.1f} s; {lag(relay)}")
        self.assertEqual(internet.delivered(), dict.fromkeys(sent + good, 1))


class Neighbours(unittest.TestCase):
    """'A destination that tarpits, drops, or answers garbage never slows another': here by counts; the
    rate is bench/neighbours'."""
    BAD, GOOD, COPIES = 100, 100, 10

    def test_all_good_mail_is_delivered_while_the_bad_ones_hang(self):
        internet = Internet(self)
        relay = relay_to(self, internet)
        bad = bad_domains(self.BAD)
        submit(relay, bad, 5)
        hanging = [name for name in bad if name.startswith(HANGING)]
        wait_for(lambda: internet.ask("count")["open"] >= len(hanging), "them to hang")
        good = submit(relay, domains("good", self.GOOD), self.COPIES)
        submit(relay, bad, 2, "more")
        good += submit(relay, domains("good", self.GOOD), self.COPIES, "more")
        wait_delivered(internet, good, "all good mail")
        # They hang all the while, and no good one was taken for one of them.
        self.assertGreaterEqual(internet.ask("count")["open"], len(hanging))
        self.assertGreaterEqual(groups(relay), 7 * len(hanging))
        arrived = internet.delivered()
        self.assertEqual({to: arrived[to] for to in good}, dict.fromkeys(good, 1))
        for name in ("deliver.destination_backoff", "deliver.dns_backoff", "deliver.deferred"):
            for event in relay.events(name):
                told = event.get("destination") or event.get("domain")
                self.assertNotIn("good", told, event)


class ColdNames(unittest.TestCase):
    """'Cold DNS for 100,000 domains (about 200 queries in flight) never delays a domain whose answer is
    cached; the time for all is stated'."""
    COLD = 100000 if IS_FULL else 1500

    def test_a_cached_domain_passes_names_that_nobody_answers(self):
        internet = Internet(self, ttl_s=1)  # the least that is kept is 30 s
        relay = relay_to(self, internet)
        first = submit(relay, ["good1.test"])
        wait_delivered(internet, first, "the first message, which asks")
        submit(relay, domains("mute", 1500))
        wait_for(lambda: internet.ask("count")["unanswered"] >= 100, "cold names to be asked")
        # Another tenant, who logs in, has another lane there: it asks for its way anew.
        asked = internet.ask("count")
        second = ["second@good1.test"]
        with relay.client() as client:
            client.sendmail("app@example.test", second, "Subject: s\r\n\r\ntext\r\n")
        wait_delivered(internet, second, "the second message, whose way is known")
        now = internet.ask("count")
        self.assertEqual(now["queries"] - now["unanswered"], asked["queries"] - asked["unanswered"])
        self.assertGreaterEqual(groups(relay), 1500)

        def tenants_of(recipients):
            return [e.get("tenant") for e in relay.events("receive.accepted")
                    if e.get("recipient") in recipients]
        wait_for(lambda: tenants_of(second), "its line in the log")
        self.assertEqual((tenants_of(first), tenants_of(second)), ([None], [USER]))

    def test_all_cold_names_are_asked_and_delivered_beside_a_warm_one(self):
        internet = Internet(self, dns_delay_ms=20)
        relay = relay_to(self, internet)
        warm = submit(relay, ["good1.test"])
        wait_delivered(internet, warm, "the first message")
        began, waits = time.monotonic(), []
        is_over = threading.Event()

        def trickle():
            while not is_over.is_set():
                sent = submit(relay, ["good1.test"], 1, f"w{len(waits)}-")
                at = time.monotonic()
                wait_delivered(internet, sent, "mail to the warm one", LONG)
                waits.append(time.monotonic() - at)
                warm.extend(sent)
                time.sleep(1 if IS_FULL else 0.05)
        beside = threading.Thread(target=trickle)
        beside.start()
        try:
            cold = submit(relay, domains("far", self.COLD))
            wait_for(lambda: groups(relay) <= 1, "all cold ones to leave", LONG)
        finally:
            is_over.set()
            beside.join()
        waits.sort()
        say(f"{self.COLD} cold domains: all delivered in {time.monotonic() - began:.1f} s; beside it the "
            f"warm one waited {waits[len(waits) // 2]:.3f} s, at most {waits[-1]:.3f} s "
            f"({len(waits)} messages); {internet.ask('count')}; {lag(relay)}")
        relay.wait_empty()
        self.assertEqual(internet.delivered(), dict.fromkeys(warm + cold, 1))
        self.assertEqual(relay.events("deliver.dns_backoff"), [])


if __name__ == "__main__":
    unittest.main()
