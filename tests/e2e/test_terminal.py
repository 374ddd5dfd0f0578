"""'The control socket, and on it smtpd status, smtpd queue list|show|why|retry|remove with
selections': what a person sees on a terminal, what a pipe gets, and the selection by tenant."""
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import unittest

import queue_file
import world
from test_deliver import send
from world import Hop, Relay

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Terminal(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.case = unittest.TestCase()
        cls.relay = Relay(cls.case, hop=world.free_port(), queue='retry = ["1h"]\n')
        cls.ids = [send(cls.relay, [f"r{i}@x.test"], sender=f"s{i}@b.test") for i in range(103)]
        world.wait_for(lambda: cls.relay.status()["deliver"]["destinations_backing_off"] == 1,
                       "the back-off")

    @classmethod
    def tearDownClass(cls):
        cls.case.doCleanups()

    def on_terminal(self, *words, env=None, code=0):
        """What the command writes to a terminal of 200 columns."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        process = subprocess.Popen(
            [world.BINARY, *words, "--config", self.relay.config_path], stdin=slave, stdout=slave,
            stderr=slave, env=dict(environment, TERM="xterm", **(env or {})))
        os.close(slave)
        text = b""
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:  # the other side is closed
                break
            if not piece:
                break
            text += piece
        os.close(master)
        self.assertEqual(process.wait(world.PATIENCE), code, text)
        return text.decode().replace("\r\n", "\n")

    def in_columns(self, page, head):
        """Each row has its words where the head has its own."""
        lines = COLOUR.sub("", page).splitlines()
        at = next(i for i, line in enumerate(lines) if line.startswith(head[0]))
        places = [lines[at].index(name) for name in head]
        self.assertEqual(places, sorted(places))
        return [line for line in lines[at + 1:]], places

    def test_queue_list_in_columns_and_colour(self):
        """'smtpd queue list ... with selections' on a terminal: a bold head, columns under it, the
        first hundred rows and how many there are more."""
        page = self.on_terminal("queue", "list")
        self.assertRegex(page, r"\A\x1b\[1mID .*LAST ANSWER\x1b\[0m\n")
        self.assertIn("\x1b[2m3 more; --limit N shows more, a selection less\x1b[0m", page)
        rows, places = self.in_columns(page, ["ID", "STATE", "SENDER", "TO", "LAST ANSWER"])
        self.assertEqual(len(rows), 101)
        for i, row in enumerate(rows[:100]):
            self.assertEqual(row[places[0]:].split()[0], self.ids[i])
            self.assertEqual(row[places[1]:].split()[0], "waiting")
            self.assertEqual(row[places[2]:].split()[0], f"s{i}@b.test")
            self.assertEqual(row[places[3]:].split()[0], f"r{i}@x.test")

    def test_a_pipe_gets_all_rows_and_no_colour(self):
        """'smtpd queue list' into a pipe: no escapes, nothing left out; the same columns."""
        page = self.relay.command("queue", "list")
        self.assertNotIn("\x1b", page)
        rows, _ = self.in_columns(page, ["ID", "STATE", "SENDER", "TO", "LAST ANSWER"])
        self.assertEqual([row.split()[0] for row in rows[:103]], self.ids)
        self.assertEqual(rows[103:], ["103 groups"])

    def test_a_limit_on_a_terminal(self):
        """'smtpd queue list': --limit says otherwise than the hundred of a terminal."""
        for words, shown in ((("--limit", "102"), 102), (("--limit", "5"), 5),
                             (("--sender", "s7@b.test"), 1)):
            page = COLOUR.sub("", self.on_terminal("queue", "list", *words))
            self.assertEqual(sum(line.split()[0] in self.ids for line in page.splitlines()), shown)

    def test_no_color_is_honoured(self):
        """'smtpd status', 'smtpd queue list': NO_COLOR takes the escapes away, and nothing else."""
        for words in (("status", "--short"), ("queue", "list", "--limit", "3"),
                      ("queue", "why", self.ids[0])):
            coloured = self.on_terminal(*words)
            plain = self.on_terminal(*words, env={"NO_COLOR": "1"})
            self.assertIn("\x1b[", coloured)
            self.assertNotIn("\x1b", plain)
            digits = re.compile(r"\d+")
            self.assertEqual(digits.sub("n", COLOUR.sub("", coloured)).split(),
                             digits.sub("n", plain).split())

    def test_status_on_a_terminal(self):
        """'smtpd status': bold heads, dim names in one column, the numbers behind them."""
        page = self.on_terminal("status")
        self.assertRegex(page, r"\A\x1b\[1mrelay\.test\x1b\[0m  smtpd ")
        for head in ("queue", "receive", "deliver", "loop"):
            self.assertIn(f"\x1b[1m{head}\x1b[0m\n", page)
        summary, _, metrics = page.partition("\n\x1b[1mProcess\x1b[0m\n")
        for part, width, least in ((summary, 12, 8), (metrics, 30, 60)):
            rows = [line for line in part.splitlines() if line.startswith("  ")]
            self.assertGreater(len(rows), least)
            for row in rows:
                self.assertRegex(row, r"\A  \x1b\[2m[a-z -]{%d}\x1b\[0m \s*\S" % width)
        self.assertIn("\n\x1b[1mStore\x1b[0m\n", metrics)
        self.assertIn("103 groups", page)
        self.assertNotIn("\x1b", self.relay.command("status"))

    def test_errors_on_a_terminal_are_plain(self):
        """'smtpd queue show': an id that is nowhere."""
        self.assertNotIn("\x1b", self.on_terminal("queue", "show", "aaaaaaaaaaaaa", code=1))


class Tenants(unittest.TestCase):
    """No client can have a tenant yet: the queue's own file is given some while the relay is down.
    From there on all is the real thing: index, pages, selection, changes, reports."""

    def setUp(self):
        self.is_open = False
        hop = Hop(self, lambda stage, argument, session:
                  "450 4.2.1 later" if stage == "rcpt" and not self.is_open else None)
        self.relay = Relay(self, hop=hop.port, queue='retry = ["1h"]\n')
        self.ids = [send(self.relay, [f"r{i}@x.test"], sender="alice@local.test")
                    for i in range(6)]
        world.wait_for(lambda: [g["attempts"] for g in self.relay.queue()] == [1] * 6,
                       "6 that wait for an hour")
        self.relay.stop()
        folder = next(f for f, _, names in os.walk(self.relay.data) if "data.mdb" in names)
        names = iter(["red", "blue", "red", "", "blue", "red"])

        def change(record):
            name = next(names)
            return queue_file.with_tenant(record, name) if name else record
        self.assertEqual(queue_file.change_records(folder, "envelope", change), 6)
        self.relay.start()
        world.wait_for(lambda: len(self.relay.queue()) == 6, "the index")

    def of(self, tenant, *more):
        return [g["id"] for g in self.relay.queue("--tenant", tenant, *more)]

    def test_the_tenant_selects(self):
        """'smtpd queue list|show|why|retry|remove with selections': --tenant."""
        red, blue = [self.ids[i] for i in (0, 2, 5)], [self.ids[i] for i in (1, 4)]
        self.assertEqual(self.of("red"), red)
        self.assertEqual(self.of("blue"), blue)
        self.assertEqual(self.of("green"), [])
        self.assertEqual(self.of("red", "--recipient", "r2@x.test"), [self.ids[2]])
        self.assertEqual(self.of("red", "--recipient", "r1@x.test"), [])
        self.assertEqual({g["id"]: g["tenant"] for g in self.relay.queue()},
                         {**{id: "red" for id in red}, **{id: "blue" for id in blue},
                          self.ids[3]: None})
        page = self.relay.command("queue", "list", "--tenant", "blue")
        self.assertIn("2 groups", page)

    def test_the_tenant_selects_what_is_removed_and_retried(self):
        """'queue ... retry|remove with selections': only the groups of that tenant."""
        self.assertIn("3 groups", self.relay.command("queue", "remove", "--tenant", "red",
                                                     "--dry-run"))
        self.assertEqual(len(self.relay.queue()), 6)
        self.relay.command("queue", "remove", "--tenant", "red")
        self.assertEqual([g["id"] for g in self.relay.queue()],
                         [self.ids[i] for i in (1, 3, 4)])
        self.is_open = True
        self.relay.command("queue", "retry", "--tenant", "blue")
        world.wait_for(lambda: len(self.relay.events("deliver.delivered")) == 2, "the retries")
        self.assertEqual({e["id"]: e["tenant"] for e in self.relay.events("deliver.delivered")},
                         {self.ids[1]: "blue", self.ids[4]: "blue"})
        world.wait_for(lambda: len(self.relay.queue()) == 1, "the two to be gone")
        self.assertEqual(self.relay.queue()[0]["id"], self.ids[3])


if __name__ == "__main__":
    world.main()
