"""'every verb one row of a table with its allowed states': the table as the binary prints it
(`smtpd document verbs`, that is docs/verbs.md), walked against the running server: every verb in
every state that can be reached, in clear, under TLS, and logged in."""
import base64
import re
import subprocess
import unittest

import world
from world import PASSWORD, USER, Raw, Relay

FRESH, GREETED, MAIL, RCPT, CHUNKS = ("before EHLO", "after EHLO", "after MAIL", "after RCPT",
                                      "between BDATs")
STATES = (FRESH, GREETED, MAIL, RCPT, CHUNKS)
LOG_IN = "AUTH PLAIN " + base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode()

# What is said for a verb: a line that is good wherever the verb is allowed. The line end behind
# it is the end of BDAT's chunk.
LINES = {"EHLO": "EHLO client.test", "HELO": "HELO client.test", "STARTTLS": "STARTTLS",
         "AUTH": LOG_IN, "MAIL": "MAIL FROM:<a@b.test>", "RCPT": "RCPT TO:<r@x.test>",
         "DATA": "DATA", "BDAT": "BDAT 5\r\nA:b", "RSET": "RSET", "NOOP": "NOOP words",
         "VRFY": "VRFY root", "EXPN": "EXPN list", "HELP": "HELP", "QUIT": "QUIT"}


class Row:
    def __init__(self, cells):
        self.verb = cells[0].strip("`").split()[0]
        self.allowed = STATES if cells[1] == "anywhere" else tuple(cells[1].split(", "))
        self.in_clear, self.before_log_in, self.ends_batch = (word == "yes" for word in cells[2:5])


def read_table():
    page = subprocess.run([world.BINARY, "document", "verbs"], check=True, text=True,
                          stdout=subprocess.PIPE).stdout
    commands = page[page.index("## Commands"):page.index("## Replies")]
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in commands.splitlines()
            if line.startswith("| `")]
    return [Row([cell.strip() for cell in row]) for row in rows]


class Place:
    """A way in: the listener, under TLS or not, logged in or not."""

    def __init__(self, name, port, is_submission=False, tls=False, log_in=False):
        self.name, self.port, self.is_submission = name, port, is_submission
        self.tls, self.log_in = tls, log_in
        self.may_send = log_in or not is_submission

    def states(self):
        if not self.may_send:
            return (FRESH, GREETED)  # nothing further is open
        return STATES[1:] if self.log_in else STATES  # a log-in needs EHLO

    def meaning(self, verb, state):
        """What the verb itself answers where its row lets it through, and the state behind it."""
        usual = {"EHLO": (b"250-relay.test", GREETED), "HELO": (b"250 relay.test", GREETED),
                 "MAIL": (b"250 2.1.0 ", MAIL), "RCPT": (b"250 2.1.5 ", RCPT),
                 "RSET": (b"250 2.0.0 ", FRESH if state == FRESH else GREETED),
                 "NOOP": (b"250 2.0.0 ", state), "VRFY": (b"252 2.5.0 ", state),
                 "EXPN": (b"502 5.5.1 ", state), "HELP": (b"214 2.0.0 ", state),
                 "QUIT": (b"221 2.0.0 ", None),
                 "STARTTLS": (b"503 5.5.1 TLS is on", state) if self.tls else
                 (b"220 2.0.0 ", FRESH),
                 "DATA": (b"554 5.5.1 ", state) if state == MAIL else (b"354 ", GREETED),
                 "BDAT": (b"554 5.5.1 ", state) if state == MAIL else (b"250 2.0.0 5 ", CHUNKS)}
        if verb != "AUTH":
            return usual[verb]
        if self.log_in:
            return b"503 5.5.1 You are logged in", state
        return (b"235 2.7.0 ", state) if self.tls else (b"538 5.7.11 ", state)

    def expected(self, row, state):
        """What the row says, in the order of the page: state, TLS, log-in."""
        if state not in row.allowed:
            return b"503 5.5.1 ", state
        if self.is_submission and not self.tls and not row.in_clear:
            return b"530 5.7.0 STARTTLS", state
        if self.is_submission and not self.log_in and not row.before_log_in:
            return b"530 5.7.0 Log in", state
        return self.meaning(row.verb, state)


class Matrix(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.case = unittest.TestCase()
        cls.relay = Relay(cls.case, hop=world.free_port(), queue='retry = ["1h"]\n')
        relay = cls.relay
        cls.rows = read_table()
        cls.places = [
            Place("submission in clear", relay.submission, is_submission=True),
            Place("submission, STARTTLS", relay.submission, is_submission=True, tls=True),
            Place("submission, STARTTLS, logged in", relay.submission, True, tls=True, log_in=True),
            Place("implicit TLS", relay.smtps, is_submission=True, tls=True),
            Place("implicit TLS, logged in", relay.smtps, True, tls=True, log_in=True),
            Place("relay in clear", relay.relay_port),
            Place("relay, STARTTLS", relay.relay_port, tls=True),
        ]

    @classmethod
    def tearDownClass(cls):
        cls.case.doCleanups()

    # ---- getting there ----

    def connect(self, place):
        if place.port != self.relay.smtps:
            raw = Raw(place.port)
            if place.tls:
                raw.say("EHLO client.test")
                raw.starttls(self.relay.tls_context())
        else:
            raw = Raw(place.port, greet=False)
            raw.socket = self.relay.tls_context().wrap_socket(raw.socket)
            raw.file = raw.socket.makefile("rb")
            self.assertTrue(raw.reply().startswith(b"220"))
        self.addCleanup(raw.close)
        return raw

    def reach(self, place, state):
        raw = self.connect(place)
        lines = ["EHLO client.test"] + ([LOG_IN] if place.log_in else [])
        lines += [LINES["MAIL"], LINES["RCPT"], LINES["BDAT"]][:max(0, STATES.index(state) - 1)]
        for line in lines if state != FRESH else []:
            self.assertEqual(raw.say(line)[:1], b"2", (place.name, state, line))
        return raw

    def state_of(self, raw, place):
        """Which state this is, by commands that are answered differently in each."""
        reply = raw.say(LINES["MAIL"])
        if not place.may_send or reply.startswith(b"250"):
            return FRESH if reply.startswith(b"503 5.5.1") else GREETED
        reply = raw.say("DATA")
        if not reply.startswith(b"503"):
            return RCPT if reply.startswith(b"354") else MAIL
        return CHUNKS if raw.say("BDAT 0").startswith(b"250") else FRESH

    def settle(self, raw, row, reply, place):
        """Ends what a verb began, so that commands are read again."""
        if reply.startswith(b"354"):
            self.assertIn(b"queued as", raw.say("A: b\r\n\r\ntext\r\n."))
        if row.verb == "STARTTLS" and reply.startswith(b"220"):
            raw.socket = self.relay.tls_context().wrap_socket(raw.socket)
            raw.file = raw.socket.makefile("rb")
            return Place(place.name, place.port, place.is_submission, tls=True)
        return place

    # ---- tests ----

    def test_the_page_and_help_name_the_same_verbs(self):
        """'every verb one row of a table': HELP says the rows, and none is unknown to this test."""
        with Raw(self.relay.relay_port) as raw:
            names = raw.say("HELP").decode().split("Commands: ")[1].split()
        self.assertEqual(names, [row.verb for row in self.rows])
        self.assertEqual(set(names), set(LINES))
        for row in self.rows:
            self.assertLessEqual(set(row.allowed), set(STATES), row.verb)

    def test_every_verb_in_every_state(self):
        """'every verb one row of a table with its allowed states', and 'AUTH only under TLS':
        the reply, and the state behind it, are what the row says."""
        cells = 0
        for place in self.places:
            for state in place.states():
                for row in self.rows:
                    with self.subTest(place=place.name, state=state, verb=row.verb):
                        self.one_cell(place, state, row)
                        cells += 1
        self.assertEqual(cells, len(self.rows) * sum(len(p.states()) for p in self.places))

    def one_cell(self, place, state, row):
        words, after = place.expected(row, state)
        raw = self.reach(place, state)
        reply = raw.say(LINES[row.verb])
        self.assertTrue(reply.startswith(words), (words, reply))
        if after is None:
            self.assertEqual(raw.reply(), b"")  # the end
            raw.close()
            return
        place = self.settle(raw, row, reply, place)
        self.assertEqual(self.state_of(raw, place), after)
        raw.close()

    def test_only_a_verb_that_ends_a_batch_refuses_what_comes_behind_it(self):
        """'PIPELINING': of the page's column 'ends a batch'; the others let a NOOP follow at once.
        What is behind STARTTLS is dropped, behind DATA it is the message, QUIT is the last word."""
        place = self.places[3]
        logged_in = self.places[4]
        for row in self.rows:
            if row.verb in ("STARTTLS", "DATA", "QUIT"):
                self.assertFalse(row.ends_batch)
                continue
            with self.subTest(verb=row.verb):
                way = place if row.before_log_in else logged_in
                state = FRESH if FRESH in row.allowed and not way.log_in else \
                    next(s for s in (GREETED, RCPT) if s in row.allowed)
                raw = self.reach(way, state)
                raw.send(LINES[row.verb] + "\r\nNOOP\r\n")
                words = b"503 5.5.0 " if row.ends_batch else way.meaning(row.verb, state)[0]
                self.assertTrue(raw.reply().startswith(words))
                self.assertTrue(raw.reply().startswith(b"250 2.0.0"))
                self.assertEqual(self.state_of(raw, way), state if row.ends_batch else
                                 way.meaning(row.verb, state)[1])
                raw.close()

    def test_an_unknown_verb_is_refused_in_every_state_and_changes_none(self):
        """'What bad input gets': a clear SMTP error and an unharmed server."""
        for place in self.places:
            for state in place.states():
                with self.subTest(place=place.name, state=state):
                    raw = self.reach(place, state)
                    for line in ("FROB", "MAILX FROM:<a@b.test>", "R", ""):
                        self.assertTrue(raw.say(line).startswith(b"500 5.5.2 "), line)
                    self.assertEqual(self.state_of(raw, place), state)
                    raw.close()

    def test_a_network_that_is_not_trusted_still_walks_its_own_row(self):
        """'Nobody relays without logging in, or from trusted_networks on a relay listener': in
        every state of a client that is not trusted, only RCPT to elsewhere is another answer."""
        relay = Relay(self, start=False)
        with open(relay.config_path) as file:
            text = file.read().replace('"127.0.0.0/8", "::1"', '"192.0.2.0/24"')
        with open(relay.config_path, "w") as file:
            file.write(text)
        relay.start()
        with Raw(relay.relay_port) as raw:
            for line, words in (("EHLO c.test", b"250"), (LINES["MAIL"], b"250 2.1.0"),
                                (LINES["RCPT"], b"550 5.7.1"), ("DATA", b"554 5.5.1"),
                                ("RCPT TO:<alice@local.test>", b"250 2.1.5"),
                                (LINES["RCPT"], b"550 5.7.1"), (LINES["BDAT"], b"250 2.0.0"),
                                (LINES["RCPT"], b"503 5.5.1"), ("RSET", b"250 2.0.0")):
                self.assertTrue(raw.say(line).startswith(words), line)


if __name__ == "__main__":
    world.main()
