"""What was promised, and what lies in the queue: the two must agree at every moment.

The ledger hears of every message before it is offered, of each 250, of what the next hop took or
refused, of each report, and of each removal by an operator. `check` compares that with the books of
the queue (books.c). Everything that it hears it can also append to the log of recorder.c, so that a
cut of the power can be judged by what had been promised until then.
"""
import hashlib
import json
import os
import re
import struct
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import world  # noqa: E402

BOOKS = os.environ.get("SMTPD_BOOKS", os.path.join(os.path.dirname(world.BINARY), "tests",
                                                   "durability_books"))
HEAD = struct.Struct("<c7xQQ")


def digest(data):
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def name_of(address):
    return address.split("-")[1]


class Message:
    def __init__(self, name, sender, recipients, size, digest):
        self.name, self.sender, self.size, self.digest = name, sender, size, digest
        self.recipients = recipients
        self.id = None          # of its 250
        self.taken = set()      # recipients that the next hop accepted
        self.refused = set()    # ... that it refused for good
        self.reported = set()   # ... of whose failure the sender was told
        self.removals = 0       # asked for
        self.is_removed = False  # and acknowledged


class Books:
    """The lines of books.c."""

    def __init__(self, lines):
        self.messages, self.groups, self.failed, self.wrong = {}, {}, {}, []
        self.open = {}  # id -> recipients
        for line in lines:
            word, _, rest = line.partition(" ")
            if word == "message":
                id, name, size, body, sender = rest.split(" ")
                self.messages[id] = (name, int(size), body, sender)
            elif word == "group":
                id, number, record, *recipients = rest.split(" ")
                self.groups[id, int(number)] = record
                self.open.setdefault(id, []).extend(recipients)
            elif word == "failed":
                id, address = rest.split(" ")
                self.failed.setdefault(id, []).append(address)
            elif word == "wrong":
                self.wrong.append(rest)

    @staticmethod
    def of(folder):
        done = subprocess.run([BOOKS, "dump", folder], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=4 * world.PATIENCE)
        books = Books(done.stdout.splitlines())
        if done.returncode or not done.stdout.endswith("end\n") or "Sanitizer" in done.stderr:
            books.wrong.append(f"the books cannot be read: {done.returncode} {done.stderr[-3000:]}")
        return books


class Ledger:
    def __init__(self, log=None):
        self.lock = threading.RLock()
        self.messages = {}   # by name: those that are not closed
        self.by_id = {}
        self.closed = {}     # id -> name: done with, and seen to be gone
        self.problems = []   # found while it listens
        self.counts = {}
        self.log_fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600) if log else None

    # ---- hearing ----

    def note(self, what, **fields):
        with self.lock:
            if self.log_fd is not None:
                text = json.dumps([what, fields]).encode()
                frame = HEAD.pack(b"L", 0, len(text)) + text
                if os.write(self.log_fd, frame) != len(frame):
                    raise OSError("the log is full")
            getattr(self, "_" + what)(**fields)
            self.counts[what] = self.counts.get(what, 0) + 1

    def _offered(self, name, sender, recipients, size, digest):
        self.messages[name] = Message(name, sender, recipients, size, digest)

    def _accepted(self, name, id):
        message = self.messages.get(name)
        if message:
            message.id = id
            self.by_id[id] = message

    def _denied(self, name):
        """A 4xx: it may be there all the same when the commit was in doubt."""

    def _taken(self, name, recipient, is_whole):
        message = self.messages.get(name)
        if not is_whole:
            self.problems.append(f"{name}: the next hop got it by half")
        if not message:
            self.problems.append(f"{name}: delivered to {recipient} again, after it was gone")
        elif message.is_removed:
            self.problems.append(f"{name}: delivered to {recipient} after its removal")
        else:
            message.taken.add(recipient)

    def _refused(self, name, recipient):
        if name in self.messages:
            self.messages[name].refused.add(recipient)

    def _reported(self, name, recipients):
        message = self.messages.get(name)
        if message:
            message.reported.update(recipients)
        else:
            self.problems.append(f"{name}: reported again, after it was gone")

    def _asked(self, id):
        if id in self.by_id:
            self.by_id[id].removals += 1

    def _removed(self, id):
        if id in self.by_id:
            self.by_id[id].is_removed = True

    # ---- checking ----

    def _missing(self, message, open_now, reports):
        """Recipients of whom nobody knows anything any more."""
        for recipient in message.recipients:
            if recipient in open_now or recipient in message.taken or message.removals:
                continue
            if recipient in message.refused and \
                    (recipient in message.reported or recipient in reports.get(message.name, ())):
                continue
            yield recipient

    def check(self, books):
        """What is wrong with the books, as texts."""
        with self.lock:
            problems = list(books.wrong)
            reports, present = {}, {}
            for id, (name, size, body, sender) in books.messages.items():
                if sender == "<>":
                    for address in books.failed.get(id, ()):
                        reports.setdefault(name_of(address), set()).add(address)
                    if id not in books.failed:
                        problems.append(f"{id}: a report about nobody")
                    continue
                present[name] = id
                message = self.messages.get(name)
                if id in self.closed or not message:
                    problems.append(f"{id} {name}: is back, or was never offered")
                elif (size, body) != (message.size, message.digest):
                    problems.append(f"{id} {name}: is not whole: {size} of {message.size} bytes")
                elif message.id not in (None, id):
                    problems.append(f"{id} {name}: its 250 named {message.id}")
                elif message.is_removed:
                    problems.append(f"{id} {name}: is back after its removal was acknowledged")
                elif message.sender != sender:
                    problems.append(f"{id} {name}: its sender is {sender}")
            for message in self.messages.values():
                id = present.get(message.name)
                if not message.id and not id:
                    continue
                open_now = books.open.get(id, ()) if id else ()
                for recipient in self._missing(message, open_now, reports):
                    problems.append(f"{message.id} {message.name}: {recipient} is lost")
                for recipient in open_now:
                    if recipient not in message.recipients:
                        problems.append(f"{message.id} {message.name}: {recipient} is a stranger")
            problems += self.problems
            return problems

    def close_what_is_gone(self, books):
        """To be called with books that `check` liked, of a process that has ended: what is done and
        not there any more must never come back."""
        with self.lock:
            there = {name for name, _, _, _ in books.messages.values()}
            there |= {name_of(a) for failed in books.failed.values() for a in failed}
            for name, message in list(self.messages.items()):
                if name not in there:
                    del self.messages[name]
                    self.by_id.pop(message.id, None)
                    self.closed[message.id] = name  # None: never accepted, never to be seen

    def open_count(self):
        with self.lock:
            return sum(1 for m in self.messages.values() if m.id)

    def summary(self):
        return ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items()))


# ---- the log of recorder.c ----

def read_log(path):
    """(type, argument, bytes) of each entry; bytes of pages are left out."""
    with open(path, "rb") as file:
        end = os.fstat(file.fileno()).st_size
        while True:
            head = file.read(HEAD.size)
            if len(head) < HEAD.size:
                return
            kind, argument, length = HEAD.unpack(head)
            if file.tell() + length > end:
                return
            if kind in b"WD":
                file.seek(length, os.SEEK_CUR)
                yield kind, argument, b""
            else:
                yield kind, argument, file.read(length)


SAID = re.compile(rb"250 2\.0\.0 OK: queued as ([a-z2-7]{13})")


def id_text(number):
    """As id_print() writes it."""
    return "".join("abcdefghijklmnopqrstuvwxyz234567"[number >> 5 * i & 31]
                   for i in range(12, -1, -1))


class Playback:
    """The ledger as it stood behind each entry of a log, and which groups were committed."""

    def __init__(self, path):
        self.ledger = Ledger()
        self.entries = read_log(path)
        self.position = 0
        self.committed, self.pending = {}, []
        self.is_committing = False
        self.durable = set()  # ids that any commit held
        self.problems = []
        self.commits = 0

    def play(self, position):
        """All entries before `position`."""
        while self.position < position:
            try:
                kind, argument, data = next(self.entries)
            except StopIteration:
                return
            self.position += 1
            self._one(kind, argument, data)

    def _one(self, kind, argument, data):
        if kind == b"L":
            what, fields = json.loads(data)
            self.ledger.note(what, **fields)
        elif kind == b"A":
            for id in SAID.findall(data):
                if id.decode() not in self.durable:
                    self.problems.append(f"{id.decode()}: its 250 left before its commit")
        elif kind in b"pg":
            id = id_text(struct.unpack_from("<Q", data)[0])
            self.pending.append((id, argument, digest(data[8:]) if kind == b"p" else None))
        elif kind == b"c":
            self.is_committing = True
        elif kind in b"abC":
            if kind == b"C":
                self._apply(self.committed)
                self.durable.update(id for id, _, record in self.pending if record)
                self.commits += 1
            self.pending, self.is_committing = [], False

    def with_pending(self):
        groups = dict(self.committed)
        self._apply(groups)
        return groups

    def _apply(self, groups):
        for id, number, record in self.pending:
            if record is None:
                groups.pop((id, number), None)
            else:
                groups[id, number] = record

    def check(self, books):
        problems = self.ledger.check(books)
        groups = books.groups
        if groups != self.committed and not (self.is_committing and groups == self.with_pending()):
            lost = self.committed.keys() - groups.keys()
            back = groups.keys() - self.committed.keys()
            changed = [k for k in groups.keys() & self.committed.keys()
                       if groups[k] != self.committed[k]]
            problems.append(f"the groups are not those of a commit: lost {sorted(lost)[:5]}, "
                            f"back {sorted(back)[:5]}, other {changed[:5]}")
        return problems + self.problems
