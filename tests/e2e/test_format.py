"""The format of the queue's file: a folder of the version before is raised at the start and its mail
goes out; a newer one is refused with both numbers."""
import gzip
import os
import re
import struct
import time
import unittest

import queue_file
import world
from world import Hop, Relay

# Written by the last program whose format was 1: a message to one@x.test and two@x.test with DSN
# parameters, and one to three@y.test; each was tried once and got 451. That was at FIXTURE_S; the
# relay's clock stands two hours later, or its mail would be expired one day.
FIXTURE_S = 1795917040
FIXTURE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixtures",
                       "queue-format-1.mdb.gz")


def put_fixture(folder):
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with gzip.open(FIXTURE) as packed, open(os.path.join(folder, "data.mdb"), "wb") as file:
        file.write(packed.read())


class TheFormatBefore(unittest.TestCase):
    def setUp(self):
        self.is_open = False
        self.hop = Hop(self, lambda stage, *_: None if self.is_open or stage != "rcpt" else "451 4.3.0 later")
        preload, folder = world.preload(self, "world_shim.c")
        clock = os.path.join(folder, "clock")
        with open(clock, "wb") as file:
            file.write(struct.pack("q", FIXTURE_S + 7200 - int(time.time())))
        self.relay = Relay(self, hop=self.hop.port, start=False,
                           env={"LD_PRELOAD": preload, "CLOCK_FILE": clock})
        put_fixture(self.relay.data)

    def version(self):
        return queue_file.meta(self.relay.data, "version")

    def test_it_is_raised_and_its_mail_goes_out_as_it_came_in(self):
        self.assertEqual(self.version(), 1)
        self.relay.start()
        [event] = [self.relay.wait_event("queue.format_raised")]
        self.assertIn("had format 1 and has 3 now", event["message"])
        world.wait_for(lambda: len(self.relay.queue()) == 2, "both groups in the index")
        self.assertEqual({g["lane"] for g in self.relay.queue()}, {"route:hop"})
        self.assertTrue(all(g["attempts"] >= 1 for g in self.relay.queue()))
        # The attempt of the start is over: a group under way is not to be retried.
        world.wait_for(lambda: all(g["attempts"] == 2 and g["state"] == "waiting"
                                   for g in self.relay.queue()), "the first attempts")
        self.is_open = True
        self.relay.command("queue", "retry", "--all")
        world.wait_for(lambda: len(self.hop.delivered()) == 3, "the mail of before")
        self.relay.wait_empty()
        self.assertEqual(self.hop.delivered(), {"one@x.test": 1, "two@x.test": 1, "three@y.test": 1})
        [message] = [m for m in self.hop.messages if len(m["recipients"]) == 2]
        self.assertTrue(message["data"].endswith(b"\r\n\r\n.a dot\r\nf\xc3\xbcr\r\n"), message["data"])
        for parameter in ("ENVID=env+2B1", "RET=HDRS", "BODY=8BITMIME"):
            self.assertIn(parameter, message["mail"])
        self.assertIn("NOTIFY=SUCCESS,DELAY", message["rcpts"][0])
        self.assertIn("ORCPT=rfc822;First@x.test", message["rcpts"][0])
        self.assertIn("NOTIFY=NEVER", message["rcpts"][1])
        self.relay.stop()
        self.assertEqual(self.version(), 3)

    def test_it_is_raised_once_and_killed_meanwhile_nothing_is_lost(self):
        self.relay.start()
        self.relay.kill()
        self.is_open = True
        self.relay.start()
        self.relay.wait_index()
        self.relay.command("queue", "retry", "--all")
        world.wait_for(lambda: len(self.hop.delivered()) == 3, "the mail of before")
        self.assertEqual(len(self.relay.events("queue.format_raised")), 1)

    def test_a_newer_one_is_refused_with_both_numbers_and_left_alone(self):
        queue_file.set_meta(self.relay.data, "version", 7)
        before = queue_file.rows(self.relay.data)
        with self.assertRaises(AssertionError) as refused:
            self.relay.start()
        self.relay.process = None
        self.assertTrue(re.search("format 7, this program knows 3", str(refused.exception)),
                        refused.exception)
        self.assertEqual(queue_file.rows(self.relay.data), before)


if __name__ == "__main__":
    unittest.main(verbosity=2)
