"""MTA-STS (RFC 8461): policies on an HTTPS server that we did not write (http.server), records in
knotd, and next hops that are what the policy asks for, or are not."""
import http.server
import os
import shutil
import ssl
import subprocess
import tempfile
import threading
import time
import unittest

import world
from test_dane import Validating, digest_of
from test_deliver import books, send
from world import Dns, Hop, Relay, make_certificate, tool

PATH = "/.well-known/mta-sts.txt"


def policy(mode, *mx, max_age=604800, end="\r\n"):
    lines = ["version: STSv1", f"mode: {mode}", *[f"mx: {name}" for name in mx],
             f"max_age: {max_age}", "unknown: field"]
    return end.join(lines) + end


class PolicyHost:
    """http.server with TLS on 127.0.0.1. `pages`: domain -> text, or a function that answers."""

    def __init__(self, case, pages, certificates):
        self.pages = pages
        self.requests = []  # domains, in the order in which they were asked for
        self.lock = threading.Lock()
        host = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                domain = self.headers["Host"].split(":")[0].removeprefix("mta-sts.")
                with host.lock:
                    host.requests.append(domain)
                page = host.pages.get(domain)
                if self.path != PATH or page is None:
                    self.send_error(404)
                elif callable(page):
                    page(self)
                else:
                    self.say(page)

            def say(self, text, status=200, kind="text/plain; charset=utf-8", **fields):
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                for name, value in fields.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *words):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, address):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        contexts = {}
        for name, pair in certificates.items():
            contexts[name] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            contexts[name].load_cert_chain(*pair)
        first = next(iter(contexts.values()))

        def choose(connection, name, context):
            connection.context = contexts.get(name, first)
        first.sni_callback = choose
        # The handshake belongs to the thread of the connection: none waits for another.
        self.server.socket = first.wrap_socket(self.server.socket, server_side=True,
                                               do_handshake_on_connect=False)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.is_open = True
        case.addCleanup(self.close)

    def count(self, domain):
        with self.lock:
            return self.requests.count(domain)

    def close(self):
        if self.is_open:
            self.is_open = False
            self.server.shutdown()
            self.server.server_close()


class MtaSts(unittest.TestCase):
    DOMAINS = ("ok", "alien", "weak", "clear", "both", "trial", "trialclear", "off", "moved",
               "huge", "html", "stranger", "gone", "silent", "twice")

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="smtpd-sts-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.ca = make_certificate(cls.folder, "ca", "authority.test")
        cls.good = make_certificate(cls.folder, "good", "good.sts.test", ca=cls.ca)
        cls.weak = make_certificate(cls.folder, "weak", "weak.sts.test")
        cls.web = {f"mta-sts.{name}.sts.test":
                   make_certificate(cls.folder, f"web-{name}", f"mta-sts.{name}.sts.test", ca=cls.ca)
                   for name in cls.DOMAINS if name != "stranger"}

    def setUp(self):
        self.port = world.free_port()
        self.good_hop = self.hop("127.0.0.51", self.good)

    def hop(self, host, tls, **more):
        return Hop(self, host=host, port=self.port, tls=tls, **more)

    def relay(self, domains, pages, extra="", dns=None, delivery="", **more):
        """`domains`: name -> hosts in order. Those with a page have a record too."""
        self.web_host = PolicyHost(self, {f"{name}.sts.test": page for name, page in pages.items()},
                                   self.web)
        self.domains, self.pages = domains, pages
        self.dns = dns or Dns(self, {"sts.test": self.records("1")})
        return Relay(self, dns=self.dns, queue='retry = ["1h"]\n', extra=extra, delivery=(
            f'port = {self.port}\nidle_timeout = "10m"\nca_file = "{self.ca[0]}"\n'
            f'mta_sts_port = {self.web_host.port}\n{delivery}'), **more)

    def records(self, identity):
        text = "good A 127.0.0.51\nweak A 127.0.0.52\nclear A 127.0.0.53\n"
        for name, hosts in self.domains.items():
            for at, host in enumerate(hosts):
                text += f"{name} MX {10 * (at + 1)} {host}\n"
        for name in self.pages:
            text += f'mta-sts.{name} A 127.0.0.1\n_mta-sts.{name} TXT "v=STSv1; id={identity};"\n'
            text += f'_mta-sts.{name} TXT "something else"\n'
        return text

    def delivered(self, relay, recipient):
        return world.wait_for(lambda: [e for e in relay.events("deliver.delivered")
                                       if e["recipient"] == recipient], recipient)[0]

    def policy_of(self, relay, recipient):
        return self.delivered(relay, recipient).get("tls", {}).get("policy")

    def held(self, relay, domain, *words):
        """It waits, no attempt was spent, and the operator is told why."""
        event = world.wait_for(lambda: [e for e in relay.events("deliver.policy_backoff")
                                        if e["domain"] == domain], f"the back-off of {domain}")[-1]
        group = [g for g in relay.queue() if g["lane"] == domain][0]
        self.assertEqual(group["attempts"], 0)
        why = relay.command("queue", "why", group["id"])
        for word in words:
            self.assertIn(word, event["message"])
            self.assertIn(word, why)

    def failed(self, relay, domain, *words):
        event = world.wait_for(lambda: [e for e in relay.events("deliver.sts_fetch_failed")
                                        if e["domain"] == domain], f"the failure of {domain}")[-1]
        for word in words:
            self.assertIn(word, event["message"])

    def metric(self, relay, name, **labels):
        return next(sample["value"] for family in relay.status()["metrics"]
                    if family["name"] == name
                    for sample in family["samples"] if sample["labels"] == labels)

    # ---- enforce ----

    def test_an_enforced_policy_lets_mail_go_where_it_says_and_as_it_says(self):
        weak, clear = self.hop("127.0.0.52", self.weak), self.hop("127.0.0.53", None)
        relay = self.relay(
            {"ok": ["good"], "weak": ["weak"], "clear": ["clear"], "alien": ["good"],
             "both": ["clear", "weak", "good"], "freeweak": ["weak"], "freeclear": ["clear"],
             "freegood": ["good"]},
            {"ok": policy("enforce", "GOOD.sts.test"), "weak": policy("enforce", "*.sts.test", end="\n"),
             "clear": policy("enforce", "clear.sts.test"), "alien": policy("enforce", "weak.sts.test"),
             "both": policy("enforce", "*.sts.test")})
        send(relay, ["a@ok.sts.test"])
        self.assertEqual(self.policy_of(relay, "a@ok.sts.test"), "sts")
        self.assertTrue(self.delivered(relay, "a@ok.sts.test")["tls"]["verified"])
        send(relay, ["b@weak.sts.test"])
        self.held(relay, "weak.sts.test", "certificate is not valid for weak.sts.test")
        send(relay, ["c@clear.sts.test"])
        self.held(relay, "clear.sts.test", "no STARTTLS", "MTA-STS")
        self.assertEqual([c for _, c in clear.commands if c.startswith("MAIL")], [])
        connections = self.good_hop.connections
        send(relay, ["d@alien.sts.test"])
        self.held(relay, "alien.sts.test", "MTA-STS policy", "does not name")
        self.assertEqual(self.good_hop.connections, connections)
        send(relay, ["e@both.sts.test"])
        self.assertEqual(self.policy_of(relay, "e@both.sts.test"), "sts")
        self.assertEqual(self.good_hop.delivered()["e@both.sts.test"], 1)
        said = relay.command("explain", "a@ok.sts.test")
        self.assertRegex(said, r"MTA-STS +enforce, by the policy fetched \S+ ago \(id 1\), which ends in 6d")
        self.assertIn("not named by the MTA-STS policy", relay.command("explain", "alien.sts.test"))
        self.assertRegex(relay.command("explain", "freegood.sts.test"), r"MTA-STS +no policy is known")
        # With the hosts nothing is wrong: others go on.
        others = ["f@freeweak.sts.test", "g@freeclear.sts.test", "h@freegood.sts.test"]
        for recipient in others:
            send(relay, [recipient])
            self.assertIsNone(self.policy_of(relay, recipient))
        books(self, relay, [self.good_hop, weak, clear],
              ["a@ok.sts.test", "e@both.sts.test", *others])
        self.assertEqual(self.metric(relay, "smtpd_mta_sts_fetches_total", result="ok"), 5)
        self.assertEqual(self.metric(relay, "smtpd_mta_sts_policies"), 5)
        self.assertEqual(
            self.metric(relay, "smtpd_recipients_delivered_over_tls_total", policy="sts"), 2)

    def test_an_open_connection_is_taken_by_who_may_have_it(self):
        weak = self.hop("127.0.0.52", self.weak)
        relay = self.relay({"ok": ["good"], "free": ["good"], "weak": ["weak"], "freeweak": ["weak"]},
                           {"ok": policy("enforce", "good.sts.test"),
                            "weak": policy("enforce", "weak.sts.test")})
        for recipient in ("a@freeweak.sts.test", "b@free.sts.test", "c@ok.sts.test"):
            send(relay, [recipient])
            relay.wait_empty()
        self.assertEqual(self.policy_of(relay, "c@ok.sts.test"), "sts")
        self.assertEqual(self.good_hop.connections, 1)  # its certificate was seen to be valid
        send(relay, ["d@weak.sts.test"])
        self.held(relay, "weak.sts.test", "certificate is not valid")
        send(relay, ["e@freeweak.sts.test"])
        self.delivered(relay, "e@freeweak.sts.test")
        self.assertNotIn("d@weak.sts.test", weak.delivered())

    def test_memory_of_broken_tls_is_no_way_into_the_clear(self):
        def breaks(stage, argument, session):
            if stage != "starttls":
                return None
            session.connection.sendall(b"220 2.0.0 go ahead\r\n")
            session.connection.recv(1)
            session.connection.sendall(b"this is no TLS\r\n")
            return "DROP"

        weak = self.hop("127.0.0.52", self.weak, answer=breaks)
        relay = self.relay({"weak": ["weak"], "free": ["weak"]},
                           {"weak": policy("enforce", "weak.sts.test")})
        send(relay, ["a@free.sts.test"])
        self.assertNotIn("tls", self.delivered(relay, "a@free.sts.test"))
        send(relay, ["b@weak.sts.test"])
        self.held(relay, "weak.sts.test", "MTA-STS")
        self.assertNotIn("b@weak.sts.test", weak.delivered())

    def test_too_many_handshakes_of_our_own_are_no_failure_of_the_domain(self):
        relay = self.relay({"ok": ["good"]}, {"ok": policy("enforce", "good.sts.test")},
                           limits="handshakes = 1\n")
        with world.Raw(relay.relay_port) as client:  # it begins a handshake, and says no more
            client.say("EHLO c.test")
            client.say("STARTTLS")
            send(relay, ["a@ok.sts.test"])
            world.wait_for(lambda: self.metric(relay, "smtpd_mta_sts_fetches_total", result="busy"),
                           "a fetch that found no place")
            self.assertEqual(relay.events("deliver.sts_fetch_failed"), [])
        world.wait_for(lambda: relay.command("queue", "retry", "--all") and
                       self.good_hop.delivered(), "the mail")
        self.assertEqual(self.policy_of(relay, "a@ok.sts.test"), "sts")

    # ---- testing, none ----

    def test_a_policy_in_testing_stops_nothing_and_says_what_it_would_stop(self):
        self.hop("127.0.0.52", self.weak)
        self.hop("127.0.0.53", None)
        relay = self.relay({"trial": ["weak"], "trialclear": ["clear"], "ok": ["good"], "off": ["clear"]},
                           {"trial": policy("testing", "weak.sts.test"),
                            "trialclear": policy("testing", "clear.sts.test"),
                            "ok": policy("testing", "good.sts.test"), "off": policy("none")})
        for name in ("trial", "trialclear", "ok", "off"):
            send(relay, [f"a@{name}.sts.test"])
            self.delivered(relay, f"a@{name}.sts.test")
        self.assertEqual(self.policy_of(relay, "a@trial.sts.test"), "sts-testing")
        self.assertEqual(self.policy_of(relay, "a@ok.sts.test"), "sts-testing")
        self.assertNotIn("tls", self.delivered(relay, "a@off.sts.test"))
        found = {e["domain"]: (e["host"], e["message"])
                 for e in relay.events("deliver.sts_testing_failure")}
        self.assertEqual(set(found), {"trial.sts.test", "trialclear.sts.test"})
        self.assertEqual(found["trialclear.sts.test"], ("clear.sts.test", "no TLS"))
        self.assertEqual(self.metric(relay, "smtpd_mta_sts_testing_failures_total"), 2)

    # ---- fetches that fail ----

    def test_what_cannot_be_had_is_no_policy_and_is_not_asked_again_at_once(self):
        clear = self.hop("127.0.0.53", None)

        def moved(handler):
            handler.say("", status=302, Location=f"https://mta-sts.ok.sts.test{PATH}")

        pages = {"moved": moved, "huge": policy("enforce", "x.test") + "a: b\r\n" * 12000,
                 "html": lambda handler: handler.say(policy("enforce", "x.test"), kind="text/html"),
                 "stranger": policy("enforce", "x.test"), "gone": None,
                 "twice": "version: STSv1\r\nmode: enforce\r\nmax_age: 86400\r\n"}
        relay = self.relay({name: ["clear"] for name in pages}, pages)
        recipients = [f"a@{name}.sts.test" for name in pages]
        for recipient in recipients:
            send(relay, [recipient])
            self.assertNotIn("tls", self.delivered(relay, recipient))
        self.failed(relay, "moved.sts.test", "302", "redirects are not followed")
        self.failed(relay, "huge.sts.test", "too long")
        self.failed(relay, "html.sts.test", "Content-Type")
        self.failed(relay, "stranger.sts.test", "certificate is not valid")
        self.failed(relay, "gone.sts.test", "404")
        self.failed(relay, "twice.sts.test", "no \"mx\"")
        self.assertEqual(self.metric(relay, "smtpd_mta_sts_fetches_total", result="answer"), 4)
        self.assertEqual(self.metric(relay, "smtpd_mta_sts_fetches_total", result="tls"), 1)
        self.assertEqual(self.metric(relay, "smtpd_mta_sts_fetches_total", result="invalid"), 1)
        self.assertEqual(self.web_host.count("ok.sts.test"), 0)
        # A reload makes new ways; what failed is remembered.
        mark = relay.log_mark()
        relay.signal(1)
        relay.wait_event("server.reloaded", mark)
        more = [f"b@{name}.sts.test" for name in pages]
        for recipient in more:
            send(relay, [recipient])
            self.delivered(relay, recipient)
        self.assertEqual(self.web_host.count("moved.sts.test"), 1)
        books(self, relay, [clear], recipients + more)

    def test_a_server_that_says_nothing_holds_its_own_domain_only(self):
        """The domains share their mail exchanger, and what it takes at once."""
        go_on = threading.Event()
        self.addCleanup(go_on.set)
        relay = self.relay({"silent": ["good"], "ok": ["good"], "free": ["good"]},
                           {"silent": lambda handler: go_on.wait(50),
                            "ok": policy("enforce", "good.sts.test")}, delivery="connections = 1\n")
        for at in range(10):
            send(relay, [f"s{at}@silent.sts.test"])
        world.wait_for(lambda: self.web_host.count("silent.sts.test"), "the silent fetch")
        began = time.monotonic()
        for recipient in ("a@ok.sts.test", "b@free.sts.test"):
            send(relay, [recipient])
            self.delivered(relay, recipient)
        self.assertLess(time.monotonic() - began, 10)
        world.wait_for(lambda: {g["lane"] for g in relay.queue()} == {"silent.sts.test"},
                       "the silent one's alone")
        go_on.set()
        relay.wait_empty()
        self.assertEqual(self.web_host.count("silent.sts.test"), 1)
        self.failed(relay, "silent.sts.test", "ended within the answer")

    # ---- what is known ----

    def again(self, relay, identity):
        """The relay starts again, with an empty memory of the DNS, which says another id."""
        relay.stop()
        if identity:
            self.dns.process.terminate()
            self.dns.process.wait(world.PATIENCE)
            self.dns._write("sts.test", self.records(identity))
            self.dns.process = subprocess.Popen(
                [tool("knotd"), "-c", os.path.join(self.dns.folder, "knot.conf")],
                stdout=self.dns.log, stderr=self.dns.log, stdin=subprocess.DEVNULL)
            world.wait_for(self.dns._answers, "knotd to answer")
        relay.start()
        relay.wait_index()

    def test_a_policy_that_cannot_be_written_is_kept_in_memory(self):
        relay = self.relay({"ok": ["good"]}, {"ok": policy("enforce", "good.sts.test")})
        folder = os.path.join(relay.data, "mta-sts")
        if os.path.isdir(folder):
            os.rmdir(folder)
        with open(folder, "w"):  # a file stands in the way
            pass
        send(relay, ["a@ok.sts.test"])
        self.assertEqual(self.policy_of(relay, "a@ok.sts.test"), "sts")
        event = relay.wait_event("deliver.sts_fetched")
        self.assertEqual((event["domain"], event["mode"], event["mx"]), ("ok.sts.test", "enforce", 1))
        event = relay.wait_event("deliver.sts_write_failed")
        self.assertIn("of ok.sts.test is kept in memory", event["message"])

    def test_what_is_known_holds_over_restarts_until_the_id_changes(self):
        pages = {"ok": policy("enforce", "good.sts.test")}
        relay = self.relay({"ok": ["good"]}, pages)
        send(relay, ["a@ok.sts.test"])
        self.assertEqual(self.policy_of(relay, "a@ok.sts.test"), "sts")
        path = os.path.join(relay.data, "mta-sts", "ok.sts.test")
        world.wait_for(lambda: os.path.exists(path), "the file")
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        # The same id: nothing is fetched, and the policy holds: a host in clear will not do.
        self.good_hop.close()
        self.good_hop = self.hop("127.0.0.51", None)
        self.again(relay, None)
        send(relay, ["b@ok.sts.test"])
        self.held(relay, "ok.sts.test", "no STARTTLS")
        self.assertEqual(self.web_host.count("ok.sts.test"), 1)
        # Another id, and nobody there to ask: it holds all the same.
        self.web_host.server.server_close()
        self.again(relay, "2")
        mark = relay.log_mark()
        relay.command("queue", "retry", "--all")
        self.failed(relay, "ok.sts.test", "mta-sts.ok.sts.test")
        world.wait_for(lambda: relay.events("deliver.policy_backoff", mark), "the back-off")
        self.assertEqual(self.good_hop.messages, [])
        # The record is gone: until max_age it holds.
        self.pages = {}
        self.again(relay, "2")
        mark = relay.log_mark()
        relay.command("queue", "retry", "--all")
        world.wait_for(lambda: relay.events("deliver.policy_backoff", mark), "the back-off")
        # Another id, and another policy.
        self.pages = {"ok": policy("none")}
        old = self.web_host
        self.web_host = PolicyHost(self, {"ok.sts.test": policy("none")}, self.web)
        relay.write_config(delivery=relay.parts["delivery"].replace(
            f"mta_sts_port = {old.port}", f"mta_sts_port = {self.web_host.port}"))
        self.again(relay, "3")
        relay.command("queue", "retry", "--all")
        relay.wait_empty()
        self.assertEqual(self.good_hop.delivered(), {"b@ok.sts.test": 1})

    # ---- beside others ----

    def test_where_dane_has_an_answer_nothing_is_fetched(self):
        """The certificate is none that an authority knows: by MTA-STS it would not do."""
        self.good_hop.close()
        hop = self.hop("127.0.0.51", self.weak)
        self.domains, self.pages = {"ok": ["good"]}, {"ok": policy("enforce", "other.test")}
        dns = Validating(self, {"sts.test": self.records("1") +
                                f"_{self.port}._tcp.good TLSA 3 1 1 {digest_of(self.weak[0], 1)}\n"},
                         ["sts.test"])
        relay = self.relay(self.domains, self.pages, dns=dns)
        for recipient in ("a@ok.sts.test", "b@ok.sts.test"):
            send(relay, [recipient])
            self.assertEqual(self.policy_of(relay, recipient), "dane")
        self.assertEqual(hop.connections, 1)
        self.assertEqual(self.web_host.requests, [])

    def test_it_can_be_switched_off_and_routes_have_none(self):
        clear = self.hop("127.0.0.53", None)
        relay = self.relay({"ok": ["clear"], "alien": ["clear"], "both": ["clear"]},
                           {name: policy("enforce", "clear.sts.test") for name in ("ok", "alien", "both")},
                           extra=('[[destination]]\nmatch = ["ok.sts.test"]\nmta_sts = false\n'
                                  '[[route]]\nmatch = "alien.sts.test"\nhost = "127.0.0.53"\n'
                                  f'port = {self.port}\n'))
        for recipient in ("a@ok.sts.test", "b@alien.sts.test"):
            send(relay, [recipient])
            self.assertNotIn("tls", self.delivered(relay, recipient))
        self.assertEqual(self.web_host.requests, [])
        send(relay, ["c@both.sts.test"])
        self.held(relay, "both.sts.test", "no STARTTLS")
        relay.write_config(delivery=relay.parts["delivery"] + "mta_sts = false\n")
        mark = relay.log_mark()
        relay.signal(1)
        relay.wait_event("server.reloaded", mark)
        relay.command("queue", "retry", "--all")
        relay.wait_empty()
        self.assertEqual(clear.delivered()["c@both.sts.test"], 1)


if __name__ == "__main__":
    world.main()
