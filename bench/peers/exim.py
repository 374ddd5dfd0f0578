"""Exim, Debian's light build, which delivers each message in a process of its own."""
import os

from peers import FOLDER, Peer


class Exim(Peer):
    name = "exim"
    title = "Exim"
    users = (("Debian-exim", 4097),)
    settings = (
        "delivers at once; one route to the next hop by address",
        "split spool, no message logs, log_selector -all (a line for each arrival and delivery stays)",
        "no host lookup, no ident; as many connections as asked, listen backlog 1024",
        "smtp_accept_queue_per_connection 0, connection_max_messages 500",
        "four fsyncs a message (seen with strace)",
        "log-ins by its plaintext authenticator against a fixed word")

    @classmethod
    def version(cls):
        with open(os.path.join(FOLDER, "exim", "versions")) as file:
            return next(line.split()[1] for line in file if line.startswith("exim4-daemon-light"))

    def configuration(self):
        tls, authenticators = "tls_advertise_hosts =\n", ""
        if self.wishes.certificate:
            tls = f"""tls_advertise_hosts = *
tls_certificate = {self.wishes.certificate[0]}
tls_privatekey = {self.wishes.certificate[1]}
tls_resumption_hosts = *
"""
            authenticators = f"""begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and {{{{eq{{$auth2}}{{{self.wishes.user}}}}}{{eq{{$auth3}}{{{self.wishes.password}}}}}}}}}
  server_advertise_condition = ${{if def:tls_in_cipher}}
"""
        most = max(400, self.wishes.connections + 100)
        return f"""primary_hostname = exim.bench.test
exim_path = {FOLDER}/exim/root/usr/sbin/exim4
spool_directory = {self.folder}/spool
log_file_path = {self.folder}/exim-%slog
pid_file_path = {self.folder}/pid
exim_user = Debian-exim
exim_group = Debian-exim
never_users =
keep_environment =
daemon_smtp_ports = {self.port}
local_interfaces = 127.0.0.1
disable_ipv6 = true
smtp_connect_backlog = 1024
smtp_accept_max = {most}
smtp_accept_max_per_host = {most}
smtp_accept_max_per_connection = 0
smtp_accept_queue_per_connection = 0
smtp_accept_queue = 0
split_spool_directory = true
message_logs = false
log_selector = -all
host_lookup =
helo_try_verify_hosts =
rfc1413_hosts =
rfc1413_query_timeout = 0s
check_spool_space = 0
check_log_space = 0
acl_smtp_rcpt = accept_all
acl_smtp_data = accept_all
{tls}
begin acl
accept_all:
  accept
begin routers
next_hop:
  driver = manualroute
  route_list = * 127.0.0.1 byname
  self = send
  transport = out
begin transports
out:
  driver = smtp
  port = {self.wishes.next_hop}
  hosts_avoid_tls = *
  connection_max_messages = 500
begin retry
* * F,2h,1m
{authenticators}"""

    def prepare(self):
        self.write("etc/exim4/exim4.conf", self.configuration())
        os.makedirs(self.path("spool"))
        before = [f"chown -R Debian-exim:Debian-exim {self.folder}/spool",
                  f"touch {self.folder}/exim-mainlog {self.folder}/exim-paniclog "
                  f"{self.folder}/exim-rejectlog",
                  f"chown Debian-exim:Debian-exim {self.folder} {self.folder}/exim-*log"]
        return before, f"{FOLDER}/exim/root/usr/sbin/exim4 -bdf -q10m"

    def waiting(self):
        return self.files_below("spool/input", ends="-H")
