"""Issue sentence 'DKIM signing': signatures that other programs verify, keys and their records.

The verifiers are dkimpy and Mail::DKIM; they look the keys up in knotd, whose zone is made of what
`smtpd dkim keygen` prints.
"""
import base64
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

import dkim
import dns.resolver

import world
from world import Dns, Hop, Relay, message, wait_for

DOMAIN = "example.test"
PERL = r"""
use Mail::DKIM::Verifier; use Mail::DKIM::DNS; use Net::DNS::Resolver;
Mail::DKIM::DNS::resolver(Net::DNS::Resolver->new(nameservers => ['127.0.0.1'], port => $ARGV[0]));
my $v = Mail::DKIM::Verifier->new(); binmode STDIN;
while (<STDIN>) { $v->PRINT($_) } $v->CLOSE;
print join(' ', $_->algorithm, $_->selector, $_->result_detail), "\n" for $v->signatures;
"""


class Keys:
    """A key directory, filled by the program under test."""

    def __init__(self, case):
        self.folder = tempfile.mkdtemp(prefix="smtpd-keys-")
        case.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.zone = []

    def make(self, selector, *options, domain=DOMAIN):
        done = self.keygen(selector, *options, domain=domain)
        assert done.returncode == 0, done.stderr
        self.zone.append(done.stdout)
        return self

    def keygen(self, selector, *options, domain=DOMAIN):
        return subprocess.run([world.BINARY, "dkim", "keygen", domain, selector, "--directory",
                               self.folder, "--config", "/nonexistent", *options], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def path(self, selector, domain=DOMAIN):
        return os.path.join(self.folder, domain, selector + ".key")


def signing(keys, more=""):
    return f'[signing]\nkey_directory = "{keys.folder}"\n{more}\n'


def signatures(mail):
    """The DKIM-Signature fields of a message, unfolded, as dicts of their tags."""
    head = mail.split(b"\r\n\r\n")[0] + b"\r\n"
    fields = re.findall(rb"(?mi)^DKIM-Signature:((?:.*\r\n)(?:[ \t].*\r\n)*)", head)
    return [dict((k.strip(), re.sub(r"\s", "", v)) for k, v in
                 (tag.split("=", 1) for tag in field.decode().strip().split(";") if tag.strip()))
            for field in fields]


class Verifiers:
    def __init__(self, port):
        self.port = port
        self.resolver = dns.resolver.Resolver(configure=False)
        self.resolver.nameservers, self.resolver.port = ["127.0.0.1"], port
        self.resolver.use_edns(0, 0, 4096)

    def txt(self, name, timeout=5):
        answer = self.resolver.resolve(name.decode().rstrip("."), "TXT")
        return b"".join(next(iter(answer)).strings)

    def dkimpy(self, mail):
        """Selector -> whether dkimpy believes the signature."""
        found = {}
        for i, one in enumerate(signatures(mail)):
            try:
                found[one["s"]] = dkim.DKIM(mail).verify(i, dnsfunc=self.txt)
            except dkim.DKIMException as fault:
                found[one["s"]] = str(fault)
        return found

    def mail_dkim(self, mail):
        """Selector -> what Mail::DKIM says."""
        done = subprocess.run(["perl", "-e", PERL, str(self.port)], input=mail, check=True,
                              stdout=subprocess.PIPE)
        lines = [line.split(" ", 2) for line in done.stdout.decode().splitlines()]
        return {selector: (algorithm, result) for algorithm, selector, result in lines}

    def openssl_ed25519(self, mail, one, case):
        """OpenSSL's word on an Ed25519 signature, over a hash that is computed here."""
        head, body = mail.split(b"\r\n\r\n", 1)
        fields = re.findall(rb"(?m)^(?:[^ \t\r].*\r\n)(?:[ \t].*\r\n)*", head + b"\r\n")
        relaxed = one["c"].startswith("relaxed")

        def canonical(field):
            if not relaxed:
                return field
            name, value = field.split(b":", 1)
            return name.strip().lower() + b":" + re.sub(rb"\s+", b" ", value).strip() + b"\r\n"

        text, rest = b"", list(fields)
        for name in one["h"].split(":"):
            for i in reversed(range(len(rest))):
                if rest[i].split(b":")[0].strip().lower() == name.encode():
                    text += canonical(rest.pop(i))
                    break
        mine = next(f for f in fields if b"s=" + one["s"].encode() + b";" in f)
        mine = canonical(re.sub(rb"(\sb=)[^;]*\Z", rb"\1", mine))
        text += mine[:-2] if mine.endswith(b"\r\n") else mine
        record = self.txt(f"{one['s']}._domainkey.{one['d']}".encode()).decode()
        public = base64.b64decode(record.split("p=")[1])
        folder = tempfile.mkdtemp()
        case.addCleanup(shutil.rmtree, folder)
        files = dict(hash=hashlib.sha256(text).digest(), sig=base64.b64decode(one["b"]),
                     key=bytes.fromhex("302a300506032b6570032100") + public)
        for name, data in files.items():
            with open(os.path.join(folder, name), "wb") as file:
                file.write(data)
        return subprocess.run(["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-keyform", "DER",
                               "-inkey", "key", "-sigfile", "sig", "-in", "hash"], cwd=folder,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


HEAD = message(sender=f"App <app@{DOMAIN}>", subject="x").split("\r\n\r\n")[0].encode() + b"\r\n"
FOLDED = (b"Received: from a by b;\r\n\tTue, 24 Nov 2026 10:00:00 +0000\r\n"
          b"From: \"A, b\"\r\n <app@" + DOMAIN.encode() + b">\r\nTO:  one@x.test,\r\n\t two@x.test  \r\n"
          b"Subject: first\r\nSubject:  second \r\n  line\t \r\nX-Empty:\r\nReply-To:\r\n"
          b"Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <f@x.test>\r\n")
LINES = b"".join(b"line %d, some text of a usual length to fill it up\t and more \r\n" % i
                 for i in range(75000))
SAMPLES = {
    "plain": HEAD + b"\r\nhello\r\n",
    "empty body": HEAD + b"\r\n",
    "blank lines at the end": HEAD + b"\r\nhello \t \r\n\r\n \r\n\t\r\n\r\n" + b"\r\n" * 200,
    "blank lines in front": HEAD + b"\r\n" + b"\r\n" * 300 + b"hello\r\n",
    "only blank lines": HEAD + b"\r\n" + b"\r\n" * 300,
    "dots": HEAD + b"\r\n.\r\n..\r\n.x\r\nend\r\n",
    "8-bit": HEAD + "\r\ngrüße  aus\tköln \r\n".encode(),
    "folded": FOLDED + b"\r\nhello\r\n",
    "large": HEAD + b"\r\n" + LINES,
}


class Signing(unittest.TestCase):
    maxDiff = None

    def start(self, keys, more="", zones=None, extra="", **options):
        self.hop = Hop(self)
        dns_server = Dns(self, {DOMAIN: "\n".join(keys.zone), **(zones or {})})
        self.verifiers = Verifiers(dns_server.port)
        self.relay = Relay(self, hop=self.hop.port, dns=dns_server,
                           extra=signing(keys, more) + extra, **options)
        return self.relay

    def submit(self, data, sender=f"app@{DOMAIN}", chunked=False):
        """Through the relay; what the hop got."""
        before = len(self.hop.messages)
        client = self.relay.client()
        client.ehlo()
        client.mail(sender, ["BODY=8BITMIME"])
        client.rcpt("someone@hop.test")
        if chunked:
            client.send(b"BDAT %d LAST\r\n" % len(data) + data)
            code, text = client.getreply()
        else:
            code, text = client.data(data)
        client.quit()
        if code != 250:
            return code, text
        wait_for(lambda: len(self.hop.messages) > before, "the message at the hop")
        return self.hop.messages[before]["data"]

    def assert_verified(self, mail, selectors, what=""):
        self.assertEqual(self.verifiers.dkimpy(mail), dict.fromkeys(selectors, True), what)
        said = self.verifiers.mail_dkim(mail)
        self.assertEqual(set(said), set(selectors), what)
        for one in signatures(mail):
            algorithm, result = said[one["s"]]
            if algorithm == "ed25519-sha256":
                # Mail::DKIM of Debian 12 does not know it yet.
                self.assertIn(result, ("pass", "invalid (unsupported algorithm ed25519-sha256)"))
                self.assertTrue(self.verifiers.openssl_ed25519(mail, one, self), what)
            else:
                self.assertEqual(result, "pass", what)

    def test_every_message_verifies_in_every_canonical_form(self):
        keys = Keys(self).make("rsa").make("ed", "--type", "ed25519")
        relay = self.start(keys)
        for form in ("relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple"):
            mark = relay.log_mark()
            relay.write_config(extra=signing(keys, f'canonicalization = "{form}"\nexpire = "7d"'))
            relay.signal(signal.SIGHUP)
            wait_for(lambda: relay.event("server.reloaded", mark), "the reload")
            for name, sample in SAMPLES.items():
                mail = self.submit(sample)
                self.assertTrue(mail.endswith(sample.split(b"\r\n\r\n", 1)[1]), (form, name))
                for one in signatures(mail):
                    self.assertEqual((one["c"], one["d"], one["v"]), (form, DOMAIN, "1"))
                    self.assertEqual(int(one["x"]) - int(one["t"]), 7 * 86400)
                self.assert_verified(mail, ["ed", "rsa"], (form, name))
            mail = self.submit(HEAD + b"\r\nno line end", chunked=True)
            self.assertTrue(mail.endswith(b"no line end\r\n"))
            self.assert_verified(mail, ["ed", "rsa"], form)
        accepted = wait_for(lambda: relay.event("receive.accepted"), "the event")
        self.assertEqual(accepted["signatures"], 2)

    def test_a_change_on_the_way_is_found(self):
        keys = Keys(self).make("rsa").make("ed", "--type", "ed25519")
        self.start(keys)
        mail = self.submit(SAMPLES["folded"])
        changes = {
            "body": mail.replace(b"hello", b"hullo"),
            "subject": mail.replace(b"second", b"third"),
            "another subject in front": b"Subject: buy\r\n" + mail,
            "another From in front": b"From: evil@elsewhere.test\r\n" + mail,
            "a Reply-To less": mail.replace(b"Reply-To:\r\n", b""),
            "a Cc that there was not": mail.replace(b"X-Empty:", b"Cc: x@y.test\r\nX-Empty:"),
            "text at the end": mail + b"more\r\n",
        }
        self.assert_verified(mail, ["ed", "rsa"])
        self.assert_verified(b"X-Other: added on the way\r\n" + mail, ["ed", "rsa"])
        for what, changed in changes.items():
            self.assertNotEqual(changed, mail, what)
            self.assertNotIn(True, self.verifiers.dkimpy(changed).values(), what)
            self.assertNotEqual(self.verifiers.mail_dkim(changed)["rsa"][1], "pass", what)

    def test_what_the_relay_adds_is_signed_and_lines_stay_short(self):
        keys = Keys(self).make("rsa", "--bits", "4096")
        self.start(keys)
        mail = self.submit(f"From: a@{DOMAIN}\r\nBcc: secret@x.test\r\n\r\nhello\r\n".encode())
        self.assertNotIn(b"secret", mail)
        head = mail.split(b"\r\n\r\n")[0]
        self.assertIn(b"\r\nDate: ", head)
        self.assertIn(b"\r\nMessage-ID: ", head)
        self.assert_verified(mail, ["rsa"])
        names = signatures(mail)[0]["h"].split(":")
        self.assertEqual([names.count(n) for n in ("from", "date", "message-id", "to", "subject")],
                         [2, 2, 2, 1, 1])
        field = head.split(b"\r\nReceived:")[0]
        self.assertTrue(field.startswith(b"DKIM-Signature: v=1; a=rsa-sha256; "))
        self.assertLessEqual(max(len(line) for line in field.split(b"\r\n")), 78)

    def test_keys_are_chosen_by_the_author(self):
        keys = Keys(self).make("own")
        other = Keys(self).make("low", "--type", "ed25519", domain="below.test")
        self.start(keys, zones={"below.test": "\n".join(other.zone)}, extra=f"""
[[dkim]]
domain = "below.test"
selector = "low"
key = "{other.path('low', 'below.test')}"
subdomains = true
""")
        chosen = {
            f"a@{DOMAIN}": [("own", DOMAIN)],
            f"a@{DOMAIN.upper()}": [("own", DOMAIN)],
            f"a@sub.{DOMAIN}": [],
            "a@below.test": [("low", "below.test")],
            "a@deep.sub.below.test": [("low", "below.test")],
            "a@notbelow.test": [],
            f"\"x@below.test\" (y@below.test) <a@{DOMAIN}>": [("own", DOMAIN)],
        }
        for author, expected in chosen.items():
            mail = self.submit(message(sender=author).encode(), sender="else@where.test")
            self.assertEqual([(one["s"], one["d"]) for one in signatures(mail)], expected, author)
            if expected:
                self.assertEqual(self.verifiers.dkimpy(mail), {expected[0][0]: True})

    def test_a_key_that_does_not_compute_is_451_and_nothing_leaves_unsigned(self):
        keys = Keys(self).make("bad")
        self.break_key(keys.path("bad"))
        relay = self.start(keys)
        code, text = self.submit(SAMPLES["plain"])
        self.assertEqual((code, text[:5]), (451, b"4.7.5"))
        failure = wait_for(lambda: relay.event("sign.failed"), "the event")
        self.assertEqual((failure["domain"], failure["selector"]), (DOMAIN, "bad"))
        self.assertEqual(relay.queue(), [])
        self.assertEqual(self.hop.messages, [])
        # Mail of other authors goes on.
        self.assertEqual(signatures(self.submit(message(sender="a@x.test").encode())), [])

    def break_key(self, path):
        """Other exponents: the key is read, and its arithmetic is wrong."""
        der = subprocess.run(["openssl", "rsa", "-in", path, "-traditional", "-outform", "DER"],
                             check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        text = subprocess.run(["openssl", "rsa", "-in", path, "-noout", "-text"], check=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
        for name in ("privateExponent", "exponent1"):
            number = re.search(name + r":\s*((?:[0-9a-f]{2}:?\s*)+)\n", text).group(1)
            exponent = bytes.fromhex(re.sub(r"[\s:]", "", number))
            at = der.index(exponent) + len(exponent) - 1
            der = der[:at] + bytes([der[at] ^ 0x40]) + der[at + 1:]
        subprocess.run(["openssl", "base64", "-out", path + ".body"], input=der, check=True)
        with open(path + ".body") as body, open(path, "w") as file:
            file.write("-----BEGIN RSA PRIVATE KEY-----\n" + body.read() +
                       "-----END RSA PRIVATE KEY-----\n")

    def test_keys_are_followed_and_a_broken_one_leaves_the_old(self):
        keys = Keys(self).make("first", "--type", "ed25519")
        relay = self.start(keys)
        self.assertEqual([s["s"] for s in signatures(self.submit(SAMPLES["plain"]))], ["first"])
        keys.make("second", "--type", "ed25519")
        os.remove(keys.path("first"))
        wait_for(lambda: relay.event("sign.keys_loaded"), "the new key")
        # The look at the folder may have fallen between the two changes.
        wait_for(lambda: [s["s"] for s in signatures(self.submit(SAMPLES["plain"]))] == ["second"],
                 "the new key alone")
        with open(keys.path("third"), "w") as file:
            file.write("no key\n")
        unreadable = wait_for(lambda: relay.event("sign.keys_unreadable"), "the complaint")
        self.assertIn(keys.path("third"), unreadable["message"])
        self.assertEqual([s["s"] for s in signatures(self.submit(SAMPLES["plain"]))], ["second"])
        # The same at SIGHUP: nothing changes.
        mark = relay.log_mark()
        relay.write_config(extra=signing(keys, 'canonicalization = "simple/simple"'))
        relay.signal(signal.SIGHUP)
        failed = wait_for(lambda: relay.event("server.reload_failed", mark), "the failed reload")
        self.assertIn(keys.path("third"), failed["message"])
        mail = self.submit(SAMPLES["plain"])
        self.assertEqual([(s["s"], s["c"]) for s in signatures(mail)],
                         [("second", "relaxed/relaxed")])
        said = relay.command("check", code=1)
        self.assertIn(f"{keys.path('third')} holds no unencrypted private key", said)


class Commands(unittest.TestCase):
    maxDiff = None

    def test_keygen_writes_a_key_for_its_owner_alone_and_never_over_another(self):
        keys = Keys(self).make("one")
        path = keys.path("one")
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        with open(path) as file:
            text = file.read()
        again = keys.keygen("one")
        self.assertEqual(again.returncode, 1)
        self.assertIn("already", again.stderr)
        with open(path) as file:
            self.assertEqual(file.read(), text)
        self.assertEqual(os.listdir(os.path.dirname(path)), ["one.key"])

    def test_keygen_prints_strings_of_at_most_255_bytes(self):
        keys = Keys(self).make("long", "--bits", "4096").make("short", "--type", "ed25519")
        for zone, pieces in zip(keys.zone, (3, 1)):
            strings = re.findall(r'"([^"]*)"', zone)
            self.assertEqual(len(strings), pieces)
            self.assertLessEqual(max(map(len, strings)), 255)
        self.assertTrue(keys.zone[1].startswith(f'short._domainkey.{DOMAIN}. IN TXT "v=DKIM1; '
                                                'k=ed25519; p='))

    def test_keygen_says_all_of_it_in_json(self):
        keys = Keys(self)
        done = keys.keygen("j", "--type", "rsa", "--bits", "1024", "--json")
        said = json.loads(done.stdout)
        self.assertEqual(said["name"], f"j._domainkey.{DOMAIN}")
        self.assertEqual(said["file"], keys.path("j"))
        public = subprocess.run(["openssl", "rsa", "-in", said["file"], "-pubout", "-outform",
                                 "DER"], check=True, stdout=subprocess.PIPE,
                                stderr=subprocess.DEVNULL).stdout
        self.assertEqual(said["record"], "v=DKIM1; k=rsa; p=" + base64.b64encode(public).decode())
        self.assertEqual("".join(re.findall(r'"([^"]*)"', said["zone"])), said["record"])

    def test_keygen_refuses_what_cannot_be(self):
        keys = Keys(self)
        for words, code in ((("a b",), 1), (("x", "--bits", "512"), 1), (("x", "--bits", "9999"), 2),
                            (("x", "--type", "dsa"), 2), (("x", "more"), 2), (("x", "--bits"), 2)):
            self.assertEqual(keys.keygen(*words).returncode, code, words)
        self.assertEqual(os.listdir(keys.folder), [])

    def test_openssl_keys_are_taken(self):
        """PKCS #1 and PKCS #8, RSA and Ed25519, as operators have them; others are refused."""
        keys = Keys(self)
        os.mkdir(os.path.join(keys.folder, DOMAIN))
        make = lambda *words: subprocess.run(["openssl", *words], check=True,
                                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        make("genpkey", "-algorithm", "ed25519", "-out", keys.path("ed"))
        make("genpkey", "-algorithm", "rsa", "-out", keys.path("p8"))
        make("rsa", "-in", keys.path("p8"), "-traditional", "-out", keys.path("p1"))
        relay = Relay(self, extra=signing(keys), start=False)
        self.assertIn("no errors", relay.command("check"))
        make("ecparam", "-genkey", "-name", "prime256v1", "-out", keys.path("ec"))
        self.assertIn("holds no unencrypted", relay.command("check", code=1))
        os.remove(keys.path("ec"))
        make("genrsa", "-aes256", "-passout", "pass:x", "-out", keys.path("locked"))
        self.assertIn("holds no unencrypted", relay.command("check", code=1))

    def test_a_key_that_everybody_may_read_is_a_warning(self):
        keys = Keys(self).make("open", "--type", "ed25519")
        os.chmod(keys.path("open"), 0o644)
        relay = Relay(self, extra=signing(keys))
        warning = wait_for(lambda: relay.event("sign.key_exposed"), "the event")
        self.assertEqual(warning["level"], "warning")
        self.assertIn(f"chmod o-rwx {keys.path('open')}", warning["message"])
        os.chmod(keys.path("open"), 0o640)
        mark = relay.log_mark()
        relay.signal(signal.SIGHUP)
        wait_for(lambda: relay.event("server.reloaded", mark), "the reload")
        self.assertIsNone(relay.event("sign.key_exposed", mark))

    def test_check_says_of_each_key_what_the_dns_says_instead(self):
        """One selector for each thing that can be wrong; knotd serves the records."""
        keys = Keys(self)
        right = {}
        selectors = ("good", "spaced", "missing", "other", "revoked", "type", "hash", "testing",
                     "email", "several", "version", "broken", "twice")
        for name in selectors:
            keys.make(name, "--type", "ed25519", domain=f"{name}.{DOMAIN}")
            right[name] = re.search(r'"(.*)"', keys.zone[-1]).group(1)
        p = {name: text.split("p=")[1] for name, text in right.items()}
        records = {
            "good": right["good"],
            "spaced": f"v = DKIM1 ; h=sha1: sha256 ;k=ed25519; n=note; s=email; t=s; p={p['spaced'][:9]} {p['spaced'][9:]};",
            "other": right["good"],
            "revoked": "v=DKIM1; k=ed25519; p=",
            "type": f"v=DKIM1; p={p['type']}",
            "hash": f"v=DKIM1; k=ed25519; h=sha1; p={p['hash']}",
            "testing": f"v=DKIM1; k=ed25519; t=y:s; p={p['testing']}",
            "email": f"v=DKIM1; k=ed25519; s=tlsrpt; p={p['email']}",
            "version": f"k=ed25519; v=DKIM1; p={p['version']}",
            "broken": "what is this",
            "twice": f"v=DKIM1; k=ed25519; p={p['twice']}; p=",
        }
        zone = [f'{name}._domainkey.{name} TXT "{text}"' for name, text in records.items()]
        zone += [f'several._domainkey.several TXT "{text}"' for text in (right["several"], right["good"])]
        relay = Relay(self, extra=signing(keys), dns=Dns(self, {DOMAIN: "\n".join(zone)}), start=False)
        said = relay.command("dkim", "check", "--json", code=1)
        said = [json.loads(line) for line in said.splitlines()]
        found = {one["selector"]: [p["code"] for p in one["problems"]] for one in said}
        self.assertEqual(found, {
            "good": [], "spaced": [], "missing": ["missing"], "other": ["other-key"],
            "revoked": ["revoked"], "type": ["key-type"], "hash": ["no-sha256"],
            "testing": ["testing"], "email": ["not-email"], "several": ["several-records"],
            "version": ["version"], "broken": ["malformed"], "twice": ["malformed"]})
        self.assertEqual({one["selector"]: one["wanted"] for one in said}, right)
        text = relay.command("dkim", "check", "good." + DOMAIN, "good")
        self.assertTrue(text.startswith(f"good   good._domainkey.good.{DOMAIN} (ed25519, 256 bits, "))
        text = relay.command("dkim", "check", "revoked." + DOMAIN, code=1)
        self.assertIn("p= is empty: the key is revoked", text)
        self.assertIn("it should be: " + right["revoked"], text)
        self.assertIn("no such key", relay.command("dkim", "check", "else.test", code=1))
        relay.command("dkim", "check", "a", "b", "c", code=2)

    def test_check_says_when_nobody_answers(self):
        keys = Keys(self).make("one", "--type", "ed25519")
        relay = Relay(self, extra=signing(keys), start=False)
        said = json.loads(relay.command("dkim", "check", "--json", code=1))
        self.assertEqual([p["code"] for p in said["problems"]], ["lookup-failed"])

    def test_a_long_record_comes_over_tcp(self):
        keys = Keys(self).make("big", "--bits", "4096")
        padded = keys.zone[0].replace("v=DKIM1; ", "v=DKIM1; n=" + "x" * 100 + "; ", 1)
        text = "".join(re.findall(r'"([^"]*)"', padded)) + "; x=" + "y" * 1500
        strings = " ".join(f'"{text[i:i + 200]}"' for i in range(0, len(text), 200))
        zone = f"big._domainkey TXT ( {strings} )"
        relay = Relay(self, extra=signing(keys), dns=Dns(self, {DOMAIN: zone}), start=False)
        self.assertIn("good", relay.command("dkim", "check"))


if __name__ == "__main__":
    world.main()
