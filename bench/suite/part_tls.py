"""Log-ins: EHLO, STARTTLS, EHLO, AUTH PLAIN, QUIT, as many as there are; with a full handshake for
each, and with sessions resumed. P-256 certificate, TLS 1.3 where both know it. For smtpd also the
lag of its loop meanwhile, beside that of an idle smtpd. In the same turns, the TLS library alone."""
from peers import Wishes
from suite.entrant import Bar, Entrant, in_turns
from suite.measure import Failed

SESSIONS = 20


class LoggingIn(Entrant):
    def wishes(self):
        return Wishes(self.suite.sink.port, certificate=self.suite.certificate())

    def log_in(self, kind, seconds):
        words = ["--log-ins", "--seconds", seconds, "--sessions", SESSIONS, "--tls", "starttls",
                 "--user", Wishes.user, "--password-file", self.suite.password_file()]
        found = self.suite.load.run(self.relay.port, 4 * seconds + 15, *words,
                                    *(["--resume"] if kind == "resumed" else []))
        if not found["log_ins"]:
            raise Failed(f"no log-in worked: {found.get('last_failure', '')}")
        return found

    def warm(self, count):
        self.log_in("full", self.suite.options.seconds / 2)

    def measure(self, kind):
        cpu = self.relay.account.cpu_seconds()
        found = self.log_in(kind, self.suite.options.seconds)
        cpu = self.relay.account.cpu_seconds() - cpu
        count = found["log_ins"]
        row = dict(log_ins=count, rate=found["rate"], failures=found["failures"],
                   cpu_us=cpu / count * 1e6, source_us=found["cpu_s"] / count * 1e6,
                   tls=found.get("tls", ""))
        if kind == "resumed":
            row["resumed_share"] = found["resumed"] / max(1, found["handshakes"])
        if self.who == "smtpd":
            row.update(lag_p99_us=self.relay.lag()["p99_us"],
                       empty_lag_p99_us=self.suite.idle.lag()["p99_us"])
        return row


def library(suite):
    """mbedTLS talking to itself in memory."""
    def measure(kind):
        certificate, key = suite.certificate()
        found = suite.tool("handshake", "--certificate", certificate, "--key", key, "--seconds",
                           suite.options.seconds / 2, *(["--resume"] if kind == "resumed" else []))
        return dict(cpu_us=found["server_us"], source_us=found["client_us"],
                    heap_kib=found["server_bytes"] / 1024, tls=found["tls"])
    return Bar("library", measure)


def run(suite, names):
    in_turns(suite, [library(suite), *(LoggingIn(suite, name, SESSIONS) for name in names)], "tls",
             ["full", "resumed"], lambda row: f"{row.get('rate', 0):.0f}/s, {row['cpu_us']:.0f} us")
