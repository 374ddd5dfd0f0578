"""Issue sentences of 'The queue' that need an unusual world: a full map, a large queue at a start,
a clock that is days ahead. No root is needed (tests/e2e/world_shim.c)."""
import os
import struct
import unittest

import world
from test_deliver import books, send
from world import Hop, Relay

DAY = 86400
MAP_BYTES = 64 << 20    # the least that the queue opens with


class FullMap(unittest.TestCase):
    """'A full disk or a full map answers `452 4.3.1` and recovers by itself when there is room.'"""

    def setUp(self):
        preload, _ = world.preload(self, "world_shim.c")
        self.env = {"LD_PRELOAD": preload, "MAP_MOST_BYTES": str(MAP_BYTES)}
        self.port = world.free_port()
        self.relay = Relay(self, hop=self.port, queue='retry = ["1h"]\n', env=self.env)
        self.accepted = []

    def submit(self, raw, size):
        """One message; the reply that refused it, or None."""
        reply = raw.say("MAIL FROM:<a@b.test>")
        if reply.startswith(b"250"):
            recipient = f"f{len(self.accepted)}@x.test"
            self.assertTrue(raw.say(f"RCPT TO:<{recipient}>").startswith(b"250"))
            self.assertTrue(raw.say("DATA").startswith(b"354"))
            raw.send(b"Subject: f\r\n\r\n" + (b"x" * 76 + b"\r\n") * (size // 78) + b".\r\n")
            reply = raw.reply()
            if reply.startswith(b"250"):
                self.accepted.append(recipient)
                return None
        return reply

    def fill(self, size):
        with self.relay.raw() as raw:
            raw.say("EHLO c.test")
            for _ in range(2 * MAP_BYTES // size):
                reply = self.submit(raw, size)
                if reply:
                    return reply
        return b""

    def takes_mail(self):
        with self.relay.raw() as raw:
            raw.say("EHLO c.test")
            reply = raw.say("MAIL FROM:<a@b.test>")
        self.assertTrue(reply.startswith((b"250", b"452 4.3.1")), reply)
        return reply.startswith(b"250")

    def is_full(self):
        """Larger and smaller messages until the least is refused before its data."""
        for size in (3000000, 700000, 100000, 2000):
            reply = self.fill(size)
            self.assertTrue(reply.startswith(b"452 4.3.1"), reply)
        waiting = [r for g in self.relay.queue() for r in g["recipients"]]
        self.assertEqual(sorted(waiting), sorted(self.accepted))  # every 250, and nothing else
        self.assertGreater(len(self.accepted), 15)
        # It is the map that ended, not the disk.
        queue = self.relay.status()["queue"]
        self.assertLessEqual(queue["file_bytes"], MAP_BYTES)
        self.assertFalse(queue["has_room"])
        self.assertGreater(os.statvfs(self.relay.data).f_bavail * 4096, 4 * MAP_BYTES)

    def test_a_commit_that_does_not_fit_into_the_map_is_refused(self):
        """'a full map answers 452 4.3.1': here the map ends in the middle of a commit."""
        reply = self.fill(12000000)
        self.assertTrue(reply.startswith(b"452 4.3.1"), reply)
        self.assertIn("MDB_MAP_FULL", self.relay.wait_event("queue.no_space")["message"])
        world.wait_for(self.takes_mail, "what was refused to leave")  # a smaller one still fits
        send(self.relay, ["small@x.test"])
        self.assertEqual(len(self.relay.queue()), len(self.accepted) + 1)

    def test_a_full_map_recovers_when_mail_is_delivered(self):
        """'... and recovers by itself when there is room': the next hop comes back."""
        self.is_full()
        hop = Hop(self, port=self.port)
        self.relay.command("queue", "retry", "--all")
        self.relay.wait_empty()
        books(self, self.relay, [hop], self.accepted)
        world.wait_for(self.takes_mail, "room again")
        send(self.relay, ["again@x.test"])
        self.relay.wait_empty()
        books(self, self.relay, [hop], self.accepted + ["again@x.test"])

    def test_a_full_map_recovers_when_mail_is_removed(self):
        """'... and recovers by itself when there is room': an operator removes it; and a start with
        a full map is a start."""
        self.is_full()
        self.relay.stop()
        self.relay.start()
        world.wait_for(lambda: self.relay.status()["queue"]["groups_waiting"] ==
                       len(self.accepted), "the index")
        self.assertFalse(self.takes_mail())
        self.relay.command("queue", "remove", "--all")
        world.wait_for(self.takes_mail, "room again")
        self.assertEqual(self.relay.queue(), [])
        self.accepted.clear()
        # Room is measured once a second: the first measure may stand between two removals.
        world.wait_for(lambda: self.relay.status()["queue"]["free_bytes"] > MAP_BYTES * 3 // 4,
                       "all of the room")
        self.is_full()  # as much as before


class Clock(unittest.TestCase):
    """DESIGN, G6: 'No message waits for ever ... But nothing expires untried: after a start, or a
    step of the clock, each message gets one attempt first.'"""

    def setUp(self):
        preload, folder = world.preload(self, "world_shim.c")
        self.clock = os.path.join(folder, "clock")
        self.set_clock(0)
        self.state = {"busy": True}
        self.hop = Hop(self, lambda stage, argument, session: "450 4.2.1 busy"
                       if stage == "rcpt" and (self.state["busy"] or "<late" in argument) else None)
        self.relay = Relay(self, hop=self.hop.port, queue='retry = ["1h"]\nexpire = "4d"\n',
                           env={"LD_PRELOAD": preload, "CLOCK_FILE": self.clock})

    def set_clock(self, seconds):
        with open(self.clock, "r+b" if os.path.exists(self.clock) else "wb") as file:
            file.write(struct.pack("q", seconds))

    def attempts(self, recipient):
        return len([1 for _, line in self.hop.commands if line.startswith(f"RCPT TO:<{recipient}>")])

    def waiting_after_one_attempt(self):
        send(self.relay, ["good@x.test"])
        send(self.relay, ["late@x.test"])
        world.wait_for(lambda: [g["attempts"] for g in self.relay.queue()] == [1, 1], "deferrals")
        self.state["busy"] = False

    def one_attempt_each(self):
        world.wait_for(lambda: "good@x.test" in self.hop.delivered() and
                       self.relay.events("deliver.expired"), "the ends")
        self.relay.wait_empty()
        expired = {e["recipient"] for e in self.relay.events("deliver.expired")}
        self.assertEqual(expired, {"late@x.test"})
        self.assertEqual((self.attempts("good@x.test"), self.attempts("late@x.test")), (2, 2))
        books(self, self.relay, [self.hop], ["good@x.test", "late@x.test"], expired)

    def test_nothing_expires_untried_after_a_start(self):
        """G6: 'nothing expires untried: after a start ... each message gets one attempt first'."""
        self.waiting_after_one_attempt()
        self.relay.stop()
        self.set_clock(5 * DAY)
        self.relay.start()
        self.one_attempt_each()

    def test_nothing_expires_untried_behind_a_destination_that_is_down(self):
        """G6: 'nothing expires untried: after a start ... each message gets one attempt first': the
        start finds the destination down; what came after it expires, what waited before it does
        not, although it is older, and goes when the destination is back."""
        port = world.free_port()  # nobody listens
        self.relay.stop()
        self.relay.write_config(hop=port, queue='retry = ["1h"]\nexpire = "10s"\n')
        self.relay.start()
        send(self.relay, ["old@x.test"])
        self.relay.stop()
        self.relay.start()
        mark = self.relay.log_mark()
        send(self.relay, ["new@x.test"])
        world.wait_for(lambda: self.relay.event("deliver.expired", mark), "the expiry")
        expired = {e["recipient"] for e in self.relay.events("deliver.expired")}
        self.assertEqual(expired, {"new@x.test"})
        hop = Hop(self, port=port)
        self.relay.command("queue", "retry", "--all")
        self.relay.wait_empty()
        self.assertEqual(hop.delivered().get("old@x.test"), 1)
        books(self, self.relay, [hop], ["old@x.test", "new@x.test"], expired)

    def test_a_back_off_keeps_its_length_when_the_clock_is_set_back(self):
        """DESIGN, Time: 'waits keep their length': a machine whose clock was a month ahead."""
        port = world.free_port()  # nobody listens
        self.relay.stop()
        self.set_clock(30 * DAY)
        self.relay.write_config(hop=port, queue='retry = ["1h"]\nexpire = "4d"\n')
        self.relay.start()
        send(self.relay, ["good@x.test"])
        world.wait_for(lambda: self.relay.events("deliver.destination_backoff"), "the back-off")
        self.set_clock(0)
        world.wait_for(lambda: self.relay.events("loop.clock_stepped"), "the warning")
        self.state["busy"] = False
        hop = Hop(self, lambda stage, argument, session: None, port=port)
        world.wait_for(lambda: "good@x.test" in hop.delivered(), "the end of the back-off", 90)
        self.relay.wait_empty()
        books(self, self.relay, [hop], ["good@x.test"], set())

    def test_nothing_expires_untried_after_a_step_of_the_clock(self):
        """G6: '... or a step of the clock, each message gets one attempt first'; DESIGN, Time: 'a
        step above 60 s is one warning event'."""
        self.waiting_after_one_attempt()
        self.set_clock(5 * DAY)
        world.wait_for(lambda: self.relay.events("loop.clock_stepped"), "the warning")
        self.assertEqual(self.attempts("late@x.test"), 1)  # waits keep their length
        self.relay.command("queue", "retry", "--all")
        self.one_attempt_each()
        self.assertEqual(len(self.relay.events("loop.clock_stepped")), 1)


class Rebuild(unittest.TestCase):
    """DESIGN: 'At start the index is rebuilt by a scan in the background ...: mail is accepted at
    once, and until the scan ends status ... say how far it is.'"""

    WAITING = 2000

    def setUp(self):
        preload, folder = world.preload(self, "world_shim.c")
        self.hold = os.path.join(folder, "hold")
        self.hop = Hop(self)
        dead = world.free_port()
        self.relay = Relay(self, queue='retry = ["1h"]\n', log_level="notice", extra=(
            f'[[route]]\nname = "live"\nmatch = "live.test"\nhost = "127.0.0.1"\n'
            f'port = {self.hop.port}\ntls = "off"\n'
            f'[[route]]\nname = "dead"\nmatch = "*"\nhost = "127.0.0.1"\nport = {dead}\n'
            'tls = "off"\n'), env={"LD_PRELOAD": preload, "SCAN_FILE": self.hold})

    def fill(self):
        """Messages for the route where nobody listens, 500 in one flight."""
        one = ("MAIL FROM:<a@b.test>\r\nRCPT TO:<r@dead.test>\r\nBDAT 12 LAST\r\n"
               "S: s\r\n\r\nhi\r\n")
        with self.relay.raw() as raw:
            raw.say("EHLO c.test")
            for _ in range(self.WAITING // 500):
                raw.send(one * 500)
                for _ in range(3 * 500):
                    reply = raw.reply()
                    self.assertTrue(reply.startswith(b"250"), reply)

    def test_mail_is_accepted_while_the_index_is_rebuilt(self):
        """'background rebuild of the index'; DESIGN: 'mail is accepted at once, and until the scan
        ends `status`, listings and gauges say how far it is': the scan is held behind its first
        batch, and the new message is accepted and delivered all the same."""
        self.fill()
        self.relay.stop()
        with open(self.hold, "w"):
            pass
        self.relay.start()
        first = world.wait_for(lambda: self.relay.status()["queue"]["rebuilt_groups"], "a batch")
        send(self.relay, ["new@live.test"])
        world.wait_for(lambda: self.hop.delivered() == {"new@live.test": 1}, "the new one")
        queue = self.relay.status()["queue"]
        self.assertEqual((queue["is_rebuilding"], queue["rebuilt_groups"]), (True, first))
        self.assertLess(first, self.WAITING)
        os.unlink(self.hold)
        world.wait_for(lambda: not self.relay.status()["queue"]["is_rebuilding"], "its end")
        queue = self.relay.status()["queue"]
        self.assertEqual(queue["rebuilt_groups"], self.WAITING)

        def in_the_queue():
            queue = self.relay.status()["queue"]
            return queue["groups_waiting"] + queue["groups_leased"]
        world.wait_for(lambda: in_the_queue() == self.WAITING, "the new one to be out of the queue")
        self.assertEqual(len(self.relay.queue("--domain", "dead.test")), self.WAITING)
        books(self, self.relay, [self.hop], ["new@live.test"])


if __name__ == "__main__":
    world.main()
