"""kill -9 at random under load, the data folder kept over the rounds, the books checked in each."""
import copy
import random
import time

import load as loads
from ledger import Books, Ledger, world


def the_check_can_see(ledger, relay):
    """Books with a fault in them must be noticed, or the rounds prove nothing."""
    relay.kill()
    books = Books.of(relay.data)
    loads.demand(ledger.check(books), "the books before they are made wrong")
    id, (name, size, digest, sender) = next(
        (id, m) for id, m in books.messages.items() if m[3] != "<>" and
        ledger.messages[m[0]].id and not ledger.messages[m[0]].removals and
        set(books.open[id]) - ledger.messages[m[0]].taken)
    changes = {
        "is lost": lambda b: (b.messages.pop(id), b.open.pop(id)),
        "is not whole": lambda b: b.messages.update({id: (name, size - 1, digest, sender)}),
        "is back": lambda b: b.messages.update({next(filter(None, ledger.closed)): ("m1", 1, "", sender)}),
    }
    for problem, change in changes.items():
        wrong = copy.deepcopy(books)
        change(wrong)
        if not any(problem in p for p in ledger.check(wrong)):
            raise AssertionError(f"the check does not see that a message {problem}")
    relay.start()


def run(options, world_of_test):
    rounds = options.rounds or (1000 if options.full else 15)
    chooser = random.Random(f"kill {options.seed}")
    ledger = Ledger()
    hop = loads.NextHop(world_of_test, ledger)
    relay = loads.make_relay(world_of_test, hop.port)
    load = loads.Load(relay, ledger, options.seed)
    load.begin()
    busy = 0

    def wait_load(after):  # on a slow machine a round of so short a time may have no load at all
        world.wait_for(lambda: ledger.counts.get("accepted", 0) >= 5 * after, "mail to be accepted")
    for number in range(1, rounds + 1):
        wait_load(number - 1)
        time.sleep(chooser.uniform(0.02, 0.5) * (1 if world.SANITIZER == "none" else 2))
        relay.kill()
        books = Books.of(relay.data)
        busy += bool(books.groups)
        loads.demand(ledger.check(books), f"round {number} of {rounds}, seed {options.seed}")
        ledger.close_what_is_gone(books)
        if number % 100 == 0 or number == rounds:
            options.say(f"round {number}: {ledger.summary()}; {len(books.groups)} groups now")
        relay.start()
    wait_load(rounds)
    load.end()
    the_check_can_see(ledger, relay)
    loads.drain(relay, load, ledger, hop)
    if busy < rounds // 2 or ledger.counts["accepted"] < 5 * rounds:
        raise AssertionError(f"too little load to prove anything: {ledger.summary()}")
    return f"{rounds} kills, {ledger.counts['accepted']} accepted, 0 lost, half there or back " \
           f"({ledger.summary()})"
