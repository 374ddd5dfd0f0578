"""/metrics: read by programs that we did not write (promtool, Prometheus itself, its Python
parser), and every number is what happened."""
import glob
import json
import os
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.request

import world
from world import Hop, Relay, free_port, message

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
# The parser of Prometheus' own client library, unpacked beside the other tools.
sys.path += glob.glob(os.path.join(world.TOOLS, "root/usr/lib/python3*/dist-packages"))
from prometheus_client.openmetrics.parser import text_string_to_metric_families  # noqa: E402


def curl(port, *options):
    return subprocess.run(["curl", "-s", "-m", str(world.PATIENCE), *options,
                           f"http://127.0.0.1:{port}/metrics"],
                          stdout=subprocess.PIPE, text=True, check=True).stdout


def promtool(*words, stdin=None):
    return subprocess.run([world.tool("promtool"), *words], input=stdin, text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


class Scrape:
    """One reading of /metrics: scrape["name", label=value] is a number."""

    def __init__(self, port):
        self.families = list(text_string_to_metric_families(curl(port)))
        self.samples = {(s.name, frozenset(s.labels.items())): s.value
                        for family in self.families for s in family.samples}

    def __call__(self, name, **labels):
        return self.samples["smtpd_" + name, frozenset(labels.items())]

    def sum(self, name, **labels):
        return sum(value for (sample, has), value in self.samples.items()
                   if sample == "smtpd_" + name and set(labels.items()) <= has)

    def names(self):
        return {name for name, _ in self.samples}


class Numbers(unittest.TestCase):
    def start(self, **parts):
        self.port = free_port()
        extra = f'[admin]\nlisten = "127.0.0.1:{self.port}"\n' + parts.pop("extra", "")
        self.relay = Relay(self, extra=extra, **parts)
        return self.relay

    def wait(self, condition, what):
        """Scrapes until it holds; the scrape is returned."""
        def check():
            scrape = Scrape(self.port)
            return scrape if condition(scrape) else None
        return world.wait_for(check, what)

    def test_every_message_and_recipient_is_counted_where_it_ended(self):
        def answer(stage, argument, session):
            if stage == "rcpt" and "<late" in argument and answer.is_late:
                return "452 4.2.2 mailbox full"
            if stage == "rcpt" and "<gone" in argument:
                return "550 5.1.1 no such user"
            return None
        answer.is_late = True
        hop = Hop(self, answer)
        relay = self.start(hop=hop.port, queue='retry = ["1s"]\n')
        before = Scrape(self.port)
        with relay.client() as client:
            client.sendmail("postmaster@local.test", ["a@x.test", "late@x.test", "gone@x.test"],
                            message())
            client.sendmail("b@local.test", ["alice@local.test", "bob@local.test"], message())
        with self.assertRaises(smtplib.SMTPAuthenticationError):
            with smtplib.SMTP_SSL("127.0.0.1", relay.smtps, context=relay.tls_context()) as client:
                client.login(world.USER, "wrong")
        with relay.raw() as raw:
            raw.say("EHLO c.test")
            raw.say("MAIL FROM:<a@b.test>")
            self.assertTrue(raw.say("RCPT TO:<nobody@local.test>").startswith(b"550"))
            raw.say("RCPT TO:<alice@local.test>")
            raw.say("DATA")
            raw.send(b"Subject: x\r\n\r\na\nb\r\n.\r\n")
            self.assertTrue(raw.reply().startswith(b"550 5.5.2"))
            raw.say("QUIT")
        self.wait(lambda s: s("recipients_not_delivered_total", result="deferred",
                              **{"class": "quota"}) >= 1, "a deferral")
        answer.is_late = False
        relay.wait_empty()
        s = self.wait(lambda s: s.sum("sessions_total") == 3, "the end of the sessions")
        self.assertEqual(s("messages_accepted_total"), 2)
        self.assertEqual(s("messages_rejected_total", code="550"), 1)
        self.assertEqual(s.sum("messages_rejected_total"), 1)
        self.assertEqual(s("recipients_received_total", result="accepted"), 5)
        self.assertEqual(s("recipients_received_total", result="rejected"), 1)
        self.assertEqual(s("auth_attempts_total", result="ok"), 1)
        # smtplib tries PLAIN, then LOGIN.
        self.assertEqual(s("auth_attempts_total", result="failed"), 2)
        self.assertEqual(s("replies_total", code="535"), 2)
        self.assertEqual(s("replies_total", code="550"), 2)
        self.assertEqual(s("replies_total", code="354"), 3)
        self.assertEqual(s("sessions_total", tls="1.3"), 2)
        self.assertEqual(s("sessions_total", tls="none"), 1)
        self.assertEqual(s("connections_total", listener=f"127.0.0.1:{relay.submission}",
                           result="accepted"), 1)
        self.assertEqual(s("connections_total", listener=f"127.0.0.1:{relay.relay_port}",
                           result="accepted"), 1)
        self.assertEqual(s("connections_total", listener=f"[::1]:{relay.submission}",
                           result="accepted"), 0)
        # a and late by the hop; alice, bob and the report to postmaster into mailboxes.
        self.assertEqual(s("recipients_delivered_total", tls="none"), 2)
        self.assertEqual(s("recipients_delivered_total", tls="local"), 3)
        self.assertEqual(s("recipients_not_delivered_total", result="failed",
                           **{"class": "bad-mailbox"}), 1)
        self.assertEqual(s.sum("recipients_not_delivered_total", result="failed"), 1)
        self.assertEqual(s("reports_total"), 1)
        self.assertEqual(s("time_in_queue_seconds_count"), 6)
        self.assertEqual(s("final_dot_seconds_count"), 2)
        self.assertEqual(s("delay_seconds_count", stage="receive"), 2)
        self.assertGreaterEqual(s("delay_seconds_count", stage="transfer"), 4)
        self.assertGreaterEqual(s("time_in_queue_seconds_sum"), 0.9)  # late waited for a second
        self.assertEqual(s("destination_recipients_total", destination="route:hop",
                           result="delivered"), 2)
        self.assertEqual(s("destination_recipients_total", destination="route:hop",
                           result="failed"), 1)
        self.assertEqual(s.sum("destination_recipients_total", result="delivered"), 5)
        self.assertEqual(s("store_messages_committed_total"), 3)
        self.assertGreater(s("store_commit_seconds_count"), before("store_commit_seconds_count"))
        self.assertEqual(s("store_commit_seconds_count"), s.sum("store_commits_total"))
        self.assertEqual(s("queue_groups", state="waiting") + s("queue_groups", state="leased"), 0)
        self.assertEqual(s("queue_oldest_age_seconds"), 0)
        self.assertEqual(s("tls_handshakes_total", direction="in", result="ok"), 2)
        self.assertEqual(s("pool_jobs_total", pool="password", result="done"), 3)

    def test_what_waits_grows_old_and_its_destination_rests(self):
        relay = self.start(hop=free_port(), queue='retry = ["1h"]\n')
        with relay.relay_client() as client:
            for i in range(3):
                client.sendmail("a@b.test", [f"r{i}@d{i}.test"], message())
        s = self.wait(lambda s: s("queue_groups", state="waiting") == 3 and
                      s("destinations_backing_off") == 1, "three that wait")
        self.assertEqual(s("queue_domains"), 1)
        self.assertGreaterEqual(s("delivery_connections_failed_total"), 1)
        age = s("queue_oldest_age_seconds")
        self.wait(lambda s: s("queue_oldest_age_seconds") > age, "a greater age")

    def test_the_process_the_disk_and_the_certificate(self):
        relay = self.start()
        s = self.wait(lambda s: s("descriptors_open") > 0, "the first sample")
        with open(f"/proc/{relay.process.pid}/status") as file:
            status = dict(line.split(":", 1) for line in file)
        self.assertEqual(s("threads"), int(status["Threads"]))
        self.assertLess(abs(s("memory_bytes", kind="anonymous") -
                            int(status["RssAnon"].split()[0]) * 1024), 64 << 20)
        self.assertGreater(s("descriptors_limit"), s("descriptors_open"))
        self.assertLess(abs(s("start_time_seconds") - time.time()), 120)
        self.assertEqual(s("store_file_bytes"),
                         min(s("store_file_bytes"), os.path.getsize(relay.data + "/data.mdb")))
        disk = os.statvfs(relay.data)
        self.assertLess(abs(s("store_disk_free_bytes") - disk.f_bavail * disk.f_frsize), 4 << 30)
        end = subprocess.run(["openssl", "x509", "-noout", "-enddate", "-dateopt", "iso_8601",
                              "-in", relay.certificate], check=True, stdout=subprocess.PIPE,
                             text=True).stdout.split("=")[1].strip()
        wanted = subprocess.run(["date", "-ud", end, "+%s"], check=True, stdout=subprocess.PIPE,
                                text=True).stdout
        self.assertEqual(s("tls_certificate_expiry_timestamp_seconds", file=relay.certificate),
                         int(wanted))
        version = subprocess.run([world.BINARY, "version"], check=True, stdout=subprocess.PIPE,
                                 text=True).stdout.split()[1]
        self.assertEqual(s("build_info", version=version), 1)
        self.assertEqual(s("ready"), 1)

    def test_reloads_by_result(self):
        relay = self.start()
        relay.signal(signal.SIGHUP)
        self.wait(lambda s: s("reloads_total", result="ok") == 1, "a good reload")
        with open(relay.config_path, "a") as file:
            file.write("[nonsense]\n")
        relay.signal(signal.SIGHUP)
        self.wait(lambda s: s("reloads_total", result="failed") == 1, "a bad reload")

    def test_resumed_sessions_are_told_from_new_ones(self):
        relay = self.start()
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            before = Scrape(self.port)
            context = relay.tls_context()
            context.minimum_version = context.maximum_version = version
            session, resumed = None, []
            for _ in range(3):
                raw = socket.create_connection(("127.0.0.1", relay.smtps), world.PATIENCE)
                with context.wrap_socket(raw, server_hostname="relay.test",
                                         session=session) as tls:
                    tls.recv(1000)
                    session = tls.session
                    resumed.append(tls.session_reused)
            count = sum(resumed)
            self.assertGreaterEqual(count, 1)
            s = Scrape(self.port)
            self.assertEqual(s("tls_handshakes_resumed_total", direction="in") -
                             before("tls_handshakes_resumed_total", direction="in"), count)
            self.assertEqual(s("tls_handshakes_total", direction="in", result="ok") -
                             before("tls_handshakes_total", direction="in", result="ok"), 3)

    def test_signatures_by_kind_and_their_time(self):
        keys = tempfile.mkdtemp(prefix="smtpd-keys-")
        self.addCleanup(shutil.rmtree, keys)
        for selector, kind in (("r", "rsa"), ("e", "ed25519")):
            subprocess.run([world.BINARY, "dkim", "keygen", "b.test", selector, "--directory",
                            keys, "--type", kind], check=True, stdout=subprocess.DEVNULL,
                           timeout=world.PATIENCE)
        relay = self.start(extra=f'[signing]\nkey_directory = "{keys}"\n')
        with relay.client() as client:
            for _ in range(3):
                client.sendmail("a@b.test", ["alice@local.test"], message(sender="a@b.test"))
            client.sendmail("a@c.test", ["alice@local.test"], message(sender="a@c.test"))
        s = Scrape(self.port)
        self.assertEqual(s("signing_keys"), 2)
        self.assertEqual(s("signed_messages_total"), 3)
        for kind in ("rsa", "ed25519"):
            self.assertEqual(s("signatures_total", kind=kind, result="ok"), 3)
            self.assertEqual(s("signatures_total", kind=kind, result="failed"), 0)
            self.assertEqual(s("signature_seconds_count", kind=kind), 3)
        self.assertGreater(s("signature_seconds_sum", kind="rsa"), 0)

    def test_possible_duplicates_are_counted_for_the_next_process(self):
        at_dot, hangs = threading.Event(), [True]

        def answer(stage, argument, session):
            if stage == "dot" and hangs[0]:
                at_dot.set()
                return "HANG"
            return None
        hop = Hop(self, answer)
        relay = self.start(hop=hop.port)
        self.assertEqual(Scrape(self.port)("possible_duplicates_total"), 0)
        with relay.relay_client() as client:
            client.sendmail("a@b.test", ["c@x.test"], message())
        # Once by the end of the grace period, once by a second SIGTERM.
        for count, is_twice in ((1, False), (2, True)):
            self.assertTrue(at_dot.wait(world.PATIENCE))
            at_dot.clear()
            mark = relay.log_mark()
            relay.signal(signal.SIGTERM)
            world.wait_for(lambda: relay.event("server.draining", mark), "the drain")
            if is_twice:
                relay.signal(signal.SIGTERM)
            self.assertEqual(relay.wait_exit(), 0)
            hangs[0] = count < 2
            relay.start()
            self.assertEqual(Scrape(self.port)("possible_duplicates_total"), count)
        relay.wait_empty()
        self.assertEqual(hop.delivered(), {"c@x.test": 1})

    def test_limits_and_failed_handshakes(self):
        relay = self.start(limits="recipients_per_message = 100\nmessage_size = \"64KiB\"\n")
        with relay.raw() as raw:
            raw.say("EHLO c.test")
            raw.say("MAIL FROM:<a@b.test>")
            for i in range(101):
                raw.say(f"RCPT TO:<r{i}@x.test>")
            raw.say("RSET")
            self.assertTrue(raw.say("MAIL FROM:<a@b.test> SIZE=9000000").startswith(b"552"))
        with socket.create_connection(("127.0.0.1", relay.smtps), world.PATIENCE) as plain:
            plain.sendall(b"EHLO this.is.no.tls\r\n")
            plain.recv(1000)
        s = self.wait(lambda s: s("tls_handshakes_total", direction="in", result="failed") == 1,
                      "the failed handshake")
        self.assertEqual(s("limits_reached_total", limit="recipients_per_message"), 1)
        self.assertEqual(s("limits_reached_total", limit="message_size"), 1)


class Status(unittest.TestCase):
    def test_status_shows_on_a_terminal_and_in_json_what_metrics_says(self):
        port = free_port()
        hop = Hop(self)
        relay = Relay(self, hop=hop.port, extra=f'[admin]\nlisten = "127.0.0.1:{port}"\n')
        with relay.client() as client:
            client.sendmail("a@b.test", ["c@d.test"], message())
        relay.wait_empty()
        world.wait_for(lambda: Scrape(port).sum("sessions_total") == 1, "the end of the session")
        status, scrape = relay.status(), Scrape(port)
        families = {family["name"]: family for family in status["metrics"]}
        shown = {}
        for family in families.values():
            for sample in family["samples"]:
                key = frozenset(sample["labels"].items())
                if family["type"] == "histogram":
                    for part in ("count", "sum"):
                        shown[f"{family['name']}_{part}", key] = sample[part]
                    for bound, count in sample["buckets"]:
                        shown[family["name"] + "_bucket",
                              key | {("le", repr(float(bound)))}] = count
                else:
                    shown[family["name"], key] = sample["value"]
        wanted = {(name, frozenset((k, repr(float(v)) if k == "le" else v) for k, v in key))
                  for name, key in scrape.samples if ("le", "+Inf") not in key}
        self.assertEqual(set(shown), wanted)
        for name in ("messages_accepted_total", "recipients_delivered_total",
                     "time_in_queue_seconds_count", "replies_total", "build_info"):
            for (sample, key), value in scrape.samples.items():
                if sample == "smtpd_" + name:
                    self.assertEqual(shown[sample, key], value, sample)
        page = relay.command("status")
        for group in {family["group"] for family in families.values()}:
            self.assertIn(f"\n{group}\n", page)
        self.assertRegex(page, r"messages accepted +1\n")
        self.assertRegex(page, r"sessions +1\.3 1\n")
        self.assertRegex(page, r"final dot +1, mean [0-9.]+ (us|ms|s), half within ")
        self.assertRegex(page, r"tls certificate expiry +/.*relay.crt in (29|30)d\n")
        short = relay.command("status", "--short")
        self.assertNotIn("messages accepted", short)
        self.assertIn("1 delivered", short)
        self.assertNotIn("metrics", json.loads(relay.command("status", "--short", "--json")))
        relay.command("status", "--frob", code=2)


class Form(unittest.TestCase):
    def setUp(self):
        self.port = free_port()
        self.relay = Relay(self, hop=free_port(),
                           extra=f'[admin]\nlisten = "127.0.0.1:{self.port}"\n')
        with self.relay.relay_client() as client:
            client.sendmail("a@b.test", ["c@d.test"], message())

    def test_openmetrics_by_default_and_the_older_text_on_request(self):
        head = curl(self.port, "-i")
        self.assertIn("Content-Type: application/openmetrics-text; version=1.0.0", head)
        self.assertTrue(head.endswith("\n# EOF\n"))
        for accept, is_new in (("text/plain;version=0.0.4", False),
                               ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", True),
                               ("*/*", True)):
            text = curl(self.port, "-i", "-H", f"Accept: {accept}")
            self.assertEqual("openmetrics-text" in text.split("\r\n\r\n")[0], is_new)
            self.assertEqual(text.endswith("# EOF\n"), is_new)

    def test_promtool_finds_nothing_to_complain_about(self):
        done = promtool("check", "metrics", stdin=curl(self.port, "-H", "Accept: text/plain"))
        self.assertEqual((done.returncode, done.stdout), (0, ""))

    def test_the_manual_names_every_family_and_no_other(self):
        with open(os.path.join(ROOT, "docs", "metrics.md"), encoding="utf-8") as file:
            manual = {line.split("`")[1] for line in file if line.startswith("| `smtpd_")}
        shown = set()
        for family in Scrape(self.port).families:
            suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
            shown.add(family.name + suffix)
        self.assertEqual(shown, manual)

    def test_prometheus_itself_scrapes_it(self):
        folder = os.path.join(self.relay.folder, "prometheus")
        os.mkdir(folder)
        port = free_port()
        with open(os.path.join(folder, "prometheus.yml"), "w") as file:
            file.write("global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: smtpd\n"
                       f"    static_configs:\n      - targets: ['127.0.0.1:{self.port}']\n")
        with open(os.path.join(folder, "log"), "wb") as log:
            process = subprocess.Popen(
                [world.tool("prometheus"), f"--config.file={folder}/prometheus.yml",
                 f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL)

        def end():
            process.kill()
            process.wait()
        self.addCleanup(end)

        def query(text):
            try:
                with urllib.request.urlopen(
                        f"http://127.0.0.1:{port}/api/v1/query?query={text}", timeout=10) as reply:
                    return json.load(reply)["data"]["result"]
            except OSError:
                return []
        wanted = Scrape(self.port)

        def scraped():  # one that takes a second counts as down, until the next
            up = query("up{job=\"smtpd\"}".replace('"', "%22"))
            accepted, buckets = query("smtpd_messages_accepted_total"), query("smtpd_delay_seconds_bucket")
            return up and up[0]["value"][1] == "1" and accepted and buckets and (accepted, buckets)
        accepted, buckets = world.wait_for(scraped, "a scrape")
        self.assertEqual(float(accepted[0]["value"][1]), wanted("messages_accepted_total"))
        self.assertEqual(len(buckets), sum(1 for name, _ in wanted.samples
                                           if name == "smtpd_delay_seconds_bucket"))


if __name__ == "__main__":
    world.main()
