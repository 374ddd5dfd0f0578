"""TLS sessions towards next hops are resumed, where the verdict was kept with them: by Python's ssl
(OpenSSL) as the server, which says whether it was."""
import shutil
import signal
import ssl
import tempfile
import unittest

import world
from test_dane import Validating, digest_of
from test_deliver import send
from world import Hop, HopSession, Relay, make_certificate


class Session(HopSession):
    def _secure(self):
        if self.number in self.hop.breaks:
            raise OSError("nothing but a closed connection")
        self.connection = self.hop.context.wrap_socket(self.connection, server_side=True)
        self.hop.reused.append(self.connection.session_reused)
        self.is_secure = True


class TicketHop(Hop):
    """One context for all its connections: it gives tickets and takes them."""

    def __init__(self, case, pair, version=None, **more):
        self.reused, self.breaks = [], set()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*pair)
        if version:
            self.context.maximum_version = version
        super().__init__(case, tls=pair, **more)

    def _serve(self, connection, number):
        self.sockets.add(connection)
        try:
            Session(self, connection, number).run()
        except (OSError, ValueError):
            pass
        finally:
            self.sockets.discard(connection)
            connection.close()


class Resumption(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="smtpd-resume-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.pair = make_certificate(cls.folder, "hop", "mx.t.test")

    def relay(self, hop, tls, **more):
        route = f'[[route]]\nname = "hop"\nmatch = ["*"]\nhost = "127.0.0.1"\nport = {hop.port}\ntls = "{tls}"\n'
        return Relay(self, extra=route, delivery='idle_timeout = "0s"\n', **more)

    def mail(self, relay, hop, count=1):
        before = len(hop.messages)
        for at in range(count):
            send(relay, [f"a{before + at}@x.test"])
            world.wait_for(lambda: len(hop.messages) == before + at + 1, "the mail")
            relay.wait_empty()

    def resumed(self, relay):
        return next(s["value"] for f in relay.status()["metrics"]
                    if f["name"] == "smtpd_tls_handshakes_resumed_total" for s in f["samples"]
                    if s["labels"] == {"direction": "out"})

    def check_versions(self, version):
        hop = TicketHop(self, self.pair, version)
        relay = self.relay(hop, "required")
        self.mail(relay, hop, 3)
        self.assertEqual(hop.reused, [False, True, True])
        self.assertEqual(self.resumed(relay), 2)
        # What the server has forgotten is no fault: it begins anew, and so does a reload.
        hop.context = TicketHop(self, self.pair, version).context
        self.mail(relay, hop, 2)
        self.assertEqual(hop.reused[3:], [False, True])
        mark = relay.log_mark()
        relay.signal(signal.SIGHUP)
        relay.wait_event("server.reloaded", mark)
        self.mail(relay, hop, 2)
        self.assertEqual(hop.reused[5:], [False, True])

    def test_tls_13(self):
        self.check_versions(None)

    def test_tls_12(self):
        self.check_versions(ssl.TLSVersion.TLSv1_2)

    def test_one_that_breaks_at_a_resumption_is_met_anew_at_once_and_not_in_clear(self):
        hop = TicketHop(self, self.pair)
        relay = self.relay(hop, "opportunistic")
        self.mail(relay, hop)
        hop.breaks = {2}
        self.mail(relay, hop)
        self.assertEqual(hop.connections, 3)
        self.assertEqual(hop.reused, [False, False])
        self.mail(relay, hop)
        self.assertEqual(hop.reused, [False, False, True])
        self.assertTrue(all(m["secure"] for m in hop.messages))

    def test_a_verdict_of_dane_holds_for_its_records_only(self):
        port = world.free_port()
        hop = TicketHop(self, self.pair, host="127.0.0.71", port=port)
        text = ("mx A 127.0.0.71\nbare A 127.0.0.71\none MX 10 mx\ntwo MX 10 mx\nfree MX 10 bare\n"
                f"_{port}._tcp.mx TLSA 3 1 1 {digest_of(self.pair[0], 1)}\n")
        relay = Relay(self, dns=Validating(self, {"t.test": text}, ["t.test"]),
                      delivery=f'port = {port}\nidle_timeout = "0s"\nmta_sts = false\n')
        for at, (domain, is_reused, kind) in enumerate((
                ("one", False, "dane"), ("two", True, "dane"), ("free", False, None),
                ("one", True, "dane"))):
            recipient = f"a{at}@{domain}.t.test"
            send(relay, [recipient])
            event = world.wait_for(lambda: [e for e in relay.events("deliver.delivered")
                                            if e["recipient"] == recipient], recipient)[0]
            self.assertEqual(event["tls"].get("policy"), kind)
            self.assertEqual(hop.reused[at], is_reused, recipient)


if __name__ == "__main__":
    unittest.main(verbosity=2)
