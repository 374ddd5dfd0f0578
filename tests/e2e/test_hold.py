"""'Why is it waiting?': queue hold, release and bounce, as operators type them."""
import contextlib
import http.client
import json
import socket
import time
import unittest

import world
from test_deliver import send
from world import Hop, Relay


class Local(http.client.HTTPConnection):
    """HTTP over the control socket."""

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.host)


def exposition(relay):
    """What /metrics says."""
    with contextlib.closing(Local(relay.data + "/control.sock")) as connection:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()


class Held(unittest.TestCase):
    """A next hop that says 451 until the test opens it: everything stays in the queue."""

    queue = 'retry = ["2s"]\n'

    def setUp(self):
        self.is_open = False
        self.hop = Hop(self, lambda stage, *_: None if self.is_open or stage != "rcpt" else "451 4.3.0 later")
        self.relay = Relay(self, hop=self.hop.port, queue=self.queue)

    def fill(self, *recipients, sender="ann@from.test"):
        """Each recipient in a message of its own, tried once and refused for now."""
        ids = [send(self.relay, [r], sender=sender) for r in recipients]
        world.wait_for(lambda: self.tried(len(recipients)), "a first answer for all")
        return ids

    def tried(self, count):
        return sum(g["attempts"] > 0 for g in self.relay.queue()) >= count

    def states(self):
        return {g["recipients"][0]: g["state"] for g in self.relay.queue()}

    def change(self, *words):
        """Until no attempt is in the way: what is busy is not changed, and said so."""
        def try_it():
            counts = json.loads(self.relay.command("queue", *words, "--json"))
            return counts["busy"] == 0 and counts
        return world.wait_for(try_it, " ".join(words))


class Holding(Held):
    def test_what_is_held_is_not_tried_and_is_due_again_when_released(self):
        self.fill("a@x.test", "b@x.test")
        said = self.relay.command("queue", "hold", "--recipient", "a@x.test", "--dry-run")
        self.assertIn("1 group to hold (dry run: nothing is changed)", said)
        self.assertNotIn("held", self.states().values())
        counts = self.change("hold", "--recipient", "a@x.test")
        self.assertEqual((counts["matched"], counts["changed"]), (1, 1))
        # Four weeks, if nothing else is said.
        self.assertAlmostEqual(counts["until_ms"] / 1000, time.time() + 28 * 86400, delta=600)
        self.assertEqual(self.states()["a@x.test"], "held")
        world.wait_for(lambda: self.relay.event("queue.held"), "its line in the log")
        self.is_open = True
        world.wait_for(lambda: "b@x.test" in self.hop.delivered(), "the other one")
        self.assertEqual(self.relay.status()["queue"]["groups_held"], 1)
        self.assertIn('smtpd_queue_groups{state="held"} 1\n', exposition(self.relay))
        self.assertIn('smtpd_queue_waiting_groups{reason="held"} 1\n', exposition(self.relay))
        listed = self.relay.command("queue", "list", "--state", "held")
        self.assertRegex(listed, r"held +in (3|4)d")  # the expiry comes first
        self.relay.command("queue", "retry", "--all")  # a retry is no release
        self.assertNotIn("a@x.test", self.hop.delivered())
        self.assertIn("1 group to release", self.relay.command("queue", "release", "--all"))
        world.wait_for(lambda: "a@x.test" in self.hop.delivered(), "the released one")
        self.relay.wait_event("queue.released")
        self.relay.wait_empty()
        self.assertEqual(self.hop.delivered(), {"a@x.test": 1, "b@x.test": 1})

    def test_a_retry_leaves_held_ones_alone_and_says_so(self):
        self.fill("a@x.test")
        self.change("hold", "--all")
        said = self.relay.command("queue", "retry", "--all")
        self.assertIn("0 done", said)
        self.assertIn("1 left as they were: held (queue release ends that)", said)

    def test_a_hold_lasts_over_a_restart_and_a_kill(self):
        self.fill("a@x.test")
        self.change("hold", "--all", "--until", "2d")
        self.is_open = True
        for leave in (self.relay.stop, self.relay.kill):
            leave()
            self.relay.start()
            world.wait_for(lambda: not self.relay.status()["queue"]["is_rebuilding"], "the index")
            self.assertEqual(self.states(), {"a@x.test": "held"})
            self.assertEqual(self.relay.status()["queue"]["groups_held"], 1)
        self.assertIn("held, in 47h: held by an operator", self.relay.command("queue", "why", self.relay.queue()[0]["id"]))
        send(self.relay, ["b@x.test"])  # what comes in now is not held
        world.wait_for(lambda: self.hop.delivered() == {"b@x.test": 1}, "the new one alone")
        self.change("release", "--all")
        world.wait_for(lambda: "a@x.test" in self.hop.delivered(), "the released one")

    def test_a_hold_ends_by_itself(self):
        self.fill("a@x.test")
        before = time.time()
        counts = self.change("hold", "--all", "--until", "3s")
        self.assertEqual(counts["changed"], 1)
        self.is_open = True
        world.wait_for(lambda: self.hop.delivered(), "the end of the hold")
        self.assertGreater(time.time() - before, 3)

    def test_a_time_of_day_ends_a_hold_too(self):
        self.fill("a@x.test")
        tomorrow = time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(time.time() + 86400))
        self.assertIn(f"held until {tomorrow}", self.relay.command("queue", "hold", "--all", "--until", tomorrow))
        self.relay.command("queue", "hold", "--all", "--until", "2001-01-01", code=1)
        self.relay.command("queue", "hold", "--all", "--until", "soon", code=2)


class Many(unittest.TestCase):
    def test_more_than_a_batch_is_held_and_bounced(self):
        relay = Relay(self, hop=world.free_port(), queue='retry = ["1h"]\n')  # nobody is there
        with relay.raw() as raw:
            raw.say("EHLO c.test")
            for i in range(1050):
                raw.send(f"MAIL FROM:<>\r\nRCPT TO:<r{i}@x.test>\r\nDATA\r\n")
                self.assertEqual([raw.reply()[:3] for _ in range(3)], [b"250", b"250", b"354"])
                raw.send(b"Subject: x\r\n\r\n.\r\n")
                self.assertEqual(raw.reply()[:3], b"250")
        world.wait_for(lambda: relay.status()["queue"]["groups_waiting"] == 1050, "all to wait")

        def change(*words):
            return json.loads(relay.command("queue", *words, "--json"))
        self.assertEqual(change("hold", "--all")["changed"], 1050)
        self.assertEqual(relay.status()["queue"]["groups_held"], 1050)
        self.assertEqual(relay.status()["queue"]["groups_waiting"], 0)
        lane = json.loads(relay.command("queue", "list", "--summary", "--json"))["lanes"][0]
        self.assertEqual((lane["groups"], lane["held"]), (1050, 1050))
        self.assertEqual(change("release", "--all")["changed"], 1050)
        self.assertEqual(relay.status()["queue"]["groups_held"], 0)
        self.assertEqual(change("bounce", "--all")["changed"], 1050)
        relay.wait_empty()
        world.wait_for(lambda: len(relay.events("deliver.report_failed")) >= 1050, "a line for each")
        self.assertEqual(len(relay.events("deliver.report_failed")), 1050)


class Expiring(Held):
    """A hold is no way to keep mail for ever (G6): it expires, unsent, with a report."""

    queue = 'retry = ["1s"]\nexpire = "12s"\n'

    def test_a_held_message_expires_unsent_and_its_sender_is_told(self):
        self.fill("a@x.test", sender="alice@local.test")
        self.change("hold", "--all", "--until", "1h")
        self.is_open = True
        said = self.relay.command("queue", "why", self.relay.queue()[0]["id"])
        self.assertIn("until it expires: it will not be tried", said)
        event = world.wait_for(lambda: self.relay.event("deliver.expired"), "the expiry")
        self.assertEqual(event["recipient"], "a@x.test")
        self.assertEqual(event["class"], "expired")
        report = world.wait_for(lambda: self.relay.maildir("alice"), "a report")[0]
        self.assertIn(b"expired while an operator held it", report)
        self.assertIn(b"Status: 4.4.7", report)
        self.relay.wait_empty()
        self.assertEqual(self.hop.delivered(), {})


class Bouncing(Held):
    def test_a_bounce_is_a_report_and_the_end_of_the_group(self):
        self.fill("a@x.test", "b@x.test", sender="alice@local.test")
        said = self.relay.command("queue", "bounce", "--recipient", "a@x.test", "--dry-run")
        self.assertIn("1 group to bounce (dry run", said)
        counts = self.change("bounce", "--recipient", "a@x.test", "--reason", "list of a former customer")
        self.assertEqual(counts["changed"], 1)
        report = world.wait_for(lambda: self.relay.maildir("alice"), "the report")[0]
        self.assertIn(b"bounced by the operator: list of a former customer", report)
        self.assertRegex(report, rb"Final-Recipient: rfc822; ?a@x.test")
        self.assertIn(b"Status: 5.7.1", report)
        self.assertIn(b"Action: failed", report)
        self.assertIn(b"Last-Attempt-Date", report)
        event = self.relay.wait_event("deliver.bounced")
        self.assertEqual((event["recipient"], event["class"], event["reply"]["code"]), ("a@x.test", "operator", 550))
        self.assertEqual([g["recipients"] for g in self.relay.queue("--sender", "alice@local.test")], [["b@x.test"]])
        self.relay.kill()  # report and removal were one transaction
        self.relay.start()
        world.wait_for(lambda: not self.relay.status()["queue"]["is_rebuilding"], "the index")
        self.assertEqual([g["recipients"] for g in self.relay.queue("--sender", "alice@local.test")], [["b@x.test"]])
        self.assertEqual(len(self.relay.maildir("alice")), 1)

    def test_the_report_of_a_bounce_without_any_attempt_names_none(self):
        self.relay.stop()
        self.relay = world.Relay(self)  # no name server answers for the domain
        id = send(self.relay, ["a@nowhere.test"], sender="alice@local.test")
        world.wait_for(lambda: self.relay.events("deliver.dns_backoff"), "the look-up")
        self.assertEqual([g["attempts"] for g in self.relay.queue()], [0])
        self.assertEqual(self.change("bounce", id)["changed"], 1)
        report = world.wait_for(lambda: self.relay.maildir("alice"), "the report")[0]
        self.assertIn(b"Action: failed", report)
        self.assertNotIn(b"Last-Attempt-Date", report)

    def test_held_ones_can_be_bounced(self):
        [id] = self.fill("a@x.test", sender="alice@local.test")
        self.change("hold", "--all")
        self.assertEqual(self.change("bounce", id)["changed"], 1)
        self.assertEqual(len(world.wait_for(lambda: self.relay.maildir("alice"), "the report")), 1)
        self.relay.wait_empty()
        self.assertEqual(self.relay.status()["queue"]["groups_held"], 0)

    def test_the_null_sender_gets_none_but_a_final_line(self):
        self.fill("a@x.test", sender="")
        self.assertEqual(self.change("bounce", "--sender", "<>")["changed"], 1)
        event = world.wait_for(lambda: self.relay.event("deliver.report_failed"), "its line")
        self.assertEqual((event["recipient"], event["class"]), ("a@x.test", "operator"))
        self.assertEqual(self.relay.queue(), [])
        self.assertEqual(self.relay.status()["deliver"]["reports_queued"], 0)

    def test_a_bounce_of_what_is_gone_changes_nothing(self):
        [id] = self.fill("a@x.test")
        self.change("remove", id)
        self.assertIn("no such message", self.relay.command("queue", "bounce", id, code=1))


if __name__ == "__main__":
    unittest.main(verbosity=2)
