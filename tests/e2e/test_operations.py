"""'Each command in the documents is run by a test': those on the queue in docs/operations.md, word
for word but for the id, on a queue where each of them has something to do."""
import os
import re
import shlex
import unittest

import world
from test_deliver import send
from world import Relay

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "operations.md")

# What shows that a command did its work: in its answer. One for each line of the page.
SHOWS = {
    "smtpd queue list": r"(?s)app@sender\.test.*news@example\.com.*3 groups",
    "smtpd queue list --summary": r"route:hop +\d+ +\d+ .*refused",
    "smtpd queue list --domain example.com --older-than 1h": r"^0 groups",
    "smtpd queue show ID": r"(?s)from app@sender\.test.*to a@example\.com",
    "smtpd queue show ID --headers": r"Subject: s\r?\n",
    "smtpd queue why ID": r"destination, in \d+[sm]: .*refused",
    "smtpd queue retry --domain example.com": r"1 group to retry\n1 done",
    "smtpd queue remove ID --dry-run": r"1 group to remove \(dry run: nothing is changed\)",
    "smtpd queue hold --sender news@example.com --dry-run": r"2 groups to hold \(dry run: nothing is changed\)",
    "smtpd queue hold --sender news@example.com --until 2d": r"(?s)2 groups to hold.*2 done.*held until",
    "smtpd queue list --state held": r"(?s)held +in 47h.*2 groups",
    "smtpd queue release --sender news@example.com": r"2 groups to release\n2 done",
    'smtpd queue bounce --tenant red --older-than 2h --reason "mailing stopped by its owner"': r"0 groups to bounce\n0 done",
    "smtpd queue reroute --domain slow.example --to backup": r"0 groups to reroute\n0 done",
    "smtpd queue reroute --domain backup --to own": r"0 groups to reroute\n0 done",
}


def commands():
    """The indented lines of the page that begin with "smtpd queue", without their remarks."""
    with open(PAGE) as file:
        lines = [line.strip() for line in file if line.startswith("    smtpd queue ")]
    return [re.sub(r"\s+#.*", "", line) for line in lines]


class Queue(unittest.TestCase):
    def test_the_commands_on_the_queue_run_as_they_are_written(self):
        relay = Relay(self, hop=world.free_port(), queue='retry = ["1h"]\n', extra=(
            '[[route]]\nname = "backup"\nmatch = "never.test"\nhost = "127.0.0.1"\n'))
        id = send(relay, ["a@example.com"])
        send(relay, ["b@x.test"], sender="news@example.com")
        send(relay, ["c@x.test"], sender="news@example.com")
        world.wait_for(lambda: relay.event("deliver.destination_backoff"), "the destination to rest")
        written = commands()
        self.assertEqual(sorted(written), sorted(SHOWS))
        for line in written:
            self.expect(relay, line, id)

    def expect(self, relay, line, id):
        said = []

        def answers():  # an attempt may be in the way of a change, which says "busy" then
            said.append(relay.command(*shlex.split(line.replace(" ID", f" {id}"))[1:]))
            return re.search(SHOWS[line], said[-1], re.M)
        with self.subTest(line):
            try:
                world.wait_for(answers, line, 20)
            except AssertionError:
                self.fail(said[-1])


if __name__ == "__main__":
    unittest.main(verbosity=2)
