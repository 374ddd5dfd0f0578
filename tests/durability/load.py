"""The load: clients that offer every kind of message, a next hop that takes, defers and refuses, and an
operator who removes. All of them tell the ledger what they promise before they say it.

The local part of a recipient is `KIND-NAME-NUMBER`: `ok` is taken at once, `later` at the third
attempt, `bad` is refused for good; what goes to `dead.test` waits for ever, for the operator.
"""
import contextlib
import http.client
import json
import os
import random
import re
import signal
import socket
import threading
import time

import ledger as books
from ledger import world

KINDS = ("ok",) * 6 + ("later", "bad", "many", "dead", "dead", "large")
PATTERN = bytes(range(33, 46)) + bytes(range(47, 127))  # printable, no dot


def make_message(name, chooser, large):
    """Headers of our own first: the relay's additions stand in front of X-Name."""
    size = chooser.choice((40, 900, 4000, 12000, 60000)) if not large else \
        chooser.randrange(280000, 700000)
    start = chooser.randrange(len(PATTERN))
    line = (PATTERN[start:] + PATTERN[:start])[:76] + b"\r\n"
    lines = [b"%06d " % i + line for i in range(size // len(line) + 1)]
    return (f"X-Name: {name}\r\nFrom: <a@back.test>\r\nTo: <b@hop.test>\r\nSubject: {name}\r\n"
            f"Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{name}@back.test>\r\n\r\n"
            ).encode() + b"".join(lines)


class NextHop(world.Hop):
    def __init__(self, case, ledger, port=0):
        self.ledger = ledger
        self.attempts = {}
        self.takes_everything = False
        super().__init__(case, self.say, port=port)

    def say(self, stage, argument, session):
        if stage == "rcpt":
            return self.on_recipient(argument)
        if stage == "dot":
            self.on_message(argument)
            argument["data"] = b""  # a thousand rounds of it would fill the memory
            with self.lock:
                self.commands.clear()
                self.messages.clear()
        return None

    def on_recipient(self, line):
        address = line[line.index("<") + 1:line.index(">")]
        kind, name = address.split("@")[0].split("-")[:2]
        if kind == "bad":
            self.ledger.note("refused", name=name, recipient=address)
            return "550 5.1.1 nobody"
        if kind == "later" and not self.takes_everything:
            with self.lock:
                count = self.attempts[address] = self.attempts.get(address, 0) + 1
            if count < 3:
                return "450 4.2.1 later"
        return None

    def on_message(self, message):
        data = message["data"]
        if not message["sender"]:
            failed = [a.decode() for a in
                      re.findall(rb"^Final-Recipient: rfc822; ?(\S+)\r$", data, re.M | re.I)]
            self.ledger.note("reported", name=books.name_of(failed[0]), recipients=failed)
            return
        at = data.find(b"X-Name: ")
        name = data[at + 8:data.find(b"\r\n", at)].decode()
        for address in message["recipients"]:
            offered = self.ledger.messages.get(name)
            is_whole = offered is None or books.digest(data[at:]) == offered.digest
            self.ledger.note("taken", name=name, recipient=address, is_whole=is_whole)


class Operator:
    """Removes what waits for dead.test, oldest first, over the control socket."""

    def __init__(self, relay, ledger):
        self.relay, self.ledger = relay, ledger

    def request(self, method, path, body=None):
        connection = http.client.HTTPConnection("localhost", timeout=world.PATIENCE)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(world.PATIENCE)
        with contextlib.closing(connection):
            connection.sock.connect(f"{self.relay.data}/control.sock")
            connection.request(method, path, body and json.dumps(body))
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def change_routes(self):
        """A reload that sends other.test another way, or back: groups are cut anew."""
        process, relay = self.relay.process, self.relay
        relay.variant = 1 - relay.variant
        with open(relay.config_path + ".new", "w") as file:
            file.write(relay.variants[relay.variant])
        os.replace(relay.config_path + ".new", relay.config_path)
        if process and process.poll() is None:
            process.send_signal(signal.SIGHUP)

    def hold_and_release(self):
        status, page = self.request("GET", "/v1/queue?limit=20&domain=route:dead")
        targets = [dict(id=i["id"], group=i["group"], lane=i["lane"])
                   for i in page.get("items", [])]
        for change in ("hold", "retry", "release", "retry"):
            if targets:
                self.request("POST", "/v1/queue/change", dict(change=change, targets=targets))

    def remove_some(self, most=50, rest=20):
        """Leaves `rest` of them."""
        status, page = self.request("GET", f"/v1/queue?limit={most + rest}&domain=route:dead")
        items = page.get("items", [])[:-rest or None]
        targets = [dict(id=i["id"], group=i["group"], lane=i["lane"]) for i in items]
        if status != 200 or not targets:
            return
        for target in targets:
            self.ledger.note("asked", id=target["id"])
        status, answer = self.request("POST", "/v1/queue/change",
                                      dict(change="remove", targets=targets))
        if status == 200 and answer.get("changed") == len(targets):
            for target in targets:
                self.ledger.note("removed", id=target["id"])


class Load:
    """Clients in threads; begin() and end() may be called again and again."""

    def __init__(self, relay, ledger, seed, clients=4, kinds=KINDS, most_open=1500):
        self.relay, self.ledger, self.seed, self.clients = relay, ledger, seed, clients
        self.kinds, self.most_open = kinds, most_open
        self.operator = Operator(relay, ledger)
        self.number = 0
        self.begun = 0
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.replies = {}
        self.problems = []
        self.threads = []

    def begin(self):
        self.stopping.clear()
        self.begun += 1
        self.threads = [threading.Thread(target=self.run, args=(self.send_on, f"client {i}"), daemon=True)
                        for i in range(self.clients)]
        self.threads.append(threading.Thread(target=self.run, args=(self.operate, "operator"),
                                             daemon=True))
        for thread in self.threads:
            thread.start()

    def end(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(4 * world.PATIENCE)
            if thread.is_alive():
                self.problems.append("a client hangs")
        if self.problems:
            raise AssertionError("; ".join(self.problems[:5]))

    def run(self, work, name):
        chooser = random.Random(f"{self.seed} {self.begun} {name}")
        while not self.stopping.is_set():
            try:
                work(chooser)
            except (OSError, http.client.HTTPException, ValueError, AssertionError):
                time.sleep(0.01)  # the relay is down; or it ended in the middle of a line

    def operate(self, chooser):
        time.sleep(chooser.uniform(0.02, 0.2))
        self.operator.remove_some()
        if chooser.random() < 0.2:
            self.operator.change_routes()
        elif chooser.random() < 0.2:
            self.operator.hold_and_release()

    @staticmethod
    def domain(part, number):
        return "dead" if part == "dead" else ("hop", "other")[number % 2]

    def plan(self, chooser, kind=None):
        """(name, sender, recipients, data)"""
        kind = kind or chooser.choice(self.kinds)
        with self.lock:
            self.number += 1
            name = f"m{self.number}"
        parts = {"many": ("later", "later", "bad", "later", "ok"), "later": ("later", "later"),
                 "large": ("ok",)}.get(kind, (kind,))
        recipients = [f"{part}-{name}-{i}@{self.domain(part, i)}.test"
                      for i, part in enumerate(parts)]
        return name, f"a-{name}@back.test", recipients, \
            make_message(name, chooser, kind == "large" or (kind == "dead" and chooser.random() < .05))

    def offer(self, raw, plan, chooser):
        """One message over an open session; its id, or the reply that refused it."""
        name, sender, recipients, data = plan
        self.ledger.note("offered", name=name, sender=sender, recipients=recipients,
                         size=len(data), digest=books.digest(data))
        chunked = chooser.random() < 0.5
        raw.send(f"MAIL FROM:<{sender}>\r\n" + "".join(f"RCPT TO:<{r}>\r\n" for r in recipients) +
                 ("" if chunked else "DATA\r\n"))
        for _ in range(1 + len(recipients)):
            reply = raw.reply()
            if not reply.startswith(b"250"):
                return self.refused(name, reply)
        if chunked:
            half = len(data) // 2
            raw.send(f"BDAT {half}\r\n".encode() + data[:half])
            reply = raw.reply()
            if not reply.startswith(b"250"):
                return self.refused(name, reply)
            raw.send(f"BDAT {len(data) - half} LAST\r\n".encode() + data[half:])
        else:
            reply = raw.reply()
            if not reply.startswith(b"354"):
                return self.refused(name, reply)
            raw.send(data + b".\r\n")
        reply = raw.reply()
        if not reply.startswith(b"250"):
            return self.refused(name, reply)
        id = world.queued_id(reply)
        self.ledger.note("accepted", name=name, id=id)
        self.count(b"250")
        return id

    def refused(self, name, reply):
        if not reply:
            raise ConnectionError
        self.count(reply[:9])
        if not reply.startswith(b"4"):
            self.problems.append(f"{name}: {reply}")
        self.ledger.note("denied", name=name)
        return reply

    def count(self, reply):
        with self.lock:
            self.replies[reply] = self.replies.get(reply, 0) + 1

    def send_on(self, chooser):
        with self.relay.raw() as raw:
            if not raw.greeting.startswith(b"220"):
                self.count(raw.greeting[:9])
                if raw.greeting and not raw.greeting.startswith(b"4"):
                    self.problems.append(f"greeting: {raw.greeting}")
                time.sleep(0.02)
                return
            raw.say("EHLO c.test")
            for _ in range(chooser.randrange(1, 60)):
                while len(self.ledger.messages) > self.most_open and not self.stopping.is_set():
                    time.sleep(0.01)
                if self.stopping.is_set():
                    return
                if not isinstance(self.offer(raw, self.plan(chooser), chooser), str):
                    time.sleep(0.01)
                    raise ConnectionError  # the session's state is what it is: begin anew


def make_relay(case, hop_port, env=None, wrapper=(), queue="", limits="", binary=None, start=True,
               delivery=""):
    """Routes: dead.test to a port where nobody listens, anything else to the hop, in two variants."""
    dead = world.free_port()
    other = 'name = "%s"\nmatch = "%s"\nhost = "127.0.0.1"\nport = %d\ntls = "off"\n'
    routes = ["[[route]]\n" + other % (name, match, port) for name, match, port in
              (("dead", "dead.test", dead), ("other", "other.test", hop_port), ("hop", "*", hop_port))]
    relay = world.Relay(case, queue='retry = ["1s"]\n' + queue, log_level="info", limits=limits,
                        env=env, wrapper=wrapper, binary=binary, start=False, delivery=delivery)
    relay.variants, relay.variant = [], 0
    for extra in (routes, routes[:1] + routes[2:]):
        relay.write_config(extra="".join(extra))
        with open(relay.config_path) as file:
            relay.variants.append(file.read())
    return relay.start() if start else relay


class World:
    """A folder for everything, and what must be cleaned up (as a unittest case has it)."""

    def __init__(self):
        self.stack = contextlib.ExitStack()

    def addCleanup(self, function, *arguments, **named):
        self.stack.callback(function, *arguments, **named)

    def __enter__(self):
        return self

    def __exit__(self, *what):
        return self.stack.__exit__(*what)


def demand(problems, what):
    if problems:
        raise AssertionError(f"{what}: {len(problems)} problems\n  " + "\n  ".join(problems[:20]))


def drain(relay, load, ledger, hop):
    """Everything is delivered and the rest removed: then the queue is empty and the books closed."""
    hop.takes_everything = True

    def is_empty():
        load.operator.remove_some(most=200, rest=0)
        queue = relay.status()["queue"]
        return queue["groups_waiting"] + queue["groups_held"] + queue["groups_leased"] == 0 and \
            not queue["is_rebuilding"]
    world.wait_for(is_empty, "an empty queue", 4 * world.PATIENCE)
    relay.stop()
    books_now = books.Books.of(relay.data)
    demand(ledger.check(books_now), "the last books")
    if books_now.groups:
        raise AssertionError(f"the queue is not empty: {sorted(books_now.groups)[:5]}")
