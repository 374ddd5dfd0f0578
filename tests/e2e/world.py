"""The world of an end-to-end test: the real relay, a real DNS server, next hops, on loopback.

Nothing here leaves 127.0.0.0/8 and ::1. Every process is ended by the test that started it.
"""
import contextlib
import fcntl
import json
import os
import random
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import strain

BINARY = os.environ.get("SMTPD_BINARY", os.path.abspath("build/release/smtpd"))
TOOLS = os.environ.get("SMTPD_TOOLS", os.path.abspath("build/tools"))
SANITIZER = os.environ.get("SMTPD_SANITIZER", "none")
# Sanitized builds are several times slower; waits are bounds, never measurements.
PATIENCE = {"none": 30, "asan": 60, "tsan": 120}[SANITIZER]
USER, PASSWORD = "app", "correct horse battery staple"


def tool(name):
    """A program that only tests need: unpacked into the build folder, or installed."""
    path = os.path.join(TOOLS, "bin", name)
    if os.path.exists(path):
        return path
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if not path:
        raise RuntimeError(f"{name} is missing: run third_party/bootstrap.sh test")
    return path


_ports = set()
_random = random.SystemRandom()
# One byte for each port, locked until this process ends: tests run beside each other, and between the
# choice of a port and its use, or while a relay starts again, another one must not take it.
_ports_taken = open(os.path.join(tempfile.gettempdir(), f"smtpd-test-ports-{os.getuid()}"), "wb")


def _is_free(host, port, kind):
    with socket.socket(socket.AF_INET, kind) as probe:
        if kind == socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            return True
        except OSError:
            return False


def _is_ours(port):
    if port in _ports:
        return False
    try:
        fcntl.lockf(_ports_taken, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    _ports.add(port)
    return True


def free_port(host="127.0.0.1"):
    """A port, free for TCP and UDP, below those that the system gives to clients: one of theirs
    could be taken by any connection of a test that runs beside this one."""
    while True:
        port = _random.randrange(10000, 32000)
        if _is_ours(port) and _is_free(host, port, socket.SOCK_STREAM) and \
                _is_free(host, port, socket.SOCK_DGRAM):
            return port


def wait_for(condition, what, seconds=None):
    """Polls until `condition` gives something true; that is returned."""
    deadline = time.monotonic() + (seconds or PATIENCE)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain for: {what}")
        time.sleep(0.02)


def make_certificate(folder, name, host="relay.test", ca=None, days=30, kind="ec"):
    """Returns (certificate, key). With `ca`: signed by it; else self-signed (and a CA)."""
    key, crt = os.path.join(folder, f"{name}.key"), os.path.join(folder, f"{name}.crt")
    algorithm = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if kind == "ec" else \
        ["-newkey", "rsa:2048"]
    command = ["openssl", "req", "-x509" if not ca else "-new", "-nodes", *algorithm, "-keyout", key,
               "-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}"]
    quiet = dict(check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if not ca:
        subprocess.run([*command, "-days", str(days), "-out", crt], **quiet)
        return crt, key
    request = crt + ".csr"
    subprocess.run([*command, "-out", request], **quiet)
    extensions = crt + ".ext"
    with open(extensions, "w") as file:
        file.write(f"subjectAltName=DNS:{host}\n")
    sign = ["openssl", "x509", "-req", "-in", request, "-CA", ca[0], "-CAkey", ca[1],
            "-CAcreateserial", "-extfile", extensions, "-out", crt]
    if days > 0:
        subprocess.run([*sign, "-days", str(days)], **quiet)
    elif subprocess.run([*sign, "-not_before", "20200101000000Z", "-not_after", "20200102000000Z"],
                        **dict(quiet, check=False)).returncode:
        subprocess.run([*sign, "-days", str(days)], **quiet)  # before OpenSSL 3.4
    return crt, key


def preload(case, source):
    """Compiles a file of this folder for LD_PRELOAD: its value, and a folder for its files."""
    folder = tempfile.mkdtemp(prefix="smtpd-preload-")
    case.addCleanup(shutil.rmtree, folder, ignore_errors=True)
    library = os.path.join(folder, "preload.so")
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), source)
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return ":".join(filter(None, [sanitizer_runtime(), library])), folder


def sanitizer_runtime():
    """The library that wants to be the first one of LD_PRELOAD, or None."""
    if SANITIZER == "none":
        return None
    runtime = "libasan.so" if SANITIZER == "asan" else "libtsan.so"
    return subprocess.run([os.environ.get("CC", "cc"), f"-print-file-name={runtime}"], text=True,
                          stdout=subprocess.PIPE, check=True).stdout.strip()


class Relay:
    """The relay under test. `extra` is TOML that goes behind the common part."""

    def __init__(self, case, extra="", dns=None, limits="", queue="", delivery="", hop=None,
                 env=None, wrapper=(), binary=None, log_level="debug", start=True, server="",
                 policy="", trusted='["127.0.0.0/8", "::1"]'):
        self.folder = tempfile.mkdtemp(prefix="smtpd-e2e-")
        case.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.case = case
        self.binary = binary or BINARY
        self.wrapper = list(wrapper)
        self.env = dict(os.environ, **(env or {}))
        self.data = os.path.join(self.folder, "data")
        self.submission, self.smtps, self.relay_port = free_port(), free_port(), free_port()
        self.certificate, self.key = make_certificate(self.folder, "relay")
        self.users = os.path.join(self.folder, "users")
        self.config_path = os.path.join(self.folder, "smtpd.toml")
        self.log_path = os.path.join(self.folder, "log")
        self.process = None
        self.may_crash = False
        self.parts = dict(extra=extra, limits=limits, queue=queue, delivery=delivery, dns=dns,
                          hop=hop, log_level=log_level, server=server, policy=policy, trusted=trusted)
        self.write_config()
        self.command("user", "add", USER, stdin=PASSWORD + "\n")
        case.addCleanup(self.stop)
        if start:
            self.start()

    def write_config(self, **changes):
        self.parts.update(changes)
        p = self.parts
        dns = f'servers = ["{p["dns"].address}"]\ntimeout = "5s"\n' if p["dns"] else \
            'servers = ["127.0.0.1:9"]\ntimeout = "1s"\n'
        route = ""
        if p["hop"]:
            route = f'[[route]]\nname = "hop"\nmatch = ["*"]\nhost = "127.0.0.1"\nport = {p["hop"]}\n'
            if "tls" not in p["delivery"]:
                route += 'tls = "off"\n'
        policy = f'[policy]\n{p["policy"]}' if p["policy"] else ""
        private = "" if "allow_private_networks" in p["delivery"] else \
            "allow_private_networks = true\n"
        if "ca_file" not in p["delivery"]:
            private += f'ca_file = "{self.certificate}"\n'
        text = f"""
[server]
hostname = "relay.test"
data_dir = "{self.data}"
grace_period = "6s"
postmaster = "postmaster@local.test"
{p["server"]}
[tls]
certificate = "{self.certificate}"
key = "{self.key}"
[auth]
users_file = "{self.users}"
[limits]
{p["limits"]}
[relay]
trusted_networks = {p["trusted"]}
{policy}
[queue]
min_free_space = "1MiB"
allow_network_filesystem = true
{p["queue"]}
[dns]
{dns}
[delivery]
{private}{p["delivery"]}
[log]
output = "{self.log_path}"
level = "{p["log_level"]}"
[[listen]]
address = ["127.0.0.1:{self.submission}", "[::1]:{self.submission}"]
[[listen]]
address = "127.0.0.1:{self.smtps}"
tls = "implicit"
[[listen]]
address = "127.0.0.1:{self.relay_port}"
mode = "relay"
[[local]]
domain = "local.test"
maildir = "{self.folder}/mail/{{domain}}/{{user}}"
users = ["alice", "bob", "postmaster"]
{route}
{p["extra"]}
"""
        with open(self.config_path, "w") as file:
            file.write(text)

    # ---- the process ----

    def start(self):
        self.stderr = open(os.path.join(self.folder, "stderr"), "ab")
        # The same log goes on over restarts: only what comes from now on says "started".
        mark = os.path.getsize(self.log_path) if os.path.exists(self.log_path) else 0
        self.process = subprocess.Popen(
            [*self.wrapper, self.binary, "run", "--config", self.config_path],
            env=strain.environment(self.env, sanitizer_runtime), stdin=subprocess.DEVNULL,
            stdout=self.stderr, stderr=self.stderr)
        wait_for(lambda: self.process.poll() is not None or self.event("server.started", mark),
                 "the relay to start")
        if self.process.poll() is not None:
            raise AssertionError(f"the relay ended at its start: {self.errors()}")
        strain.stutter(self.process)
        return self

    def errors(self):
        with open(os.path.join(self.folder, "stderr"), errors="replace") as file:
            return file.read()

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        """As a power cut for the process: nothing is written any more."""
        self.process.kill()
        self.process.wait()
        self.process = None
        self.stderr.close()

    def stop(self, seconds=None):
        """SIGTERM; the exit code must be 0 and no sanitizer may have complained."""
        if not self.process:
            return
        process, self.process = self.process, None
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(seconds or PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError("the relay did not leave on SIGTERM")
        self.stderr.close()
        errors = self.errors()
        if code != 0 or "Sanitizer" in errors or "runtime error" in errors:
            raise AssertionError(f"exit code {code}\n{errors[-6000:]}\n{self.log_tail()}")

    def wait_exit(self, seconds=None):
        code = self.process.wait(seconds or PATIENCE)
        self.process = None
        self.stderr.close()
        errors = self.errors()
        if "Sanitizer" in errors or "runtime error" in errors:
            raise AssertionError(errors[-6000:])
        return code

    def command(self, *words, stdin=None, code=0):
        done = subprocess.run([BINARY, *words, "--config", self.config_path], input=stdin, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=PATIENCE)
        if code is not None and done.returncode != code:
            raise AssertionError(f"smtpd {' '.join(words)}: exit {done.returncode}\n"
                                 f"{done.stdout}\n{done.stderr}")
        return done.stdout if code == 0 else done.stdout + done.stderr

    def status(self):
        return json.loads(self.command("status", "--json"))

    def queue(self, *words):
        text = self.command("queue", "list", *words, "--json")
        return [json.loads(line) for line in text.splitlines()]

    def wait_empty(self, seconds=None):
        def is_empty():
            queue = self.status()["queue"]  # while the index is rebuilt not all of it is counted
            return not queue["is_rebuilding"] and queue["groups_waiting"] + queue["groups_leased"] == 0
        wait_for(is_empty, "an empty queue", seconds)

    def wait_index(self):
        """Until listings, and what goes by them, know all that is on the disk."""
        wait_for(lambda: not self.status()["queue"]["is_rebuilding"], "the index")

    # ---- the log ----

    def events(self, name=None, mark=0):
        if not os.path.exists(self.log_path):
            return []
        with open(self.log_path, "rb") as file:
            file.seek(mark)
            lines = file.read().split(b"\n")[:-1]
        events = [json.loads(line) for line in lines if line.startswith(b"{")]
        return [e for e in events if name is None or e["event"] == name]

    def event(self, name, mark=0):
        events = self.events(name, mark)
        return events[-1] if events else None

    def wait_event(self, name, mark=0):
        """The log is written by a thread of its own: a line may come behind what it tells of."""
        return wait_for(lambda: self.event(name, mark), f"the event {name}")

    def log_mark(self):
        return os.path.getsize(self.log_path)

    def log_tail(self, count=40):
        return "\n".join(json.dumps(e) for e in self.events()[-count:])

    # ---- clients ----

    def client(self, timeout=None):
        """A logged-in smtplib client on the submission port."""
        client = smtplib.SMTP("127.0.0.1", self.submission, timeout=timeout or PATIENCE,
                              local_hostname="client.test")
        client.starttls(context=self.tls_context())
        client.login(USER, PASSWORD)
        return client

    def relay_client(self, timeout=None):
        return smtplib.SMTP("127.0.0.1", self.relay_port, timeout=timeout or PATIENCE,
                            local_hostname="client.test")

    def tls_context(self):
        context = ssl.create_default_context(cafile=self.certificate)
        context.check_hostname = False
        return context

    def raw(self, port=None, timeout=None):
        return Raw(port or self.relay_port, timeout or PATIENCE)

    # ---- local mail ----

    def maildir(self, user, domain="local.test"):
        """The messages in a mailbox, as bytes, oldest first."""
        folder = os.path.join(self.folder, "mail", domain, user, "new")
        if not os.path.isdir(folder):
            return []
        messages = []
        for name in sorted(os.listdir(folder)):
            with open(os.path.join(folder, name), "rb") as file:
                messages.append(file.read())
        return messages

    def rss_kb(self):
        with open(f"/proc/{self.process.pid}/status") as file:
            return int(next(line for line in file if line.startswith("VmRSS")).split()[1])


class Raw:
    """A client that says exactly these bytes."""

    def __init__(self, port, timeout=PATIENCE, host="127.0.0.1", source=None, greet=True):
        self.socket = socket.create_connection((host, port), timeout,
                                               source_address=(source, 0) if source else None)
        self.file = self.socket.makefile("rb")
        self.greeting = self.reply() if greet else None

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else data.encode())

    def reply(self):
        """The next reply: b'250 2.0.0 text', lines joined by newlines; b'' at the end."""
        lines = []
        while True:
            line = self.file.readline()
            if not line:
                return b"\n".join(lines)
            assert line.endswith(b"\r\n"), line
            lines.append(line[:-2])
            if line[3:4] != b"-":
                return b"\n".join(lines)

    def say(self, text):
        self.send(text + "\r\n" if isinstance(text, str) else text + b"\r\n")
        return self.reply()

    def starttls(self, context):
        assert self.say("STARTTLS").startswith(b"220")
        self.socket = context.wrap_socket(self.socket, server_hostname="relay.test")
        self.file = self.socket.makefile("rb")

    def close(self):
        with contextlib.suppress(OSError):
            self.file.close()
            self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()


class Hop:
    """A scripted next hop in this process: says what the test wants, keeps what it got.

    `answer(stage, argument, session)` may return a reply text ("451 4.3.0 later"), None for the
    usual answer, "DROP" to close, "HANG" to say nothing, or bytes to send as they are. Stages:
    connect, ehlo, helo, starttls, auth, mail, rcpt, data, dot, bdat, rset, quit. With
    `reads_refused` a chunk that it refuses is read as commands (RFC 3030 4.2 forbids that); with
    `leaves_at_421` it closes behind each 421.
    """

    reads_refused = False
    leaves_at_421 = False

    def __init__(self, case, answer=None, host="127.0.0.1", port=0, capabilities=("PIPELINING",
                 "8BITMIME", "SMTPUTF8", "SIZE 100000000", "DSN", "ENHANCEDSTATUSCODES"), tls=None,
                 implicit_tls=False):
        self.answer = answer or (lambda stage, argument, session: None)
        self.capabilities = list(capabilities)
        self.tls = tls
        self.implicit_tls = implicit_tls
        self.messages = []      # dicts: sender, recipients, data, mail, rcpts, session
        self.connections = 0
        self.commands = []      # (session number, line)
        self.names = []         # that clients asked for in a TLS handshake (SNI)
        self.lock = threading.Lock()
        self.listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((host, port))
        self.listener.listen(512)
        self.host, self.port = self.listener.getsockname()[:2]
        self.is_open = True
        self.sockets = set()
        threading.Thread(target=self._accept, daemon=True).start()
        case.addCleanup(self.close)

    def close(self):
        self.is_open = False
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in list(self.sockets):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def delivered(self):
        """Recipient -> how often it was accepted behind a final dot."""
        counts = {}
        with self.lock:
            for message in self.messages:
                for recipient in message["recipients"]:
                    counts[recipient] = counts.get(recipient, 0) + 1
        return counts

    def _accept(self):
        while self.is_open:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
                number = self.connections
            threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, connection, number):
        session = HopSession(self, connection, number)
        try:
            session.run()
        except (OSError, ConnectionError, ssl.SSLError, ValueError):
            pass
        finally:
            self.sockets.discard(session.connection)
            session.close()


class HopSession:
    def __init__(self, hop, connection, number):
        self.hop, self.connection, self.number = hop, connection, number
        self.is_secure = False
        hop.sockets.add(connection)
        self.file = None
        self.message = None
        self.user = None

    def _secure(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.hop.tls)
        context.sni_callback = lambda _, name, __: self.hop.names.append(name)
        plain = self.connection
        # Behind this the plain one is empty: only the new one can close.
        self.connection = context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        self.hop.sockets.add(self.connection)
        self.hop.sockets.discard(plain)
        self.connection.do_handshake()
        self.is_secure = True

    def say(self, stage, argument, usual, keep=None):
        """Sends the answer of a stage; false when the session is over. With a 250, `keep` comes first:
        who sees the relay done with a message finds it here."""
        text = self.hop.answer(stage, argument, self)
        if text is None:
            text = usual
        if text == "DROP":
            return None
        if text == "HANG":
            while self.hop.is_open:
                time.sleep(0.05)
            return None
        words = text if isinstance(text, str) else text.decode(errors="replace")
        if keep and words.startswith("250"):
            keep(argument)
        self.connection.sendall(text if isinstance(text, bytes) else (text + "\r\n").encode())
        if not self.hop.leaves_at_421 or not words.startswith("421"):
            return words
        self.connection.shutdown(socket.SHUT_WR)
        while self.file.read(65536):  # or a reset would take the answers along
            pass
        return None

    def unread(self):
        """What has arrived and was not read; waits for the first of it."""
        held = self.file.peek()
        with contextlib.suppress(BlockingIOError):
            held += self.connection.recv(1 << 20, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        return held

    def close(self):
        for one in filter(None, (self.file, self.connection)):  # both: the file keeps the socket open
            with contextlib.suppress(OSError):
                one.close()

    def run(self):
        if self.hop.implicit_tls:
            self._secure()
        self.file = self.connection.makefile("rb")
        if self.say("connect", "", "220 hop.test ESMTP") is None:
            return
        while True:
            line = self.file.readline()
            if not line:
                return
            assert line.endswith(b"\r\n"), line
            text = line[:-2].decode("utf-8", "surrogateescape")
            with self.hop.lock:
                self.hop.commands.append((self.number, text))
            verb = text.split(" ")[0].upper()
            if self.step(verb, text) is None:
                return
            if verb == "QUIT":
                return

    def step(self, verb, text):
        if verb in ("EHLO", "HELO"):
            lines = ["hop.test"] + (self.hop.capabilities if verb == "EHLO" else [])
            if verb == "EHLO" and self.hop.tls and not self.is_secure:
                lines.append("STARTTLS")
            usual = "\r\n".join(f"250{'-' if i + 1 < len(lines) else ' '}{line}"
                                for i, line in enumerate(lines))
            return self.say(verb.lower(), text, usual)
        if verb == "STARTTLS":
            said = self.say("starttls", text, "220 2.0.0 go ahead")
            if said and said.startswith("220"):
                self._secure()
                self.file = self.connection.makefile("rb")
            return said
        if verb == "AUTH":
            said = self.say("auth", text, "235 2.7.0 in")
            self.user = text
            return said
        if verb == "MAIL":
            said = self.say("mail", text, "250 2.1.0 sender fine")
            if said and said.startswith("250"):
                self.message = dict(mail=text, sender=text[text.index("<") + 1:text.index(">")],
                                    recipients=[], rcpts=[], session=self.number,
                                    secure=self.is_secure)
            return said
        if verb == "RCPT":
            if not self.message:
                return self.say("rcpt", text, "503 5.5.1 MAIL first")
            said = self.say("rcpt", text, "250 2.1.5 recipient fine")
            if said and said.startswith("250"):
                self.message["recipients"].append(text[text.index("<") + 1:text.index(">")])
                self.message["rcpts"].append(text)
            return said
        if verb == "DATA":
            if not self.message or not self.message["recipients"]:
                return self.say("data", text, "554 5.5.1 no valid recipients")
            said = self.say("data", text, "354 go on")
            return self.data() if said and said.startswith("354") else said
        if verb == "BDAT":
            return self.chunk(int(text.split(" ")[1]), text)
        if verb in ("RSET", "NOOP"):
            self.message = None
            return self.say("rset", text, "250 2.0.0 done")
        if verb == "QUIT":
            return self.say("quit", text, "221 2.0.0 bye")
        return self.say("other", text, "500 5.5.2 what?")

    def data(self):
        lines = []
        while True:
            line = self.file.readline()
            if not line:
                return None
            if line == b".\r\n":
                break
            lines.append(line[1:] if line.startswith(b".") else line)
        message, self.message = self.message, None
        message["data"] = b"".join(lines)
        return self.say("dot", message, "250 2.0.0 kept", self._keep)

    def chunk(self, octets, text):
        assert text.endswith(" LAST"), text
        if not self.message or not self.message["recipients"]:
            if not self.hop.reads_refused:
                self.file.read(octets)
            return self.say("refused", text, "503 5.5.1 no valid recipients")
        message, self.message = self.message, None
        message["data"] = self.file.read(octets)
        if len(message["data"]) < octets:
            return None
        return self.say("bdat", message, "250 2.0.0 kept", self._keep)

    def _keep(self, message):
        with self.hop.lock:
            self.hop.messages.append(message)


class Dns:
    """knotd, a real authoritative server, on a loopback port."""

    def __init__(self, case, zones):
        self.folder = tempfile.mkdtemp(prefix="smtpd-dns-")
        case.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.port = free_port()
        while not self._is_free_for_tcp():
            self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        for folder in ("zones", "run", "db"):
            os.mkdir(os.path.join(self.folder, folder))
        for name, records in zones.items():
            self._write(name, records)
        config = os.path.join(self.folder, "knot.conf")
        with open(config, "w") as file:
            file.write(f"server:\n    rundir: \"{self.folder}/run\"\n"
                       f"    listen: 127.0.0.1@{self.port}\n"
                       f"database:\n    storage: \"{self.folder}/db\"\n"
                       f"template:\n  - id: default\n    storage: \"{self.folder}/zones\"\n"
                       f"    file: \"%s.zone\"\n    zonefile-sync: -1\n    journal-content: none\n"
                       "zone:\n" + "".join(f"  - domain: {name}\n" for name in zones))
        self.log = open(os.path.join(self.folder, "log"), "wb")
        self.process = subprocess.Popen([tool("knotd"), "-c", config], stdout=self.log,
                                        stderr=self.log, stdin=subprocess.DEVNULL)
        case.addCleanup(self.close)
        wait_for(self._answers, "knotd to answer")

    def _is_free_for_tcp(self):
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", self.port))
            except OSError:
                return False
        return True

    def _write(self, name, records):
        with open(os.path.join(self.folder, "zones", name + ".zone"), "w") as file:
            file.write("$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n"
                       + records + "\n")

    def _answers(self):
        if self.process.poll() is not None:
            with open(os.path.join(self.folder, "log")) as file:
                raise AssertionError("knotd ended: " + file.read())
        query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04test\x00\x00\x06\x00\x01"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.settimeout(0.2)
            try:
                probe.sendto(query, ("127.0.0.1", self.port))
                return len(probe.recv(512)) > 0
            except OSError:
                return False

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(PATIENCE)
        self.log.close()


class Sink:
    """Postfix's smtp-sink on a loopback port."""

    def __init__(self, case, *options, port=None, backlog=512):
        self.port = port or free_port()
        command = [tool("smtp-sink"), *options]
        if os.getuid() == 0:
            command += ["-u", "nobody"]
        self.process = subprocess.Popen([*command, f"inet:127.0.0.1:{self.port}", str(backlog)],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        case.addCleanup(self.close)
        wait_for(self._listens, "smtp-sink to listen")

    def _listens(self):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        return False

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def message(to="someone@example.test", sender="app@example.test", subject="hello", body="text"):
    return (f"From: {sender}\r\nTo: {to}\r\nSubject: {subject}\r\n"
            f"Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{subject}@example.test>\r\n"
            f"\r\n{body}\r\n")


def queued_id(reply):
    """The id in '250 2.0.0 queued as ID'."""
    text = reply.decode() if isinstance(reply, bytes) else reply
    return text.split("queued as ")[1].split()[0]


class Case(unittest.TestCase):
    maxDiff = None

    def run(self, result=None):
        """Shows the relay's last log lines with a failure."""
        super().run(result)


def main():
    unittest.main(verbosity=2, buffer=False)


if __name__ == "__main__":
    sys.exit("this is a library")
