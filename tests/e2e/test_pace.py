"""The pace of a destination: limits that hold over reloads and restarts, one limit for what belongs
together, connections that learn. Judged by what the next hop saw, and when."""
import contextlib
import json
import os
import signal
import threading
import time
import unittest

import world
from world import Dns, Hop, Relay, message, wait_for

FULL = os.environ.get("SMTPD_PACE") == "full"


class Clock:
    """When each MAIL came, and from whom; and how long this process stood at most: a stamp may be so late."""

    def __init__(self):
        self.mails = []
        self.stood = 0
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        while True:
            at = time.monotonic()
            time.sleep(0.01)
            self.stood = max(self.stood, time.monotonic() - at)

    def __call__(self, stage, argument, session):
        if stage == "mail":
            if not self.mails:
                self.stood = 0
            self.mails.append((time.monotonic(), argument.split("<")[1].split(">")[0]))
        return None

    def most_within(self, seconds, mark=0):
        """The most that came in any span of that length, behind the mark."""
        times = sorted(at for at, _ in self.mails[mark:])
        first = most = 0
        for i, at in enumerate(times):
            while first < i and at - times[first] >= seconds:
                first += 1
            most = max(most, i - first + 1)
        return most


def submit(relay, count, domain, sender):
    with relay.relay_client() as client:
        for i in range(count):
            client.sendmail(sender, [f"r{i}@{domain}"], message(subject=f"{sender} {i}"))


@contextlib.contextmanager
def held_back(relay, destination):
    """What is submitted meanwhile leaves together, however slow the disk is."""
    relay.command("destination", "suspend", destination, "--for", "1h")
    yield
    relay.command("destination", "resume", destination)


class Limits(unittest.TestCase):
    def setUp(self):
        # Scaled: the same arithmetic in a twentieth of the time.
        self.rate, self.count, self.window, self.span = \
            ('"60/m"', 60, 60, 300) if FULL else ('"200/20s"', 200, 20, 26)
        self.clock = Clock()
        self.hop = Hop(self, self.clock)

    def relay(self, rate=None, **parts):
        extra = f'[[route]]\nname = "provider"\nmatch = ["*"]\nhost = "127.0.0.1"\nport = {self.hop.port}\n' \
                f'tls = "off"\nmessage_rate = {rate or self.rate}\n'
        return Relay(self, extra=extra, log_level="info", **parts)

    def test_a_rate_holds_for_three_tenants_over_a_restart_and_a_reload(self):
        relay = self.relay()
        per_second = self.count / self.window
        enough = int(per_second * self.span / 3) + 10
        for tenant in ("a", "b", "c"):
            submit(relay, enough, "dest.test", f"{tenant}@{tenant}.test")
        begun = time.monotonic()
        time.sleep(self.span / 3)
        relay.kill()
        killed = time.monotonic()
        relay.start()
        gap = time.monotonic() - killed
        time.sleep(self.span / 3)
        relay.write_config(queue='delay_notice = "3h"')
        mark = relay.log_mark()
        relay.signal(signal.SIGHUP)
        relay.wait_event("server.reloaded", mark)
        time.sleep(max(0, begun + gap + self.span - time.monotonic()))
        came = len(self.clock.mails)
        self.assertLessEqual(self.clock.most_within(self.window - self.clock.stood), self.count * 1.02)
        # The machine may be slow, a limit is no excuse.
        self.assertGreaterEqual(came, (self.span - 3) * per_second * (0.97 if FULL else 0.7))
        senders = {sender[0] for _, sender in self.clock.mails}
        self.assertEqual(senders, {"a", "b", "c"})

    def test_a_new_limit_holds_from_the_reload_on(self):
        relay = self.relay(rate='"60/m"')  # slower than they are taken, on a slow machine too
        submit(relay, 60, "dest.test", "a@a.test")
        wait_for(lambda: len(self.clock.mails) > 2, "some mail")
        relay.write_config(extra=relay.parts["extra"].replace('"60/m"', '"1/h"'))
        mark = relay.log_mark()
        relay.signal(signal.SIGHUP)
        relay.wait_event("server.reloaded", mark)
        came = len(self.clock.mails)
        time.sleep(2)
        self.assertLessEqual(len(self.clock.mails), came + 1)  # one was on its way
        # The hop sees one before its commit.
        wait_for(lambda: len(relay.queue()) + len(self.clock.mails) == 60, "the end of what was on its way")
        waiting = relay.queue()
        self.assertEqual(len(waiting) + len(self.clock.mails), 60)
        why = wait_for(lambda: next((line for line in (
            relay.command("queue", "why", group["id"]) for group in waiting[:3])
            if "1/h messages" in line), None), "the reason")
        self.assertRegex(why, r"in \d+[mh]")

    def test_connections_have_a_rate(self):
        relay = self.relay(delivery='connection_rate = "20/10s"\nmessages_per_connection = 1\n')
        relay.write_config(extra=relay.parts["extra"].replace(f"message_rate = {self.rate}\n", ""))
        mark = relay.log_mark()
        relay.signal(signal.SIGHUP)
        relay.wait_event("server.reloaded", mark)
        submit(relay, 30, "dest.test", "a@a.test")
        wait_for(lambda: len(self.clock.mails) >= 15, "some mail")
        self.assertLessEqual(self.clock.most_within(10 - self.clock.stood), 21)


class Scopes(unittest.TestCase):
    ZONES = {"test": "a MX 10 customer-a.prov\nb MX 10 customer-b.prov\n"
                     "customer-a.prov A 127.0.0.21\ncustomer-b.prov A 127.0.0.21\n"}

    def test_domains_whose_hosts_match_one_pattern_share_its_limits(self):
        clock = Clock()
        hop = Hop(self, clock, host="127.0.0.21")
        relay = Relay(self, dns=Dns(self, self.ZONES), delivery=f'port = {hop.port}\n', extra="""
[[destination]]
name = "provider"
match = "*.prov.test"
message_rate = "50/10s"
connections = 2
""")
        with held_back(relay, "provider"):
            submit(relay, 60, "a.test", "a@a.test")
            submit(relay, 60, "b.test", "b@b.test")
        wait_for(lambda: len(clock.mails) >= 60, "sixty messages")
        self.assertLessEqual(clock.most_within(10 - clock.stood), 51)
        # Both take turns from when both are there.
        late = [sender[0] for _, sender in clock.mails[-20:]]
        self.assertGreaterEqual(min(late.count("a"), late.count("b")), 5, late)


class Learning(unittest.TestCase):
    def test_421_halves_the_connections_and_success_brings_them_back(self):
        most = 3
        inside, seen = set(), []

        def answer(stage, argument, session):
            if stage == "connect":
                with hop.lock:
                    inside.intersection_update(live())
                    if len(inside) >= most:
                        return "421 4.7.0 too many connections from you"
                    inside.add(session.number)
                    seen.append(len(inside))
            if stage == "dot":
                time.sleep(0.1)
            return None

        def live():
            return {s.number for s in sessions if s.connection.fileno() >= 0}
        sessions = []
        hop = Hop(self, answer)
        original = world.HopSession.__init__

        def remember(session, *arguments):
            original(session, *arguments)
            sessions.append(session)
        world.HopSession.__init__ = remember
        self.addCleanup(setattr, world.HopSession, "__init__", original)
        relay = Relay(self, hop=hop.port)
        with held_back(relay, "route:hop"):
            submit(relay, 80, "dest.test", "a@a.test")
        relay.wait_empty()
        self.assertEqual(len(hop.messages), 80)
        changes = [e for e in relay.events("deliver.pace_changed") if e["what"] == "connections"]
        down = [e for e in changes if e["cause"] == "reply"]
        self.assertTrue(down, changes)
        self.assertIn("421 4.7.0 too many connections", down[0]["message"])
        self.assertEqual(int(down[0]["new"]), int(down[0]["old"]) // 2)
        self.assertTrue([e for e in changes if e["cause"] == "success"], changes)
        for before, after in zip(changes, changes[1:]):
            self.assertEqual(before["new"], after["old"])
        # Others were let in: nothing rested for it.
        self.assertEqual(relay.events("deliver.destination_backoff"), [])


class Reactions(unittest.TestCase):
    def relay(self, hop, reaction, extra="", **parts):
        return Relay(self, hop=hop.port, queue='retry = ["1s"]\n', extra=f"[[reaction]]\n{reaction}\n{extra}", **parts)

    def kept(self, relay):
        """The only line of data_dir/paces, as words: what the next process will know."""
        try:
            with open(os.path.join(relay.data, "paces")) as file:
                lines = file.read().splitlines()
        except FileNotFoundError:
            return None
        self.assertEqual(lines[0], "smtpd-paces 2")
        return dict(zip(("scope", "source", "changed", "window", "permille", "step", "step_ms", "next_step",
                         "measured", "measured_ms", "suspended_until", "suspended_by", "slowed_by", "backoffs",
                         "bounces_until", "bounces_before", "bounces_left", "bounces_for"), lines[1].split(" "))) \
            if len(lines) == 3 else None

    def wait_kept(self, relay, name, value):
        wait_for(lambda: (self.kept(relay) or {}).get(name) == value, f"{name} {value} in the file of paces")

    def changes(self, relay, what):
        return [(e["old"], e["new"], e["cause"]) for e in relay.events("deliver.pace_changed") if e["what"] == what]

    def wait_changes(self, relay, what, count):
        return wait_for(lambda: len(found := self.changes(relay, what)) >= count and found, f"{count} changes: {what}")

    def refuse(self, stage, argument, session):
        if stage == "mail" and self.refuses:
            self.clock("mail", argument, session)
            return self.words
        return None

    def setUp(self):
        self.refuses, self.words = True, "450 4.7.1 slow down, please"
        self.clock = Clock()
        self.hop = Hop(self, self.refuse)

    def test_a_suspension_outlives_a_restart_and_retry_ends_it(self):
        relay = self.relay(self.hop, 'text = "slow down"\naction = "suspend"\nfor = "1h"')
        submit(relay, 1, "dest.test", "a@a.test")
        change = relay.wait_event("deliver.pace_changed")
        self.assertEqual((change["what"], change["cause"]), ("suspended", "reaction"))
        self.assertIn("450 4.7.1 slow down", change["message"])
        wait_for(lambda: os.path.exists(os.path.join(relay.data, "paces")), "the file of paces")
        relay.kill()
        came = len(self.clock.mails)
        relay.start()
        submit(relay, 3, "dest.test", "b@b.test")
        why = wait_for(lambda: next((line for line in (
            relay.command("queue", "why", group["id"]) for group in relay.queue())
            if "slow down, please" in line), None), "the reason")
        self.assertRegex(why, r"in \d+m")
        time.sleep(2)
        self.assertEqual(len(self.clock.mails), came)
        self.assertEqual(self.hop.messages, [])
        self.refuses = False
        relay.command("queue", "retry", "--all")
        relay.wait_empty()
        self.assertEqual(len(self.hop.messages), 4)
        wait_for(lambda: self.changes(relay, "suspended")[-1][1:] == ("no", "operator"), "the operator")

    def test_what_waits_is_bounced_up_to_the_limit(self):
        self.words = "450 4.2.0 later"
        relay = self.relay(self.hop, 'text = "slow down"\naction = "bounce"\nfor = "1h"\nlimit = 4')
        submit(relay, 10, "dest.test", "a@local.test")
        wait_for(lambda: len({e["recipient"] for e in relay.events("deliver.deferred")}) == 10, "a first round")
        self.assertEqual(relay.events("deliver.bounced"), [])
        self.words = "450 4.7.1 slow down, please"
        wait_for(lambda: len(relay.events("deliver.bounced")) >= 4, "the bounces")
        self.refuses = False
        relay.wait_empty()
        self.assertEqual(len(relay.events("deliver.bounced")), 4)
        self.assertEqual(len(self.hop.messages), 6)
        changes = relay.events("deliver.pace_changed")
        self.assertEqual([e["new"] for e in changes if e["what"] == "bounce"], ["at most 4"])


    def check_rate(self, least, per_second):
        """In 3 s at least so many come, and never more than the rate gives in the time that really passed."""
        begun, mark = time.monotonic(), len(self.clock.mails)
        time.sleep(3)
        came = len(self.clock.mails) - mark
        self.assertLessEqual(came, (time.monotonic() - begun + self.clock.stood) * per_second + 4)
        wait_for(lambda: self.clock.most_within(3, mark) >= least, f"{least} in 3 s")  # a machine may be slow

    def test_a_slowed_rate_outlives_a_crash_and_comes_back_in_steps(self):
        preload, folder = world.preload(self, "clock.c")
        clock = os.path.join(folder, "step")
        extra = f'''[[reaction]]
text = "slow down"
action = "slow"
percent = 20
for = "20m"
[[route]]
name = "provider"
match = ["*"]
host = "127.0.0.1"
port = {self.hop.port}
tls = "off"
message_rate = "200/10s"
'''
        relay = Relay(self, queue='retry = ["1s"]\n', extra=extra, env={"LD_PRELOAD": preload, "CLOCK_FILE": clock})
        self.hop.answer = lambda *stage: self.refuse(*stage) or (None if self.refuses else self.clock(*stage))
        with held_back(relay, "route:provider"):  # more refusals would slow it more
            submit(relay, 200, "dest.test", "a@a.test")
        change = self.wait_changes(relay, "rate", 1)[0]
        self.refuses = False
        self.assertEqual(change, ("200/10s", "20% of 200/10s", "reaction"))
        time.sleep(0.5)  # what is refused still
        self.check_rate(3, 4)  # and not 20/s
        self.wait_kept(relay, "permille", "200")
        relay.kill()
        relay.start()
        self.check_rate(3, 4)
        self.assertEqual(len(self.changes(relay, "rate")), 1)

        def restart_after(seconds):
            relay.stop()
            with open(clock, "w") as file:
                file.write(str(seconds))
            relay.start()
        restart_after(125)  # a tenth of the time, and a little more
        self.assertEqual(self.wait_changes(relay, "rate", 2)[1], ("20% of 200/10s", "28% of 200/10s", "recovery"))
        restart_after(1300)
        self.assertEqual(self.wait_changes(relay, "rate", 3)[2], ("28% of 200/10s", "200/10s", "recovery"))
        self.check_rate(3 * 6 + 4, 20)

    def test_a_back_off_is_twice_as_long_the_second_time_over_a_crash_too(self):
        relay = self.relay(self.hop, 'text = "slow down"\naction = "back_off"\nfor = "3s"')
        submit(relay, 1, "dest.test", "a@a.test")
        self.assertEqual(self.wait_changes(relay, "suspended", 1)[0], ("no", "3 s", "reaction"))
        self.assertEqual(self.wait_changes(relay, "suspended", 3)[1:3],
                         [("yes", "no", "recovery"), ("no", "6 s", "reaction")])
        self.wait_kept(relay, "backoffs", "2")
        relay.kill()
        self.assertEqual(len(self.clock.mails), 2)
        relay.start()
        self.assertEqual(self.wait_changes(relay, "suspended", 5)[3:5],
                         [("yes", "no", "recovery"), ("no", "12 s", "reaction")])
        times = [at for at, _ in self.clock.mails]
        self.assertGreaterEqual(times[1] - times[0], 2.9)
        self.assertGreaterEqual(times[2] - times[1], 5.9)
        self.assertEqual(len(times), 3)
        # What is taken ends the row.
        self.refuses = False
        relay.command("queue", "retry", "--all")
        relay.wait_empty()
        self.refuses = True
        submit(relay, 1, "dest.test", "a@a.test")
        self.assertEqual(self.wait_changes(relay, "suspended", 7)[6], ("no", "3 s", "reaction"))

    def test_a_bounce_goes_on_over_a_crash_with_what_was_left(self):
        self.bounce_over_a_crash()

    def test_that_of_a_source_does_too(self):
        self.bounce_over_a_crash(delivery='pool = "main"\n', extra="""
[[source]]
name = "one"
address = "127.0.0.2"
ehlo = "one.test"
[[pool]]
name = "main"
sources = ["one"]
""")

    def bounce_over_a_crash(self, **parts):
        self.words = "450 4.2.0 later"
        relay = self.relay(self.hop, 'text = "slow down"\naction = "bounce"\nfor = "1h"\nlimit = 8', **parts)
        submit(relay, 12, "dest.test", "a@local.test")
        wait_for(lambda: len({e["recipient"] for e in relay.events("deliver.deferred")}) == 12, "a first round")

        def hold(recipients):
            ids = [group["id"] for group in relay.queue() if group["recipients"][0] in recipients]
            self.assertEqual(len(ids), len(recipients))
            wait_for(lambda: json.loads(relay.command("queue", "hold", *ids, "--json"))["busy"] == 0, "the hold")
        hold([f"r{i}@dest.test" for i in range(6)])
        self.words = "450 4.7.1 slow down, please"

        def bounced():
            return {e["recipient"] for e in relay.events("deliver.bounced")}
        wait_for(lambda: len(bounced()) == 6, "the bounces")
        submit(relay, 1, "newer.test", "a@local.test")
        wait_for(lambda: len([e for e in relay.events("deliver.deferred") if e["recipient"] == "r0@newer.test"]) >= 2,
                 "two refusals of what came later")
        hold(["r0@newer.test"])
        shown = relay.command("destination", "show", "route:hop")
        self.assertIn("bounces what waits, at most 2", shown)
        self.assertIn("450 4.7.1 slow down, please", shown)
        self.wait_kept(relay, "bounces_left", "2")
        relay.kill()
        self.refuses = False
        relay.start()
        wait_for(lambda: len(relay.queue()) == 7, "all in the index")
        relay.command("queue", "release", "--all")
        relay.wait_empty()
        wait_for(lambda: len(bounced()) >= 8, "their lines in the log")
        # Two that waited before, and no other.
        self.assertEqual(len(bounced()), 8)
        self.assertNotIn("r0@newer.test", bounced())
        self.assertEqual(len(self.hop.messages), 5)
        self.refuses = True
        mark = relay.log_mark()
        submit(relay, 1, "newer.test", "a@local.test")
        wait_for(lambda: len(relay.events("deliver.deferred", mark)) >= 3, "three refusals")
        self.assertEqual(len(relay.events("deliver.bounced")), 8)
        self.assertEqual(self.changes(relay, "bounce"), [("no", "at most 8", "reaction")])


class Kept(unittest.TestCase):
    """data_dir/paces: damaged, and not to be written."""

    def test_a_damaged_file_is_named_and_one_that_cannot_be_written_is_tried_again(self):
        hop = Hop(self, lambda stage, *_: "421 4.7.0 not you" if stage == "connect" else None)
        relay = Relay(self, hop=hop.port)
        path = os.path.join(relay.data, "paces")
        submit(relay, 1, "dest.test", "a@a.test")
        wait_for(lambda: os.path.exists(path), "the file")
        relay.stop()
        with open(path, "r+b") as file:  # one byte is not as it was
            file.seek(20)
            byte = file.read(1)
            file.seek(20)
            file.write(bytes([byte[0] ^ 1]))
        relay.start()
        relay.wait_event("deliver.paces_unreadable")
        os.unlink(path)
        os.mkdir(path + ".new")
        relay.command("queue", "retry", "--all")
        relay.wait_event("deliver.paces_unwritable")
        os.rmdir(path + ".new")
        wait_for(lambda: os.path.exists(path), "the file again")
        self.assertEqual(len(relay.events("deliver.paces_unwritable")), 1)


if __name__ == "__main__":
    world.main()
