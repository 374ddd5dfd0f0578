"""Another program at the queue's file: while a relay runs it finds no place to read from; one that
read before the relay came is named, and does not stop the mail."""
import subprocess
import sys
import unittest

import world
from test_deliver import send
from world import Relay

# What mdb_stat and mdb_copy do: open, and read. It says the code, and reads on.
READER = r"""
import ctypes, ctypes.util, sys, time
lmdb = ctypes.CDLL(ctypes.util.find_library("lmdb") or "liblmdb.so.0")
env, txn, READ_ONLY = ctypes.c_void_p(), ctypes.c_void_p(), 0x20000
code = lmdb.mdb_env_create(ctypes.byref(env))
code = code or lmdb.mdb_env_open(env, sys.argv[1].encode(), READ_ONLY, 0o600)
code = code or lmdb.mdb_txn_begin(env, None, READ_ONLY, ctypes.byref(txn))
print(code, flush=True)
time.sleep(600)
"""
READERS_FULL = -30790


class Readers(unittest.TestCase):
    def start_reader(self, relay):
        process = subprocess.Popen([sys.executable, "-c", READER, relay.data],
                                   stdout=subprocess.PIPE)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process, int(process.stdout.readline())

    def test_beside_a_running_relay_there_is_no_place(self):
        relay = Relay(self)
        _, code = self.start_reader(relay)
        self.assertEqual(code, READERS_FULL)
        send(relay, ["alice@local.test"])
        relay.wait_event("deliver.delivered")

    def test_one_that_was_there_before_is_named_until_it_is_gone(self):
        """'a stuck reader cannot make it grow': it is told of, and does not stop the mail."""
        relay = Relay(self)
        relay.stop()
        process, code = self.start_reader(relay)
        self.assertEqual(code, 0)
        relay.start()
        self.assertIn(f"process {process.pid} had opened",
                      relay.wait_event("queue.foreign_reader")["message"])
        send(relay, ["alice@local.test"])  # a newer snapshot than the one that it reads
        self.assertIn(f"process {process.pid} has been reading",
                      relay.wait_event("queue.reader_stands")["message"])
        send(relay, ["alice@local.test"])
        process.kill()  # it gives no place back
        self.assertIn(f"process {process.pid} reads",
                      relay.wait_event("queue.reader_left")["message"])
        world.wait_for(lambda: len(relay.maildir("alice")) == 2, "both to arrive")


if __name__ == "__main__":
    world.main()
