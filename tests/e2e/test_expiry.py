"""'expiry': of what waits behind a fault and was tried, by a relay that looks at it now and then."""
import time
import unittest

import world
from world import Relay, message


class Expiry(unittest.TestCase):
    def test_what_expires_behind_a_fault_is_expired_and_never_deferred(self):
        """'retry schedule with jitter, expiry', and DESIGN: a fault of a destination spends no
        attempt. Mail arrives over more than the time between two looks, so that some of it expires
        just about when one comes: it gets one answer, at the end, and none that counts a try."""
        relay = Relay(self, queue='retry = ["1h"]\nexpire = "10s"\n')  # no name server answers
        sent = 0
        with relay.relay_client() as client:
            until = time.monotonic() + 6
            while time.monotonic() < until:
                client.sendmail("alice@local.test", [f"r{sent}@nowhere.test"], message())
                sent += 1
                time.sleep(0.06)
        world.wait_for(lambda: len(relay.events("deliver.expired")) == sent, "all to expire")
        self.assertEqual(relay.events("deliver.deferred"), [])
        self.assertEqual({e["attempts"] for e in relay.events("deliver.expired")}, {1})
        world.wait_for(lambda: len(relay.maildir("alice")) == sent, "a report for each")


if __name__ == "__main__":
    world.main()
