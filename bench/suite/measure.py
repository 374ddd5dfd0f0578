"""The tools that make load, what they cost, and what the memory of a relay comes to meanwhile."""
import json
import os
import subprocess
import threading
import time

from common import ROOT, tool
from peers import Missing

ADDRESSES = ("sender@bench.test", "recipient@bench.test")


class Failed(Exception):
    """This row has no figures, and why."""


def run_counted(words, seconds):
    """Runs a program, killed after so long. Returns (what it wrote, CPU seconds of it)."""
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        text = process.stdout.read()
        errors = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        timer.cancel()
        if process.returncode is None:  # somebody ends us
            process.kill()
            process.wait()
        process.stdout.close()
        process.stderr.close()
    if process.returncode == -9:
        raise Failed(f"{os.path.basename(words[0])} did not end within {seconds:.0f} s")
    if process.returncode:
        raise Failed(f"{os.path.basename(words[0])}: {errors.strip()[-200:]}")
    return text, usage.ru_utime + usage.ru_stime


def find_program(folder, name):
    """One of bench_tools."""
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        raise Missing(f"{os.path.relpath(path, ROOT)} is not built")
    return path


def run_program(path, seconds, *words):
    """Its figures, and its CPU seconds as `cpu_s`; `seconds` is when it is given up."""
    text, cpu = run_counted([path, *(str(word) for word in words)], seconds)
    try:
        return dict(json.loads(text), cpu_s=cpu)
    except ValueError as error:
        raise Failed(f"{os.path.basename(path)} wrote {text[:200]!r}") from error


class Load:
    """Our own load client."""

    def __init__(self, folder):
        self.folder = folder

    def command(self, port, *words):
        return [find_program(self.folder, "load"), "--port", str(port),
                *(str(word) for word in words)]

    def run(self, port, seconds, *words):
        path, *rest = self.command(port, *words, "--json")
        return run_program(path, seconds, *rest)


class Sender:
    """Closed loop, so many sessions: smtp-source, or for mixed sizes our own client."""

    def __init__(self, load, shape, sessions):
        self.load, self.shape, self.sessions = load, shape, sessions

    def send(self, port, count, seconds):
        """Returns CPU seconds of the sender."""
        if self.shape.bytes is None:
            found = self.load.run(port, seconds, "--sessions", self.sessions, "--messages", count,
                                  "--size", "mix")
            if found.get("failures"):
                raise Failed(f"{found['failures']} of {count} messages were refused")
            return found["cpu_s"]
        reuse = ["-d"] if self.shape.reuse else []
        words = [tool("smtp-source"), *reuse, "-s", str(self.sessions), "-m", str(count), "-l",
                 str(self.shape.bytes), "-f", ADDRESSES[0], "-t", ADDRESSES[1],
                 f"inet:127.0.0.1:{port}"]
        return run_counted(words, seconds)[1]


class Watch:
    """Samples the memory of a relay while it is open: peak of the proportional set size."""

    def __init__(self, account):
        self.account, self.peak_kb, self.processes = account, 0, 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        pause = 0.2
        while not self.ended.is_set():
            began = time.monotonic()
            pids = self.account.pids()
            self.processes = max(self.processes, len(pids))
            self.peak_kb = max(self.peak_kb, self.account.memory_kb()[0])
            # Many processes take long to look at: the look must not become the load.
            pause = max(0.2, 20 * (time.monotonic() - began))
            self.ended.wait(pause)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


def drain(relay, seconds):
    """Until nothing waits, or so long. Returns what is left."""
    end = time.monotonic() + seconds
    while True:
        left = relay.waiting()
        if left == 0 or time.monotonic() > end:
            return left
        time.sleep(0.02)
