"""'expiry': of what waits behind a fault and was tried, by a relay that looks at it now and then."""
import email
import email.utils
import time
import unittest

import world
from test_deliver import send
from world import Hop, Relay, message


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
        for report in relay.maildir("alice"):
            self.assertNotIn(b"Last-Attempt-Date", report)  # RFC 3464 2.3.7: there was none

    def test_a_report_of_what_expires_behind_a_fault_has_the_date_of_its_last_attempt(self):
        hop = Hop(self, lambda stage, argument, session:
                  "450 4.2.1 busy" if stage == "rcpt" else None)
        relay = Relay(self, hop=hop.port, queue='retry = ["1s"]\nexpire = "12s"\n')
        send(relay, ["x@x.test"], sender="alice@local.test")
        world.wait_for(lambda: relay.events("deliver.deferred"), "the first attempt")
        hop.close()
        [report] = world.wait_for(lambda: relay.maildir("alice"), "the report")
        fields = email.message_from_bytes(report).get_payload()[1].get_payload()[1]
        last = email.utils.parsedate_to_datetime(fields["Last-Attempt-Date"])
        told = email.utils.parsedate_to_datetime(
            email.message_from_bytes(report)["Date"])
        self.assertLess(last, told)


if __name__ == "__main__":
    world.main()
