"""Issue 3, 2: 'Log-in failures are slowed, counted per address and per user, locked out for a time;
an unknown user cannot be told from a wrong password by words or by time.'"""
import base64
import signal
import statistics
import subprocess
import threading
import time
import unittest

import world
from world import PASSWORD, USER, Raw, Relay, message, tool

WRONG = b"535 5.7.8 User name or password is wrong"


def plain(user, password):
    return "AUTH PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode()


class Lockout(unittest.TestCase):
    def relay(self, auth, trusted='"127.0.0.1"', limits=""):
        """Clients of 127.0.0.1 are trusted, those of other addresses are strangers."""
        relay = Relay(self, start=False, limits=limits)
        with open(relay.config_path) as file:
            text = file.read()
        text = text.replace('trusted_networks = ["127.0.0.0/8", "::1"]', f"trusted_networks = [{trusted}]")
        text = text.replace("[limits]", auth + "\n[limits]")
        with open(relay.config_path, "w") as file:
            file.write(text)
        return relay.start()

    def metric(self, relay, name, **labels):
        families = {family["name"]: family for family in relay.status()["metrics"]}
        return next(sample["value"] for sample in families["smtpd_" + name]["samples"]
                    if sample.get("labels", {}) == labels)

    def open(self, relay, source="127.0.0.1"):
        raw = Raw(relay.submission, source=source)
        self.addCleanup(raw.close)
        if raw.greeting.startswith(b"220"):
            raw.say("EHLO c.test")
            raw.starttls(relay.tls_context())
            raw.say("EHLO c.test")
        return raw

    def test_an_answer_is_held_back_longer_each_time(self):
        """At least so long; a good log-in is not held back, and input waits meanwhile."""
        relay = self.relay('failure_delay = "200ms"')
        raw = self.open(relay, "127.0.0.9")
        for least in (0.2, 0.4, 0.8, 1.6, 1.6):
            start = time.monotonic()
            raw.send(plain("nobody", "x") + "\r\n")
            self.assertEqual(raw.reply(), WRONG)
            self.assertGreaterEqual(time.monotonic() - start, least)
        self.assertTrue(raw.say(plain(USER, PASSWORD)).startswith(b"235"))

    def test_a_client_that_leaves_while_its_answer_is_held_back(self):
        relay = self.relay('failure_delay = "5s"')
        raw = self.open(relay)
        raw.send(plain("nobody", "x") + "\r\n")
        world.wait_for(lambda: relay.event("receive.auth_failed"), "the failure")
        raw.close()
        world.wait_for(lambda: relay.event("receive.disconnected"), "the end of the session")
        relay.client().quit()

    def test_an_address_is_locked_out_for_a_time(self):
        relay = self.relay('failure_delay = "0s"\nfailures_per_address = "3/h"\nlockout = "1h"')
        early = self.open(relay, "127.0.0.9")
        raw = self.open(relay, "127.0.0.9")
        for name in ("a", "b", "c"):
            self.assertEqual(raw.say(plain(name, "x")), WRONG)
        event = world.wait_for(lambda: relay.event("policy.locked_out"), "the event")
        self.assertEqual((event["peer"], event["wait"]), ("127.0.0.9", 3600))
        said = early.say(plain(USER, PASSWORD))
        self.assertTrue(said.startswith(b"421 4.7.0 Too many failed log-ins from your address"), said)
        refused = self.open(relay, "127.0.0.9")
        self.assertTrue(refused.greeting.startswith(b"421 4.7.0"), refused.greeting)
        with Raw(relay.relay_port, source="127.0.0.9") as other:  # mail for us still comes in
            self.assertTrue(other.greeting.startswith(b"220"))
        self.assertTrue(self.open(relay, "127.0.0.8").say(plain(USER, PASSWORD)).startswith(b"235"))
        self.assertEqual(self.metric(relay, "auth_lockouts_total", of="address"), 1)
        self.assertEqual(self.metric(relay, "auth_failures_total", reason="password"), 3)
        self.assertGreaterEqual(self.metric(relay, "limits_reached_total", limit="failed_log_ins"), 2)
        self.assertEqual(self.metric(relay, "auth_locked_out", of="address"), 1)

    def test_a_lock_out_of_an_address_ends(self):
        """Nothing is asked before its end: it may be over before the next question."""
        relay = self.relay('failure_delay = "0s"\nfailures_per_address = "3/h"\nlockout = "2s"')
        raw = self.open(relay, "127.0.0.9")
        for name in ("a", "b", "c"):
            self.assertEqual(raw.say(plain(name, "x")), WRONG)
        event = world.wait_for(lambda: relay.event("policy.locked_out"), "the event")
        self.assertEqual((event["peer"], event["wait"]), ("127.0.0.9", 2))
        world.wait_for(lambda: self.open(relay, "127.0.0.9").greeting.startswith(b"220"),
                       "the end of the lock-out")
        self.assertTrue(self.open(relay, "127.0.0.9").say(plain(USER, PASSWORD)).startswith(b"235"))
        self.assertEqual(self.metric(relay, "auth_lockouts_total", of="address"), 1)
        self.assertEqual(self.metric(relay, "auth_failures_total", reason="password"), 3)
        self.assertEqual(self.metric(relay, "auth_locked_out", of="address"), 0)

    def test_a_trusted_address_is_not(self):
        relay = self.relay('failure_delay = "0s"\nfailures_per_address = "3/h"')
        raw = self.open(relay)
        for i in range(6):
            self.assertEqual(raw.say(plain(f"u{i}", "x")), WRONG)
        self.assertTrue(raw.say(plain(USER, PASSWORD)).startswith(b"235"))

    def test_a_user_is_locked_out_and_nobody_sees_it(self):
        """Known or not: the same words for the right password as for a wrong one."""
        relay = self.relay('failure_delay = "0s"\nfailures_per_user = "3/h"\nlockout = "1h"')
        relay.command("user", "add", "home", stdin="home secret\n")
        relay.process.send_signal(signal.SIGHUP)
        world.wait_for(lambda: relay.event("policy.users_loaded"), "the users file")
        # home came from 127.0.0.7 before: strangers do not lock it out of there.
        self.assertTrue(self.open(relay, "127.0.0.7").say(plain("home", "home secret"))
                        .startswith(b"235"))
        raw = self.open(relay, "127.0.0.9")
        for user in ("home", "nobody"):
            for _ in range(3):
                self.assertEqual(raw.say(plain(user, "wrong")), WRONG)
        self.assertEqual(raw.say(plain("home", "home secret")), WRONG)
        self.assertEqual(raw.say(plain("nobody", "home secret")), WRONG)
        self.assertEqual(self.open(relay, "127.0.0.8").say(plain("home", "home secret")), WRONG)
        self.assertTrue(self.open(relay, "127.0.0.7").say(plain("home", "home secret"))
                        .startswith(b"235"))
        world.wait_for(lambda: relay.events("policy.locked_out")[1:], "both events")
        self.assertEqual([e["user"] for e in relay.events("policy.locked_out")], ["home", "nobody"])
        world.wait_for(lambda: relay.event("receive.auth_failed")["reason"] == "locked out",
                       "the reason in the log")
        # Other users keep working, and a restart ends lock-outs.
        self.assertTrue(self.open(relay, "127.0.0.9").say(plain(USER, PASSWORD)).startswith(b"235"))
        relay.stop()
        relay.start()
        self.assertTrue(self.open(relay, "127.0.0.9").say(plain("home", "home secret"))
                        .startswith(b"235"))

    def test_tries_at_once_learn_no_more_than_the_limit(self):
        relay = self.relay('failure_delay = "0s"\nfailures_per_user = "4/h"')
        sessions = [self.open(relay, "127.0.0.9") for _ in range(12)]
        said = [None] * len(sessions)

        def guess(i):
            said[i] = sessions[i].say(plain(USER, f"guess {i}"))
        threads = [threading.Thread(target=guess, args=(i,)) for i in range(len(sessions))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(set(said), {WRONG})
        world.wait_for(lambda: relay.events("receive.auth_failed")[11:], "the log")
        reasons = [e["reason"] for e in relay.events("receive.auth_failed")]
        self.assertEqual((reasons.count("password"), reasons.count("locked out")), (4, 8))

    def test_swaks_hears_it_too(self):
        relay = self.relay('failure_delay = "0s"\nfailures_per_address = "2/h"', trusted="")

        def swaks(password):
            return subprocess.run(
                [tool("swaks"), "--server", f"127.0.0.1:{relay.submission}", "--tls", "--auth",
                 "LOGIN", "--auth-user", USER, "--auth-password", password, "--from", "a@a.test",
                 "--to", "alice@local.test", "--helo", "client.test"], text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=world.PATIENCE)
        self.assertEqual(swaks(PASSWORD).returncode, 0)
        for _ in range(2):
            self.assertIn("535 5.7.8", swaks("wrong").stdout)
        done = swaks(PASSWORD)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("421 4.7.0 Too many failed log-ins from your address", done.stdout)

    def test_an_unknown_user_takes_as_long_as_a_wrong_password(self):
        """Distributions, not milliseconds: were argon2 left out for one of them, every one of its
        tries would be quicker than nearly every one of the other's. Tries of all kinds take turns,
        so that whatever else the machine does hits them alike; medians may differ by a factor of
        two, and the ranks must overlap."""
        relay = self.relay('failure_delay = "0s"\nfailures_per_user = []\nfailures_per_address = []')
        relay.command("user", "add", "away", "networks=192.0.2.0/24", stdin="away secret\n")
        relay.command("user", "add", "locked", stdin="locked secret\n")
        relay.process.send_signal(signal.SIGHUP)
        world.wait_for(lambda: relay.event("policy.users_loaded"), "the users file")
        kinds = {"wrong": (USER, "wrong {}"), "unknown": ("nobody", "wrong {}"),
                 "impossible": ("a b:c", "wrong {}"), "network": ("away", "away secret"),
                 "unknown again": ("nobody{}", "wrong")}
        took = {kind: [] for kind in kinds}
        raw = self.open(relay)
        for i in range(30):
            for kind, (user, password) in kinds.items():
                line = plain(user.format(i), password.format(i))
                start = time.perf_counter()
                said = raw.say(line)
                took[kind].append(time.perf_counter() - start)
                self.assertEqual(said, WRONG, kind)
            if i % 3 == 2:  # before "too many errors"
                raw.close()
                raw = self.open(relay)
        reference = sorted(took["wrong"])
        middle = statistics.median(reference)
        for kind, times in took.items():
            self.assertLess(statistics.median(times), 2 * middle, kind)
            self.assertGreater(statistics.median(times), middle / 2, kind)
            quicker = sum(a < b for a in times for b in reference) / len(times) / len(reference)
            self.assertGreater(quicker, 0.02, kind)
            self.assertLess(quicker, 0.98, kind)


if __name__ == "__main__":
    world.main()
