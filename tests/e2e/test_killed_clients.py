"""'What bad input gets ... an unharmed server': clients that are killed in TLS and in AUTH. Each
goes by a reset, the kernel's word for a process that is no more. The limits are small: a session,
a handshake's or an address's place that leaked would soon keep everybody out."""
import base64
import os
import smtplib
import socket
import ssl
import time
import unittest

import world
from world import PASSWORD, USER, Raw, Relay, message

KILLS = 7
LIMITS = ("connections = 3\nconnections_per_address = 3\n"
          "handshakes = 3\nhandshakes_per_address = 3\n")


class ClientHello:
    """The client's half of a handshake by Python's ssl, its bytes in our hands."""

    def __init__(self, relay):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = relay.tls_context().wrap_bio(self.incoming, self.outgoing)
        self.step()

    def step(self):
        try:
            self.object.do_handshake()
        except ssl.SSLWantReadError:
            return

    def bytes(self):
        return self.outgoing.read()


class Killed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.case = unittest.TestCase()
        cls.relay = Relay(cls.case, limits=LIMITS)

    @classmethod
    def tearDownClass(cls):
        cls.case.doCleanups()

    def setUp(self):
        self.wait_for_nobody()
        self.before = self.relay.status()
        self.descriptors = self.count_descriptors()

    def count_descriptors(self):
        """Sockets: files are opened and closed by pools at any time."""
        folder = f"/proc/{self.relay.process.pid}/fd"
        links = []
        for name in os.listdir(folder):
            try:
                links.append(os.readlink(os.path.join(folder, name)))
            except FileNotFoundError:
                pass
        return sum(link.startswith("socket:") for link in links)

    def wait_for_nobody(self):
        world.wait_for(lambda: self.relay.status()["receive"]["connections_open"] == 0,
                       "all sessions to be gone")

    def kill(self, raw):
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        raw.close()
        # Without this, the next one could come before the server saw this one go.
        self.wait_for_nobody()

    def each_time(self, begin):
        """Kills what `begin` began, more often than there are places."""
        for _ in range(KILLS):
            self.kill(begin())
        self.is_unharmed(KILLS)

    def is_unharmed(self, killed):
        # A reset may come before the server took the connection: it counts it all the same.
        came = self.before["receive"]["connections"] + killed
        world.wait_for(lambda: self.relay.status()["receive"]["connections"] >= came, "all to come")
        self.wait_for_nobody()
        world.wait_for(lambda: self.relay.status()["net"]["handshakes_running"] == 0,
                       "the handshakes' places to be free")
        status = self.relay.status()
        self.assertEqual(status["receive"]["connections"], came)
        self.assertEqual(status["receive"]["connections_refused"],
                         self.before["receive"]["connections_refused"])
        self.assertEqual(status["net"]["handshakes_refused"],
                         self.before["net"]["handshakes_refused"])
        # The control socket of the question itself may still be on its way out.
        world.wait_for(lambda: self.count_descriptors() <= self.descriptors, "the sockets to go")
        # Of all since the start: a line may come late, behind any mark.
        world.wait_for(lambda: len(self.relay.events("receive.disconnected")) == came,
                       "an end in the log for each")
        for _ in range(KILLS):  # and everybody can still come in
            with smtplib.SMTP("127.0.0.1", self.relay.submission, timeout=world.PATIENCE) as client:
                client.starttls(context=self.relay.tls_context())
                client.login(USER, PASSWORD)
                client.sendmail("a@b.test", ["alice@local.test"], message())
            self.wait_for_nobody()

    # ---- in TLS ----

    def after_starttls(self):
        raw = Raw(self.relay.submission)
        raw.say("EHLO c.test")
        self.assertTrue(raw.say("STARTTLS").startswith(b"220"))
        return raw

    def test_before_the_first_byte_of_tls(self):
        """'a remote ... that ... drops at any stage' and 'a client that vanishes': behind STARTTLS,
        and where TLS should begin at once."""
        self.each_time(self.after_starttls)
        self.before = self.relay.status()
        self.each_time(lambda: Raw(self.relay.smtps, greet=False))

    def test_in_the_middle_of_a_client_hello(self):
        """'an unharmed server': half of the first record of TLS."""
        def begin():
            raw = self.after_starttls()
            hello = ClientHello(self.relay).bytes()
            raw.send(hello[:len(hello) // 2])
            return raw
        self.each_time(begin)

    def test_while_the_server_computes_its_answer(self):
        """'an unharmed server': the step of the handshake runs on the pool while its socket dies."""
        def begin():
            raw = Raw(self.relay.smtps, greet=False)
            raw.send(ClientHello(self.relay).bytes())
            return raw
        self.each_time(begin)

    def test_after_the_answer_of_the_server(self):
        """'an unharmed server': the server waits for the last flight of the client."""
        def begin():
            raw = Raw(self.relay.smtps, greet=False)
            raw.send(ClientHello(self.relay).bytes())
            self.assertTrue(raw.socket.recv(1))
            return raw
        self.each_time(begin)

    def test_with_the_last_flight_cut(self):
        """'an unharmed server': half of what would end the handshake."""
        def begin():
            raw = Raw(self.relay.smtps, greet=False)
            client = ClientHello(self.relay)
            raw.send(client.bytes())
            deadline = time.monotonic() + world.PATIENCE
            flight = b""
            while not flight and time.monotonic() < deadline:
                client.incoming.write(raw.socket.recv(65536))
                client.step()
                flight = client.bytes()
            self.assertGreater(len(flight), 10)
            raw.send(flight[:len(flight) // 2])
            return raw
        self.each_time(begin)

    # ---- in AUTH ----

    def secured(self):
        raw = self.after_starttls()
        raw.socket = self.relay.tls_context().wrap_socket(raw.socket)
        raw.file = raw.socket.makefile("rb")
        raw.say("EHLO c.test")
        return raw

    def test_at_each_step_of_a_log_in(self):
        """'an unharmed server': the server waits for a response, for the rest of one, or checks the
        password (each is another one: no answer is known already)."""
        def at_the_challenge():
            raw = self.secured()
            self.assertTrue(raw.say("AUTH LOGIN").startswith(b"334"))
            return raw

        def at_the_password():
            raw = at_the_challenge()
            self.assertTrue(raw.say(base64.b64encode(USER.encode())).startswith(b"334"))
            return raw

        def in_a_response():
            raw = at_the_password()
            raw.send(b"c2Vjc")
            return raw

        def while_the_password_is_checked():
            raw = self.secured()
            guess = f"\0{USER}\0{time.monotonic_ns()}"
            raw.send(b"AUTH PLAIN " + base64.b64encode(guess.encode()) + b"\r\n")
            return raw
        for begin in (at_the_challenge, at_the_password, in_a_response,
                      while_the_password_is_checked):
            with self.subTest(step=begin.__name__):
                self.before = self.relay.status()
                self.each_time(begin)

    def test_a_killed_log_in_logs_nobody_in(self):
        """'Nobody relays without logging in': what a killed client began ends with it."""
        mark = self.relay.log_mark()
        good = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode())
        raw = self.secured()
        raw.send(b"AUTH PLAIN " + good[:-4])
        self.kill(raw)
        other = self.secured()
        self.addCleanup(other.close)
        self.assertTrue(other.say("MAIL FROM:<a@b.test>").startswith(b"530 5.7.0 Log in"))
        self.assertEqual(self.relay.events("receive.auth_ok", mark), [])


if __name__ == "__main__":
    world.main()
