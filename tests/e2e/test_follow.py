"""'SIGHUP applies ... certificates, users and keys included': what a file holds is also taken when
it changes, without a signal, as Kubernetes and certbot change it."""
import os
import shutil
import smtplib
import ssl
import unittest

import world
from world import Relay


class Follow(unittest.TestCase):
    def served(self, relay):
        pem = ssl.get_server_certificate(("127.0.0.1", relay.smtps), timeout=world.PATIENCE)
        return pem.strip()

    def test_certificates_behind_a_link_that_is_swapped(self):
        """A mounted secret: ..data points to a folder, and is swapped as a whole."""
        relay = Relay(self, start=False)
        mount = os.path.join(relay.folder, "mount")
        os.mkdir(mount)

        def put(name, certificate, key):
            folder = os.path.join(mount, name)
            os.mkdir(folder)
            shutil.copy(certificate, os.path.join(folder, "tls.crt"))
            shutil.copy(key, os.path.join(folder, "tls.key"))
            os.symlink(name, os.path.join(mount, "..new"))
            os.rename(os.path.join(mount, "..new"), os.path.join(mount, "..data"))

        put("one", relay.certificate, relay.key)
        for name in ("tls.crt", "tls.key"):
            os.symlink(f"..data/{name}", os.path.join(mount, name))
        with open(relay.config_path) as file:
            text = file.read()
        for old, new in ((relay.certificate, "tls.crt"), (relay.key, "tls.key")):
            text = text.replace(f'"{old}"', f'"{mount}/{new}"')
        with open(relay.config_path, "w") as file:
            file.write(text)
        relay.start()
        with open(relay.certificate) as file:
            self.assertEqual(self.served(relay), file.read().strip())
        open_session = relay.client()

        # A pair that does not fit: said once, and the old one stays in effect.
        other = world.make_certificate(relay.folder, "other")
        put("two", other[0], relay.key)
        event = world.wait_for(lambda: relay.event("server.certificates_unreadable"), "the error")
        self.assertIn("tls.key", event["message"])
        with open(relay.certificate) as file:
            self.assertEqual(self.served(relay), file.read().strip())

        # The whole pair, in one swap.
        put("three", *other)
        world.wait_for(lambda: relay.event("server.certificates_loaded"), "the new pair")
        with open(other[0]) as file:
            self.assertEqual(self.served(relay), file.read().strip())
        self.assertEqual(open_session.noop()[0], 250)  # no session was dropped
        open_session.quit()
        self.assertEqual(len(relay.events("server.certificates_unreadable")), 1)
        self.assertEqual(len(relay.events("server.reloaded")), 0)

    def test_the_configuration_itself_where_it_says_so(self):
        """'ConfigMap ... reloaded live': a swapped smtpd.toml is applied, a broken one is not."""
        relay = Relay(self, server="follow_file = true\n")

        def swap(**changes):
            old, relay.config_path = relay.config_path, relay.config_path + ".new"
            relay.write_config(**changes)
            os.rename(relay.config_path, old)
            relay.config_path = old
        swap(limits='message_size = "70KiB"\n')
        world.wait_for(lambda: relay.event("server.reloaded"), "the reload")
        with relay.raw() as raw:
            self.assertIn(b"SIZE 71680", raw.say("EHLO c.test"))
        swap(limits='message_size = "70 parsecs"\n')
        world.wait_for(lambda: relay.event("server.reload_failed"), "the refusal")
        with relay.raw() as raw:
            self.assertIn(b"SIZE 71680", raw.say("EHLO c.test"))
        self.assertEqual(len(relay.events("server.reload_failed")), 1)

    def test_users_that_were_added_may_log_in(self):
        """'users ... included': `smtpd user add` takes effect by itself."""
        relay = Relay(self)
        relay.command("user", "add", "carol", stdin="carols password\n")

        def log_in():
            client = smtplib.SMTP("127.0.0.1", relay.submission, timeout=world.PATIENCE,
                                  local_hostname="client.test")
            try:
                client.starttls(context=relay.tls_context())
                client.login("carol", "carols password")
                return True
            except smtplib.SMTPAuthenticationError:
                return False
            finally:
                client.close()
        world.wait_for(log_in, "the log-in of a new user")

    def test_a_certificate_that_is_about_to_expire_is_named(self):
        """'what is about to expire': a warning in the log, once a day."""
        relay = Relay(self, start=False)
        world.make_certificate(relay.folder, "relay", days=3)
        relay.start()
        event = world.wait_for(lambda: relay.event("server.certificate_expires"), "the warning")
        self.assertRegex(event["message"], r"expires on \w{3}, \d+ \w{3} \d{4}")


if __name__ == "__main__":
    world.main()
