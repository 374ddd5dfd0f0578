"""DANE (RFC 7672): a signed zone (knotd), a resolver that validates (unbound), and next hops whose
certificates fit the TLSA records, or do not."""
import hashlib
import os
import shutil
import ssl
import subprocess
import tempfile
import unittest

import world
from test_deliver import books, send
from world import Hop, Relay, make_certificate, tool

HEAD = "$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n"


class Validating:
    """knotd with `zones` (name -> records), those in `signed` with DNSSEC, behind unbound, which
    trusts their keys. Below the names in `bogus` unbound expects a key that nobody has."""

    def __init__(self, case, zones, signed, bogus=()):
        self.folder = tempfile.mkdtemp(prefix="smtpd-dane-dns-")
        case.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.knot_port, self.port = world.free_port(), world.free_port()
        self.address = f"127.0.0.1:{self.port}"
        for folder in ("zones", "run", "db"):
            os.mkdir(os.path.join(self.folder, folder))
        for name, records in zones.items():
            self._write(f"zones/{name}.zone", HEAD + records + "\n")
        self._write("knot.conf", self._knot(zones, signed))
        self._start(case, tool("knotd"), "-c", f"{self.folder}/knot.conf")
        anchors = [world.wait_for(lambda: self._keys(name), f"the keys of {name}")
                   for name in signed]
        self._write("anchors", "".join(anchors))
        self._write("unbound.conf", self._unbound(zones, bogus))
        self._start(case, tool("unbound"), "-d", "-c", f"{self.folder}/unbound.conf")
        world.wait_for(lambda: self._is_validated(signed[0]), "unbound to validate")

    def _write(self, name, text):
        with open(os.path.join(self.folder, name), "w") as file:
            file.write(text)

    def _start(self, case, *command):
        log = open(os.path.join(self.folder, "log"), "ab")
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

        def close():
            process.terminate()
            process.wait(world.PATIENCE)
            log.close()
        case.addCleanup(close)

    def _knot(self, zones, signed):
        text = (f'server:\n    rundir: "{self.folder}/run"\n    listen: 127.0.0.1@{self.knot_port}\n'
                f'database:\n    storage: "{self.folder}/db"\n'
                "policy:\n  - id: p\n    algorithm: ecdsap256sha256\n"
                f'template:\n  - id: default\n    storage: "{self.folder}/zones"\n'
                '    file: "%s.zone"\n    zonefile-sync: -1\n    journal-content: all\n'
                "    zonefile-load: difference-no-serial\nzone:\n")
        for name in zones:
            text += f"  - domain: {name}\n"
            if name in signed:
                text += "    dnssec-signing: on\n    dnssec-policy: p\n"
        return text

    def _unbound(self, zones, bogus):
        text = (f'server:\n    directory: "{self.folder}"\n    chroot: ""\n    username: ""\n'
                f'    pidfile: "{self.folder}/unbound.pid"\n    interface: 127.0.0.1@{self.port}\n'
                "    do-ip6: no\n    use-syslog: no\n    do-not-query-localhost: no\n"
                '    local-zone: "test." nodefault\n    module-config: "validator iterator"\n'
                f'    trust-anchor-file: "{self.folder}/anchors"\n')
        for name in bogus:
            text += f'    trust-anchor: "{name}. DS 12345 13 2 {"0f" * 32}"\n'
        for name in zones:
            text += f"stub-zone:\n    name: {name}\n    stub-addr: 127.0.0.1@{self.knot_port}\n"
        return text + "remote-control:\n    control-enable: no\n"

    def _dig(self, port, *words):
        return subprocess.run([tool("kdig"), "@127.0.0.1", "-p", str(port), "+time=1", "+retry=0",
                               *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True).stdout

    def _keys(self, name):
        text = self._dig(self.knot_port, name, "DNSKEY", "+noall", "+answer")
        return "".join(line + "\n" for line in text.splitlines() if " DNSKEY\t" in line or
                       "\tDNSKEY\t" in line)

    def _is_validated(self, name):
        return " ad;" in self._dig(self.port, name, "SOA", "+dnssec")  # of its line of flags

    def says(self, name, kind):
        return self._dig(self.port, name, kind, "+dnssec")


def digest_of(certificate, selector):
    """SHA-256, as a TLSA record has it."""
    with open(certificate) as file:
        pem = file.read()
    if selector == 0:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    key = subprocess.run(["openssl", "x509", "-in", certificate, "-noout", "-pubkey"], check=True,
                         stdout=subprocess.PIPE).stdout
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=key, check=True,
                         stdout=subprocess.PIPE).stdout
    return hashlib.sha256(der).hexdigest()


class Dane(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="smtpd-dane-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.own = make_certificate(cls.folder, "own", "anything.test")
        cls.other = make_certificate(cls.folder, "other", "mx.sure.test")
        cls.ca = make_certificate(cls.folder, "ca", "authority.test")
        cls.host = cls.below_ca("host", "mx.sure.test")
        cls.domain = cls.below_ca("domain", "one.sure.test")

    @classmethod
    def below_ca(cls, name, host):
        """A certificate of the authority, with that of the authority behind it (RFC 7672 3.1.2)."""
        certificate, key = make_certificate(cls.folder, name, host, ca=cls.ca)
        with open(certificate, "a") as chain, open(cls.ca[0]) as authority:
            chain.write(authority.read())
        return certificate, key

    def setUp(self):
        self.port = world.free_port()

    def own_record(self, certificate=None):
        return f"_{self.port}._tcp.mx TLSA 3 1 1 {digest_of((certificate or self.own)[0], 1)}\n"

    def anchor_record(self):
        return f"_{self.port}._tcp.mx TLSA 2 0 1 {digest_of(self.ca[0], 0)}\n"

    def hop(self, tls, host="127.0.0.41", **more):
        return Hop(self, host=host, port=self.port, tls=tls, **more)

    def relay(self, records, plain="", bogus=(), **more):
        """sure.test is signed: mx.sure.test is the mail exchanger of one, two and three.sure.test.
        plain.test is not signed, and its domains lead to the same host."""
        names = ("one", "two", "three")
        zones = {"sure.test": "mx A 127.0.0.41\n" + records +
                 "\n".join(f"{name} MX 10 mx" for name in names),
                 "plain.test": "\n".join(f"{name} MX 10 mx.sure.test." for name in names) + "\n" +
                 plain}
        self.dns = Validating(self, zones, ["sure.test"], bogus)
        more.setdefault("delivery", f'port = {self.port}\nidle_timeout = "10m"\n')
        return Relay(self, dns=self.dns, queue='retry = ["1h"]\n', **more)

    def tls_of(self, relay, recipient):
        return world.wait_for(lambda: [e for e in relay.events("deliver.delivered")
                                       if e["recipient"] == recipient], recipient)[0].get("tls")

    def left(self, relay, count):
        """What was delivered is out of the queue too: so many groups are left."""
        world.wait_for(lambda: len(relay.queue()) == count, f"{count} groups")

    def held(self, relay, domain, *words):
        """It waits, no attempt of its mail was spent, and the operator is told why."""
        event = world.wait_for(lambda: [e for e in relay.events("deliver.policy_backoff")
                                        if e["domain"] == domain], f"the back-off of {domain}")[0]
        group = [g for g in relay.queue() if g["lane"] == domain][0]
        self.assertEqual(group["attempts"], 0)
        why = relay.command("queue", "why", group["id"])
        for word in words:
            self.assertIn(word, event["message"])
            self.assertIn(word, why)

    # ---- the certificate is the one of the record ----

    def test_the_certificate_of_the_record_is_good_whatever_its_name(self):
        hop = self.hop(self.own)
        relay = self.relay(self.own_record())
        send(relay, ["a@one.sure.test"])
        relay.wait_empty()
        tls = self.tls_of(relay, "a@one.sure.test")
        self.assertEqual(tls["policy"], "dane")
        self.assertFalse(tls["verified"])       # no authority knows it
        self.assertTrue(hop.messages[0]["secure"])
        self.assertEqual(hop.names, ["mx.sure.test"])
        self.assertEqual(self.delivered_by(relay, "dane"), 1)
        # The others find the connection open, and may use it.
        for recipient in ("b@two.sure.test", "c@three.plain.test"):
            send(relay, [recipient])
            relay.wait_empty()
        self.assertEqual(hop.connections, 1)
        self.assertEqual(self.tls_of(relay, "b@two.sure.test")["policy"], "dane")
        books(self, relay, [hop], ["a@one.sure.test", "b@two.sure.test", "c@three.plain.test"])

    def delivered_by(self, relay, policy):
        return next(sample["value"] for family in relay.status()["metrics"]
                    if family["name"] == "smtpd_recipients_delivered_over_tls_total"
                    for sample in family["samples"] if sample["labels"] == {"policy": policy})

    def test_another_certificate_holds_the_domain_and_nobody_else(self):
        """The way of the unsigned domain is not authentic: to it the records are nothing."""
        hop = self.hop(self.other)
        relay = self.relay(self.own_record())
        send(relay, ["a@one.sure.test"])
        self.held(relay, "one.sure.test", "TLSA records of mx.sure.test", "DANE")
        self.assertEqual(hop.messages, [])
        send(relay, ["b@one.plain.test"])
        world.wait_for(lambda: hop.delivered(), "the mail of the unsigned domain")
        self.assertNotIn("policy", self.tls_of(relay, "b@one.plain.test"))
        # Nothing goes by the connection that this one left open.
        send(relay, ["c@two.sure.test"])
        self.held(relay, "two.sure.test", "TLSA records of mx.sure.test")
        self.left(relay, 2)
        books(self, relay, [hop], ["b@one.plain.test"])
        self.assertEqual({g["lane"] for g in relay.queue()}, {"one.sure.test", "two.sure.test"})

    # ---- the certificate leads to the one of the record ----

    def test_a_chain_to_the_anchor_with_the_name_of_the_host_serves_every_domain(self):
        hop = self.hop(self.host)
        relay = self.relay(self.anchor_record())
        recipients = ["a@one.sure.test", "b@two.sure.test"]
        for recipient in recipients:
            send(relay, [recipient])
            relay.wait_empty()
            self.assertEqual(self.tls_of(relay, recipient)["policy"], "dane")
        self.assertEqual(hop.connections, 1)
        books(self, relay, [hop], recipients)

    def test_a_chain_to_the_anchor_with_the_name_of_a_domain_serves_that_one(self):
        """RFC 7672 3.2.2; the open connection is not for the other domain either."""
        hop = self.hop(self.domain)
        relay = self.relay(self.anchor_record())
        send(relay, ["a@one.sure.test"])
        relay.wait_empty()
        send(relay, ["b@two.sure.test"])
        self.held(relay, "two.sure.test", "TLSA records of mx.sure.test")
        send(relay, ["c@one.sure.test"])
        world.wait_for(lambda: len(hop.messages) == 2, "the domain of the name")
        self.assertEqual(self.tls_of(relay, "c@one.sure.test")["policy"], "dane")
        self.left(relay, 1)
        books(self, relay, [hop], ["a@one.sure.test", "c@one.sure.test"])

    def test_a_certificate_beside_the_anchor_is_none(self):
        """Of a stranger, who shows the authority's behind a certificate that it did not sign."""
        with open(self.other[0]) as own, open(self.ca[0]) as authority:
            text = own.read() + authority.read()
        path = os.path.join(self.folder, "beside.crt")
        with open(path, "w") as file:
            file.write(text)
        hop = self.hop((path, self.other[1]))
        relay = self.relay(self.anchor_record())
        send(relay, ["a@one.sure.test"])
        self.held(relay, "one.sure.test", "TLSA records of mx.sure.test")
        self.assertEqual(hop.messages, [])

    # ---- never in clear ----

    def test_without_starttls_nothing_is_said(self):
        hop = self.hop(None)
        relay = self.relay(self.own_record())
        send(relay, ["a@one.sure.test"])
        self.held(relay, "one.sure.test", "no STARTTLS", "TLSA")
        self.assertEqual([c for _, c in hop.commands if c.startswith("MAIL")], [])

    def test_starttls_that_is_refused_or_broken_is_no_way_into_the_clear(self):
        """The unsigned domain goes on in clear, and that is remembered for the host: for others."""
        def refuses(stage, argument, session):
            return "454 4.7.0 not now" if stage == "starttls" else None

        def breaks(stage, argument, session):
            if stage != "starttls":
                return None
            session.connection.sendall(b"220 2.0.0 go ahead\r\n")
            session.connection.recv(1)
            session.connection.sendall(b"this is no TLS\r\n")
            return "DROP"

        for answer in (refuses, breaks):
            with self.subTest(answer=answer.__name__):
                hop = self.hop(self.own, answer=answer)
                relay = self.relay(self.own_record())
                send(relay, ["p@one.plain.test"])
                relay.wait_empty()
                self.assertIsNone(self.tls_of(relay, "p@one.plain.test"))
                send(relay, ["a@one.sure.test"])
                self.held(relay, "one.sure.test", "TLS", "mx.sure.test")
                books(self, relay, [hop], ["p@one.plain.test"])
                relay.stop()
                hop.close()

    def test_records_of_no_use_ask_for_tls_and_no_more(self):
        hop = self.hop(self.other)
        relay = self.relay(f"_{self.port}._tcp.mx TLSA 1 1 1 {'00' * 32}\n")
        send(relay, ["a@one.sure.test"])
        relay.wait_empty()
        self.assertEqual(self.tls_of(relay, "a@one.sure.test")["policy"], "dane-unusable")
        hop.close()
        relay.stop()
        hop = self.hop(None)
        relay.start()
        send(relay, ["b@one.sure.test"])
        self.held(relay, "one.sure.test", "no STARTTLS")
        self.assertEqual(hop.messages, [])

    # ---- what the DNS says ----

    def test_records_that_cannot_be_had_hold_the_mail_or_send_it_to_the_next_host(self):
        hop, next_hop = self.hop(self.own), self.hop(self.other, host="127.0.0.42")
        relay = self.relay(self.own_record() + "both MX 10 mx\nboth MX 20 next\nnext A 127.0.0.42\n",
                           bogus=["_tcp.mx.sure.test"])
        name = f"_{self.port}._tcp.mx.sure.test"
        world.wait_for(lambda: "SERVFAIL" in self.dns.says(name, "TLSA"), "SERVFAIL")
        send(relay, ["a@one.sure.test"])
        self.held(relay, "one.sure.test", f"TLSA of {name}", "SERVFAIL")
        # It is remembered of the host: the next domain's mail holds no place while it is asked again.
        send(relay, ["c@two.sure.test"])
        self.held(relay, "two.sure.test", "could not be looked up a short while ago")
        send(relay, ["b@both.sure.test"])
        world.wait_for(lambda: next_hop.messages, "the next host")
        self.left(relay, 2)
        self.assertEqual(hop.connections, 0)
        books(self, relay, [hop, next_hop], ["b@both.sure.test"])

    def test_without_records_or_a_signature_it_is_as_ever(self):
        hop, plain_hop = self.hop(None), self.hop(self.other, host="127.0.0.42")
        relay = self.relay("", plain="own MX 10 mx\nmx A 127.0.0.42\n" + self.own_record())
        send(relay, ["a@one.sure.test"])
        send(relay, ["b@own.plain.test"])
        relay.wait_empty()
        self.assertIsNone(self.tls_of(relay, "a@one.sure.test"))
        self.assertNotIn("policy", self.tls_of(relay, "b@own.plain.test"))
        books(self, relay, [hop, plain_hop], ["a@one.sure.test", "b@own.plain.test"])

    def test_an_alias_has_the_records_of_what_it_is_an_alias_of(self):
        hop = self.hop(self.own)
        relay = self.relay(self.own_record() + "alias CNAME mx\nfour MX 10 alias\n")
        send(relay, ["a@four.sure.test"])
        relay.wait_empty()
        self.assertEqual(self.tls_of(relay, "a@four.sure.test")["policy"], "dane")
        self.assertEqual(hop.names, ["mx.sure.test"])

    def test_a_domain_without_mx_and_a_route_have_records_too(self):
        hop = self.hop(self.own)
        relay = self.relay(self.own_record(), extra=(
            f'[[route]]\nmatch = "routed.test"\nhost = "mx.sure.test"\nport = {self.port}\n'))
        for recipient in ("a@mx.sure.test", "b@routed.test"):
            send(relay, [recipient])
            relay.wait_empty()
            self.assertEqual(self.tls_of(relay, recipient)["policy"], "dane")
        hop.close()
        self.hop(self.other)
        relay.stop()
        relay.start()
        send(relay, ["c@routed.test"])
        self.held(relay, "route:mx.sure.test", "TLSA records of mx.sure.test")

    # ---- the settings ----

    def test_it_can_be_switched_off_for_all_and_for_one(self):
        hop = self.hop(self.other)
        relay = self.relay(self.own_record(), extra=(
            '[[destination]]\nmatch = ["two.sure.test"]\ndane = false\n'))
        send(relay, ["a@two.sure.test"])
        relay.wait_empty()
        self.assertNotIn("policy", self.tls_of(relay, "a@two.sure.test"))
        send(relay, ["b@one.sure.test"])
        self.held(relay, "one.sure.test", "DANE")
        relay.write_config(delivery=f"port = {self.port}\ndane = false\n")
        mark = relay.log_mark()
        relay.signal(1)
        relay.wait_event("server.reloaded", mark)
        relay.command("queue", "retry", "--all")
        relay.wait_empty()
        self.assertNotIn("policy", self.tls_of(relay, "b@one.sure.test"))
        books(self, relay, [hop], ["a@two.sure.test", "b@one.sure.test"])

    def test_beside_a_server_that_is_believed_no_other_is_asked(self):
        """It could not be reached either (TEST-NET-1): nothing is sent there."""
        hop = self.hop(self.own)
        relay = self.relay(self.own_record(), start=False)
        self.dns.address = f'192.0.2.1:53", "{self.dns.address}'
        relay.write_config()
        relay.start()
        event = relay.wait_event("net.dns_servers_left_out")
        self.assertIn("1 of 2 DNS servers are not asked", event["message"])
        send(relay, ["a@one.sure.test"])
        relay.wait_empty()
        self.assertEqual(self.tls_of(relay, "a@one.sure.test")["policy"], "dane")
        books(self, relay, [hop], ["a@one.sure.test"])


if __name__ == "__main__":
    world.main()
