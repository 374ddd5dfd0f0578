"""REQUIRETLS and `TLS-Required: No` (RFC 8689): what a message itself says of TLS is kept with it, and
goes before what the domain or its next hop would have."""
import shutil
import tempfile
import unittest

import world
from test_mta_sts import PolicyHost, policy
from world import Dns, Hop, Relay, make_certificate

ALL = ("PIPELINING", "8BITMIME", "DSN", "ENHANCEDSTATUSCODES", "REQUIRETLS")


class RequireTls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="smtpd-requiretls-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.ca = make_certificate(cls.folder, "ca", "authority.test")
        cls.good = make_certificate(cls.folder, "good", "good.r.test", ca=cls.ca)
        cls.weak = make_certificate(cls.folder, "weak", "weak.r.test")
        cls.web = {f"mta-sts.{name}.r.test":
                   make_certificate(cls.folder, f"web-{name}", f"mta-sts.{name}.r.test", ca=cls.ca)
                   for name in ("safe", "strict")}

    def setUp(self):
        self.port = world.free_port()
        self.is_open = True

        def answer(stage, argument, session):
            return None if self.is_open else "421 4.3.2 closed"
        self.hops = {
            "good": Hop(self, answer, "127.0.0.81", self.port, ALL, self.good),
            "weak": Hop(self, answer, "127.0.0.82", self.port, ALL, self.weak),
            "old": Hop(self, answer, "127.0.0.83", self.port, tls=self.good)}

    def relay(self, **more):
        web = PolicyHost(self, {"safe.r.test": policy("enforce", "good.r.test"),
                                "strict.r.test": policy("enforce", "weak.r.test")}, self.web)
        text = "good A 127.0.0.81\nweak A 127.0.0.82\nold A 127.0.0.83\n"
        for name, host in (("safe", "good"), ("strict", "weak"), ("free", "good"), ("loose", "weak")):
            text += f"{name} MX 10 {host}\n"
        for name in ("safe", "strict"):
            text += f'mta-sts.{name} A 127.0.0.1\n_mta-sts.{name} TXT "v=STSv1; id=1;"\n'
        route = "".join(f'[[route]]\nname = "{name}"\nmatch = ["{name}.route.test"]\nhost = "{name}.r.test"\n'
                        f'port = {self.port}\n' for name in ("good", "old"))
        return Relay(self, dns=Dns(self, {"r.test": text}), queue='retry = ["1h"]\n', extra=route,
                     delivery=f'port = {self.port}\nca_file = "{self.ca[0]}"\nidle_timeout = "0s"\n'
                              f'mta_sts_port = {web.port}\n', **more)

    def send(self, relay, recipient, field="", requires=True, sender="alice@local.test"):
        with relay.relay_client() as client:
            client.starttls(context=relay.tls_context())
            client.ehlo()
            code, reply = client.docmd(f"MAIL FROM:<{sender}>", "REQUIRETLS" if requires else "")
            self.assertEqual(code, 250, reply)
            self.assertEqual(client.docmd(f"RCPT TO:<{recipient}>")[0], 250)
            code, reply = client.data(f"From: {sender}\r\nSubject: s\r\n{field}\r\ntext\r\n")
            self.assertEqual(code, 250, reply)
            return world.queued_id(reply)

    def delivered(self, hop, recipient):
        return world.wait_for(lambda: [m for m in hop.messages if recipient in m["recipients"]],
                              recipient)[0]

    def test_it_is_offered_behind_tls_only(self):
        relay = self.relay()
        with relay.relay_client() as client:
            client.ehlo()
            self.assertFalse(client.has_extn("requiretls"))
            code, reply = client.docmd("MAIL FROM:<a@b.test>", "REQUIRETLS")
            self.assertEqual((code, reply[:5]), (555, b"5.5.4"))
            client.starttls(context=relay.tls_context())
            client.ehlo()
            self.assertTrue(client.has_extn("requiretls"))

    def test_it_goes_where_it_is_offered_and_the_name_can_be_trusted(self):
        relay = self.relay()
        for recipient in ("a@safe.r.test", "b@good.route.test"):
            self.send(relay, recipient)
            message = self.delivered(self.hops["good"], recipient)
            self.assertIn(" REQUIRETLS", message["mail"])
            self.assertTrue(message["secure"])
        self.send(relay, "c@free.r.test", requires=False)
        self.assertNotIn("REQUIRETLS", self.delivered(self.hops["good"], "c@free.r.test")["mail"])

    def test_else_it_comes_back(self):
        """No REQUIRETLS there; no good certificate; a name that any DNS may have said."""
        relay = self.relay()
        for recipient in ("a@old.route.test", "b@loose.r.test", "c@free.r.test"):
            self.send(relay, recipient)
            event = world.wait_for(lambda: [e for e in relay.events("deliver.bounced")
                                            if e["recipient"] == recipient], recipient)[0]
            self.assertEqual((event["reply"]["code"], event["reply"]["enhanced"]), (550, "5.7.30"))
            self.assertEqual(event["class"], "tls")
        self.assertEqual([m for hop in self.hops.values() for m in hop.messages], [])
        reports = world.wait_for(lambda: len(relay.maildir("alice")) == 3 and relay.maildir("alice"),
                                 "the reports")
        self.assertIn("5.7.30", str(reports[0]))

    def test_it_outlives_a_crash(self):
        self.is_open = False
        relay = self.relay()
        self.send(relay, "a@safe.r.test")
        relay.wait_event("deliver.destination_backoff")
        relay.kill()
        self.is_open = True
        relay.start()
        relay.command("queue", "retry", "--all")
        self.assertIn(" REQUIRETLS", self.delivered(self.hops["good"], "a@safe.r.test")["mail"])

    def test_tls_required_no_goes_whatever_the_domain_asks_for(self):
        relay = self.relay()
        field = "TLS-Required: No\r\n"
        self.send(relay, "a@strict.r.test", field, requires=False)
        message = self.delivered(self.hops["weak"], "a@strict.r.test")
        self.assertIn(field.encode(), message["data"])
        self.assertTrue(message["secure"])
        # Another value is none; and REQUIRETLS goes before it.
        self.send(relay, "b@strict.r.test", "TLS-Required: Yes\r\n", requires=False)
        event = relay.wait_event("deliver.policy_backoff")
        self.assertEqual(event["domain"], "strict.r.test")
        self.send(relay, "c@loose.r.test", field)
        self.assertEqual(relay.wait_event("deliver.bounced")["reply"]["enhanced"], "5.7.30")


if __name__ == "__main__":
    unittest.main(verbosity=2)
