"""Issue sentences of 'Delivery': routes, MX rules, connections, TLS, faults, what the hop lacks."""
import os
import signal
import socket
import threading
import time
import unittest

import world
from world import Dns, Hop, Relay, message


def send(relay, recipients, sender="app@sender.test", text=None, options=(), rcpt_options=(),
         body="text", subject="s"):
    """Submits on the relay listener; returns the id."""
    with relay.relay_client() as client:
        client.ehlo()
        code, reply = client.docmd(f"MAIL FROM:<{sender}>", " ".join(options))
        assert code == 250, reply
        for recipient in recipients:
            code, reply = client.docmd(f"RCPT TO:<{recipient}>", " ".join(rcpt_options))
            assert code == 250, reply
        code, reply = client.data(text or message(body=body, subject=subject))
        assert code == 250, reply
        return world.queued_id(reply)


def books(case, relay, hops, recipients, bounced=()):
    """Each recipient is delivered once, waiting, or bounced: never two of these, never none. Who was
    just delivered may wait for a moment more: until the commit that says so."""
    def ends():
        waiting = [r for group in relay.queue() for r in group["recipients"]]
        delivered = {}
        for hop in hops:
            for recipient, count in hop.delivered().items():
                delivered[recipient] = delivered.get(recipient, 0) + count
        return {r: (delivered.get(r, 0), waiting.count(r), r in bounced) for r in recipients}
    try:
        world.wait_for(lambda: all(sum(found) == 1 for found in ends().values()), "the books", 5)
    except AssertionError:
        for recipient, found in ends().items():
            case.assertEqual(sum(found), 1, "%s: delivered %d, waiting %d, bounced %d" %
                             (recipient, *found))


def bounced(relay):
    return {e["recipient"] for e in relay.events("deliver.bounced")}


class Routing(unittest.TestCase):
    """MX, implicit MX, null MX, literals, NXDOMAIN, ourselves, private addresses."""

    ZONES = {"test": """
mx      MX 10 mx1.mx
mx      MX 20 mx2.mx
mx1.mx  A 127.0.0.11
mx2.mx  A 127.0.0.12
implicit A 127.0.0.11
null    MX 0 .
noaddr  MX 10 nowhere.mx
txtonly TXT "no mail here"
loop    MX 10 relay
relay   A 127.0.0.1
backup  MX 10 primary.elsewhere.example.
backup  MX 20 relay
alias   CNAME mx
big     MX 5 mx1.mx
""" + "\n".join(f"big MX {i + 10} a-rather-long-name-of-a-mail-exchanger-{i}.of-a-big-farm"
                for i in range(60))}

    @classmethod
    def setUpClass(cls):
        cls.case = unittest.TestCase()
        cls.dns = Dns(cls.case, cls.ZONES)
        port = world.free_port()
        cls.first = Hop(cls.case, host="127.0.0.11", port=port)
        cls.second = Hop(cls.case, host="127.0.0.12", port=port)
        cls.relay = Relay(cls.case, dns=cls.dns, delivery=f"port = {port}\n",
                          queue='retry = ["1s", "2s"]\n')

    @classmethod
    def tearDownClass(cls):
        cls.case.doCleanups()

    def event(self, name, recipient):
        return world.wait_for(lambda: [e for e in self.relay.events(name)
                                       if e.get("recipient") == recipient],
                              f"{name} of {recipient}")[0]

    def test_the_best_mail_exchanger_gets_it(self):
        send(self.relay, ["best@mx.test"])
        self.event("deliver.delivered", "best@mx.test")
        self.assertEqual(self.first.delivered().get("best@mx.test"), 1)

    def test_implicit_mx_alias_and_literal(self):
        send(self.relay, ["i@implicit.test"])
        self.event("deliver.delivered", "i@implicit.test")
        send(self.relay, ["c@alias.test"])
        self.event("deliver.delivered", "c@alias.test")
        send(self.relay, ["l@[127.0.0.12]"])
        self.event("deliver.delivered", "l@[127.0.0.12]")
        self.assertEqual(self.second.delivered().get("l@[127.0.0.12]"), 1)

    def test_a_truncated_answer_is_asked_again_over_tcp(self):
        send(self.relay, ["b@big.test"])
        self.event("deliver.delivered", "b@big.test")

    def test_what_has_no_way_bounces_with_its_code(self):
        for recipient, status in (("n@null.test", "5.1.10"), ("x@no-such-name.test", "5.1.2"),
                                  ("a@noaddr.test", "5.4.4"), ("t@txtonly.test", "5.4.4"),
                                  ("o@loop.test", "5.4.6")):
            send(self.relay, [recipient])
            event = self.event("deliver.bounced", recipient)
            self.assertEqual(event["reply"]["enhanced"], status, recipient)

    def test_a_backup_waits_while_the_name_of_the_primary_cannot_be_looked_up(self):
        """SERVFAIL or REFUSED for a host that is preferred to ourselves: 4.4.3, and no bounce."""
        send(self.relay, ["p@backup.test"])
        world.wait_for(lambda: [e for e in self.relay.events("deliver.dns_backoff")
                                if e["domain"] == "backup.test"] or
                       [e for e in self.relay.events("deliver.bounced")
                        if e["recipient"] == "p@backup.test"], "the verdict")
        self.assertNotIn("p@backup.test", bounced(self.relay))
        self.assertIn(["p@backup.test"], [g["recipients"] for g in self.relay.queue()])


class Faults(unittest.TestCase):
    """A remote server that refuses, drops at any stage, talks nonsense, or never answers."""

    def relay_with(self, hop, delivery="", **more):
        return Relay(self, hop=hop.port, queue='retry = ["1s", "1s"]\nexpire = "1h"\n',
                     delivery='connect_timeout = "2s"\ngreeting_timeout = "1s"\n'
                     'command_timeout = "1s"\ndata_timeout = "1s"\nfinal_dot_timeout = "8s"\n'
                     + delivery, **more)

    def test_every_stage_with_every_kind_of_answer(self):
        """After each: the books. Each recipient delivered once, waiting, or bounced."""
        def answer(stage, argument, session):
            sender = session.message["sender"] if session.message else ""
            if stage in ("mail",):
                sender = argument[argument.index("<") + 1:argument.index(">")]
            if stage == "dot":
                sender = argument["sender"]
            if not sender or "." not in sender.split("@")[0]:
                return None
            at, what = sender.split("@")[0].split(".")
            if stage != at:
                return None
            with hop.lock:
                count = seen[sender] = seen.get(sender, 0) + 1
            if what == "later":
                return "451 4.3.0 not now" if count == 1 else None
            if what == "never":
                return "550 5.7.1 not here"
            if what == "shut":
                return "421 4.3.2 closing" if count == 1 else None
            if what == "drop":
                return "DROP" if count == 1 else None
            if what == "garbage":
                return b"\x00\xff nonsense\r\n" if count == 1 else None
            if what == "hang":
                return "HANG" if count == 1 else None
            return None
        seen = {}
        hop = Hop(self, answer)
        relay = self.relay_with(hop)
        recipients, permanent, twice = [], set(), set()
        for stage in ("mail", "rcpt", "data", "dot"):
            for what in ("fine", "later", "never", "shut", "drop", "garbage", "hang"):
                recipient = f"{stage}-{what}@x.test"
                recipients.append(recipient)
                send(relay, [recipient], sender=f"{stage}.{what}@sender.test")
                if what == "never":
                    permanent.add(recipient)
        def settled():
            done = set(hop.delivered()) | bounced(relay)
            for _ in range(3):
                relay.command("queue", "retry", "--all")
            return set(recipients) <= done
        world.wait_for(settled, "all to settle", 3 * world.PATIENCE)
        relay.wait_empty()
        self.assertEqual(bounced(relay), permanent, [e for e in relay.events("deliver.bounced")
                                                     if e["recipient"] not in permanent])
        books(self, relay, [hop], recipients, bounced(relay))

    def test_faults_before_mail_spend_no_attempt_and_write_nothing(self):
        for what in ("421 4.3.2 busy", "554 5.3.2 no service", "DROP", b"\xff\xff\r\n", "HANG"):
            state = {"broken": True}

            def answer(stage, argument, session):
                return what if stage == "connect" and state["broken"] else None
            hop = Hop(self, answer)
            relay = self.relay_with(hop)
            send(relay, ["g@x.test"])
            world.wait_for(lambda: relay.events("deliver.destination_backoff"), f"{what!r}")
            group = relay.queue()[0]
            self.assertEqual((group["attempts"], group["state"]), (0, "waiting"))
            why = relay.command("queue", "why", group["id"])
            self.assertIn("destination", why)
            state["broken"] = False
            # A hop that is a second late makes another back-off.
            world.wait_for(lambda: relay.command("queue", "retry", "--all") and not relay.queue(), "the delivery")
            self.assertEqual(hop.delivered(), {"g@x.test": 1})
            relay.stop()

    def test_the_next_host_is_tried_when_the_first_is_at_fault(self):
        port = world.free_port()
        dns = Dns(self, {"test": "two MX 10 a.two\ntwo MX 20 b.two\na.two A 127.0.0.21\n"
                                 "b.two A 127.0.0.22\n"})
        first = Hop(self, lambda stage, argument, session: "421 no" if stage == "connect" else None,
                    host="127.0.0.21", port=port)
        second = Hop(self, host="127.0.0.22", port=port)
        relay = Relay(self, dns=dns, delivery=f"port = {port}\n")
        send(relay, ["a@two.test"])
        relay.wait_empty()
        self.assertEqual(second.delivered(), {"a@two.test": 1})
        self.assertGreaterEqual(first.connections, 1)

    def test_a_flood_of_reply_lines_is_cut(self):
        hop = Hop(self, lambda stage, argument, session:
                  b"250-more\r\n" * 200000 if stage == "ehlo" else None)
        relay = self.relay_with(hop)
        send(relay, ["flood@x.test"])
        world.wait_for(lambda: relay.events("deliver.destination_backoff"), "the back-off")
        self.assertEqual(len(relay.queue()), 1)


class Transactions(unittest.TestCase):
    def test_one_transaction_per_group_and_connections_are_reused(self):
        hop = Hop(self)
        relay = Relay(self, hop=hop.port, delivery="connections = 1\n")
        for i in range(5):
            send(relay, [f"a{i}@x.test", f"b{i}@x.test", f"c{i}@y.test"], subject=f"m{i}")
        relay.wait_empty()
        # The route is one lane: the three recipients of a message travel together.
        self.assertEqual(len(hop.messages), 5)
        self.assertTrue(all(len(m["recipients"]) == 3 for m in hop.messages))
        self.assertLess(hop.connections, 5)

    def test_messages_per_connection(self):
        hop = Hop(self)
        relay = Relay(self, hop=hop.port,
                      delivery="connections = 1\nmessages_per_connection = 2\n")
        for i in range(6):
            send(relay, [f"a{i}@x.test"])
        relay.wait_empty()
        per_connection = {}
        for m in hop.messages:
            per_connection[m["session"]] = per_connection.get(m["session"], 0) + 1
        self.assertEqual(sum(per_connection.values()), 6)
        self.assertLessEqual(max(per_connection.values()), 2)

    def test_the_connection_limit_holds(self):
        open_now, most, lock = [0], [0], threading.Lock()
        go_on = threading.Event()

        def answer(stage, argument, session):
            if stage == "dot":
                with lock:
                    open_now[0] += 1
                    most[0] = max(most[0], open_now[0])
                go_on.wait(world.PATIENCE)
                time.sleep(0.1)
                with lock:
                    open_now[0] -= 1
            return None
        hop = Hop(self, answer)
        relay = Relay(self, hop=hop.port, delivery="connections = 3\n")
        for i in range(12):
            send(relay, [f"a{i}@x.test"])
        world.wait_for(lambda: most[0] >= 2, "more than one connection")
        go_on.set()
        relay.wait_empty()
        self.assertLessEqual(most[0], 3)
        self.assertEqual(len(hop.messages), 12)

    def test_too_many_recipients_go_at_once_in_a_further_transaction(self):
        """452 4.5.3 after an accepted recipient: the rest spends no attempt."""
        def answer(stage, argument, session):
            if stage == "rcpt" and len(session.message["recipients"]) >= 3:
                return "452 4.5.3 too many recipients"
            return None
        hop = Hop(self, answer)
        relay = Relay(self, hop=hop.port, queue='retry = ["1h"]\n')
        recipients = [f"r{i}@x.test" for i in range(10)]
        send(relay, recipients)
        relay.wait_empty()
        books(self, relay, [hop], recipients)

    def test_a_hop_that_takes_one_transaction_on_a_connection_gets_no_message_twice(self):
        """It closes before MAIL of the further transaction: the rest goes on a new connection."""
        used = set()

        def answer(stage, argument, session):
            if stage == "rcpt" and session.message and len(session.message["recipients"]) >= 3:
                return "452 4.5.3 too many recipients"
            if stage == "mail" and session.number in used:
                return "DROP"
            if stage == "dot":
                used.add(session.number)
            return None
        hop = Hop(self, answer)
        relay = Relay(self, hop=hop.port, queue='retry = ["1h"]\n')
        recipients = [f"r{i}@x.test" for i in range(10)]
        send(relay, recipients)
        relay.wait_empty()
        books(self, relay, [hop], recipients)
        self.assertEqual(relay.events("deliver.destination_backoff"), [])

    def test_what_was_delivered_stays_so_when_the_hop_goes_away_before_the_rest(self):
        def answer(stage, argument, session):
            if stage == "rcpt" and session.message and session.message["recipients"]:
                return "452 4.5.3 too many recipients"
            if stage == "mail" and hop.messages:
                return "421 4.3.2 no more today"
            return None
        hop = Hop(self, answer)
        relay = Relay(self, hop=hop.port, queue='retry = ["1h"]\n')
        recipients = ["r0@x.test", "r1@x.test"]
        send(relay, recipients)
        world.wait_for(lambda: [g for g in relay.queue() if g["attempts"] == 1], "the deferral")
        self.assertEqual(relay.queue()[0]["recipients"], ["r1@x.test"])
        books(self, relay, [hop], recipients)

    def test_452_about_a_mailbox_is_no_limit_on_recipients(self):
        """452 4.2.2 (a full mailbox) behind an accepted recipient teaches nothing about the host."""
        def answer(stage, argument, session):
            if stage == "rcpt" and "<full" in argument:
                return "452 4.2.2 over quota"
            return None
        hop = Hop(self, answer)
        relay = Relay(self, hop=hop.port, queue='retry = ["1h"]\n')
        send(relay, ["a@x.test", "full@x.test", "b@x.test"])
        world.wait_for(lambda: [g for g in relay.queue() if g["attempts"] == 1], "the deferral")
        send(relay, ["c@x.test", "d@x.test"])
        world.wait_for(lambda: len(relay.queue()) == 1, "the second message")
        self.assertEqual([m["recipients"] for m in hop.messages],
                         [["a@x.test", "b@x.test"], ["c@x.test", "d@x.test"]])

    def test_mixed_answers_settle_each_recipient_alone(self):
        def answer(stage, argument, session):
            if stage == "rcpt" and "<no" in argument:
                return "550 5.1.1 unknown"
            if stage == "rcpt" and "<later" in argument:
                return "450 4.2.1 busy"
            return None
        hop = Hop(self, answer)
        relay = Relay(self, hop=hop.port, queue='retry = ["1h"]\n')
        recipients = ["yes1@x.test", "no1@x.test", "later1@x.test", "yes2@x.test"]
        send(relay, recipients, sender="alice@local.test")
        world.wait_for(lambda: [g for g in relay.queue() if g["attempts"] == 1], "the deferral")
        world.wait_for(lambda: bounced(relay), "the bounce")
        books(self, relay, [hop], recipients, bounced(relay))
        self.assertEqual(bounced(relay), {"no1@x.test"})
        group = relay.queue()[0]
        self.assertEqual((group["recipients"], group["last"]["code"]), (["later1@x.test"], 450))

    def test_no_recipient_accepted_and_354_all_the_same_gets_a_lone_dot(self):
        def answer(stage, argument, session):
            if stage == "rcpt":
                return "550 5.1.1 unknown"
            if stage == "data":
                return "354 go on"
            return None
        hop = Hop(self, answer)
        relay = Relay(self, hop=hop.port)
        send(relay, ["u@x.test"], sender="alice@local.test")
        world.wait_for(lambda: bounced(relay), "the bounce")
        self.assertEqual(hop.messages, [])

    def test_dots_long_lines_and_bytes_pass_untouched(self):
        hop = Hop(self)
        relay = Relay(self, hop=hop.port)
        body = ".\r\n..\r\n.hidden\r\n" + "x" * 5000 + "\r\n\r\nend .\r\n"
        with relay.raw() as raw:
            for line in ("EHLO c.test", "MAIL FROM:<a@b.test>", "RCPT TO:<d@x.test>", "DATA"):
                raw.say(line)
            stuffed = "".join(("." if line.startswith(".") else "") + line
                              for line in body.splitlines(True))
            raw.send("Subject: dots\r\n\r\n" + stuffed + ".\r\n")
            self.assertTrue(raw.reply().startswith(b"250"))
        relay.wait_empty()
        self.assertTrue(hop.messages[0]["data"].endswith(b"\r\n\r\n" + body.encode()))


class Reload(unittest.TestCase):
    def reload_to(self, relay, hop):
        mark = relay.log_mark()
        relay.write_config(hop=hop.port)
        relay.signal(signal.SIGHUP)
        world.wait_for(lambda: relay.event("server.reloaded", mark), "the reload")

    def test_mail_goes_the_new_way_though_a_connection_of_the_old_one_rests(self):
        old, new = Hop(self), Hop(self)
        relay = Relay(self, hop=old.port)
        send(relay, ["a@x.test"])
        relay.wait_empty()
        self.reload_to(relay, new)
        send(relay, ["b@x.test"])
        relay.wait_empty()
        self.assertEqual((old.delivered(), new.delivered()), ({"a@x.test": 1}, {"b@x.test": 1}))

    def test_a_backlog_takes_the_new_way(self):
        """Not only new mail: what waited for its turn when the file was read again."""
        at_dot, go_on = threading.Event(), threading.Event()

        def slow(stage, argument, session):
            if stage == "dot":
                at_dot.set()
                go_on.wait(world.PATIENCE)
            return None
        old, new = Hop(self, slow), Hop(self)
        relay = Relay(self, hop=old.port, delivery="connections = 1\n")
        recipients = [f"r{i}@x.test" for i in range(20)]
        for recipient in recipients:
            send(relay, [recipient])
        self.assertTrue(at_dot.wait(world.PATIENCE))
        self.reload_to(relay, new)
        go_on.set()
        relay.wait_empty()
        books(self, relay, [old, new], recipients)
        self.assertGreater(len(new.messages), 10)


class NextHopLacks(unittest.TestCase):
    def bounce_status(self, capabilities, text, options=()):
        hop = Hop(self, capabilities=capabilities)
        relay = Relay(self, hop=hop.port)
        send(relay, ["u@x.test"], sender="alice@local.test", text=text, options=options)
        event = world.wait_for(lambda: relay.events("deliver.bounced") or
                               relay.events("deliver.delivered"), "the end")[0]
        self.assertEqual(event["event"], "deliver.bounced")
        return event["reply"]["enhanced"]

    def test_8bit_without_8bitmime_bounces_5_6_3(self):
        self.assertEqual(self.bounce_status(["PIPELINING"],
                                            "Subject: x\r\n\r\ngrüße\r\n".encode(),
                                            ["BODY=8BITMIME"]), "5.6.3")

    def test_the_other_mail_exchanger_first_when_an_idle_connection_lacks_it(self):
        """The connection that rests may be to any of the hosts: none is passed over for it."""
        def close_behind_each(stage, argument, session):
            if stage == "dot":
                session.connection.shutdown(socket.SHUT_RD)
            return None
        port = world.free_port()
        able = Hop(self, close_behind_each, host="127.0.0.11", port=port)
        lacking = Hop(self, host="127.0.0.12", port=port, capabilities=("PIPELINING",))
        dns = Dns(self, {"test": "x MX 10 a.x\nx MX 10 b.x\na.x A 127.0.0.11\nb.x A 127.0.0.12\n"})
        relay = Relay(self, dns=dns, delivery=f"port = {port}\nconnections = 1\n")
        sent = 0
        while not lacking.messages and sent < 60:
            send(relay, [f"plain{sent}@x.test"])
            relay.wait_empty()
            sent += 1
        for i in range(12):
            send(relay, [f"r{i}@x.test"], text="Subject: x\r\n\r\ngrüße\r\n".encode(),
                 options=["BODY=8BITMIME"])
            relay.wait_empty()
        self.assertEqual(bounced(relay), set())
        self.assertEqual(sum(m["recipients"][0].startswith("r") for m in able.messages), 12)

    def test_smtputf8_not_offered_bounces_5_6_7(self):
        self.assertEqual(self.bounce_status(["8BITMIME"], "Subject: grüße\r\n\r\nx\r\n".encode(),
                                            ["SMTPUTF8"]), "5.6.7")

    def test_a_message_larger_than_the_hop_takes_bounces_5_3_4(self):
        self.assertEqual(self.bounce_status(["SIZE 2000"], message(body="x" * 5000)), "5.3.4")

    def test_helo_is_enough(self):
        hop = Hop(self, lambda stage, argument, session:
                  "500 5.5.1 what?" if stage == "ehlo" else None)
        relay = Relay(self, hop=hop.port)
        send(relay, ["old@x.test"])
        relay.wait_empty()
        self.assertEqual(hop.delivered(), {"old@x.test": 1})


class Tls(unittest.TestCase):
    """Opportunistic, required, verified; implicit; AUTH to a next hop."""

    def setUp(self):
        import tempfile
        import shutil
        self.folder = tempfile.mkdtemp(prefix="smtpd-tls-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.good = world.make_certificate(self.folder, "good", "hop.test")

    def deliver(self, hop, tls, more="", ca=None, host="127.0.0.1"):
        relay = Relay(self, delivery='connect_timeout = "2s"\n', start=False, extra=(
            f'[[route]]\nmatch = "*"\nhost = "{host}"\nport = {hop.port}\ntls = "{tls}"\n{more}'))
        if ca:
            with open(relay.config_path) as file:
                text = file.read()
            with open(relay.config_path, "w") as file:
                file.write(text.replace(f'ca_file = "{relay.certificate}"', f'ca_file = "{ca}"'))
        relay.start()
        send(relay, ["t@x.test"])
        event = world.wait_for(lambda: relay.events("deliver.delivered") or
                               relay.events("deliver.destination_backoff"), "an end")[0]
        return relay, event

    def test_opportunistic_takes_any_certificate(self):
        hop = Hop(self, tls=self.good)
        _, event = self.deliver(hop, "opportunistic")
        self.assertEqual(event["event"], "deliver.delivered")
        self.assertTrue(hop.messages[0]["secure"])
        self.assertFalse(event["tls"]["verified"])

    def test_opportunistic_without_offer_and_with_a_broken_handshake_goes_in_clear(self):
        hop = Hop(self)
        _, event = self.deliver(hop, "opportunistic")
        self.assertFalse(hop.messages[0]["secure"])
        state = {"broken": 0}

        def answer(stage, argument, session):
            if stage == "starttls":
                state["broken"] += 1
                session.connection.sendall(b"220 go\r\n" + b"not TLS at all" * 20)
                return "DROP"
            return None
        broken = Hop(self, answer, tls=self.good)
        _, event = self.deliver(broken, "opportunistic")
        self.assertEqual(event["event"], "deliver.delivered")
        self.assertFalse(broken.messages[0]["secure"])

    def test_too_many_handshakes_here_are_no_reason_to_send_in_clear(self):
        """A client that begins handshakes and never ends them cannot bring it about either."""
        hop = Hop(self, tls=self.good)
        relay = Relay(self, limits="handshakes_per_address = 1\n", extra=(
            f'[[route]]\nmatch = "*"\nhost = "127.0.0.1"\nport = {hop.port}\n'
            'tls = "opportunistic"\n'))
        with socket.create_connection(("127.0.0.1", relay.smtps), 5) as silent:
            silent.sendall(b"\x16\x03\x01")  # the handshake has begun
            send(relay, ["t@x.test"])
            why = world.wait_for(lambda: next((text for text in (
                relay.command("queue", "why", group["id"]) for group in relay.queue())
                if "handshakes" in text), None), "the reason")
            self.assertIn("no_room", why)
        self.assertEqual(relay.events("deliver.destination_backoff"), [])  # nobody's fault but ours
        relay.wait_empty()
        self.assertTrue(hop.messages[0]["secure"])

    def test_required_never_goes_in_clear(self):
        hop = Hop(self)
        relay, event = self.deliver(hop, "required")
        self.assertEqual(event["event"], "deliver.destination_backoff")
        self.assertEqual(hop.messages, [])

    def test_verified_needs_a_certificate_for_the_name(self):
        dns = Dns(self, {"test": "hop A 127.0.0.1\nother A 127.0.0.1\n"})
        hop = Hop(self, tls=self.good)
        for host, ca, delivered in (("hop.test", self.good[0], True),
                                    ("other.test", self.good[0], False),
                                    ("hop.test", None, False)):
            relay = Relay(self, dns=dns, start=False, extra=(
                f'[[route]]\nmatch = "*"\nhost = "{host}"\nport = {hop.port}\ntls = "verified"\n'))
            if ca:
                with open(relay.config_path) as file:
                    text = file.read()
                with open(relay.config_path, "w") as file:
                    file.write(text.replace(f'ca_file = "{relay.certificate}"',
                                            f'ca_file = "{ca}"'))
            relay.start()
            send(relay, [f"v-{delivered}@x.test"])
            event = world.wait_for(lambda: relay.events("deliver.delivered") or
                                   relay.events("deliver.destination_backoff"), "an end")[0]
            self.assertEqual(event["event"] == "deliver.delivered", delivered, event)
            if delivered:
                self.assertTrue(event["tls"]["verified"])
            relay.stop()

    def test_implicit_tls_and_auth_to_the_next_hop(self):
        hop = Hop(self, tls=self.good, implicit_tls=True,
                  capabilities=("PIPELINING", "AUTH PLAIN LOGIN"))
        secret = os.path.join(self.folder, "secret")
        with open(secret, "w") as file:
            file.write("s3cret\n")
        _, event = self.deliver(hop, "required", more=(
            f'implicit_tls = true\nuser = "relay"\npassword_file = "{secret}"\n'))
        self.assertEqual(event["event"], "deliver.delivered")
        import base64
        said = [line for _, line in hop.commands if line.startswith("AUTH PLAIN ")]
        self.assertEqual(base64.b64decode(said[0].split()[2]), b"\0relay\0s3cret")


class Retries(unittest.TestCase):
    def test_the_schedule_and_the_expiry(self):
        hop = Hop(self, lambda stage, argument, session:
                  "450 4.2.1 busy" if stage == "rcpt" else None)
        relay = Relay(self, hop=hop.port, queue='retry = ["1s", "1s", "2s"]\nexpire = "10s"\n')
        send(relay, ["late@x.test"], sender="alice@local.test")
        event = world.wait_for(lambda: relay.events("deliver.expired") or
                               relay.events("deliver.bounced"), "the expiry", 60)[0]
        self.assertEqual(event["recipient"], "late@x.test")
        attempts = [line for _, line in hop.commands if line.startswith("RCPT")]
        self.assertGreaterEqual(len(attempts), 3)
        report = world.wait_for(lambda: relay.maildir("alice"), "the report")[0]
        self.assertIn(b"Status: 4.", report)
        self.assertIn(b"450 4.2.1 busy", report)

    def test_messages_behind_a_dead_destination_expire_too(self):
        port = world.free_port()  # nobody listens
        relay = Relay(self, hop=port, queue='retry = ["1s"]\nexpire = "10s"\n')
        send(relay, ["dead@x.test"], sender="alice@local.test")
        report = world.wait_for(lambda: relay.maildir("alice"), "the report", 180)[0]
        self.assertIn(b"Action: failed", report)
        self.assertIn(b"dead@x.test", report)


if __name__ == "__main__":
    world.main()
