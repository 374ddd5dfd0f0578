"""Issue sentences of 'Delivery' on next hops: TLS per destination, STARTTLS with AUTH, hops that
hang, time limits, other mail exchangers, the retry schedule, recipients that are too many."""
import base64
import json
import os
import shutil
import signal
import tempfile
import unittest

import world
from test_deliver import books, bounced, send
from world import Dns, Hop, Relay

SHORT = ('connect_timeout = "2s"\ngreeting_timeout = "1s"\ncommand_timeout = "1s"\n'
         'data_timeout = "1s"\nfinal_dot_timeout = "2s"\n')


def be_patient(relay):
    """What comes now must not miss a limit that is short for what came before."""
    relay.write_config(delivery="")
    mark = relay.log_mark()
    relay.signal(signal.SIGHUP)
    relay.wait_event("server.reloaded", mark)


def retry(relay):
    """Until no attempt is in the way: what is told in the log may be under way still."""
    world.wait_for(lambda: json.loads(relay.command("queue", "retry", "--all", "--json"))["busy"] == 0,
                   "a retry")


class Base(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="smtpd-hops-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.certificate = world.make_certificate(self.folder, "good", "mx.one.test")

    def backoffs(self, relay, count=1):
        return world.wait_for(lambda: len(found := relay.events("deliver.destination_backoff")) >=
                              count and found, "the back-off")

    def pair(self, first=None, second=None, **more):
        """A domain, two.test, with two mail exchangers; the first goes first."""
        dns = Dns(self, {"test": "two MX 10 a.two\ntwo MX 20 b.two\na.two A 127.0.0.41\n"
                                 "b.two A 127.0.0.42\n"})
        port = world.free_port()
        hops = (Hop(self, host="127.0.0.41", port=port, **(first or {})),
                Hop(self, host="127.0.0.42", port=port, **(second or {})))
        delivery = more.pop("delivery", "") + f"port = {port}\n"
        return (Relay(self, dns=dns, delivery=delivery, **more), *hops)


class TlsPerDestination(Base):
    def test_each_destination_has_its_own_tls(self):
        """'opportunistic/required/verified TLS'; [[destination]] tls, by the recipient's domain and
        by the name of the mail exchanger (DESIGN: 'a [[destination]] block that matches by MX
        pattern makes all that match one limit scope')."""
        dns = Dns(self, {"test": """
plain   MX 10 mx.plain
mx.plain A 127.0.0.51
strict  MX 10 mx.plain
one     MX 10 mx.one
mx.one  A 127.0.0.52
off     MX 10 mx.one
good    MX 10 mx.one
bad     MX 10 mx.bad
mx.bad  A 127.0.0.52
"""})
        port = world.free_port()
        plain = Hop(self, host="127.0.0.51", port=port)
        secure = Hop(self, host="127.0.0.52", port=port, tls=self.certificate)
        relay = Relay(self, dns=dns, queue='retry = ["1h"]\n', start=False, extra=(
            '[[destination]]\nmatch = "strict.test"\ntls = "required"\n'
            '[[destination]]\nmatch = "off.test"\ntls = "off"\n'
            '[[destination]]\nmatch = ["good.test", "mx.bad.test"]\ntls = "verified"\n'),
            delivery=f'port = {port}\n')
        with open(relay.config_path) as file:
            text = file.read()
        with open(relay.config_path, "w") as file:
            file.write(text.replace(f'ca_file = "{relay.certificate}"',
                                    f'ca_file = "{self.certificate[0]}"'))
        relay.start()
        recipients = [f"r@{name}.test" for name in ("plain", "strict", "one", "off", "good", "bad")]
        for recipient in recipients:
            send(relay, [recipient])
        self.backoffs(relay, 2)
        world.wait_for(lambda: len(relay.events("deliver.delivered")) == 4, "four deliveries")
        self.assertEqual(plain.delivered(), {"r@plain.test": 1})
        seen = {m["recipients"][0]: m["secure"] for m in secure.messages}
        self.assertEqual(seen, {"r@one.test": True, "r@off.test": False, "r@good.test": True})
        verified = {e["recipient"]: e.get("tls", {}).get("verified")
                    for e in relay.events("deliver.delivered")}
        self.assertEqual(verified, {"r@plain.test": None, "r@one.test": True,
                                    "r@off.test": None, "r@good.test": True})
        world.wait_for(lambda: len(relay.queue()) == 2, "the deliveries to be committed")
        self.assertEqual({g["recipients"][0]: g["attempts"] for g in relay.queue()},
                         {"r@strict.test": 0, "r@bad.test": 0})
        books(self, relay, [plain, secure], recipients)


class LogIn(Base):
    """'[[route]] with TLS and AUTH', here by STARTTLS."""

    def relay(self, hop, tls="required", **more):
        return Relay(self, queue='retry = ["1h"]\n', extra=(
            f'[[route]]\nname = "hop"\nmatch = "*"\nhost = "127.0.0.1"\nport = {hop.port}\n'
            f'tls = "{tls}"\nuser = "relay"\npassword = "s3cret"\n'), **more)

    def test_the_log_in_goes_inside_starttls(self):
        """'[[route]] with TLS and AUTH': EHLO, STARTTLS, EHLO again, AUTH, and only then MAIL."""
        secure_at = {}

        def answer(stage, argument, session):
            secure_at.setdefault(stage, []).append(session.is_secure)
            return None
        for capability in ("AUTH PLAIN LOGIN", "AUTH LOGIN"):
            secure_at.clear()
            said = []

            def login(stage, argument, session):
                answer(stage, argument, session)
                if stage == "auth" and argument == "AUTH LOGIN":
                    session.connection.sendall(b"334 VXNlcm5hbWU6\r\n")
                    said.append(session.file.readline().strip())
                    session.connection.sendall(b"334 UGFzc3dvcmQ6\r\n")
                    said.append(session.file.readline().strip())
                return None
            hop = Hop(self, login, tls=self.certificate, capabilities=("PIPELINING", capability))
            relay = self.relay(hop)
            send(relay, ["a@x.test"])
            relay.wait_empty()
            verbs = [line.split()[0] for _, line in hop.commands]
            self.assertEqual(verbs[:5], ["EHLO", "STARTTLS", "EHLO", "AUTH", "MAIL"])
            self.assertEqual(secure_at["ehlo"], [False, True])
            self.assertEqual((secure_at["auth"], secure_at["mail"]), ([True], [True]))
            if capability == "AUTH LOGIN":
                self.assertEqual([base64.b64decode(word) for word in said], [b"relay", b"s3cret"])
            else:
                line = next(line for _, line in hop.commands if line.startswith("AUTH"))
                self.assertEqual(base64.b64decode(line.split()[2]), b"\0relay\0s3cret")
            books(self, relay, [hop], ["a@x.test"])
            relay.stop()

    def test_without_starttls_the_password_stays_here(self):
        """'[[route]] with TLS and AUTH': a hop that offers AUTH and no STARTTLS hears no secret."""
        hop = Hop(self, capabilities=("PIPELINING", "AUTH PLAIN LOGIN"))
        relay = self.relay(hop)
        send(relay, ["n@x.test"])
        self.backoffs(relay)
        self.assertFalse([line for _, line in hop.commands if line.startswith("AUTH")])
        self.assertEqual(relay.queue()[0]["attempts"], 0)
        books(self, relay, [hop], ["n@x.test"])


class Hangs(Base):
    """'a remote server that ... never answers', stage by stage before MAIL; the other stages are
    in test_deliver.py."""

    def hang(self, stage, expected, tls=False, auth=False):
        state = {"hangs": True}

        def answer(at, argument, session):
            here = at == stage or (stage == "ehlo again" and at == "ehlo" and session.is_secure)
            if stage == "handshake" and at == "starttls" and state["hangs"]:
                session.connection.sendall(b"220 2.0.0 go ahead\r\n")
                return "HANG"
            return "HANG" if here and state["hangs"] else None
        hop = Hop(self, answer, tls=self.certificate if tls else None, capabilities=(
            ["PIPELINING"] + (["AUTH PLAIN"] if auth else [])))
        route = (f'[[route]]\nname = "hop"\nmatch = "*"\nhost = "127.0.0.1"\nport = {hop.port}\n'
                 f'tls = "{"required" if tls else "off"}"\n')
        if auth:
            route += 'user = "u"\npassword = "p"\n'
        relay = Relay(self, queue='retry = ["1h"]\n', delivery=SHORT, extra=route)
        send(relay, ["h@x.test"])
        self.fault(relay, expected)
        self.assertEqual(relay.queue()[0]["attempts"], 0)
        books(self, relay, [hop], ["h@x.test"])
        be_patient(relay)
        state["hangs"] = False
        retry(relay)
        relay.wait_empty()
        self.assertEqual(hop.delivered(), {"h@x.test": 1})
        books(self, relay, [hop], ["h@x.test"])
        relay.stop()

    def fault(self, relay, expected):
        """The limits are short: on a slow machine an earlier stage may miss one first."""
        count = 1
        for _ in range(10):
            message = self.backoffs(relay, count)[-1]["message"]
            if expected in message:
                return
            count = len(relay.events("deliver.destination_backoff")) + 1
            retry(relay)
        self.assertIn(expected, message)

    def test_after_ehlo(self):
        """'RFC 5321 4.5.3.2 time limits': EHLO is never answered."""
        self.hang("ehlo", "no answer to EHLO in time")

    def test_in_starttls(self):
        """'RFC 5321 4.5.3.2 time limits': STARTTLS is never answered, or answered and followed by
        nothing, or the EHLO behind it is never answered."""
        self.hang("starttls", "no answer to STARTTLS in time", tls=True)
        self.hang("handshake", "TLS in time", tls=True)
        self.hang("ehlo again", "no answer to EHLO in time", tls=True)

    def test_in_auth(self):
        """'RFC 5321 4.5.3.2 time limits': AUTH is never answered."""
        self.hang("auth", "no answer to the log-in in time", tls=True, auth=True)


class TimeLimits(unittest.TestCase):
    def test_the_defaults_are_those_of_rfc_5321(self):
        """'RFC 5321 §4.5.3.2 time limits': greeting, EHLO, MAIL and RCPT 5 min; DATA 2 min and a
        block 3 min (one option, so the longer); final dot 10 min; the server waits 5 min."""
        relay = Relay(self, start=False)
        text = relay.command("check", "--effective")
        for name, value in (("greeting_timeout", "5m"), ("command_timeout", "5m"),
                            ("data_timeout", "3m"), ("final_dot_timeout", "10m")):
            self.assertRegex(text, rf'(?m)^{name} = "{value}" +# default$')
        self.assertRegex(text.split("[limits]")[1].split("\n[")[0],
                         r'(?m)^idle_timeout = "5m" +# default$')


class FaultsApart(Base):
    """DESIGN: 'Three scopes are kept apart: limits, back-off, statistics hang on destination'."""

    def rests_long(self, relay, recipient):
        """Four faults: the back-off is longer than any wait of a test."""
        send(relay, [recipient])
        for count in range(1, 5):
            found = self.backoffs(relay, count)
            if count < 4:
                relay.command("queue", "retry", "--all")
        self.assertGreater(found[-1]["wait"], 200)

    def test_a_route_at_fault_does_not_hold_another_to_the_same_host(self):
        """DESIGN: 'back-off ... hang on destination': another port of the host is another matter."""
        hop, dead = Hop(self), world.free_port()
        relay = Relay(self, queue='retry = ["1h"]\n', extra="".join(
            f'[[route]]\nname = "{name}"\nmatch = "{name}.test"\nhost = "127.0.0.1"\n'
            f'port = {port}\ntls = "off"\n' for name, port in (("dead", dead), ("live", hop.port))))
        self.rests_long(relay, "r@dead.test")
        send(relay, ["r@live.test"])
        world.wait_for(lambda: hop.delivered() == {"r@live.test": 1}, "the delivery")
        books(self, relay, [hop], ["r@dead.test", "r@live.test"])

    def test_a_domain_with_strict_tls_does_not_hold_others_of_its_host(self):
        """DESIGN: 'TLS policy stays with the domain': what it refuses is no fault for the others."""
        dns = Dns(self, {"test": "strict MX 10 mx\nplain MX 10 mx\nmx A 127.0.0.53\n"})
        hop = Hop(self, host="127.0.0.53")
        relay = Relay(self, dns=dns, queue='retry = ["1h"]\n', delivery=f"port = {hop.port}\n",
                      extra='[[destination]]\nmatch = "strict.test"\ntls = "required"\n')
        self.rests_long(relay, "r@strict.test")
        send(relay, ["r@plain.test"])
        world.wait_for(lambda: hop.delivered() == {"r@plain.test": 1}, "the delivery")
        books(self, relay, [hop], ["r@strict.test", "r@plain.test"])


class OtherMailExchangers(Base):
    """DESIGN: '8-bit content without 8BITMIME: other MX hosts first, then bounce 5.6.3; SMTPUTF8
    needed and not offered: 5.6.7.'"""

    CASES = (("8BITMIME", "Subject: x\r\n\r\ngrüße\r\n", ["BODY=8BITMIME"], "5.6.3"),
             ("SMTPUTF8", "Subject: grüße\r\n\r\nx\r\n", ["SMTPUTF8", "BODY=8BITMIME"], "5.6.7"))

    def submit(self, relay, text, options, recipient="u@two.test"):
        send(relay, [recipient], sender="alice@local.test", text=text.encode(), options=options)

    def test_the_other_mail_exchanger_gets_it(self):
        """DESIGN: 'other MX hosts first'."""
        for missing, text, options, _ in self.CASES:
            left = [c for c in ("PIPELINING", "8BITMIME", "SMTPUTF8") if c != missing]
            relay, first, second = self.pair(first=dict(capabilities=left))
            self.submit(relay, text, options)
            relay.wait_empty()
            self.assertEqual(first.connections, 1, missing)
            self.assertEqual(first.messages, [])
            self.assertEqual(second.delivered(), {"u@two.test": 1}, missing)
            # The first is not at fault, and the message was tried once.
            self.assertEqual(relay.events("deliver.destination_backoff"), [])
            self.assertEqual(relay.wait_event("deliver.delivered")["attempts"], 1)
            books(self, relay, [first, second], ["u@two.test"])
            self.assertEqual(bounced(relay), set())
            relay.stop()

    def test_when_none_can_take_it_it_bounces(self):
        """DESIGN: '... then bounce 5.6.3', '... 5.6.7', and both were asked."""
        for missing, text, options, status in self.CASES:
            left = [c for c in ("PIPELINING", "8BITMIME", "SMTPUTF8") if c != missing]
            relay, first, second = self.pair(first=dict(capabilities=left),
                                             second=dict(capabilities=left))
            self.submit(relay, text, options)
            event = world.wait_for(lambda: relay.events("deliver.bounced"), "the bounce")[0]
            self.assertEqual(event["reply"]["enhanced"], status)
            self.assertEqual((first.connections, second.connections), (1, 1))
            relay.wait_empty()
            report = relay.maildir("alice")[0]
            self.assertIn(f"Status: {status}".encode(), report)
            books(self, relay, [first, second], ["u@two.test"], bounced(relay))
            relay.stop()

    def test_one_that_is_down_is_waited_for(self):
        """DESIGN: 'other MX hosts first, then bounce': a host that was not asked is no answer."""
        state = {"down": True}

        def answer(stage, argument, session):
            return "421 4.3.2 down" if stage == "connect" and state["down"] else None
        relay, first, second = self.pair(first=dict(capabilities=["PIPELINING"]),
                                         second=dict(answer=answer),
                                         queue='retry = ["1h"]\n')
        self.submit(relay, *self.CASES[0][1:3])
        event = world.wait_for(lambda: relay.event("deliver.deferred"), "the deferral")
        self.assertEqual((event["reply"]["code"], event["reply"]["enhanced"]), (451, "4.6.3"))
        self.assertEqual((first.connections, second.connections), (1, 1))
        world.wait_for(lambda: [g["attempts"] for g in relay.queue()] == [1], "the record")
        self.assertEqual(bounced(relay), set())
        books(self, relay, [first, second], ["u@two.test"])
        # It rests for half a minute: what is tried meanwhile is no answer either.
        relay.command("queue", "retry", "--all")
        world.wait_for(lambda: [g["attempts"] for g in relay.queue()] == [2], "the second try")
        self.assertEqual((bounced(relay), second.connections), (set(), 1))
        state["down"] = False
        relay.stop()  # faults of hosts are kept in memory only
        relay.start()
        relay.wait_index()
        relay.command("queue", "retry", "--all")
        relay.wait_empty()
        self.assertEqual(second.delivered(), {"u@two.test": 1})
        books(self, relay, [first, second], ["u@two.test"])

    def test_an_idle_connection_to_the_lacking_one_does_not_hide_the_other(self):
        """DESIGN: 'other MX hosts first': also when the first try went over a connection that was
        kept from before."""
        state = {"drops": True}

        def answer(stage, argument, session):
            return "DROP" if stage == "rcpt" and state["drops"] else None
        relay, first, second = self.pair(first=dict(answer=answer),
                                         second=dict(capabilities=["PIPELINING"]),
                                         queue='retry = ["1h"]\n', delivery='idle_timeout = "5m"\n')
        send(relay, ["plain@two.test"])  # dropped by the first, taken by the second
        relay.wait_empty()
        self.assertEqual(second.delivered(), {"plain@two.test": 1})
        state["drops"] = False
        self.submit(relay, *self.CASES[0][1:3])
        relay.wait_empty()
        self.assertEqual(len([line for n, line in second.commands if line.startswith("EHLO")]), 1)
        self.assertEqual(first.delivered(), {"u@two.test": 1})
        self.assertEqual(bounced(relay), set())
        books(self, relay, [first, second], ["plain@two.test", "u@two.test"])


class Schedule(unittest.TestCase):
    def test_the_retry_schedule_with_its_jitter(self):
        """'retry schedule with jitter': each wait is that of the schedule, a tenth either way, the
        last one repeats."""
        hop = Hop(self, lambda stage, argument, session:
                  "450 4.2.1 busy" if stage == "rcpt" else None)
        waits_ms = [60000, 300000, 900000]
        relay = Relay(self, hop=hop.port, queue='retry = ["1m", "5m", "15m"]\n')
        recipients = [f"r{i}@x.test" for i in range(20)]
        asked_ms = relay.status()["now_ms"]
        for recipient in recipients:
            send(relay, [recipient])
        for attempts in range(1, 5):
            world.wait_for(lambda: all(g["attempts"] == attempts and g["state"] == "waiting"
                                       for g in relay.queue()), f"attempt {attempts}")
            wait_ms = waits_ms[min(attempts, 3) - 1]
            groups = {g["recipients"][0]: g["next_attempt_ms"] for g in relay.queue()}
            self.assertEqual(set(groups), set(recipients))

            def deferred():
                return [e for e in relay.events("deliver.deferred") if e["attempts"] == attempts]
            world.wait_for(lambda: len(deferred()) >= len(recipients), f"the log of attempt {attempts}")
            said = {e["recipient"]: e["next_attempt_in"] * 1000 for e in deferred()}
            now_ms = relay.status()["now_ms"]
            for recipient in recipients:
                self.assertTrue(0.9 * wait_ms - 10 <= said[recipient] <= 1.1 * wait_ms, said)
                # The attempt lies between the command that asked for it and now.
                self.assertGreaterEqual(groups[recipient], asked_ms + 0.9 * wait_ms)
                self.assertLessEqual(groups[recipient], now_ms + 1.1 * wait_ms)
            # 20 of them within a fiftieth of the span: one chance in 10^24.
            self.assertGreater(max(said.values()) - min(said.values()), 0.004 * wait_ms)
            asked_ms = now_ms
            relay.command("queue", "retry", "--all")
        books(self, relay, [hop], recipients)


class TooManyRecipients(unittest.TestCase):
    """DESIGN: '452 4.5.3 after at least one accepted recipient: the rest goes at once in a further
    transaction and spends no attempt; the learned maximum is kept per host.'"""

    RECIPIENTS = [f"r{i}@x.test" for i in range(10)]

    @staticmethod
    def takes_three(stage, argument, session):
        if stage == "rcpt" and session.message and len(session.message["recipients"]) >= 3:
            return "452 4.5.3 too many recipients"
        return None

    def test_the_rest_goes_at_once_and_spends_no_attempt(self):
        """DESIGN: 'the rest goes at once in a further transaction and spends no attempt; the
        learned maximum is kept per host.'"""
        hop = Hop(self, self.takes_three)
        relay = Relay(self, hop=hop.port, queue='retry = ["1h"]\n')
        send(relay, self.RECIPIENTS)
        relay.wait_empty()
        self.assertEqual([len(m["recipients"]) for m in hop.messages], [3, 3, 3, 1])
        self.assertEqual({m["session"] for m in hop.messages}, {1})
        # Learned: only the first transaction named more than three.
        self.assertEqual(len([line for _, line in hop.commands if line.startswith("RCPT")]),
                         len(self.RECIPIENTS) + 7)
        world.wait_for(lambda: len(relay.events("deliver.delivered")) >= len(self.RECIPIENTS),
                       "all in the log")
        self.assertEqual(relay.events("deliver.deferred"), [])
        self.assertEqual({e["attempts"] for e in relay.events("deliver.delivered")}, {1})
        books(self, relay, [hop], self.RECIPIENTS)

    def test_a_452_for_the_first_recipient_is_an_answer(self):
        """DESIGN: 'after at least one accepted recipient': without one it is a deferral."""
        hop = Hop(self, lambda stage, argument, session:
                  "452 4.5.3 too many recipients" if stage == "rcpt" else None)
        relay = Relay(self, hop=hop.port, queue='retry = ["1h"]\n')
        send(relay, self.RECIPIENTS)
        event = world.wait_for(lambda: relay.event("deliver.deferred"), "the deferral")
        self.assertEqual((event["recipients"], event["reply"]["code"]), (10, 452))
        world.wait_for(lambda: [g["attempts"] for g in relay.queue()] == [1], "the record")
        books(self, relay, [hop], self.RECIPIENTS)

    def test_a_hop_that_leaves_before_the_rest_gets_nobody_twice(self):
        """'Each recipient delivered once, waiting, or bounced': the further transaction is never
        answered, and the first one counts all the same."""
        for what in ("DROP", "421 4.3.2 closing", "HANG"):
            state = {"leaves": True}

            def answer(stage, argument, session):
                if stage == "mail" and state["leaves"] and hop.messages:
                    return what
                return self.takes_three(stage, argument, session)
            hop = Hop(self, answer)
            relay = Relay(self, hop=hop.port, queue='retry = ["1h"]\n', delivery=SHORT)
            send(relay, self.RECIPIENTS)
            world.wait_for(lambda: relay.events("deliver.destination_backoff") or
                           relay.events("deliver.deferred"), f"the fault, {what}")
            world.wait_for(lambda: len(relay.events("deliver.delivered")) == 3, "the first three")
            world.wait_for(lambda: [len(g["recipients"]) for g in relay.queue()
                                    if g["state"] == "waiting"] == [7], "the rest")
            books(self, relay, [hop], self.RECIPIENTS)
            be_patient(relay)
            state["leaves"] = False
            retry(relay)
            relay.wait_empty()
            books(self, relay, [hop], self.RECIPIENTS)
            relay.stop()


if __name__ == "__main__":
    world.main()
