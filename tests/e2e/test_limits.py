"""Issue 3, 2: 'messages and recipients per minute, hour and day (several windows at once, kept
across restarts); the same limits per client address; a reply that says which limit was hit and
when it frees'; and the stolen password."""
import datetime
import os
import re
import signal
import smtplib
import subprocess
import threading
import time
import unittest

import world
from world import PASSWORD, USER, Raw, Relay, message, tool

LOCAL = "alice@local.test"


class Limits(unittest.TestCase):
    def user(self, relay, *words, **more):
        mark = relay.log_mark()
        relay.command("user", *words, **more)
        relay.process.send_signal(signal.SIGHUP)
        world.wait_for(lambda: relay.event("policy.users_loaded", mark), "the users file")

    def log_in(self, relay, name=USER, password=PASSWORD, source=None):
        client = smtplib.SMTP("127.0.0.1", relay.submission, timeout=world.PATIENCE,
                              local_hostname="client.test",
                              source_address=(source, 0) if source else None)
        self.addCleanup(client.close)
        client.starttls(context=relay.tls_context())
        client.login(name, password)
        return client

    def send(self, client, recipients=(LOCAL,)):
        """The code of the first reply that refuses, or 250."""
        code, text = client.mail("a@a.test")
        if code != 250:
            return code, text.decode()
        for recipient in recipients:
            code, text = client.rcpt(recipient)
            if code != 250:
                client.rset()
                return code, text.decode()
        code, text = client.data(message(to=LOCAL))
        return code, text.decode()

    def check_reply(self, reply, what, limit):
        """'450 4.7.1 ... limit 1000/h reached, free again at 14:05 UTC', and the time is right."""
        code, text = reply
        self.assertEqual(code, 450, text)
        match = re.fullmatch(r"4\.7\.1 Too many (.*): limit (\S+) reached, free again at "
                             r"(?:(\d{4}-\d\d-\d\d) )?(\d\d):(\d\d) UTC", text)
        self.assertTrue(match, text)
        self.assertEqual((match.group(1), match.group(2)), (what, limit))
        now = datetime.datetime.now(datetime.timezone.utc)
        day = datetime.date.fromisoformat(match.group(3)) if match.group(3) else now.date()
        free = datetime.datetime(day.year, day.month, day.day, int(match.group(4)),
                                 int(match.group(5)), tzinfo=datetime.timezone.utc)
        seconds = {"m": 60, "h": 3600, "d": 86400}[limit[-1]]
        self.assertGreater(free - now, datetime.timedelta(seconds=seconds * 0.9 - 120))
        self.assertLess(free - now, datetime.timedelta(seconds=seconds * 25 / 24 + 120))

    def test_messages_in_several_windows_at_once(self):
        relay = Relay(self)
        self.user(relay, "set", USER, "messages=3/h,5/d")
        client = self.log_in(relay)
        self.assertEqual([self.send(client)[0] for _ in range(3)], [250] * 3)
        self.check_reply(self.send(client), "messages of this user", "3/h")
        # A reload with a wider hour: the day has counted all the while.
        self.user(relay, "set", USER, "messages=10/h,5/d")
        self.assertEqual([self.send(client)[0] for _ in range(2)], [250] * 2)
        self.check_reply(self.send(client), "messages of this user", "5/d")
        world.wait_for(lambda: relay.event("receive.rejected"), "the log")
        self.assertEqual(relay.wait_event("receive.rejected")["reply"]["enhanced"], "4.7.1")
        self.user(relay, "set", USER, "messages=")
        self.assertEqual(self.send(client)[0], 250)

    def test_what_is_not_accepted_is_given_back(self):
        relay = Relay(self, limits='messages_per_user = "2/d"\nrecipients_per_user = "3/d"\n')
        client = self.log_in(relay)
        for _ in range(3):  # RSET, EHLO, a refused message, a lost connection
            self.assertEqual(client.mail("a@a.test")[0], 250)
            client.rcpt(LOCAL)
            client.rset()
            client.mail("a@a.test")
            client.ehlo("again.test")
            client.mail("a@a.test")
            client.rcpt(LOCAL)
            self.assertEqual(client.data("Received: a\r\n" * 200 + "\r\n")[0], 554)
        other = self.log_in(relay)
        other.mail("a@a.test")
        other.rcpt(LOCAL)
        other.close()
        world.wait_for(lambda: relay.status()["receive"]["connections_open"] == 1, "the end")
        self.assertEqual(self.send(client, (LOCAL, LOCAL, LOCAL))[0], 250)  # one, in truth
        self.assertEqual(self.send(client)[0], 250)
        self.check_reply(self.send(client), "messages of this user", "2/d")

    def test_a_message_that_is_under_way_is_reserved(self):
        relay = Relay(self, limits='messages_per_user = "2/h"\n')
        one, two, three = (self.log_in(relay) for _ in range(3))
        one.mail("a@a.test")
        two.mail("a@a.test")
        self.check_reply(self.send(three), "messages of this user", "2/h")
        one.rset()
        self.assertEqual(self.send(three)[0], 250)

    def test_recipients_of_a_user_and_of_an_address(self):
        relay = Relay(self, limits='recipients_per_address = "5/h"\nmessages_per_address = "4/h"\n')
        self.user(relay, "set", USER, "recipient_rate=3/h")
        client = self.log_in(relay)
        client.mail("a@a.test")
        replies = [client.rcpt(f"r{i}@x.test") for i in range(4)]
        self.assertEqual([code for code, _ in replies], [250, 250, 250, 450])
        self.check_reply((replies[3][0], replies[3][1].decode()), "recipients of this user", "3/h")
        self.assertEqual(client.data(message())[0], 250)
        # The address counts whoever it is, on every listener.
        with relay.relay_client() as other:
            other.ehlo()
            other.mail("b@b.test")
            replies = [other.rcpt(f"s{i}@x.test") for i in range(3)]
            self.assertEqual([code for code, _ in replies], [250, 250, 450])
            self.check_reply((450, replies[2][1].decode()), "recipients from your address", "5/h")
            other.rset()
            for i in range(3):
                self.assertEqual(other.mail("b@b.test")[0], 250)
                self.assertEqual(other.rcpt(LOCAL)[0], 250 if i < 2 else 450)
                if i < 2:
                    self.assertEqual(other.data(message())[0], 250)
                else:
                    other.rset()
        with Raw(relay.relay_port, source="127.0.0.2") as stranger:
            stranger.say("EHLO c.test")
            self.assertTrue(stranger.say("MAIL FROM:<c@c.test>").startswith(b"250"))
            self.assertTrue(stranger.say("RCPT TO:<a@x.test>").startswith(b"250"))

    def test_messages_of_an_address(self):
        relay = Relay(self, limits='messages_per_address = "2/h"\n')
        with relay.relay_client() as client:
            client.ehlo()
            self.assertEqual([self.send(client)[0] for _ in range(2)], [250, 250])
            self.check_reply(self.send(client), "messages from your address", "2/h")
        self.check_reply(self.send(self.log_in(relay)), "messages from your address", "2/h")
        self.assertEqual(self.send(self.log_in(relay, source="127.0.0.3"))[0], 250)

    def test_counts_survive_a_restart_and_a_kill(self):
        relay = Relay(self, limits='messages_per_user = "3/d"\n')
        client = self.log_in(relay)
        self.assertEqual(self.send(client)[0], 250)
        client.quit()
        relay.stop()
        relay.start()
        client = self.log_in(relay)
        path = os.path.join(relay.data, "limits")
        before = os.stat(path).st_ino
        self.assertEqual(self.send(client)[0], 250)
        world.wait_for(lambda: os.stat(path).st_ino != before, "the file of counts")
        relay.kill()
        relay.start()
        client = self.log_in(relay)
        self.assertEqual(self.send(client)[0], 250)
        self.check_reply(self.send(client), "messages of this user", "3/d")
        relay.stop()
        with open(path, "r+b") as file:  # one byte is not as it was
            file.seek(30)
            byte = file.read(1)
            file.seek(30)
            file.write(bytes([byte[0] ^ 1]))
        relay.start()
        world.wait_for(lambda: relay.event("policy.limits_unreadable"), "the warning")
        self.assertEqual(self.send(self.log_in(relay))[0], 250)

    def test_a_file_that_cannot_be_written_is_said_once(self):
        relay = Relay(self, limits='messages_per_user = "100/d"\n')
        os.mkdir(os.path.join(relay.data, "limits.new"))
        client = self.log_in(relay)
        self.assertEqual(self.send(client)[0], 250)
        world.wait_for(lambda: relay.event("policy.limits_unwritable"), "the error")
        os.rmdir(os.path.join(relay.data, "limits.new"))
        world.wait_for(lambda: os.path.exists(os.path.join(relay.data, "limits")), "the file")
        self.assertEqual(len(relay.events("policy.limits_unwritable")), 1)

    def test_msmtp_swaks_and_curl_hear_the_limit(self):
        relay = Relay(self, limits='messages_per_user = "1/d"\n')
        self.assertEqual(self.send(self.log_in(relay))[0], 250)
        text = message(to=LOCAL)
        path = os.path.join(relay.folder, "mail.eml")
        with open(path, "w") as file:
            file.write(text)
        commands = {
            "swaks": [tool("swaks"), "--server", f"127.0.0.1:{relay.submission}", "--tls", "--auth",
                      "PLAIN", "--auth-user", USER, "--auth-password", PASSWORD, "--from", "a@a.test",
                      "--to", LOCAL, "--helo", "client.test"],
            "curl": [tool("curl"), "-sv", "--ssl-reqd", "--cacert", relay.certificate, "--resolve",
                     f"relay.test:{relay.submission}:127.0.0.1", "--user", f"{USER}:{PASSWORD}",
                     f"smtp://relay.test:{relay.submission}", "--mail-from", "a@a.test",
                     "--mail-rcpt", LOCAL, "--upload-file", path],
            "msmtp": [tool("msmtp"), "--host=127.0.0.1", f"--port={relay.submission}", "--tls=on",
                      "--tls-certcheck=off", "--auth=plain", f"--user={USER}",
                      f"--passwordeval=echo '{PASSWORD}'", "--from=a@a.test", LOCAL],
        }
        for name, command in commands.items():
            with self.subTest(client=name):
                done = subprocess.run(command, input=text, text=True, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, timeout=world.PATIENCE)
                self.assertNotEqual(done.returncode, 0, done.stdout)
                self.assertRegex(done.stdout, r"4\.7\.1 Too many messages of this user: limit 1/d "
                                              r"reached, free again at")

    def test_a_stolen_password(self):
        """'one user sends as fast as it can from 200 connections ...; the limit holds to the
        message', and others keep working. How fast: bench/thief."""
        limit = 150
        relay = Relay(self, limits="handshakes_per_address = 1000\n", log_level="notice")
        self.user(relay, "add", "thief", f"messages={limit}/h", stdin="stolen\n")
        all_in = threading.Barrier(201)
        accepted, refused, failures = [0] * 200, [0] * 200, []

        def steal(number):
            try:
                client = self.log_in(relay, "thief", "stolen")
                all_in.wait(world.PATIENCE)
                for _ in range(10):
                    code, text = self.send(client)
                    accepted[number] += code == 250
                    refused[number] += code == 450
                    if code not in (250, 450):
                        failures.append((code, text))
                client.quit()
            except (OSError, smtplib.SMTPException, threading.BrokenBarrierError) as error:
                failures.append(error)
        threads = [threading.Thread(target=steal, args=(number,)) for number in range(200)]
        for thread in threads:
            thread.start()
        honest = self.log_in(relay)
        all_in.wait(world.PATIENCE)
        sent = 0
        while sent < 20 or any(thread.is_alive() for thread in threads):
            self.assertEqual(self.send(honest)[0], 250)
            sent += 1
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        self.assertEqual(sum(accepted), limit)
        self.assertEqual(sum(refused), 200 * 10 - limit)
        self.assertEqual(relay.status()["receive"]["messages_accepted"], limit + sent)


if __name__ == "__main__":
    world.main()
