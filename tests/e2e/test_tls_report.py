"""Reports of TLS (RFC 8460): next hops that are what the policy of their domain asks for, or are not;
records in knotd; a mailbox and a web server (http.server) that get the reports."""
import email
import email.policy
import http.server
import json
import os
import re
import shutil
import ssl
import tempfile
import threading
import time
import unittest

import world
from test_dane import Validating, digest_of
from test_deliver import send
from test_mta_sts import PolicyHost, policy
from world import Dns, Hop, Relay, make_certificate

TYPES = {"starttls-not-supported", "certificate-host-mismatch", "certificate-expired",
         "certificate-not-trusted", "validation-failure", "tlsa-invalid", "dnssec-invalid",
         "dane-required", "sts-policy-fetch-error", "sts-policy-invalid", "sts-webpki-invalid"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
REPORT = '[tls_report]\norganization = "Example \\"Relay\\" Ltd"\ncontact = "tls@reporter.test"\n'


def check_report(case, report):
    """The form of RFC 8460 4.4: each member, its kind, and that the sums fit."""
    case.assertEqual(set(report), {"organization-name", "date-range", "contact-info", "report-id",
                                   "policies"})
    case.assertEqual(report["organization-name"], 'Example "Relay" Ltd')
    case.assertEqual(report["contact-info"], "tls@reporter.test")
    case.assertEqual(set(report["date-range"]), {"start-datetime", "end-datetime"})
    for moment in report["date-range"].values():
        case.assertRegex(moment, TIME)
    case.assertLessEqual(report["date-range"]["start-datetime"], report["date-range"]["end-datetime"])
    for part in report["policies"]:
        case.assertLessEqual({"policy", "summary"}, set(part))
        case.assertLessEqual(set(part), {"policy", "summary", "failure-details"})
        named = part["policy"]
        case.assertLessEqual({"policy-type", "policy-domain"}, set(named))
        case.assertLessEqual(set(named), {"policy-type", "policy-domain", "policy-string", "mx-host"})
        case.assertIn(named["policy-type"], ("tlsa", "sts", "no-policy-found"))
        for name in ("policy-string", "mx-host"):
            case.assertTrue(all(isinstance(line, str) for line in named.get(name, [])))
        summary = part["summary"]
        case.assertEqual(set(summary), {"total-successful-session-count", "total-failure-session-count"})
        details = part.get("failure-details", [])
        for detail in details:
            case.assertLessEqual({"result-type", "failed-session-count"}, set(detail))
            case.assertLessEqual(set(detail), {
                "result-type", "sending-mta-ip", "receiving-mx-hostname", "receiving-mx-helo",
                "receiving-ip", "failed-session-count", "additional-information",
                "failure-reason-code"})
            case.assertIn(detail["result-type"], TYPES)
            case.assertGreater(detail["failed-session-count"], 0)
        case.assertEqual(sum(d["failed-session-count"] for d in details),
                         summary["total-failure-session-count"])


class Web:
    """An HTTPS server that takes reports. `answer`: the status, for a path."""

    def __init__(self, case, pair):
        self.posts = []  # (path, Content-Type, body)
        self.status = 201
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                web.posts.append((self.path, self.headers["Content-Type"], body))
                self.send_response(web.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *words):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pair)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True,
                                                 do_handshake_on_connect=False)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        case.addCleanup(self.server.server_close)
        case.addCleanup(self.server.shutdown)


class TlsReport(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="smtpd-tls-report-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.ca = make_certificate(cls.folder, "ca", "authority.test")
        cls.good = make_certificate(cls.folder, "good", "good.t.test", ca=cls.ca)
        cls.other = make_certificate(cls.folder, "other", "elsewhere.test", ca=cls.ca)
        cls.expired = make_certificate(cls.folder, "expired", "expired.t.test", ca=cls.ca, days=-1)
        cls.weak = make_certificate(cls.folder, "weak", "weak.t.test")
        cls.web_pair = make_certificate(cls.folder, "web", "web.t.test", ca=cls.ca)
        cls.policies = {f"mta-sts.{name}.t.test":
                        make_certificate(cls.folder, f"sts-{name}", f"mta-sts.{name}.t.test", ca=cls.ca)
                        for name in ("ok", "trial", "sick")}

    def setUp(self):
        self.port = world.free_port()
        self.hops = {}
        for at, (name, tls) in enumerate({"good": self.good, "other": self.other, "weak": self.weak,
                                          "expired": self.expired, "clear": None}.items()):
            self.hops[name] = Hop(self, host=f"127.0.0.{61 + at}", port=self.port, tls=tls)
        self.mailbox = Hop(self, host="127.0.0.69", port=self.port, tls=self.weak)
        self.web = Web(self, self.web_pair)

    def relay(self, domains, extra=REPORT, pages=None, **more):
        """`domains`: name -> (host, where it wants its reports or None)."""
        pages = pages or {}
        self.policy_host = PolicyHost(self, {f"{name}.t.test": page for name, page in pages.items()},
                                      self.policies)
        text = "".join(f"{name} A 127.0.0.{61 + at}\n" for at, name in enumerate(self.hops))
        text += "mailbox A 127.0.0.69\nweb A 127.0.0.1\nreports MX 10 mailbox\n"
        for name, (host, place) in domains.items():
            text += f"{name} MX 10 {host}\n"
            if place:
                text += f'_smtp._tls.{name} TXT "v=TLSRPTv1; rua={place}"\n'
        for name in pages:
            text += f'mta-sts.{name} A 127.0.0.1\n_mta-sts.{name} TXT "v=STSv1; id=1;"\n'
        return Relay(self, dns=Dns(self, {"t.test": text}), queue='retry = ["1h"]\n', extra=extra,
                     delivery=f'port = {self.port}\nca_file = "{self.ca[0]}"\n'
                              f'mta_sts_port = {self.policy_host.port}\nidle_timeout = "0s"\n', **more)

    def delivered(self, relay, recipient):
        return world.wait_for(lambda: [e for e in relay.events("deliver.delivered")
                                       if e["recipient"] == recipient], recipient)[0]

    def shown(self, relay, domain=None):
        """Domain and policy -> (good, failed); or the report of a domain."""
        if domain:
            report = json.loads(relay.command("tls-report", "show", domain))
            check_report(self, report)
            return report
        items = [json.loads(line) for line in
                 relay.command("tls-report", "show", "--json").splitlines()]
        return {(i["domain"], i["policy"]): (i["successes"], i["failures"]) for i in items}

    def details(self, relay, domain, kind):
        [part] = [p for p in self.shown(relay, domain)["policies"] if p["policy"]["policy-type"] == kind]
        return part["policy"], part.get("failure-details", [])

    def mails(self, count=1):
        return world.wait_for(lambda: len(self.mailbox.messages) >= count and
                              [email.message_from_bytes(m["data"], policy=email.policy.default)
                               for m in self.mailbox.messages], "the report as mail")

    # ---- what is counted ----

    def test_each_session_is_counted_as_what_it_was(self):
        relay = self.relay(
            {"free": ("good", None), "bare": ("clear", None), "ok": ("good", None),
             "trial": ("weak", None), "sick": ("good", None)},
            pages={"ok": policy("enforce", "good.t.test"), "trial": policy("testing", "*.t.test"),
                   "sick": "nothing"})
        for name in ("free", "bare", "ok", "trial", "sick"):
            send(relay, [f"a@{name}.t.test"])
            self.delivered(relay, f"a@{name}.t.test")
        send(relay, ["b@free.t.test"])
        self.delivered(relay, "b@free.t.test")
        self.assertEqual(self.shown(relay), {
            ("free.t.test", "no-policy-found"): (2, 0), ("bare.t.test", "no-policy-found"): (0, 1),
            ("ok.t.test", "sts"): (1, 0), ("trial.t.test", "sts"): (0, 1),
            ("sick.t.test", "sts"): (0, 1), ("sick.t.test", "no-policy-found"): (1, 0)})
        named, [detail] = self.details(relay, "bare.t.test", "no-policy-found")
        self.assertEqual(detail, {"result-type": "starttls-not-supported", "failed-session-count": 1,
                                  "receiving-mx-hostname": "clear.t.test", "receiving-mx-helo": "hop.test",
                                  "receiving-ip": "127.0.0.65", "sending-mta-ip": "127.0.0.1"})
        named, [] = self.details(relay, "ok.t.test", "sts")
        self.assertIn("mode: enforce", named["policy-string"])
        self.assertEqual(named["mx-host"], ["good.t.test"])
        _, [detail] = self.details(relay, "trial.t.test", "sts")
        self.assertEqual(detail["result-type"], "certificate-not-trusted")
        _, [detail] = self.details(relay, "sick.t.test", "sts")
        self.assertEqual(detail["result-type"], "sts-policy-invalid")
        text = relay.command("tls-report", "show")
        self.assertRegex(text, r"bare\.t\.test +no-policy-found +0 +1 .* counting")
        failures = {s["labels"]["policy"]: s["value"] for f in relay.status()["metrics"]
                    if f["name"] == "smtpd_tls_report_failures_total" for s in f["samples"]}
        self.assertEqual(failures, {"no-policy-found": 1, "sts": 2, "tlsa": 0})

    def test_what_is_wrong_with_a_certificate_is_told(self):
        relay = self.relay({"ok": ("other", None), "trial": ("expired", None), "sick": ("weak", None)},
                           pages={"ok": policy("enforce", "*.t.test"),
                                  "trial": policy("enforce", "*.t.test"),
                                  "sick": policy("enforce", "good.t.test")})
        for name, kind in (("ok", "certificate-host-mismatch"), ("trial", "certificate-expired"),
                           ("sick", "validation-failure")):
            send(relay, [f"a@{name}.t.test"])
            world.wait_for(lambda: self.shown(relay).get((f"{name}.t.test", "sts")), f"the count of {name}")
            _, details = self.details(relay, f"{name}.t.test", "sts")
            self.assertEqual({d["result-type"] for d in details}, {kind})

    def test_dane_is_counted_with_its_records(self):
        digest = digest_of(self.good[0], 1)
        text = ("good A 127.0.0.61\nweak A 127.0.0.63\nexpired A 127.0.0.64\nfit MX 10 good\n"
                "wrong MX 10 weak\nodd MX 10 expired\n"
                f"_{self.port}._tcp.good TLSA 3 1 1 {digest}\n"
                f"_{self.port}._tcp.weak TLSA 3 1 1 {digest}\n"
                f"_{self.port}._tcp.expired TLSA 0 0 1 {digest}\n")
        relay = Relay(self, dns=Validating(self, {"t.test": text}, ["t.test"]), extra=REPORT,
                      delivery=f'port = {self.port}\nca_file = "{self.ca[0]}"\nmta_sts = false\n')
        for name in ("fit", "wrong", "odd"):
            send(relay, [f"a@{name}.t.test"])
        world.wait_for(lambda: len(self.shown(relay)) == 3, "three counts")
        self.assertEqual(self.shown(relay)["fit.t.test", "tlsa"], (1, 0))
        named, [] = self.details(relay, "fit.t.test", "tlsa")
        self.assertEqual(named["policy-string"], [f"3 1 1 {digest.upper()}"])
        _, [detail] = self.details(relay, "wrong.t.test", "tlsa")
        self.assertEqual(detail["result-type"], "validation-failure")
        self.assertIn("DANE", detail["failure-reason-code"])
        _, [detail] = self.details(relay, "odd.t.test", "tlsa")
        self.assertEqual(detail["result-type"], "tlsa-invalid")

    # ---- sending ----

    def check_mail(self, mail, domain):
        self.assertEqual(mail["TLS-Report-Domain"], domain)
        self.assertEqual(mail["TLS-Report-Submitter"], "relay.test")
        self.assertEqual(mail["TLS-Required"], "No")
        self.assertIn("tls@reporter.test", mail["From"])
        self.assertRegex(mail["Subject"], rf"Report Domain: {domain} +Submitter: relay.test +Report-ID: <")
        self.assertEqual(mail.get_content_type(), "multipart/report")
        self.assertEqual(mail["Content-Type"].params["report-type"], "tlsrpt")
        words, part = mail.iter_parts()
        self.assertEqual(words.get_content_type(), "text/plain")
        self.assertEqual(part.get_content_type(), "application/tlsrpt+json")
        self.assertRegex(part.get_filename(), rf"^relay\.test!{domain}!\d+!\d+\.json$")
        report = json.loads(part.get_payload(decode=True))
        check_report(self, report)
        self.assertIn(f"<{report['report-id']}>", mail["Subject"])
        return report

    def test_reports_go_to_mailboxes_and_web_servers_and_are_counted_no_more(self):
        keys = os.path.join(self.folder, "keys")
        os.mkdir(keys)
        relay = self.relay(
            {"free": ("good", "mailto:tls%40x@reports.t.test,mailto:tls@reports.t.test"),
             "bare": ("clear", f"https://web.t.test:{self.web.port}/in?a=b,mailto:tls@reports.t.test"),
             "mute": ("good", None)}, start=False)
        relay.command("dkim", "keygen", "reporter.test", "s1", "--directory", keys)
        relay.write_config(extra=f'{REPORT}[[dkim]]\ndomain = "reporter.test"\nselector = "s1"\nkey = "{keys}/reporter.test/s1.key"\n')
        relay.start()
        for name in ("free", "bare", "mute"):
            send(relay, [f"a@{name}.t.test"])
            self.delivered(relay, f"a@{name}.t.test")
        self.assertIn("3 counts", relay.command("tls-report", "send", "--all"))
        [mail] = self.mails()
        report = self.check_mail(mail, "free.t.test")
        self.assertEqual(report["policies"][0]["summary"]["total-successful-session-count"], 1)
        self.assertIn("d=reporter.test", mail["DKIM-Signature"])
        world.wait_for(lambda: self.web.posts, "the report over HTTPS")
        [(path, kind, body)] = self.web.posts
        self.assertEqual((path, kind), ("/in?a=b", "application/tlsrpt+json"))
        check_report(self, json.loads(body))
        world.wait_for(lambda: len(relay.events("deliver.tls_report_sent")) == 2, "both are told")
        world.wait_for(lambda: not relay.queue(), "the report is delivered")
        # Nobody reports about reports; and what was told is not told again.
        self.assertEqual(self.shown(relay), {})
        send(relay, ["b@free.t.test"])
        self.delivered(relay, "b@free.t.test")
        self.assertEqual(self.shown(relay), {("free.t.test", "no-policy-found"): (1, 0)})

    def test_a_place_that_fails_is_followed_by_the_next_and_all_of_them_by_another_try(self):
        self.web.status = 503
        relay = self.relay({"bare": ("clear", f"https://web.t.test:{self.web.port}/,mailto:tls@reports.t.test"),
                            "free": ("good", f"https://web.t.test:{self.web.port}/")})
        for name in ("bare", "free"):
            send(relay, [f"a@{name}.t.test"])
            self.delivered(relay, f"a@{name}.t.test")
        relay.command("tls-report", "send", "bare.t.test")
        self.check_mail(self.mails()[0], "bare.t.test")
        relay.command("tls-report", "send", "free.t.test")
        event = relay.wait_event("deliver.tls_report_failed")
        self.assertEqual((event["domain"], event["wait"]), ("free.t.test", 3600))
        self.assertIn("503", event["message"])
        self.assertRegex(relay.command("tls-report", "show"), r"free\.t\.test .* to be sent again")
        self.web.status = 200
        relay.command("tls-report", "send", "--all")
        world.wait_for(lambda: [e for e in relay.events("deliver.tls_report_sent")
                                if e["domain"] == "free.t.test"], "the other try")

    def test_a_day_ends_at_midnight_and_counts_outlive_a_restart(self):
        preload, folder = world.preload(self, "clock.c")
        clock = os.path.join(folder, "clock")
        with open(clock, "w") as file:
            file.write("0")
        relay = self.relay({"free": ("good", "mailto:tls@reports.t.test"), "bare": ("clear", None)},
                           env={"LD_PRELOAD": preload, "CLOCK_FILE": clock})
        send(relay, ["a@free.t.test"])
        self.delivered(relay, "a@free.t.test")
        before = self.shown(relay)
        relay.stop()
        relay.start()
        self.assertEqual(self.shown(relay), before)
        day = time.strftime("%Y-%m-%d", time.gmtime())
        with open(clock, "w") as file:
            file.write(str(36 * 3600 - int(time.time()) % 86400))  # noon of the next day
        report = self.check_mail(self.mails()[0], "free.t.test")
        self.assertTrue(report["date-range"]["start-datetime"].endswith("T00:00:00Z"), report)
        self.assertTrue(report["date-range"]["end-datetime"].endswith("T23:59:59Z"), report)
        self.assertLessEqual(report["date-range"]["start-datetime"][:10], day)

    def test_a_file_that_is_none_is_told_and_one_that_cannot_be_written_too(self):
        relay = self.relay({"free": ("good", None)})
        send(relay, ["a@free.t.test"])
        self.delivered(relay, "a@free.t.test")
        os.mkdir(os.path.join(relay.data, "tls-report.end"))
        relay.stop()
        self.assertIn("cannot be written", relay.event("deliver.tls_report_unwritable")["message"])
        with open(os.path.join(relay.data, "tls-report"), "w") as file:
            file.write("smtpd-tls-report 1\nend\t7\n")
        relay.start()
        self.assertIn("its end does not fit", relay.wait_event("deliver.tls_report_unreadable")["message"])
        self.assertEqual(self.shown(relay), {})

    def test_off_nothing_is_counted(self):
        relay = self.relay({"free": ("good", None)}, extra="")
        send(relay, ["a@free.t.test"])
        self.delivered(relay, "a@free.t.test")
        self.assertIn("nothing is counted", relay.command("tls-report", "show"))
        self.assertIn("tls_report.organization",
                      relay.command("tls-report", "send", "--all", code=1))


if __name__ == "__main__":
    unittest.main(verbosity=2)
