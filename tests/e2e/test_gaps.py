"""Sentences that the files by subject leave open; each test names its own (docs/testing.md)."""
import json
import os
import socket
import stat
import subprocess
import unittest

import world
from test_deliver import books, send
from world import Hop, Relay, message


class Configuration(unittest.TestCase):
    def test_durations_and_sizes_as_people_write_them(self):
        """'Durations and sizes read as people write them ("5m", "25MiB").'"""
        relay = Relay(self, start=False, limits=(
            'message_size = "1GB"\nidle_timeout = "40m30s"\n'), queue='retry = ["90s"]\n')
        text = relay.command("check", "--effective")
        self.assertRegex(text, r'(?m)^message_size = "1GB"')
        self.assertRegex(text, r'(?m)^idle_timeout = "40m30s"')
        self.assertRegex(text, r'(?m)^retry = \["1m30s"\]')

    def test_toml_1_0_forms_and_nothing_newer(self):
        """'One TOML file, TOML 1.0 through a well-kept library.'"""
        relay = Relay(self, start=False, queue="retry = [\n  '1m', # literal\n  \"\"\"5m\"\"\",\n]\n")
        self.assertIn('retry = ["1m", "5m"]', relay.command("check", "--effective"))
        relay.write_config(queue='retry = ["\\e1m"]\n')  # \e is TOML 1.1
        self.assertIn("TOML", relay.command("check", code=1))

    def test_a_secret_of_a_file_is_used_and_never_shown(self):
        """'Secrets can come from a file (password_file) or the environment', masked, never logged."""
        secret = "Zx81-hidden-word"
        relay = Relay(self, start=False)
        hop = Hop(self, tls=world.make_certificate(relay.folder, "hop"), implicit_tls=True,
                  capabilities=("PIPELINING", "AUTH LOGIN"))
        path = os.path.join(relay.folder, "secret")
        with open(path, "w") as file:
            file.write(secret + "\n")
        relay.write_config(extra=(
            f'[[route]]\nname = "hop"\nmatch = ["*"]\nhost = "127.0.0.1"\nport = {hop.port}\n'
            f'tls = "required"\nimplicit_tls = true\nuser = "u"\npassword_file = "{path}"\n'))
        self.assertNotIn(secret, relay.command("check", "--effective"))
        relay.start()
        send(relay, ["r@x.test"])
        world.wait_for(lambda: hop.delivered(), "the delivery")
        said = [line for _, line in hop.commands]
        self.assertTrue(any(line.startswith("AUTH LOGIN") for line in said), said)
        relay.stop()
        with open(relay.log_path) as file:
            self.assertNotIn(secret, file.read())


class Receiving(unittest.TestCase):
    def setUp(self):
        self.relay = Relay(self, hop=world.free_port(), queue='retry = ["1h"]\n')

    def data(self, raw, text):
        raw.say("EHLO c.test")
        raw.say("MAIL FROM:<a@b.test>")
        raw.say("RCPT TO:<r@x.test>")
        raw.say("DATA")
        raw.send(text)
        return raw.reply()

    def test_nul_long_lines_and_headers_without_end(self):
        """'What bad input gets': a clear SMTP error and an unharmed server."""
        for text, answer in ((b"A: b\r\n\r\na\0b\r\n.\r\n", b"550 5.6.0"),
                             (b"A: b\r\n\r\na\nb\r\n.\r\n", b"550 5.5.2"),
                             (b"A: b\r\n\r\na\rb\r\n.\r\n", b"550 5.5.2"),
                             (b"A: " + b"x" * 70 + b"\r\n" +
                              (b" " + b"y" * 900 + b"\r\n") * 300 + b"\r\nz\r\n.\r\n",
                              b"552 5.3.4")):
            with self.relay.raw() as raw:
                reply = self.data(raw, text)
                self.assertEqual(reply[:1], b"5", reply)
                if not reply.startswith(b"550 5.6"):
                    self.assertTrue(reply.startswith(answer), (text[:20], reply))
                self.assertTrue(raw.say("NOOP").startswith(b"250"))
        self.assertEqual(self.relay.queue(), [])

    def test_an_over_long_log_in_line_and_absurd_parameters(self):
        """'over-long lines, ... absurd parameters'"""
        with self.relay.raw(self.relay.submission) as raw:
            raw.say("EHLO c.test")
            raw.starttls(self.relay.tls_context())
            raw.say("EHLO c.test")
            reply = raw.say("AUTH PLAIN " + "A" * 20000)
            self.assertTrue(reply.startswith(b"500 5.5."), reply)
            self.assertTrue(raw.say("NOOP").startswith(b"250"))
        with self.relay.raw() as raw:
            raw.say("EHLO c.test")
            for line in ("MAIL FROM:<a@b.test> SIZE=99999999999999999999",
                         "MAIL FROM:<a@b.test> SIZE=-1", "MAIL FROM:<a@b.test> RET=MAYBE",
                         "MAIL FROM:<a@b.test> BODY=9BIT", "MAIL FROM:<a@b.test> FOO=1",
                         "MAIL FROM:a b c"):
                self.assertEqual(raw.say(line)[:1], b"5", line)
            raw.say("MAIL FROM:<a@b.test>")
            for line in ("RCPT TO:<r@x.test> NOTIFY=NEVER,SUCCESS", "RCPT TO:<r@x.test> NOTIFY=",
                         "RCPT TO:<r@x.test> ORCPT=x", "RCPT TO:<r@x.test> FOO"):
                self.assertEqual(raw.say(line)[:1], b"5", line)

    def test_a_trusted_network_relays_on_a_relay_listener_only(self):
        """'Nobody relays without logging in, or from trusted_networks on a relay listener.'"""
        with self.relay.raw(self.relay.submission) as raw:
            raw.say("EHLO c.test")
            raw.starttls(self.relay.tls_context())
            raw.say("EHLO c.test")
            self.assertTrue(raw.say("MAIL FROM:<a@b.test>").startswith(b"530 5.7.0"))
        self.assertTrue(send(self.relay, ["r@x.test"]))

    def test_one_id_from_the_reply_to_the_log_and_received(self):
        """DESIGN: the id stands in the 250, in Received, and in every log line."""
        id = send(self.relay, ["r@x.test"])
        shown = self.relay.command("queue", "show", id, "--headers")
        self.assertRegex(shown, rf"(?s)^Received: .*\bid {id}\b")
        self.assertEqual(self.relay.wait_event("receive.accepted")["id"], id)

    def test_the_users_file_holds_argon2id_and_is_private(self):
        """'Users in a file with argon2id hashes (libsodium), written by smtpd user add.'"""
        self.relay.command("user", "add", "carol", stdin="carols-password\n")
        self.assertEqual(stat.S_IMODE(os.stat(self.relay.users).st_mode) & 0o007, 0)
        with open(self.relay.users) as file:
            text = file.read()
        self.assertRegex(text, r"carol.*\$argon2id\$v=19\$m=19456,t=2,p=1\$")
        self.assertNotIn("carols-password", text)
        self.assertIn("carol", self.relay.command("user", "list"))
        self.relay.command("user", "remove", "carol")
        self.assertNotIn("carol", self.relay.command("user", "list"))

    def test_a_client_that_vanishes_in_a_chunk_leaves_no_trace(self):
        """'a client that vanishes in mid-DATA (no trace of its message)', by BDAT."""
        raw = self.relay.raw()
        for line in ("EHLO c.test", "MAIL FROM:<a@b.test>", "RCPT TO:<r@x.test>"):
            raw.say(line)
        raw.send(b"BDAT 2000000\r\n" + b"A: b\r\n\r\n" + b"x" * 900000)
        world.wait_for(lambda: self.relay.status()["queue"]["drafts"] == 1, "the draft")
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        raw.close()  # a reset
        world.wait_for(lambda: self.relay.status()["queue"]["drafts"] == 0, "it to go")
        self.assertEqual(self.relay.queue(), [])


class Queue(unittest.TestCase):
    def test_messages_that_come_together_share_commits(self):
        """'natural group commit'"""
        relay = Relay(self, hop=world.free_port(), queue='retry = ["1h"]\n', log_level="notice")
        before = relay.status()["queue"]["commits"]
        subprocess.run([world.tool("smtp-source"), "-s", "40", "-m", "400", "-d", "-f", "a@b.test",
                        "-t", "r@x.test", f"inet:127.0.0.1:{relay.relay_port}"], check=True,
                       stdout=subprocess.DEVNULL, timeout=60)
        queue = relay.status()["queue"]
        self.assertEqual(queue["messages_committed"], 400)
        self.assertLess(queue["commits"] - before, 400)

    def test_many_unfinished_messages_all_can_finish(self):
        """'two budgets': receiving is bounded, and every session can finish."""
        relay = Relay(self, hop=world.free_port(), queue='retry = ["1h"]\n', log_level="notice")
        raws = [relay.raw() for _ in range(30)]
        for raw in raws:
            for line in ("EHLO c.test", "MAIL FROM:<a@b.test>", "RCPT TO:<r@x.test>", "DATA"):
                raw.say(line)
            raw.send(b"A: b\r\n\r\n" + (b"x" * 76 + b"\r\n") * 10000)
        world.wait_for(lambda: relay.status()["queue"]["drafts"] == 30, "30 drafts")
        self.assertLess(relay.status()["queue"]["receiving_bytes"], 30 * 400000)
        for raw in raws:
            raw.send(b".\r\n")
        for raw in raws:
            self.assertTrue(raw.reply().startswith(b"250"))
            raw.close()
        world.wait_for(lambda: relay.status()["queue"]["groups_waiting"] == 30, "all of them to wait")

    def test_more_recipients_than_a_group_takes(self):
        """'groups': at most 100 recipients; more make more groups, each delivered once."""
        hop = Hop(self)
        relay = Relay(self, hop=hop.port)
        recipients = [f"r{i}@x.test" for i in range(250)]
        send(relay, recipients)
        relay.wait_empty()
        books(self, relay, [hop], recipients)
        self.assertGreaterEqual(len(hop.messages), 3)


class Delivering(unittest.TestCase):
    def test_without_pipelining_commands_go_one_by_one(self):
        """'PIPELINING when offered': here it is not."""
        hop = Hop(self, capabilities=("8BITMIME",))
        relay = Relay(self, hop=hop.port)
        recipients = [f"r{i}@x.test" for i in range(5)]
        send(relay, recipients)
        relay.wait_empty()
        books(self, relay, [hop], recipients)

    def test_a_name_server_that_does_not_answer_defers(self):
        """DESIGN, DNS: SERVFAIL, time-out: defer 4.4.3, and the domain queue backs off."""
        relay = Relay(self)  # nobody answers at its name server
        send(relay, ["r@nowhere.test"])
        world.wait_for(lambda: relay.event("deliver.dns_backoff"), "the back-off", 60)
        books(self, relay, [], ["r@nowhere.test"])
        self.assertEqual(relay.queue()[0]["attempts"], 0)
        self.assertIn("dns", relay.command("queue", "why", relay.queue()[0]["id"]).lower())

    def test_a_refused_log_in_is_the_fault_of_the_host(self):
        """'[[route]] with TLS and AUTH': a refusal spends no attempt, and the books are whole."""
        hop = Hop(self, lambda stage, argument, session:
                  "535 5.7.8 no" if stage == "auth" else None,
                  capabilities=("PIPELINING", "AUTH PLAIN LOGIN"))
        relay = Relay(self, extra=(
            f'[[route]]\nname = "hop"\nmatch = ["*"]\nhost = "127.0.0.1"\nport = {hop.port}\n'
            'tls = "off"\nuser = "u"\npassword = "p"\n'))
        send(relay, ["r@x.test"])
        world.wait_for(lambda: relay.event("deliver.destination_backoff"), "the back-off")
        books(self, relay, [hop], ["r@x.test"])
        self.assertEqual(relay.queue()[0]["attempts"], 0)

    def test_two_relays_that_send_to_each_other_stop(self):
        """'A Received loop is caught.'"""
        first = Relay(self, start=False, limits="received_hops = 10\n")
        second = Relay(self, start=False, limits="received_hops = 10\n")
        first.write_config(hop=second.relay_port)
        second.write_config(hop=first.relay_port)
        first.start()
        second.start()
        send(first, ["r@x.test"], sender="alice@local.test")
        world.wait_for(lambda: first.maildir("alice") or second.maildir("alice"), "the report", 60)
        report = (first.maildir("alice") + second.maildir("alice"))[0]
        self.assertIn(b"5.4.6", report)
        first.wait_empty()
        second.wait_empty()


class Running(unittest.TestCase):
    def test_exit_codes(self):
        """DESIGN 5: exit codes 0, 1 (failed), 2 (usage), 3 (server not running)."""
        relay = Relay(self)
        relay.command("status", code=0)
        relay.command("queue", "show", "aaaaaaaaaaaaa", code=1)
        relay.command("queue", "frobnicate", code=2)
        relay.stop()
        for words in (("status",), ("queue", "list"), ("queue", "why", "aaaaaaaaaaaab")):
            self.assertIn("no server answers", relay.command(*words, code=3))

    def test_the_control_socket_speaks_http_and_json(self):
        """'The control socket': HTTP/1.1 and JSON, by curl."""
        relay = Relay(self)

        def curl(path, *more):
            done = subprocess.run(["curl", "-sS", "-w", "\n%{http_code}", "--unix-socket",
                                   os.path.join(relay.data, "control.sock"), *more,
                                   f"http://relay{path}"], text=True, stdout=subprocess.PIPE,
                                  check=True, timeout=30)
            body, _, code = done.stdout.rpartition("\n")
            return int(code), json.loads(body)
        code, body = curl("/v1/status")
        self.assertEqual(code, 200)
        self.assertEqual(body["hostname"], "relay.test")
        code, body = curl("/nothing/here")
        self.assertEqual(code, 404)
        self.assertIn("error", body)

    def test_a_file_with_an_error_changes_nothing_at_sighup(self):
        """'SIGHUP ... (all of the file or nothing)'"""
        import signal
        relay = Relay(self, limits='message_size = "1MiB"\n')
        relay.write_config(limits='message_size = "2MiB"\nconnections = "many"\n')
        mark = relay.log_mark()
        relay.process.send_signal(signal.SIGHUP)
        world.wait_for(lambda: relay.event("server.reload_failed", mark), "the refusal")
        with relay.raw() as raw:
            self.assertIn(b"SIZE 1048576", raw.say("EHLO c.test"))
        self.assertEqual(relay.status()["reloads_failed"], 1)


if __name__ == "__main__":
    world.main()
