"""Software that nobody here wrote, as clients and next hops: curl, swaks, msmtp, smtplib,
postfix's smtp-source and smtp-sink."""
import os
import subprocess
import unittest

import world
from world import PASSWORD, USER, Hop, Relay, Sink, message


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.case = unittest.TestCase()
        cls.hop = Hop(cls.case)
        cls.relay = Relay(cls.case, hop=cls.hop.port)

    @classmethod
    def tearDownClass(cls):
        cls.case.doCleanups()

    def arrived(self, recipient):
        return world.wait_for(lambda: [m for m in self.hop.messages
                                       if recipient in m["recipients"]], recipient)[0]

    def run_tool(self, *command, stdin=None):
        done = subprocess.run(command, input=stdin, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=world.PATIENCE)
        self.assertEqual(done.returncode, 0, done.stdout)
        return done.stdout

    def test_curl_starttls_and_smtps(self):
        path = os.path.join(self.relay.folder, "mail.txt")
        with open(path, "w", newline="") as file:
            file.write(message(subject="curl"))
        for url, to in ((f"smtp://127.0.0.1:{self.relay.submission}", "curl1@x.test"),
                        (f"smtps://127.0.0.1:{self.relay.smtps}", "curl2@x.test")):
            self.run_tool("curl", "-sS", "--ssl-reqd", "--insecure", "--url", url, "--user",
                          f"{USER}:{PASSWORD}", "--mail-from", "a@b.test", "--mail-rcpt", to,
                          "--upload-file", path)
            self.arrived(to)

    def test_swaks(self):
        for mechanism in ("PLAIN", "LOGIN"):
            to = f"swaks-{mechanism.lower()}@x.test"
            out = self.run_tool("swaks", "--server", f"127.0.0.1:{self.relay.submission}", "--tls",
                                "--auth", mechanism, "--auth-user", USER, "--auth-password",
                                PASSWORD, "--from", "a@b.test", "--to", to, "--pipeline")
            self.assertIn("queued as", out)
            self.arrived(to)

    def test_msmtp(self):
        config = os.path.join(self.relay.folder, "msmtprc")
        with open(config, "w") as file:
            file.write(f"account default\nhost 127.0.0.1\nport {self.relay.submission}\nauth on\n"
                       f"tls on\ntls_starttls on\ntls_certcheck off\nuser {USER}\nfrom a@b.test\n"
                       f'passwordeval "echo {PASSWORD}"\n')
        os.chmod(config, 0o600)
        self.run_tool("msmtp", "-C", config, "msmtp@x.test", stdin=message().replace("\r", ""))
        self.arrived("msmtp@x.test")

    def test_smtplib(self):
        with self.relay.client() as client:
            client.sendmail("a@b.test", ["lib1@x.test", "lib2@y.test"], message(body=".\r\n.."))
            self.assertEqual(client.noop()[0], 250)
        self.assertTrue(self.arrived("lib1@x.test")["data"].endswith(b"\r\n.\r\n..\r\n"))

    def test_smtp_source_to_smtp_sink(self):
        sink = Sink(self, "-c")
        relay = Relay(self, hop=sink.port)
        subprocess.run([world.tool("smtp-source"), "-s", "10", "-m", "300", "-l", "2000", "-r", "2",
                        "-d", "-f", "a@b.test", "-t", "c@x.test",
                        f"inet:127.0.0.1:{relay.relay_port}"], check=True, timeout=4 * world.PATIENCE)
        relay.wait_empty(4 * world.PATIENCE)
        status = relay.status()
        self.assertEqual(status["receive"]["messages_accepted"], 300)
        self.assertEqual(status["deliver"]["recipients_delivered"], 600)
        self.assertLess(status["deliver"]["connections"], 100)


if __name__ == "__main__":
    world.main()
