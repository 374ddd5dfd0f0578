"""Issue sentences of 'Running it': events, control socket, selections, SIGTERM, SIGHUP."""
import contextlib
import json
import os
import pwd
import shutil
import signal
import smtplib
import socket
import stat
import subprocess
import threading
import time
import unittest

import world
from test_deliver import send
from world import Hop, Relay, message


@unittest.skipUnless(os.geteuid() == 0, "becoming another user needs root")
class Rights(unittest.TestCase):
    """DESIGN 4: 'Started as root, the process drops to its user and keeps
    CAP_NET_BIND_SERVICE.'"""

    def setUp(self):
        # The leak checker cannot look into a process that changed its user.
        options = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
        self.relay = Relay(self, server='user = "nobody"', start=False,
                           env={"ASAN_OPTIONS": options.lstrip(":")})
        os.chmod(self.relay.folder, 0o755)
        shutil.chown(self.relay.key, "nobody")

    def free_low_port(self):
        for port in range(700, 1000):
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
        self.skipTest("no port below 1024 is free")

    def test_every_thread_is_the_user_and_has_no_right_but_to_bind_low_ports(self):
        self.relay.start()
        user = pwd.getpwnam("nobody")
        capabilities = []
        for thread in os.listdir(f"/proc/{self.relay.process.pid}/task"):
            with open(f"/proc/{self.relay.process.pid}/task/{thread}/status") as file:
                status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
            self.assertEqual(status["Uid"].split(), 4 * [str(user.pw_uid)])
            self.assertEqual(status["Gid"].split(), 4 * [str(user.pw_gid)])
            capabilities.append(int(status["CapEff"], 16) | int(status["CapPrm"], 16))
        self.assertEqual(set(capabilities), {0, 1 << 10})

    def test_a_reload_binds_a_low_port_and_opens_the_log_again(self):
        self.relay.start()
        port = self.free_low_port()
        self.relay.write_config(extra=f'[[listen]]\naddress = "127.0.0.1:{port}"\n')
        os.rename(self.relay.log_path, self.relay.log_path + ".1")
        open(self.relay.log_path, "w").close()
        shutil.chown(self.relay.log_path, "nobody")
        self.relay.signal(signal.SIGHUP)
        world.wait_for(lambda: self.relay.event("server.reloaded"), "the reload")
        self.assertTrue(self.relay.raw(port).say("QUIT").startswith(b"221"))

    def test_the_log_that_root_made_is_opened_again_at_a_reload(self):
        self.relay.start()
        self.relay.signal(signal.SIGHUP)
        world.wait_for(lambda: self.relay.event("server.reloaded"), "the reload")
        self.assertFalse(self.relay.events("server.log_failed"))
        self.assertEqual(os.stat(self.relay.log_path).st_uid, pwd.getpwnam("nobody").pw_uid)

    def test_a_log_that_is_a_link_is_not_given_away(self):
        target = os.path.join(self.relay.folder, "roots")
        open(target, "w").close()
        os.symlink(target, self.relay.log_path)
        self.relay.start()
        self.assertEqual(os.stat(target).st_uid, 0)

    def test_the_first_user_makes_a_file_that_the_server_can_read(self):
        status = os.stat(self.relay.users)
        self.assertEqual((status.st_uid, status.st_gid), (0, pwd.getpwnam("nobody").pw_gid))
        self.assertEqual(stat.S_IMODE(status.st_mode), 0o640)

    def test_check_looks_with_the_eyes_of_the_user(self):
        def check():
            done = subprocess.run([world.BINARY, "check", self.relay.config_path], text=True,
                                  env=self.relay.env, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, timeout=world.PATIENCE)
            return done.returncode, done.stdout

        self.assertEqual(check()[0], 0)
        shutil.chown(self.relay.key, "root")
        os.chmod(self.relay.key, 0o600)
        code, words = check()
        self.assertEqual(code, 1)
        self.assertIn(self.relay.key, words)
        self.relay.write_config(server='user = "no-such-user"')
        self.assertIn("no-such-user", check()[1])

    def test_check_finds_what_a_reload_could_not_read(self):
        """Root may read the file and the secrets that it names, server.user may not: the start would
        work, and every reload fail."""
        def check():
            done = subprocess.run([world.BINARY, "check", self.relay.config_path], text=True,
                                  env=self.relay.env, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, timeout=world.PATIENCE)
            return done.returncode, done.stdout

        secret = os.path.join(self.relay.folder, "secret")
        with open(secret, "w") as file:
            file.write("swordfish\n")
        os.chmod(secret, 0o600)
        self.relay.write_config(server='user = "nobody"', extra=(
            f'[[route]]\nname = "smart"\nmatch = ["*.smart.test"]\nhost = "127.0.0.1"\nport = 9\n'
            f'tls = "required"\nuser = "u"\npassword_file = "{secret}"\n'))
        code, words = check()
        self.assertEqual(code, 1, words)
        self.assertIn(secret, words)
        self.assertIn("Permission denied", words)
        os.chmod(secret, 0o644)
        self.assertEqual(check()[0], 0)
        os.chmod(self.relay.config_path, 0o600)
        code, words = check()
        self.assertEqual(code, 1, words)
        self.assertIn("Permission denied", words)


class Queue(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.case = unittest.TestCase()
        cls.relay = Relay(cls.case, queue='retry = ["1h"]\n', extra=(
            f'[[route]]\nname = "dead"\nmatch = ["*.dead.test"]\nhost = "127.0.0.1"\n'
            f'port = {world.free_port()}\ntls = "off"\n'))
        cls.ids = [send(cls.relay, [f"r{i}@d{i % 3}.dead.test"], sender=f"s{i % 2}@b.test",
                        subject=f"q{i}") for i in range(12)]
        world.wait_for(lambda: cls.relay.status()["queue"]["groups_waiting"] == 12, "12 waiting")

    @classmethod
    def tearDownClass(cls):
        cls.case.doCleanups()

    def test_list_as_json_and_in_columns(self):
        self.assertEqual([g["id"] for g in self.relay.queue()], self.ids)
        page = self.relay.command("queue", "list")
        self.assertIn(self.ids[0], page)
        self.assertIn("12 groups", page)

    def test_selections(self):
        count = lambda *words: len(self.relay.queue(*words))
        self.assertEqual(count("--domain", "d1.dead.test"), 4)
        self.assertEqual(count("--sender", "s0@b.test"), 6)
        self.assertEqual(count("--sender", "s0@b.test", "--domain", "d1.dead.test"), 2)
        self.assertEqual(count("--recipient", "r5@d2.dead.test"), 1)
        self.assertEqual(count("--older-than", "1h"), 0)
        self.assertEqual(count("--state", "waiting"), 12)
        self.assertEqual(count("--state", "held"), 0)
        self.assertEqual(count("--user", "nobody"), 0)
        self.assertEqual(count("--limit", "5"), 5)
        wrong = self.relay.command("queue", "list", "--state", "odd", code=2)
        self.assertIn("--state odd: state is one of any, waiting, active, held", wrong)
        self.relay.command("queue", "list", "--frob", code=2)

    def test_show_why_headers_and_message(self):
        shown = self.relay.command("queue", "show", self.ids[3])
        self.assertIn("r3@d0.dead.test", shown)
        why = self.relay.command("queue", "why", self.ids[3])
        self.assertRegex(why, r"destination.*refused")
        headers = self.relay.command("queue", "show", self.ids[3], "--headers")
        self.assertIn("Subject: q3", headers)
        self.assertNotIn("\ntext", headers)
        whole = self.relay.command("queue", "show", self.ids[3], "--message")
        self.assertTrue(whole.startswith(headers) and "text" in whole[len(headers):])
        self.relay.command("queue", "show", "aaaaaaaaaaaaa", code=1)

    def test_summary_and_status(self):
        summary = json.loads(self.relay.command("queue", "list", "--summary", "--json"))
        self.assertEqual(sum(lane["groups"] for lane in summary["lanes"]), 12)
        page = self.relay.command("status")
        for word in ("relay.test", "waiting", "12 groups", "lag"):
            self.assertIn(word, page)

    def test_dry_run_counts_and_changes_nothing(self):
        out = self.relay.command("queue", "remove", "--all", "--dry-run")
        self.assertIn("12 groups", out)
        self.assertEqual(len(self.relay.queue()), 12)
        self.relay.command("queue", "remove", code=2)

    def test_only_root_and_the_server_user_may_command(self):
        path = os.path.join(self.relay.data, "control.sock")
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)

    def test_zz_remove_by_id_and_by_selection(self):
        out = json.loads(self.relay.command("queue", "remove", self.ids[0], "--json"))
        self.assertEqual(out["changed"], 1)
        self.relay.command("queue", "remove", "--domain", "d1.dead.test")
        self.assertEqual(len(self.relay.queue()), 7)
        world.wait_for(lambda: len(self.relay.events("queue.removed")) >= 5, "their lines in the log")
        removed = {e["id"] for e in self.relay.events("queue.removed")}
        self.assertIn(self.ids[0], removed)
        self.assertEqual(len(removed), 5)


class Process(unittest.TestCase):
    def test_a_second_server_says_who_holds_the_folder_and_exits_1(self):
        relay = Relay(self)
        second = subprocess.run([world.BINARY, "run", "--config", self.moved_ports(relay)],
                                stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                timeout=world.PATIENCE)
        self.assertEqual(second.returncode, 1)
        self.assertIn(str(relay.process.pid), second.stderr)

    def moved_ports(self, relay):
        path = relay.config_path + ".second"
        with open(relay.config_path) as file:
            text = file.read()
        for port in (relay.submission, relay.smtps, relay.relay_port):
            text = text.replace(f":{port}", f":{world.free_port()}")
        with open(path, "w") as file:
            file.write(text)
        return path

    def test_sigterm_lets_what_is_in_hand_finish(self):
        """A message in DATA may finish; idle sessions get 421; the deliveries in hand end."""
        at_dot = threading.Event()

        def slow(stage, argument, session):
            if stage == "dot":
                at_dot.set()
                time.sleep(1.5)
            return None
        hop = Hop(self, slow)
        relay = Relay(self, hop=hop.port)
        send(relay, ["inhand@x.test"])
        self.assertTrue(at_dot.wait(world.PATIENCE))
        idle = relay.raw()
        busy = relay.raw()
        for line in ("EHLO c.test", "MAIL FROM:<a@b.test>", "RCPT TO:<alice@local.test>", "DATA"):
            busy.say(line)
        busy.send("Subject: half\r\n\r\nfirst\r\n")
        time.sleep(0.2)
        process = relay.process
        process.send_signal(signal.SIGTERM)
        self.assertTrue(idle.reply().startswith(b"421 4.3.2"))
        busy.send("second\r\n.\r\n")
        self.assertTrue(busy.reply().startswith(b"250"))
        self.assertTrue(busy.reply().startswith(b"421"))
        with self.assertRaises(OSError):
            socket.create_connection(("127.0.0.1", relay.relay_port), 2)
        self.assertEqual(relay.wait_exit(), 0)
        self.assertEqual(hop.delivered(), {"inhand@x.test": 1})
        relay.start()
        relay.wait_empty()
        self.assertEqual(hop.delivered(), {"inhand@x.test": 1})
        self.assertEqual(len(relay.maildir("alice")), 1)

    def test_a_transaction_that_has_begun_may_finish(self):
        """A client that was told yes for its sender and a recipient says the rest; the next one it
        begins elsewhere."""
        relay = Relay(self)
        begun = relay.raw()
        for line in ("EHLO c.test", "MAIL FROM:<a@b.test>", "RCPT TO:<alice@local.test>"):
            self.assertTrue(begun.say(line).startswith(b"250"))
        idle = relay.raw()
        relay.process.send_signal(signal.SIGTERM)
        self.assertTrue(idle.reply().startswith(b"421 4.3.2"))
        self.assertTrue(begun.say("DATA").startswith(b"354"))
        begun.send("Subject: all\r\n\r\nof it\r\n.\r\n")
        self.assertTrue(begun.reply().startswith(b"250"))
        self.assertTrue(begun.reply().startswith(b"421"))
        self.assertEqual(relay.wait_exit(), 0)
        relay.start()
        relay.wait_empty()
        self.assertEqual(len(relay.maildir("alice")), 1)

    def test_the_grace_period_ends(self):
        at_dot = threading.Event()

        def hang(stage, argument, session):
            if stage == "dot":
                at_dot.set()
                return "HANG"
            return None
        hop = Hop(self, hang)
        relay = Relay(self, hop=hop.port)
        send(relay, ["stuck@x.test"])
        self.assertTrue(at_dot.wait(world.PATIENCE))
        started = time.monotonic()
        relay.signal(signal.SIGTERM)
        self.assertEqual(relay.wait_exit(), 0)
        self.assertLess(time.monotonic() - started, 60)
        self.assertTrue(relay.events("server.possible_duplicates"))

    def test_a_second_sigterm_goes_straight_to_the_commit(self):
        at_dot = threading.Event()

        def hang(stage, argument, session):
            if stage == "dot":
                at_dot.set()
                return "HANG"
            return None
        hop = Hop(self, hang)
        relay = Relay(self, hop=hop.port, server="")
        send(relay, ["stuck@x.test"])
        self.assertTrue(at_dot.wait(world.PATIENCE))
        relay.signal(signal.SIGTERM)
        world.wait_for(lambda: relay.event("server.draining"), "draining")
        relay.signal(signal.SIGTERM)
        self.assertEqual(relay.wait_exit(), 0)
        relay.start()
        relay.wait_index()
        self.assertEqual(len(relay.queue()), 1)

    def test_sighup_applies_all_of_the_file_or_nothing(self):
        relay = Relay(self)
        kept = relay.raw()
        with open(relay.config_path) as file:
            good = file.read()

        def reload(text, event):
            mark = relay.log_mark()
            with open(relay.config_path, "w") as file:
                file.write(text)
            relay.signal(signal.SIGHUP)
            return world.wait_for(lambda: relay.event(event, mark), event)
        new_port = world.free_port()
        # One error: nothing changes, not even the good part.
        bad = good.replace("[limits]", '[limits]\nmessage_size = "1MiB"\nconnections = 0') + \
            f'[[listen]]\naddress = "127.0.0.1:{new_port}"\nmode = "relay"\ntls = "none"\n'
        self.assertIn("connections", reload(bad, "server.reload_failed")["message"])
        with self.assertRaises(OSError):
            socket.create_connection(("127.0.0.1", new_port), 2)
        self.assertIn(b"SIZE 52428800", kept.say("EHLO c.test"))
        # A port that somebody else holds cancels all of it too.
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            taken = other.getsockname()[1]
            reload(good.replace("[limits]", '[limits]\nmessage_size = "2MiB"') +
                   f'[[listen]]\naddress = "127.0.0.1:{taken}"\nmode = "relay"\ntls = "none"\n',
                   "server.reload_failed")
        with relay.raw() as raw:
            self.assertIn(b"SIZE 52428800", raw.say("EHLO c.test"))
        # A good file: new listener, new size, changes logged, the open session goes on.
        reload(bad.replace("connections = 0", ""), "server.reloaded")
        with world.Raw(new_port) as raw:
            self.assertIn(b"SIZE 1048576", raw.say("EHLO c.test"))
        changed = {e["option"] for e in relay.events("server.option_changed")}
        self.assertTrue({"limits.message_size", "listen"} <= changed, changed)
        self.assertTrue(kept.say("NOOP").startswith(b"250"))
        # And back: the listener goes.
        reload(good, "server.reloaded")
        with self.assertRaises(OSError):
            socket.create_connection(("127.0.0.1", new_port), 2)
        self.assertTrue(kept.say("NOOP").startswith(b"250"))

    def test_certificates_are_replaced_at_a_reload(self):
        relay = Relay(self)

        def serial():
            out = subprocess.run(
                ["openssl", "s_client", "-connect", f"127.0.0.1:{relay.smtps}"], input="QUIT\n",
                text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60).stdout
            pem = out[out.index("-----BEGIN"):out.index("-----END")] + "-----END CERTIFICATE-----\n"
            return subprocess.run(["openssl", "x509", "-noout", "-serial"], input=pem, text=True,
                                  stdout=subprocess.PIPE, check=True).stdout
        before = serial()
        world.make_certificate(relay.folder, "relay")
        mark = relay.log_mark()
        relay.signal(signal.SIGHUP)
        world.wait_for(lambda: relay.event("server.reloaded", mark), "the reload")
        self.assertNotEqual(serial(), before)

    def test_a_block_of_100_ms_in_the_loop_shows_in_the_gauge(self):
        relay = Relay(self)
        time.sleep(0.3)
        before = relay.status()["loop_lag"]["max_us"]
        relay.signal(signal.SIGSTOP)
        time.sleep(0.15)
        relay.signal(signal.SIGCONT)
        lag = world.wait_for(lambda: max(0, relay.status()["loop_lag"]["max_us"]) >= 100000,
                             "the gauge to show it")
        self.assertTrue(lag)
        self.assertGreaterEqual(relay.status()["loop_lag"]["max_us"], before)

    def test_a_blocked_log_pipe_does_not_block_the_loop(self):
        """Final lines are kept; new mail waits (452 or 451) only when the ring is full of them."""
        relay = Relay(self, start=False)
        with open(relay.config_path) as file:
            text = file.read().replace(f'output = "{relay.log_path}"', 'output = "stdout"')
        with open(relay.config_path, "w") as file:
            file.write(text)
        reader, writer = os.pipe()
        process = subprocess.Popen([world.BINARY, "run", "--config", relay.config_path],
                                   stdout=writer, stderr=subprocess.DEVNULL)
        os.close(writer)

        def end():
            process.kill()
            process.wait()
            os.close(reader)
        self.addCleanup(end)
        world.wait_for(lambda: self.connects(relay.relay_port), "the relay to listen")
        for i in range(300):  # more lines than the pipe holds
            with relay.raw() as raw:
                for _ in range(5):
                    self.assertTrue(raw.say("EHLO c.test").startswith(b"250"))
                self.assertTrue(raw.say("MAIL FROM:<a@b.test>").startswith(b"250"))
                self.assertTrue(raw.say("RCPT TO:<x@elsewhere.invalid>")[:1] in b"25")

    @staticmethod
    def connects(port):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        except OSError:
            return False


if __name__ == "__main__":
    world.main()
