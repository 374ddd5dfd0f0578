"""'Events as DESIGN.md §5 lists them, as JSON lines; no secret and no message text in any log':
relays go through what can happen to them until every event of docs/events.md was seen; then each
line is held against the page: its name, its level, its fields."""
import base64
import os
import re
import signal
import unittest

import queue_file
import world
from test_deliver import send
from world import PASSWORD, USER, Hop, Raw, Relay

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
HOP_PASSWORD, OTHER_PASSWORD = "Kq7-word-of-the-hop", "Kq8-next-word-of-the-hop"
# None of these may stand in any log, in any form.
TEXTS = ("a-private-subject", "a-private-text", "a-private-field", "a-private-file-name")
EVERY_LINE = {"time", "node", "level", "event"}
OBJECTS = {"reply": {"code", "enhanced", "text"}, "tls": {"version", "cipher", "verified", "policy"},
           "delays": {"receive", "queue", "connect", "transfer"}}
# Not brought about here, each for a reason.
NOT_SEEN = {
    "server.admin_failed": "the HTTP library must refuse a socket that listens",
    "log.final_lost": "16 MiB of final lines must be under way when the output stops (unit test of the log)",
    "queue.lock_without_pid": "a write of a few bytes into a file that was just opened must fail",
    "deliver.destinations_full": "100,000 destinations must have something to wait for (unit test of lanes)",
    "deliver.sources_too_many": "2000 names of sources must have been in the settings of one process",
    "deliver.report_too_large": "the limits of what is reported are below those of a message",
}

# Events of a subject that has a file of its own, which waits for them.
SEEN_ELSEWHERE = {
    "deliver.lock_step": "test_flight.py",
    "queue.format_raised": "test_format.py",
    "queue.exported": "test_moving.py",
    "queue.imported": "test_moving.py",
    "queue.import_known": "test_moving.py",
    "queue.held": "test_hold.py",
    "queue.released": "test_hold.py",
    "queue.rerouted": "test_reroute.py",
    "queue.foreign_reader": "test_readers.py",
    "queue.reader_stands": "test_readers.py",
    "queue.reader_left": "test_readers.py",
    "sign.failed": "test_signing.py",
    "sign.keys_loaded": "test_signing.py",
    "sign.keys_unreadable": "test_signing.py",
    "sign.key_exposed": "test_signing.py",
    "policy.limits_unreadable": "test_limits.py",
    "policy.limits_unwritable": "test_limits.py",
    "policy.locked_out": "test_lockout.py",
    "deliver.suppressed": "test_suppression.py",
    "policy.suppression_added": "test_suppression.py",
    "policy.suppression_removed": "test_suppression.py",
    "policy.suppression_cut": "test_suppression.py",
    "policy.suppression_full": "test_suppression.py",
    "policy.suppression_unwritable": "test_suppression.py",
    "deliver.policy_backoff": "test_dane.py",
    "deliver.sts_fetched": "test_mta_sts.py",
    "deliver.sts_fetch_failed": "test_mta_sts.py",
    "deliver.sts_testing_failure": "test_mta_sts.py",
    "deliver.sts_write_failed": "test_mta_sts.py",
    "deliver.tls_report_sent": "test_tls_report.py",
    "deliver.tls_report_failed": "test_tls_report.py",
    "deliver.tls_report_unreadable": "test_tls_report.py",
    "deliver.tls_report_unwritable": "test_tls_report.py",
    "deliver.address_failed": "test_dialing.py",
    "deliver.family_demoted": "test_dialing.py",
    "deliver.family_restored": "test_dialing.py",
    "deliver.pace_changed": "test_pace.py",
    "deliver.paces_unreadable": "test_pace.py",
    "deliver.source_set_aside": "test_sources.py",
    "deliver.source_restored": "test_sources.py",
    "deliver.warm_up_full": "test_sources.py",
    "deliver.warm_up_unwritable": "test_sources.py",
    "deliver.warm_up_unreadable": "test_sources.py",
    "deliver.paces_unwritable": "test_pace.py",
    "deliver.suspended": "test_destinations.py",
    "deliver.resumed": "test_destinations.py",
    "deliver.flushed": "test_destinations.py",
    "deliver.suspensions_unreadable": "test_destinations.py",
    "deliver.suspensions_unwritable": "test_destinations.py",
    "net.dns_servers_left_out": "test_dane.py",
    "receive.screened": "test_dnsbl.py",
    "receive.helo_suspect": "test_abuse.py",
    "policy.dnsbl_failed": "test_dnsbl.py",
    "policy.memory_pressure": "test_pressure.py",
    "net.proxy_refused": "test_proxy.py",
    "server.certificates_loaded": "test_follow.py",
    "server.certificates_unreadable": "test_follow.py",
    "server.certificate_expires": "test_follow.py",
    "server.socket_unused": "test_systemd.py",
}

# The same for a field: named in the file of its subject.
FIELDS_SEEN_ELSEWHERE = {
    ("receive.accepted", "priority"): "test_fairness.py",
    ("receive.connected", "proxy"): "test_proxy.py",
    ("receive.accepted", "signatures"): "test_signing.py",
    ("receive.accepted", "priority"): "test_fairness.py",
    ("receive.rejected", "rule"): "test_pressure.py",
    ("deliver.destination_backoff", "source"): "test_sources.py",
    ("receive.rejected", "client_name"): "test_dnsbl.py",
    ("receive.accepted", "client_name"): "test_dnsbl.py",
}


class Event:
    """A row of the page."""

    def __init__(self, cells):
        self.name = re.match(r"`([a-z_.]+)`", cells[0]).group(1)
        self.is_final = "*final*" in cells[0]
        self.levels = set(cells[1].split(", "))
        always, _, sometimes = cells[3].partition("[")
        self.always = set(re.findall(r"`(\w+)`", always))
        self.fields = self.always | set(re.findall(r"`(\w+)`", sometimes))


def read_page():
    with open(os.path.join(ROOT, "docs", "events.md")) as file:
        rows = [line.strip("|\n").split("|") for line in file if line.startswith("| `")]
    events = [Event([cell.strip() for cell in row]) for row in rows]
    return {event.name: event for event in events}


def private_message(subject="s"):
    return (f"From: a@b.test\r\nX-Field: a-private-field\r\nSubject: a-private-subject {subject}\r\n"
            f"Message-ID: <{subject}@b.test>\r\nContent-Disposition: inline; "
            "filename=a-private-file-name\r\n\r\na-private-text\r\n")


def forms_of(secret):
    """As it is, and as a log-in says it."""
    raw = secret.encode()
    return [secret] + [base64.b64encode(prefix + raw).decode() for prefix in
                       (b"", b"\0app\0", b"\0hopuser\0")]


class Events(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.case = unittest.TestCase()
        cls.page = read_page()
        cls.relays = []
        try:
            waits = [cls.a_clock_that_steps(), cls.a_relay_at_work()]
            cls.a_relay_that_leaves_and_returns()
            cls.a_disk_that_fails()
            cls.a_record_that_is_damaged()
            cls.too_few_descriptors()
            for wait in waits:
                wait()
            cls.seen = []
            for relay in cls.relays:
                if relay.process:
                    relay.stop()
                cls.seen += relay.events()
        except BaseException:
            cls.case.doCleanups()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.case.doCleanups()

    # ---- what happens ----

    @classmethod
    def relay(cls, *changes, **settings):
        """`changes`: (old, new) texts of the file."""
        relay = Relay(cls.case, start=False, **settings)
        with open(relay.config_path) as file:
            text = file.read()
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        with open(relay.config_path, "w") as file:
            file.write(text)
        relay.start()
        cls.relays.append(relay)
        return relay

    @staticmethod
    def wait(relay, name, mark=0):
        return world.wait_for(lambda: relay.event(name, mark), name)

    @classmethod
    def a_relay_at_work(cls):
        def answer(stage, argument, session):
            if stage == "rcpt" and "later" in argument:
                return "450 4.2.1 later"
            return "550 5.1.1 nobody" if stage == "rcpt" and "no" in argument else None
        plain_hop = Hop(cls.case, answer)
        hop = Hop(cls.case, capabilities=("PIPELINING", "AUTH PLAIN LOGIN"),
                  tls=world.make_certificate(cls.relays[0].folder, "hop"))
        routes = "".join(
            f'[[route]]\nname = "{name}"\nmatch = ["{name}.test"]\nhost = "127.0.0.1"\n'
            f'port = {port}\n{more}\n' for name, port, more in (
                ("secret", hop.port, 'tls = "required"\nuser = "hopuser"\n'
                                     f'password = "{HOP_PASSWORD}"'),
                ("plain", plain_hop.port, 'tls = "off"'),
                ("dead", world.free_port(), 'tls = "off"')))
        keys = os.path.join(cls.relays[0].folder, "keys")
        os.mkdir(keys)
        cls.relays[0].command("dkim", "keygen", "b.test", "s", "--type", "ed25519",
                              "--directory", keys)
        routes += f'[signing]\nkey_directory = "{keys}"\n'
        relay = cls.relay(extra=routes, queue='retry = ["1s"]\nexpire = "10s"\n')
        cls.submit(relay)
        for to in ("r@secret.test", "r@plain.test", "no@plain.test", "later@plain.test",
                   "r@nowhere.test"):
            send(relay, [to], text=private_message(to.split("@")[0]), sender="alice@local.test")
        send(relay, ["no@plain.test"], text=private_message(), sender="no-report@plain.test")
        for name in ("delivered", "bounced", "deferred", "report_queued", "report_failed",
                     "dns_backoff"):
            cls.wait(relay, "deliver." + name)
        send(relay, ["r@dead.test"], text=private_message("dead"), sender="alice@local.test")
        cls.wait(relay, "deliver.destination_backoff")
        relay.command("queue", "remove", "--domain", "dead.test")
        cls.wait(relay, "queue.removed")
        cls.reload(relay)
        with open(relay.users, "a") as file:
            file.write("this is no line of a users file " + PASSWORD + "\n")

        def wait():
            cls.wait(relay, "policy.users_unreadable")
            cls.wait(relay, "deliver.expired")
        return wait

    @classmethod
    def submit(cls, relay):
        """Good and bad log-ins, passwords in wrong places, good and bad messages."""
        with relay.client() as client:
            client.sendmail("a@b.test", ["alice@local.test"], private_message("submitted"))
        good = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode()
        with Raw(relay.submission) as raw:
            raw.say("EHLO c.test")
            raw.say("AUTH PLAIN " + good)  # in clear
            raw.starttls(relay.tls_context())
            raw.say("EHLO c.test")
            for line in (f"AUTH PLAIN {good} more", f"AUTH {good}", PASSWORD, f"{PASSWORD} x",
                         "AUTH LOGIN", base64.b64encode(PASSWORD.encode()).decode(),
                         base64.b64encode(b"wrong").decode(), f"MAIL FROM:<{PASSWORD}>",
                         "AUTH PLAIN " + base64.b64encode(f"\0{USER}\0wrong".encode()).decode(),
                         "AUTH PLAIN " + good, f"MAIL FROM:<a@b.test> AUTH={PASSWORD}"):
                raw.say(line)
        with relay.raw() as raw:
            for line in ("EHLO c.test", "MAIL FROM:<a@b.test>", "RCPT TO:<nobody@local.test>",
                         "RCPT TO:<alice@local.test>", "DATA"):
                raw.say(line)
            raw.send("Subject: a-private-subject\r\n\r\na-private-text\nwith a bare LF\r\n.\r\n")
            assert raw.reply().startswith(b"550")

    @classmethod
    def reload(cls, relay):
        with open(relay.config_path) as file:
            good = file.read()

        def again(text, event):
            with open(relay.config_path, "w") as file:
                file.write(text)
            mark = relay.log_mark()
            relay.signal(signal.SIGHUP)
            cls.wait(relay, event, mark)
        again(good.replace("[limits]", "[limits]\nconnections = 0"), "server.reload_failed")
        other = good.replace(HOP_PASSWORD, OTHER_PASSWORD) \
            .replace("[limits]", '[limits]\nmessage_size = "1MiB"\nhandshakes = 7')
        again(other, "server.reloaded")
        away = os.path.join(relay.folder, "no", "such", "folder", "log")
        again(other.replace(relay.log_path, away), "server.log_failed")
        again(good, "server.reloaded")

    @classmethod
    def a_relay_that_leaves_and_returns(cls):
        hop = Hop(cls.case, lambda stage, argument, session: "HANG" if stage == "dot" else None)
        relay = cls.relay(('"6s"', '"2s"'), hop=hop.port, limits="connections = 3\n")
        relay.stop()
        folder = relay.folder
        ca = world.make_certificate(folder, "ca", host="ca.test")
        expired = world.make_certificate(folder, "expired", ca=ca, days=-1)
        os.replace(expired[0], relay.certificate)
        os.replace(expired[1], relay.key)
        relay.start()
        send(relay, ["stuck@x.test"], text=private_message())
        world.wait_for(lambda: any(line == "DATA" for _, line in hop.commands), "DATA at the hop")
        kept = [relay.raw() for _ in range(3)]
        with relay.raw() as refused:
            assert refused.greeting.startswith(b"421")
        for line in ("EHLO c.test", "MAIL FROM:<a@b.test>", "RCPT TO:<r@x.test>", "DATA"):
            kept[0].say(line)
        world.wait_for(lambda: relay.status()["deliver"]["attempts_running"] == 1, "the attempt")
        relay.signal(signal.SIGTERM)
        assert relay.wait_exit() == 0
        relay.start()
        cls.wait(relay, "queue.rebuilt")
        kept.append(relay.raw())
        for line in ("EHLO c.test", "MAIL FROM:<a@b.test>", "RCPT TO:<r@x.test>", "DATA"):
            kept[-1].say(line)
        kept[-1].send(b"A: b\r\n\r\n" + (b"a-private-text" * 5 + b"\r\n") * 20000)
        world.wait_for(lambda: relay.status()["queue"]["drafts"] == 1, "the draft")
        send(relay, ["stuck@x.test"], text=private_message())  # its commit holds the draft too
        relay.kill()
        relay.start()
        for raw in kept:
            raw.close()

    @classmethod
    def a_disk_that_fails(cls):
        preload, folder = world.preload(cls.case, "shim.c")
        plan = os.path.join(folder, "plan")

        def set_plan(text):
            with open(plan, "w") as file:
                file.write(text)
        set_plan("0 0")
        relay = cls.relay(hop=world.free_port(),
                          env={"LD_PRELOAD": preload, "SHIM_FILE": plan})

        def data():
            with relay.raw() as raw:
                for line in ("EHLO c.test", "MAIL FROM:<a@b.test>", "RCPT TO:<r@x.test>", "DATA"):
                    raw.say(line)
                raw.send(private_message() + ".\r\n")
                return raw.reply()
        set_plan("0 3")
        assert data().startswith(b"452 4.3.1")
        set_plan("0 0")
        assert data().startswith(b"250")
        set_plan("0 1")
        assert data().startswith(b"451 4.3.0")
        assert relay.wait_exit() == 1

    @classmethod
    def a_record_that_is_damaged(cls):
        relay = cls.relay(hop=world.free_port(), queue='retry = ["1h"]\n')
        send(relay, ["r@x.test"], text=private_message())
        relay.stop()
        assert queue_file.change_records(cls.queue_folder(relay), "group",
                                         lambda record: b"\x07" + record[1:]) == 1
        relay.start()
        cls.wait(relay, "queue.unreadable")

    @staticmethod
    def queue_folder(relay):
        return next(folder for folder, _, names in os.walk(relay.data) if "data.mdb" in names)

    @classmethod
    def too_few_descriptors(cls):
        relay = cls.relay(wrapper=["prlimit", "--nofile=100:100"])
        kept = []

        def is_said():
            kept.append(Raw(relay.relay_port))
            return relay.event("net.no_descriptors")
        world.wait_for(is_said, "net.no_descriptors")
        for raw in kept:
            raw.close()
        world.wait_for(lambda: relay.status()["receive"]["connections_open"] == 0, "them to go")

    @classmethod
    def a_clock_that_steps(cls):
        preload, folder = world.preload(cls.case, "clock.c")
        path = os.path.join(folder, "step")
        relay = cls.relay(env={"LD_PRELOAD": preload, "CLOCK_FILE": path})
        with open(path, "w") as file:
            file.write("7200")
        relay.command("user", "add", "second", stdin=PASSWORD + "\n")

        def wait():
            cls.wait(relay, "policy.users_loaded")
            # The offset is looked at when somebody asks for the time, at most every 10 s.
            world.wait_for(lambda: relay.status() and relay.event("loop.clock_stepped"), "the step")
        return wait

    # ---- what was seen ----

    def test_every_event_of_the_page_was_seen(self):
        """'Events as DESIGN.md §5 lists them': all of the page, but those named above."""
        seen = {e["event"] for e in self.seen} - set(SEEN_ELSEWHERE)
        self.assertEqual(seen, set(self.page) - set(NOT_SEEN) - set(SEEN_ELSEWHERE))
        for name, test in SEEN_ELSEWHERE.items():
            with open(os.path.join(os.path.dirname(__file__), test)) as file:
                self.assertIn(f'"{name}"', file.read())

    def test_the_page_and_the_program_name_the_same_events(self):
        """'Events as DESIGN.md §5 lists them': none is left out of the page."""
        names = set()
        for folder, _, files in os.walk(os.path.join(ROOT, "src")):
            for name in files if not folder.endswith("config") else ():
                with open(os.path.join(folder, name)) as file:
                    names |= set(re.findall(
                        r'"((?:receive|deliver|queue|log|loop|net|tls|policy|local|server|sign)\.[a-z_]+)"',
                        file.read()))
        self.assertEqual(names, set(self.page))

    def test_each_line_has_the_level_and_the_fields_of_the_page(self):
        """'Events ..., as JSON lines': the fields that the page lists, and no others."""
        for event in self.seen:
            row = self.page[event["event"]]
            fields = set(event) - EVERY_LINE
            with self.subTest(event=event):
                self.assertLessEqual(EVERY_LINE, set(event))
                self.assertRegex(event["time"], r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\Z")
                self.assertEqual(event["node"], "relay.test")
                self.assertIn(event["level"], row.levels)
                self.assertLessEqual(row.always, fields)
                self.assertLessEqual(fields, row.fields)
                self.look_at_values(event)

    def look_at_values(self, event):
        for name in set(event) & {"id", "session", "of"}:
            self.assertRegex(event[name], r"\A[a-z2-7]{13}\Z")
        for name in set(event) & set(OBJECTS):
            self.assertTrue(event[name])
            self.assertLessEqual(set(event[name]), OBJECTS[name])
        for name in set(event) & {"size", "attempts", "recipients", "messages", "bytes", "failures",
                                  "lanes"}:
            self.assertIsInstance(event[name], int)
            self.assertGreaterEqual(event[name], 0)
        for name in set(event) & {"message", "peer", "destination", "reason", "listener"}:
            self.assertTrue(event[name], name)
        if "reply" in event:
            self.assertIn(event["reply"]["code"], range(200, 600))

    def test_the_fields_that_are_not_always_there_were_seen_too(self):
        """'Events ... list[ed]': every field of the page is one that a line can have. """
        missing = {name: row.fields - {field for e in self.seen if e["event"] == name for field in e}
                   for name, row in self.page.items()
                   if name not in NOT_SEEN and name not in SEEN_ELSEWHERE}
        expected = {"destination", "source", "session", "user", "tenant", "peer", "tls", "reply"}
        for (name, field), test in FIELDS_SEEN_ELSEWHERE.items():
            missing[name].discard(field)
            with open(os.path.join(os.path.dirname(__file__), test)) as file:
                self.assertIn(f'"{field}"', file.read())
        for name, fields in missing.items():
            with self.subTest(name=name):
                self.assertLessEqual(fields, expected if name.startswith("deliver.") else set())
        ends = [e for e in self.seen if e["event"] == "deliver.delivered"]
        self.assertTrue(any(OBJECTS["tls"] - {"policy"} == set(e.get("tls", ())) for e in ends))
        self.assertTrue(any("peer" in e and "reply" in e and "session" in e for e in ends))
        self.assertTrue(any(e.get("user") == USER for e in ends))

    def test_no_secret_and_no_message_text_in_any_log(self):
        """'no secret and no message text in any log': all logs, and what went to stderr."""
        secrets = list(TEXTS)
        for secret in (PASSWORD, HOP_PASSWORD, OTHER_PASSWORD):
            secrets += forms_of(secret)
        for relay in self.relays:
            for path in (relay.log_path, os.path.join(relay.folder, "stderr")):
                with open(path, errors="replace") as file:
                    text = file.read()
                for secret in secrets:
                    with self.subTest(secret=secret, path=path):
                        self.assertNotIn(secret, text)

    def test_a_changed_secret_is_told_without_it(self):
        """'no secret ... in any log': a new password of a route is a change, its value is none."""
        changed = [e for e in self.seen if e["event"] == "server.option_changed"]
        self.assertIn("route", {e["option"] for e in changed})
        route = next(e for e in changed if e["option"] == "route")
        self.assertIn("hopuser", route["before"] + route["after"])


if __name__ == "__main__":
    world.main()
