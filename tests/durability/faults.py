"""Every call that the queue makes fails, is short, is done and yet said to have failed, or is late.

First a survey under load counts the sites (faults.c): a site is one call in one place of the program or
of liblmdb. Then, one after the other, a call of each site fails with each error that it may give,
under load. The server must go on with 4xx, or end with 1 and say why; clients must never hang; after
each fault the books are checked, and the server started again takes mail. What the program can call
is read from its symbols: a call that the shim does not know fails the test, and sites that never
ran are named.
"""
import collections
import contextlib
import errno
import mmap
import os
import random
import re
import shutil
import struct
import subprocess
import tempfile
import time

import load as loads
from ledger import Books, Ledger, world
import queue_file  # of tests/e2e: ledger.py has said where

E = errno
SITES, HEAD, SITE = 1000, struct.Struct("<IIIiIIII"), struct.Struct("<24s16sQQ")
ERROR, SHORT, AFTER, DELAY, LIE = 1, 2, 3, 4, 5
DELAY_MS = 400
MOST_OPEN = 2000

# lmdb.h
KEYEXIST, CORRUPTED, PANIC, VERSION, INVALID, MAP_FULL, DBS_FULL, READERS_FULL, TXN_FULL = \
    -30799, -30796, -30795, -30794, -30793, -30792, -30791, -30790, -30788
PAGE_NOT_FOUND, RESIZED, BAD_TXN = -30797, -30785, -30782

WRITES = [E.EIO, E.ENOSPC, E.EDQUOT, E.EROFS]
ERRORS = {
    "open": [E.EMFILE, E.ENFILE, E.EACCES, E.EROFS, E.EIO, E.ENOSPC],
    "close": [E.EIO, E.EINTR],
    "write": WRITES, "pwrite": WRITES, "writev": WRITES,
    "pread": [E.EIO], "lseek": [E.EINVAL],
    "fdatasync": [E.EIO, E.ENOSPC, E.EDQUOT, E.EROFS], "fsync": [E.EIO, E.ENOSPC],
    "ftruncate": [E.EIO, E.ENOSPC], "fallocate": [E.ENOSPC, E.EOPNOTSUPP, E.EIO],
    "fstat": [E.EIO], "stat": [E.EIO, E.EACCES], "lstat": [E.EIO, E.EACCES], "__fxstat": [E.EIO],
    "fstatfs": [E.EIO], "statfs": [E.EIO], "statvfs": [E.EIO],
    "flock": [E.EINTR, E.ENOLCK, E.EWOULDBLOCK], "fcntl": [E.ENOLCK, E.EAGAIN],
    "mkdir": [E.EROFS, E.ENOSPC, E.EACCES], "unlink": [E.EROFS, E.EIO],
    "rename": [E.ENOSPC, E.EROFS, E.EIO], "mmap": [E.ENOMEM, E.EAGAIN],
    "mdb_env_create": [E.ENOMEM], "mdb_env_open": [E.ENOMEM, E.EACCES, E.EAGAIN, INVALID, VERSION],
    "mdb_env_set_maxdbs": [E.EINVAL], "mdb_env_set_mapsize": [E.EINVAL, E.ENOMEM],
    "mdb_env_set_maxreaders": [E.EINVAL], "mdb_env_get_maxreaders": [E.EINVAL],
    "mdb_reader_list": [E.EINVAL], "mdb_reader_check": [E.EINVAL, E.ENOMEM],
    "fchmod": [E.EPERM, E.EROFS], "fchown": [E.EPERM, E.EROFS], "mdb_env_copyfd2": [E.ENOSPC, E.EIO],
    "mdb_env_stat": [E.EINVAL], "mdb_env_info": [E.EINVAL], "mdb_env_get_fd": [E.EINVAL],
    "mdb_dbi_open": [E.ENOMEM, DBS_FULL], "mdb_stat": [BAD_TXN],
    "mdb_txn_begin": [E.ENOMEM, E.EIO, PANIC, RESIZED, READERS_FULL],
    "mdb_txn_renew": [E.EINVAL, PANIC],
    "mdb_txn_commit": [E.EIO, E.ENOSPC, E.ENOMEM, MAP_FULL, PANIC],
    "mdb_get": [CORRUPTED, PAGE_NOT_FOUND, BAD_TXN],
    "mdb_put": [MAP_FULL, E.ENOMEM, TXN_FULL, CORRUPTED],
    "mdb_del": [MAP_FULL, E.ENOMEM, CORRUPTED],
    "mdb_cursor_open": [E.ENOMEM], "mdb_cursor_get": [CORRUPTED, PAGE_NOT_FOUND],
    "mdb_cursor_put": [MAP_FULL, E.ENOMEM, TXN_FULL, CORRUPTED],
    "mdb_cursor_del": [MAP_FULL, E.ENOMEM, CORRUPTED],
}
CAN_BE_SHORT = ("write", "pwrite", "writev", "pread")
CAN_BE_DONE = ("pwrite", "writev", "fdatasync", "fsync", "ftruncate", "rename", "mkdir", "mdb_txn_commit")
NEVER_FAIL = ("mdb_env_close", "mdb_dbi_close", "mdb_txn_abort", "mdb_txn_reset", "mdb_cursor_close")
# Symbols of liblmdb and of the room that are no calls of the system for a file, and those whose
# answer says nothing of the outside. Memory: the house's allocator aborts, LMDB's answer is ENOMEM.
HARMLESS = re.compile(
    r"mem(chr|cmp|cpy|move|set|mem)|str\w+|_*\w*printf\w*|__\w+_chk|pthread_\w+|sig\w+|abort|calloc|free|"
    r"malloc|realloc|posix_memalign|qsort|getpid|uname|sysconf|clock_\w+|munmap|madvise|msync|stderr|"
    r"__errno_location|__stack_chk_fail|_GLOBAL_OFFSET_TABLE_|__cxa_finalize|__gmon_start__|_ITM\w+|"
    r"__(asan|ubsan|tsan|sanitizer|msan|lsan)\w*|mdb_(strerror|cursor_txn|cursor_dbi|txn_env|version|"
    r"env_get_maxkeysize|txn_id|env_set_userctx)|_?_?environ|fputs|fputc|fwrite|fopen|"
    r"fclose|fflush|fread|fgets|getenv|to(upper|lower)|__ctype\w+|strto\w+|nanosleep|gmtime_r|timegm|"
    r"localtime_r|time|strftime|sched_yield|__assert_fail|json_\w+|crypto_\w+|sodium_\w+|uv_\w+|secure_\w+|"
    r"__isoc23_\w+|geteuid|getpwnam|"
    # Those of moved messages' files (transfer_file.c, import.c): another folder than the queue's.
    # tests/e2e/test_moving.py kills both ends at random.
    r"openat|renameat|unlinkat|lchown|fdopendir|readdir|closedir|dup")


def older_format(record):
    """The version stands in `meta`; every other number there is larger."""
    return struct.pack("<Q", 1) if record == struct.pack("<Q", 2) else record


class State:
    """The file that the shim shares with us."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "state")
        with open(self.path, "wb") as file:
            file.truncate(HEAD.size + SITES * SITE.size)
        with open(self.path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), 0)

    def arm(self, site, nth, mode, error, times=1):
        count = HEAD.unpack_from(self.map)[6]
        HEAD.pack_into(self.map, 0, 0, nth, mode, error, times, 0, count, DELAY_MS)
        struct.pack_into("<I", self.map, 0, site + 1)

    def disarm(self):
        struct.pack_into("<I", self.map, 0, 0)

    def fired(self):
        return HEAD.unpack_from(self.map)[5]

    def sites(self):
        """[(name, module, offset, count)]"""
        count = HEAD.unpack_from(self.map)[6]
        rows = [SITE.unpack_from(self.map, HEAD.size + i * SITE.size) for i in range(count)]
        return [(n.rstrip(b"\0").decode(), m.rstrip(b"\0").decode(), o, c) for n, m, o, c in rows]

    def counts(self):
        return {i: row[3] for i, row in enumerate(self.sites())}


def base_name(name):
    return name[:-2] if name.endswith("64") else name


# ---- what can be called ----

def run_tool(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          check=True).stdout


def libraries():
    found = re.search(r"liblmdb\S* => (\S+)", run_tool("ldd", world.BINARY))
    return found.group(1), os.path.join(os.path.dirname(world.BINARY), "libroom_queue.a")


def unknown_symbols(shim):
    """Calls of liblmdb and of the room that are neither intercepted nor harmless."""
    lmdb, room = libraries()
    known = set(re.findall(r" T (\w+)", run_tool("nm", "-D", "--defined-only", shim)))
    wanted = set(re.findall(r" [Uw] (\w+)", run_tool("nm", "-D", "--undefined-only", lmdb)))
    outside = set(re.findall(r" [Uw] (\w+)", run_tool("nm", "-D", "--undefined-only", world.BINARY)))
    if os.path.exists(room):
        wanted |= outside & set(re.findall(r" [Uw] (\w+)", run_tool("nm", room)))
    wanted |= {s for s in outside if s.startswith("mdb_")}
    return sorted(s for s in wanted - known if not HARMLESS.fullmatch(s))


def static_sites():
    """{(name, offset behind the call): function} of the calls of LMDB in the program."""
    sites, function, call = {}, "", None
    for line in run_tool("objdump", "-d", "--no-show-raw-insn", world.BINARY).splitlines():
        head = re.match(r"[0-9a-f]+ <(\w[\w.]*)>:$", line)
        here = re.match(r"\s+([0-9a-f]+):", line)
        if here and call:
            sites[call, int(here.group(1), 16)] = function
            call = None
        if head:
            function, call = head.group(1), None
        found = re.search(r"\scall\s.*<(mdb_\w+)@plt", line)
        if found:
            call = found.group(1)
    return sites


def never_reached(state):
    """Calls in the program that the survey has not seen. Tail calls have no place of their own."""
    reached = {(name, offset) for name, module, offset, count in state.sites() if count}
    harmless = [key for key in static_sites().items() if not HARMLESS.fullmatch(key[0][0])]
    missed = collections.Counter(f"{function.split('.')[0]}: {name}" for (name, offset), function
                                 in harmless if (name, offset) not in reached)
    return [f"{what} ({n})" for what, n in sorted(missed.items())], len(harmless), missed.total()


# ---- the rounds ----

class Rounds:
    def __init__(self, options, case):
        self.options = options
        self.folder = tempfile.mkdtemp(prefix="smtpd-faults-")
        case.addCleanup(lambda: subprocess.run(["rm", "-rf", self.folder], check=True))
        self.state = State(self.folder)
        self.preload, _ = world.preload(case, os.path.join(os.path.dirname(__file__), "faults.c"))
        self.ledger = Ledger()
        self.hop = loads.NextHop(case, self.ledger)
        self.relay = loads.make_relay(case, self.hop.port, start=False,
                                      queue='expire = "1d"\n')
        self.relay.env.update(LD_PRELOAD=self.preload, DURABILITY_STATE=self.state.path,
                              DURABILITY_FOLDER=self.relay.data)
        self.load = loads.Load(self.relay, self.ledger, options.seed, most_open=MOST_OPEN)
        self.ends = {}      # how the faults ended: {"went on": n, ...}
        self.phases = {}    # site -> where it runs: start, work, stop

    def check(self, what):
        books = Books.of(self.relay.data)
        loads.demand(self.ledger.check(books) + self.load.problems, what)
        self.ledger.close_what_is_gone(books)

    def survey(self, seconds):
        """Which site runs where."""
        def phase(name, before):
            now = self.state.counts()
            for site, count in now.items():
                if count > before.get(site, 0):
                    self.phases.setdefault(site, {})[name] = count - before.get(site, 0)
            return now
        for round_number in range(2):
            before = self.state.counts()
            self.relay.start()
            before = phase("start" if round_number else "make", before)
            self.load.begin()
            time.sleep(seconds)
            if round_number == 0:
                self.leave_draft()
                self.relay.kill()
                phase("work", before)
                self.load.end()
                queue_file.change_records(self.relay.data, "meta", older_format)
            else:
                self.load.end()
                before = phase("work", before)
                self.relay.stop()
                phase("stop", before)
        self.check("the survey")

    def leave_draft(self):
        """A message that is still arriving, and too large for memory, for the next start."""
        with contextlib.suppress(OSError, AssertionError), self.relay.raw() as raw:
            for line in ("EHLO c.test", "MAIL FROM:<a@back.test>", "RCPT TO:<ok-m0-0@hop.test>", "DATA"):
                raw.say(line)
            raw.send(b"X-Name: m0\r\n\r\n" + b"x" * 78 * 8000 + b"\r\n")
            deadline = time.monotonic() + 2
            while not self.relay.status()["queue"]["drafts"] and time.monotonic() < deadline:
                time.sleep(0.02)

    def injections(self, chooser):
        """[(site, phase, mode, error)]"""
        found = []
        for site, (name, module, _, _) in enumerate(self.state.sites()):
            plain = base_name(name)
            for phase in self.phases.get(site, {}):
                if phase == "make" and "start" in self.phases[site]:
                    continue
                found += [(site, phase, ERROR, e) for e in ERRORS.get(plain, ())]
                if plain in CAN_BE_SHORT:
                    found.append((site, phase, SHORT, 0))
                if plain in CAN_BE_DONE:
                    found.append((site, phase, AFTER, E.EIO))
                found.append((site, phase, DELAY, 0))
                if plain not in ERRORS and plain not in NEVER_FAIL:
                    raise AssertionError(f"no errors are known for {name} of {module}")
        chooser.shuffle(found)
        return found

    def describe(self, injection):
        site, phase, mode, error = injection
        name, module, offset, _ = self.state.sites()[site]
        what = {ERROR: f"error {errno.errorcode.get(error, error)}", SHORT: "short",
                AFTER: "done, and an error", DELAY: "late"}[mode]
        return f"{name} in {module}+{offset:x} at its {phase}: {what}"

    def ended_well(self, what):
        """The process is gone: it must have said why, and ended with 1."""
        code = self.relay.process.wait(world.PATIENCE)
        self.relay.process = None
        self.relay.stderr.close()
        errors = self.relay.errors()[self.error_mark:]
        said = re.search(r"^smtpd: \S", errors, re.M) or \
            self.relay.events("queue.store_failed", self.mark)
        if code != 1 or "Sanitizer" in errors or "runtime error" in errors or not said:
            raise AssertionError(f"{what}: exit {code}, {errors[-4000:]}\n{self.relay.log_tail(5)}")

    def try_start(self):
        """False: it has ended instead."""
        relay = self.relay
        try:
            relay.start()
            return True
        except AssertionError:
            if relay.process.poll() is None:
                raise
            return False

    def is_gone(self):
        return self.relay.process.poll() is not None

    def is_gone_or_whole(self):
        try:
            return self.is_gone() or not self.relay.status()["queue"]["is_rebuilding"]
        except AssertionError:  # the fault ended it behind the first look
            return self.is_gone()

    def one(self, injection, chooser):
        site, phase, mode, error = injection
        what = self.describe(injection)
        relay, state = self.relay, self.state
        often = self.phases[site][phase]
        nth = chooser.randint(1, max(1, min(often // 4, 12)))
        self.error_mark = len(relay.errors()) if os.path.exists(f"{relay.folder}/stderr") else 0
        self.mark = relay.log_mark() if os.path.exists(relay.log_path) else 0
        if phase == "make":
            return self.make_anew(what, site, mode, error)
        if phase == "start":
            state.arm(site, min(nth, 2), mode, error)
        is_up = self.try_start()
        end = "started" if is_up else "refused to start"
        if is_up and phase == "start":
            world.wait_for(self.is_gone_or_whole, "the index")
        if is_up:
            end = self.work(what, phase, (site, nth, mode, error))
        elif phase != "start":
            raise AssertionError(f"{what}: it does not start: {relay.errors()[-3000:]}")
        if state.fired():
            self.ends[end] = self.ends.get(end, 0) + 1
        has_fired = state.fired()
        state.disarm()
        if relay.process and self.is_gone():
            self.ended_well(what)
        elif relay.process:
            self.leave_draft()
            relay.kill()
        self.check(what)
        return has_fired

    def make_anew(self, what, site, mode, error):
        """A fault in the first start of all."""
        relay, aside = self.relay, self.relay.data + ".aside"
        os.rename(relay.data, aside)
        self.state.arm(site, 1, mode, error)
        if self.try_start():
            relay.kill()
            end = "started"
        else:
            self.ended_well(what)
            end = "refused to start"
        has_fired = self.state.fired()
        self.state.disarm()
        relay.start()
        with relay.raw() as raw:
            if not raw.greeting.startswith(b"220"):
                raise AssertionError(f"{what}: {raw.greeting}")
        relay.stop()
        shutil.rmtree(relay.data)
        os.rename(aside, relay.data)
        self.ends[end] = self.ends.get(end, 0) + bool(has_fired)
        return has_fired

    def work(self, what, phase, plan):
        relay, state = self.relay, self.state
        self.load.begin()
        if phase == "work":
            state.arm(*plan)
            deadline = time.monotonic() + 3
            while not state.fired() and not self.is_gone() and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(0.05)
        # On a fast machine the load may have reached its most meanwhile, and would offer nothing.
        self.load.most_open = len(self.ledger.messages) + MOST_OPEN
        accepted = self.ledger.counts.get("accepted", 0)
        if not self.is_gone():
            world.wait_for(lambda: self.is_gone() or
                           self.ledger.counts.get("accepted", 0) >= accepted + 3,
                           f"{what}: mail to be accepted again")
        if phase == "stop" and not self.is_gone():
            state.arm(plan[0], 1, *plan[2:])
            relay.signal(15)
            code = relay.process.wait(world.PATIENCE)
            self.load.end()
            errors = relay.errors()[self.error_mark:]
            if code not in (0, 1) or "Sanitizer" in errors or "runtime error" in errors:
                raise AssertionError(f"{what}: exit {code} {errors[-3000:]}")
            relay.process = None
            relay.stderr.close()
            return f"left with {code}"
        end = "ended with 1" if self.is_gone() else "went on"
        self.load.end()
        return end


    def the_check_can_see(self):
        """Commits that say 0 and are none: 250 is said, and nothing is there."""
        site = next(i for i, (name, _, _, _) in enumerate(self.state.sites())
                    if name == "mdb_txn_commit" and "work" in self.phases.get(i, {}))
        self.relay.start()
        self.load.begin()
        self.state.arm(site, 3, LIE, 0, times=20)
        world.wait_for(lambda: self.state.fired() >= 20, "the commits that lie")
        self.state.disarm()
        self.load.end()
        self.relay.kill()
        problems = self.ledger.check(Books.of(self.relay.data))
        if not any("is lost" in p for p in problems):
            raise AssertionError(f"commits that were none are not noticed: {problems[:5]}")


def choose(rounds, options, chooser):
    """In full all of them; short: of each call one, and some more."""
    found = rounds.injections(chooser)
    if options.only:
        return [i for i in found if options.only in rounds.describe(i)]
    if options.full:
        return found
    names, chosen = set(), []
    most = options.rounds or (45 if world.SANITIZER == "none" else 20)
    for injection in found:
        name = rounds.state.sites()[injection[0]][0]
        if name not in names and injection[2] == ERROR:
            names.add(name)
            chosen.append(injection)
    return (chosen + [i for i in found if i not in chosen])[:most]


def run(options, case):
    chooser = random.Random(f"faults {options.seed}")
    rounds = Rounds(options, case)
    unknown = unknown_symbols(rounds.preload.split(":")[-1])
    if unknown:
        raise AssertionError(f"calls that faults.c does not know: {', '.join(unknown)}")
    rounds.survey(2 if not options.full else 6)
    missed, total, count = never_reached(rounds.state)
    options.say(f"{len(rounds.state.sites())} sites; of {total} calls of LMDB in the program "
                f"{count} never ran (raw_, walk and cli_ are programs without a server): "
                f"{'; '.join(missed) or 'none'}")
    kinds = sorted({base_name(s[0]) for s in rounds.state.sites()})
    options.say(f"kinds that never ran: {', '.join(sorted(set(ERRORS) - set(kinds))) or 'none'}")
    plan = choose(rounds, options, chooser)
    missed_plan = 0
    for number, injection in enumerate(plan, 1):
        random_here = random.Random(f"{options.seed} {rounds.describe(injection)}")
        if not rounds.one(injection, random_here):
            missed_plan += 1
        if number % 50 == 0:
            options.say(f"{number} of {len(plan)}: {rounds.ends}; {missed_plan} did not come to pass")
    if missed_plan > len(plan) // 3:
        raise AssertionError(f"{missed_plan} of {len(plan)} faults never came to pass")
    missed, _, _ = never_reached(rounds.state)
    options.say(f"calls of LMDB that the faults did not reach either: {'; '.join(missed) or 'none'}")
    rounds.relay.start()
    loads.drain(rounds.relay, rounds.load, rounds.ledger, rounds.hop)
    rounds.the_check_can_see()
    return f"{len(plan) - missed_plan} faults at {len({i[0] for i in plan})} sites, 0 lost " \
           f"({', '.join(f'{n} {what}' for what, n in sorted(rounds.ends.items()))}); " \
           f"{rounds.ledger.counts['accepted']} accepted"
