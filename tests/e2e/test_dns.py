"""Issue sentences of 'Delivery' on names and addresses: literals, private addresses, joined
look-ups and the cache (by counting what the name server was asked), SERVFAIL, TCP fallback."""
import json
import socket
import struct
import threading
import unittest

import world
from test_deliver import books, bounced, send
from world import Dns, Hop, Relay

TYPES = {1: "A", 15: "MX", 28: "AAAA", 6: "SOA"}
SERVFAIL, REFUSED = 2, 5
FARM = 30       # domains that share one mail exchanger
MANY = 240      # look-ups at once; DESIGN allows 200
IN_FLIGHT = 200
COLD = 100  # lanes of new domains that ask at once, each a question and then two (docs/delivery.md)


class Proxy:
    """Stands before knotd and keeps what it is asked.

    `answer(name, type)` may say "SERVFAIL", "TRUNCATE" (an empty answer with TC), "HOLD" (until
    `release()`), or None: what knotd says. With `tcp` it takes TCP too, on the same port.
    """

    def __init__(self, case, dns, answer=None, tcp=True):
        self.answer = answer or (lambda name, kind: None)
        self.server = ("127.0.0.1", dns.port)
        self.lock = threading.Lock()
        self.asked = {}         # (id, name, type) -> how often: a repeat has the same id
        self.held = []
        self.open = set()       # asked and not answered
        self.most_open = 0
        self.tcp_asked = []     # (name, type)
        self.is_open = True
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.port = world.free_port()
        self.udp.bind(("127.0.0.1", self.port))
        self.address = f"127.0.0.1:{self.port}"
        self.listener = None
        if tcp:
            self.listener = socket.socket()
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.listener.bind(("127.0.0.1", self.port))
            self.listener.listen(64)
            threading.Thread(target=self._serve_tcp, daemon=True).start()
        threading.Thread(target=self._serve_udp, daemon=True).start()
        case.addCleanup(self.close)

    def close(self):
        self.is_open = False
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", ("127.0.0.1", self.port))
        if self.listener:
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()

    @staticmethod
    def question(query):
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode().lower())
            at += 1 + query[at]
        kind = struct.unpack("!H", query[at + 1:at + 3])[0]
        return ".".join(labels), TYPES.get(kind, str(kind)), at + 5

    def questions(self):
        """(name, type) -> how many questions; what udns repeats counts once."""
        counts = {}
        with self.lock:
            for _, name, kind in self.asked:
                counts[name, kind] = counts.get((name, kind), 0) + 1
        return counts

    def release(self):
        """What was held is answered, and nothing is held any more."""
        with self.lock:
            held, self.held, self.answer = self.held, [], lambda name, kind: None
        for query, client in held:
            self._forward(query, client)

    def _forward(self, query, client):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as upstream:
            upstream.settimeout(world.PATIENCE)
            upstream.sendto(query, self.server)
            self._reply(query, upstream.recv(65535), client)

    def _reply(self, query, answer, client):
        name, kind, _ = self.question(query)
        with self.lock:
            self.open.discard((query[:2], name, kind))
        self.udp.sendto(answer, client)

    def _serve_udp(self):
        while True:
            query, client = self.udp.recvfrom(65535)
            if not self.is_open:
                self.udp.close()
                return
            name, kind, end = self.question(query)
            key = (query[:2], name, kind)
            with self.lock:
                self.asked[key] = self.asked.get(key, 0) + 1
                self.open.add(key)
                self.most_open = max(self.most_open, len(self.open))
                said = self.answer(name, kind)
                if said == "HOLD":
                    self.held.append((query, client))
            if said == "HOLD":
                continue
            if said is None:
                self._forward(query, client)
                continue
            bits = 0x8180 | (SERVFAIL if said == "SERVFAIL" else 0x0200)
            header = query[:2] + struct.pack("!HHHHH", bits, 1, 0, 0, 0)
            self._reply(query, header + query[12:end], client)

    def _serve_tcp(self):
        while self.is_open:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with client, socket.create_connection(self.server, world.PATIENCE) as upstream:
                query = self._framed(client)
                if not query:
                    continue
                name, kind, _ = self.question(query)
                with self.lock:
                    self.tcp_asked.append((name, kind))
                upstream.sendall(struct.pack("!H", len(query)) + query)
                answer = self._framed(upstream)
                client.sendall(struct.pack("!H", len(answer)) + answer)

    @staticmethod
    def _framed(connection):
        file = connection.makefile("rb")
        length = file.read(2)
        return file.read(struct.unpack("!H", length)[0]) if len(length) == 2 else b""


ZONES = {"test": "\n".join(f"d{i} MX 10 mx.farm" for i in range(FARM + 1)) + """
mx.farm A 127.0.0.31
mx      MX 10 mx1
mx1     A 127.0.0.31
broken  MX 10 mx.broken
mx.broken A 127.0.0.31
half    MX 10 gone.half
half    MX 20 mx.half
gone.half A 127.0.0.31
mx.half A 127.0.0.31
lost    MX 10 no-such-host
lost    MX 20 mx.lost
mx.lost A 127.0.0.31
six     MX 10 mx.six
mx.six  AAAA ::1
inside  MX 10 mx.inside
mx.inside A 127.0.0.31
mx.inside A 10.1.2.3
mx.inside AAAA ::1
mx.inside AAAA fd00::1
byroute MX 10 mx.inside
""" + "\n".join(f"m{i} MX 10 mx.farm" for i in range(MANY)) + "\n" +
         "\n".join(f"big MX {i + 10} a-rather-long-name-of-a-mail-exchanger-{i}.of-a-big-farm"
                   for i in range(60)) + "\nbig MX 5 mx1\n"}


class Base(unittest.TestCase):
    def setUp(self):
        self.dns = Dns(self, ZONES)
        self.port = world.free_port()
        self.hop = Hop(self, host="127.0.0.31", port=self.port)

    def relay(self, answer=None, tcp=True, **more):
        self.proxy = Proxy(self, self.dns, answer, tcp)
        more.setdefault("delivery", f"port = {self.port}\n")
        more["delivery"] += "mta_sts = false\n"  # the questions are counted
        return Relay(self, dns=self.proxy, queue='retry = ["1h"]\n', **more)

    def backoff(self, relay, domain):
        return world.wait_for(lambda: [e for e in relay.events("deliver.dns_backoff")
                                       if e["domain"] == domain], f"the back-off of {domain}")[0]

    def heals(self, relay, recipient):
        """What waited goes when the name server answers again; no attempt was spent."""
        self.assertEqual([g["attempts"] for g in relay.queue()], [0])
        self.proxy.release()
        relay.command("queue", "retry", "--all")
        relay.wait_empty()
        self.assertEqual(self.hop.delivered(), {recipient: 1})
        books(self, relay, [self.hop], [recipient])


class NameServer(Base):
    """What the name server is asked, and what its answers lead to."""

    def test_look_ups_of_one_name_are_joined(self):
        """'udns with the cache, joined look-ups'; DESIGN: 'a due domain queue asks the router once
        (joined look-ups, cached for the TTL)'."""
        names = {f"d{i}.test" for i in range(FARM)}
        relay = self.relay(lambda name, kind: "HOLD" if name in names or name == "mx.farm.test"
                           else None)
        recipients = [f"r{i}@{name}" for name in sorted(names) for i in range(3)]
        for i in range(3):
            send(relay, [f"r{i}@{name}" for name in sorted(names)])
        world.wait_for(lambda: {n for n, _ in self.proxy.questions()} >= names, "all to be asked")
        # Now the domains are known, and their one mail exchanger is not yet.
        with self.proxy.lock:
            held, self.proxy.held = self.proxy.held, []
        for query, client in held:
            self.proxy._forward(query, client)
        world.wait_for(lambda: len({q[:2] for q, _ in self.proxy.held}) >= 2, "A and AAAA")
        self.assertEqual(relay.status()["queue"]["groups_waiting"] +
                         relay.status()["queue"]["groups_leased"], len(recipients))
        self.proxy.release()
        relay.wait_empty()
        books(self, relay, [self.hop], recipients)
        expected = {(name, "MX"): 1 for name in names}
        expected.update({("mx.farm.test", "A"): 1, ("mx.farm.test", "AAAA"): 1})
        self.assertEqual(self.proxy.questions(), expected)

    def test_what_is_in_the_cache_is_not_asked_again(self):
        """'udns with the cache'; DESIGN: 'Cache: TTL between 30 s and 1 h, negative 5 min'."""
        relay = self.relay()
        send(relay, ["a@d0.test", "a@absent.test"])
        relay.wait_empty()
        first = self.proxy.questions()
        self.assertEqual(first[("d0.test", "MX")], 1)
        self.assertEqual(first[("absent.test", "MX")], 1)
        # Another domain of the same host asks for what is new; the plans of the lanes are
        # forgotten at SIGHUP, so the lanes ask again, and the cache answers.
        send(relay, ["b@d1.test"])
        relay.wait_empty()
        relay.write_config(limits='message_size = "1MiB"\n')
        mark = relay.log_mark()
        relay.signal(1)
        world.wait_for(lambda: relay.event("server.reloaded", mark), "the new settings")
        hits = relay.status()["net"]["dns_cache_hits"]
        send(relay, ["c@d0.test", "c@absent.test", "c@d1.test"])
        relay.wait_empty()
        self.assertEqual(self.proxy.questions(), {**first, ("d1.test", "MX"): 1})
        self.assertGreater(relay.status()["net"]["dns_cache_hits"], hits)
        world.wait_for(lambda: len(bounced(relay)) == 2, "both bounces")
        self.assertEqual(bounced(relay), {"a@absent.test", "c@absent.test"})
        books(self, relay, [self.hop], ["a@d0.test", "b@d1.test", "c@d0.test", "c@d1.test"])

    def test_at_most_200_queries_are_in_flight_and_the_cached_go_first(self):
        """DESIGN: 'at most 200 queries in flight; a cached answer never waits behind a cold one'."""
        relay = self.relay(limits="recipients_per_message = 1000\n")
        send(relay, ["warm@d0.test"])
        relay.wait_empty()
        with self.proxy.lock:
            self.proxy.answer = lambda name, kind: "HOLD" if name[0] == "m" else None
        recipients = [f"r@m{i}.test" for i in range(MANY)]
        send(relay, recipients)
        world.wait_for(lambda: self.proxy.most_open >= COLD, "the look-ups")
        send(relay, ["cached@d0.test"])
        world.wait_for(lambda: "cached@d0.test" in self.hop.delivered(), "the one of the cache")
        self.proxy.release()
        relay.wait_empty()
        self.assertLessEqual(self.proxy.most_open, IN_FLIGHT)
        books(self, relay, [self.hop], recipients)

    def test_servfail_for_the_domain_defers_with_4_4_3(self):
        """DESIGN: 'SERVFAIL, time-out, truncation without TCP: defer 4.4.3, and the domain queue
        backs off (1, 5, 15 min)'."""
        relay = self.relay(lambda name, kind: "SERVFAIL" if name == "broken.test" else None)
        id = send(relay, ["s@broken.test"])
        event = self.backoff(relay, "broken.test")
        self.assertEqual(event["status"], "4.4.3")
        self.assertIn("SERVFAIL", event["message"])
        self.assertIn("4.4.3", relay.command("queue", "why", id))
        asked = self.proxy.questions()
        # Behind the back-off it waits a minute; the operator's retry asks at once.
        why = json.loads(relay.command("queue", "why", id, "--json"))[0]["why"]
        self.assertEqual(why["kind"], "dns")
        self.assertTrue(0 < why["until_ms"] - relay.status()["now_ms"] <= 60000, why)
        self.assertNotIn(("mx.broken.test", "A"), asked)
        self.heals(relay, "s@broken.test")

    def test_servfail_for_all_its_hosts_defers_and_for_some_it_does_not(self):
        """DESIGN: 'MX hosts without an address are skipped; ... any by SERVFAIL 4.4.3'."""
        relay = self.relay(lambda name, kind: "SERVFAIL" if name in
                           ("mx.broken.test", "gone.half.test", "mx.lost.test") else None)
        send(relay, ["h@half.test"])
        relay.wait_empty()
        self.assertEqual(self.hop.delivered(), {"h@half.test": 1})
        for recipient in ("b@broken.test", "l@lost.test"):  # lost: NXDOMAIN and SERVFAIL
            send(relay, [recipient])
            self.assertEqual(self.backoff(relay, recipient[2:])["status"], "4.4.3")
        books(self, relay, [self.hop], ["h@half.test", "b@broken.test", "l@lost.test"])
        self.assertEqual(bounced(relay), set())
        self.assertEqual([g["attempts"] for g in relay.queue()], [0, 0])

    def test_a_truncated_answer_is_asked_again_over_tcp(self):
        """'udns with ... TCP fallback'."""
        relay = self.relay()
        send(relay, ["t@big.test"])
        relay.wait_empty()
        self.assertEqual(self.hop.delivered(), {"t@big.test": 1})
        self.assertEqual(self.proxy.tcp_asked, [("big.test", "MX")])
        self.assertEqual(self.proxy.questions()[("big.test", "MX")], 1)

    def test_truncation_without_tcp_defers_with_4_4_3(self):
        """DESIGN: 'SERVFAIL, time-out, truncation without TCP: defer 4.4.3'."""
        relay = self.relay(lambda name, kind: "TRUNCATE" if name == "mx.test" else None, tcp=False)
        id = send(relay, ["t@mx.test"])
        event = self.backoff(relay, "mx.test")
        self.assertEqual(event["status"], "4.4.3")
        self.assertIn("TCP", event["message"])
        self.assertIn("4.4.3", relay.command("queue", "why", id))
        self.heals(relay, "t@mx.test")


class Addresses(Base):
    """Literals and private addresses."""

    def test_address_literals_of_both_families(self):
        """'router (MX, implicit MX, null MX, literals, ...)', IPv4 and IPv6."""
        six = Hop(self, host="::1", port=self.port)
        relay = self.relay()
        recipients = ["four@[127.0.0.31]", "six@[IPv6:::1]", "long@[IPv6:0:0:0:0:0:0:0:1]"]
        for recipient in recipients:
            send(relay, [recipient])
        send(relay, ["mx@six.test"])
        relay.wait_empty()
        self.assertEqual(self.hop.delivered(), {recipients[0]: 1})
        self.assertEqual(six.delivered(), {recipients[1]: 1, recipients[2]: 1, "mx@six.test": 1})
        self.assertEqual({name for name, _ in self.proxy.questions()},
                         {"six.test", "mx.six.test"})  # a literal asks nobody

    def test_private_addresses_are_filtered_unless_allowed(self):
        """DESIGN: 'Private addresses are filtered unless allowed; routes that the operator wrote
        are exempt.'"""
        six = Hop(self, host="::1", port=self.port)
        relay = self.relay(delivery=f"port = {self.port}\nallow_private_networks = false\n", extra=(
            f'[[route]]\nmatch = "byroute.test"\nhost = "mx.inside.test"\nport = {self.port}\n'
            'tls = "off"\n'))
        for recipient in ("m@inside.test", "f@[127.0.0.31]", "s@[IPv6:::1]", "p@[10.1.2.3]",
                          "v@[IPv6:::ffff:127.0.0.31]", "u@[IPv6:fd00::1]"):
            send(relay, [recipient])
            event = world.wait_for(lambda: [e for e in relay.events("deliver.bounced")
                                            if e["recipient"] == recipient], recipient)[0]
            self.assertEqual(event["reply"]["enhanced"], "5.4.4")
            self.assertIn("private", event["reply"]["text"])
        self.assertEqual((self.hop.connections, six.connections), (0, 0))
        send(relay, ["r@byroute.test"])
        relay.wait_empty()
        books(self, relay, [self.hop, six], ["r@byroute.test"])
        # The default is the filter: what world.py allows is the exception.
        text = relay.command("check", "--effective")
        self.assertRegex(text, r"(?m)^allow_private_networks = false")
        relay.write_config(delivery=f"port = {self.port}\n# allow_private_networks: the default\n")
        text = relay.command("check", "--effective")
        self.assertRegex(text, r"(?m)^allow_private_networks = false +# default")


if __name__ == "__main__":
    world.main()
