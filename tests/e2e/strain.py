"""What a slow machine does to a test, on purpose: a test that took a moment for granted fails here and
not in a year. Nothing of it runs unless it is asked for.

SMTPD_STRAIN_SYNC_MS=60  each sync of the relay takes so much longer: what the log tells comes so long
                         before the commit that it tells of.
SMTPD_STRAIN_LOG_MS=60   each write of the log comes so late: everything else is seen before it.
SMTPD_STRAIN_STOP_MS=300 the relay stands still again and again, at random, for up to so long.
"""
import atexit
import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time

SYNC_MS, LOG_MS, STOP_MS = (int(os.environ.get(f"SMTPD_STRAIN_{name}_MS", "0")) for name in
                            ("SYNC", "LOG", "STOP"))
FOLDER = os.path.dirname(os.path.abspath(__file__))

_libraries = {}


def _library(source):
    if source not in _libraries:
        folder = tempfile.mkdtemp(prefix="smtpd-strain-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        _libraries[source] = os.path.join(folder, "strain.so")
        subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O1", "-o", _libraries[source],
                        os.path.join(FOLDER, source), "-ldl"], check=True)
    return _libraries[source]


def environment(env, runtime):
    """`env` for a relay; `runtime()` is the sanitizer's library, which wants to be the first, or None."""
    ours = [_library(source) for ms, source in ((SYNC_MS, "../../bench/slow_sync.c"), (LOG_MS, "slow_log.c"))
            if ms]
    if not ours:
        return env
    before = env.get("LD_PRELOAD") or runtime()
    return dict(env, LD_PRELOAD=":".join(filter(None, [before, *ours])),
                SLOW_SYNC_US=str(SYNC_MS * 1000), SLOW_LOG_US=str(LOG_MS * 1000))


def stutter(process):
    """Stops and continues `process` until it has ended."""
    def run():
        while True:
            try:
                process.wait(random.uniform(0, 0.3))
                return
            except subprocess.TimeoutExpired:
                pass
            process.send_signal(signal.SIGSTOP)
            time.sleep(random.uniform(0, STOP_MS / 1000))
            process.send_signal(signal.SIGCONT)
    if STOP_MS:
        threading.Thread(target=run, daemon=True).start()
