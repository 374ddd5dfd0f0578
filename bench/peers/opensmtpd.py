"""OpenSMTPD. Two things to know: its listen backlog is 5, and it does not sync its queue."""
import os
import subprocess

from peers import FOLDER, Peer

HERE = os.path.dirname(os.path.abspath(__file__))


class OpenSMTPD(Peer):
    name = "opensmtpd"
    title = "OpenSMTPD, no syncs"
    users = (("opensmtpd", 4098), ("opensmtpq", 4099))
    settings = (
        "relay to the next hop by address; smtp limit max-mails 1000000",
        "mta limits max-conn 200, conn-delay and reconn-delay 0; scheduler limit max-inflight 20000",
        "its listen backlog of 5 is raised to 1024 by a preloaded library (bench/peers/backlog.c): "
        "without it, clients that connect at once wait for seconds",
        "**not durable**: it does not sync its queue (no fsync a message, seen with strace)",
        "no TLS as a server: Debian 12's package and OpenSSL 3 do not work together "
        "(OpenSMTPD's issues 1171 and 1239)")

    def shim(self):
        library = os.path.join(FOLDER, "backlog.so")
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library,
                        os.path.join(HERE, "backlog.c")], check=True)
        return library

    def configuration(self):
        listen = f"listen on 127.0.0.1 port {self.port} hostname opensmtpd.bench.test"
        head = match = ""
        if self.wishes.certificate:
            head = 'pki bench cert "/etc/mail/tls.crt"\npki bench key "/etc/mail/tls.key"\n' \
                   "table users file:/etc/mail/users\n"
            listen += " tls pki bench auth-optional <users>"
            match = 'match auth from any for any action "out"\n'
        return f"""{head}smtp limit max-mails 1000000
mta limit max-conn-per-host 200
mta limit max-conn-per-route 200
mta limit max-conn-per-source 200
mta limit max-conn-per-connector 200
mta limit max-conn-per-relay 200
mta limit max-conn-per-domain 200
mta limit conn-delay-host 0
mta limit conn-delay-route 0
mta limit conn-delay-source 0
mta limit conn-delay-connector 0
mta limit conn-delay-relay 0
mta limit conn-delay-domain 0
mta limit reconn-delay-route 0
scheduler limit max-inflight 20000
{listen}
action "out" relay host smtp://127.0.0.1:{self.wishes.next_hop}
{match}match from any for any action "out"
"""

    def prepare(self):
        self.environment = dict(LD_PRELOAD=self.shim())
        self.write("etc/mailname", "opensmtpd.bench.test\n")
        self.write("etc/smtpd.conf", self.configuration())
        self.write("etc/mail/aliases", "")
        before = []
        if self.wishes.certificate:
            before += [f"cp {self.wishes.certificate[0]} /etc/mail/tls.crt",
                       f"cp {self.wishes.certificate[1]} /etc/mail/tls.key",
                       "chmod 600 /etc/mail/tls.key"]
            done = subprocess.run(["openssl", "passwd", "-6", "-stdin"], check=True, text=True,
                                  input=self.wishes.password, stdout=subprocess.PIPE)
            self.write("etc/mail/users", f"{self.wishes.user} {done.stdout.strip()}\n")
        # Where it keeps things is compiled in.
        for name in ("lib/opensmtpd/empty", "run", "spool", "mail", "tmp"):
            os.makedirs(self.path("var", name))
        os.chmod(self.path("var", "spool"), 0o711)
        before.append(f"mount --bind {self.folder}/var /var")
        return before, f"{FOLDER}/opensmtpd/root/usr/sbin/smtpd -d -f /etc/smtpd.conf"

    def waiting(self):
        count = 0
        for queue in ("queue", "incoming"):
            for _, folders, _ in os.walk(self.path("var", "spool", "smtpd", queue)):
                # The folder of a message has eight hexadecimal digits.
                count += sum(len(name) == 8 for name in folders)
        return count
