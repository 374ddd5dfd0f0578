/* What a domain asks of a connection, before it is dialled and when it is there: TLSA records (RFC
 * 7672), then, where they have no answer, the MTA-STS policy (RFC 8461). */
#include "connection_inner.h"

#include "sts_policy.h"

#include <string.h>

/* ---- before it is dialled ---- */

static void on_dane(void *owner)
{
    struct connection *connection = owner;

    machine_advance(&connection->machine);
}

void opening_ask_dane(struct connection *connection, const char *domain)
{
    struct dane_request request = {.domain = domain,
                                   .host = connection->host.name,
                                   .port = connection->destination->plan.port,
                                   .is_route = connection->destination->plan.is_route};

    connection->dane_is_unknown =
        host_dane_is_unknown(connection->destination, connection->host.name);
    if (!connection->dane_is_unknown)
        connection->dane = dane_start(connection->deliver, &request, on_dane, connection);
}

/* RFC 7672 2.2: with records TLS is a must, and what is remembered of the host does not count. */
int opening_dane_done(void *self)
{
    struct connection *connection = self;
    bool is_known = dane_wish(connection->dane) != DANE_IS_UNKNOWN;

    host_note_dane(connection->destination, connection->host.name, is_known);
    if (!is_known) {
        connection->deliver->statistics.connections++; /* begun, and over */
        connection->fails_policy = true;
        connection_tally_failure(connection, TALLY_DNSSEC_INVALID,
                                 dane_text(connection->dane));
        connection_broken(connection, RESULT_DNS_FAILURE, dane_text(connection->dane));
        return STATE_BROKEN;
    }
    if (dane_wish(connection->dane) != DANE_IS_SILENT) {
        connection->is_raised = connection->level == TLS_OPPORTUNISTIC;
        connection->level = TLS_REQUIRED;
        connection->without_tls = false;
    }
    return STATE_POLICY;
}

void opening_policy_enter(void *self)
{
    struct connection *connection = self;

    machine_advance(&connection->machine); /* all is known */
}

static int forbidden(struct connection *connection, const char *text)
{
    connection->deliver->statistics.connections++; /* begun, and over */
    connection->fails_policy = true;
    connection_broken(connection, RESULT_UNTRUSTED, text);
    return STATE_BROKEN;
}

/* RFC 8461 4, 5: where DANE has no answer, the policy of the domain has one. */
int opening_policy_done(void *self)
{
    struct connection *connection = self;
    const struct tls_policy *policy = &connection->policy;

    if (connection->dane_is_unknown)
        return forbidden(connection,
                         "its TLSA records could not be looked up a short while ago");
    if (!policy->wants_sts ||
        (connection->dane && dane_wish(connection->dane) == DANE_WANTS_MATCH))
        return STATE_DIAL;
    if (!policy->has_sts)
        return forbidden(connection,
                         "its TLSA records are gone, and the MTA-STS policy of the "
                         "domain was not asked for yet");
    if (!policy->sts || sts_policy_mode(policy->sts) != STS_ENFORCE)
        return STATE_DIAL;
    if (!sts_policy_matches(policy->sts, connection->host.name)) {
        connection_tally_failure(connection, TALLY_VALIDATION,
                                 "the MTA-STS policy does not name this host");
        return forbidden(connection, "the MTA-STS policy of the domain does not name it");
    }
    connection->is_raised |= connection->level == TLS_OPPORTUNISTIC;
    connection->level = TLS_VERIFIED;
    connection->without_tls = false;
    connection->has_sts = true;
    return STATE_DIAL;
}

/* ---- once it is there ---- */

/* Made with DANE, and for mail that asks for it: nothing else counts (RFC 8461 2). */
static bool is_by_dane(const struct connection *connection, const struct tls_policy *policy)
{
    return policy->wants_dane && connection->dane &&
           dane_policy(connection->dane) == DELIVER_TLS_DANE;
}

enum deliver_tls_policy connection_tls_policy(const struct connection *connection,
                                              const struct tls_policy *policy)
{
    if (is_by_dane(connection, policy))
        return DELIVER_TLS_DANE;
    if (policy->sts)
        return sts_policy_mode(policy->sts) == STS_ENFORCE ? DELIVER_TLS_STS
                                                           : DELIVER_TLS_STS_TESTING;
    return policy->wants_dane && connection->dane ? dane_policy(connection->dane)
                                                  : DELIVER_TLS_AS_SET;
}

/* RFC 8461 4: the host is one of the policy, and its certificate is valid for its name. */
const char *connection_sts_failure(const struct connection *connection,
                                   const struct sts_policy *sts)
{
    const struct tls_facts *facts = connection_tls(connection);

    if (!sts_policy_matches(sts, connection->host.name))
        return "the policy does not name it";
    if (!facts->is_secure)
        return "no TLS";
    if (!facts->is_verified)
        return facts->verify_text;
    return strcmp(facts->name, connection->host.name) == 0 ? NULL : "it has another name";
}

/* One that DANE was never asked about may be in clear, or to anybody. */
bool connection_satisfies(const struct connection *connection,
                          const struct tls_policy *policy)
{
    if (policy->wants_dane &&
        (!connection->dane ||
         !dane_fits(connection->dane, connection_tls(connection), policy->domain)))
        return false;
    if (!policy->wants_sts || is_by_dane(connection, policy))
        return true;
    return policy->has_sts &&
           (!policy->sts || sts_policy_mode(policy->sts) != STS_ENFORCE ||
            !connection_sts_failure(connection, policy->sts));
}

/* RFC 8689 4.2.1: the certificate is good, and the name in it is no word of an attacker's: it comes
 * by DNSSEC, by MTA-STS, or from the operator. */
bool connection_is_trusted(const struct connection *connection,
                           const struct tls_policy *policy)
{
    const struct tls_facts *facts = connection_tls(connection);
    const char *host = connection->host.name;

    if (!facts->is_secure)
        return false;
    /* What another domain's policy asked for here says nothing about the way of this one. */
    if (policy->wants_dane && connection->dane &&
        dane_wish(connection->dane) == DANE_WANTS_MATCH)
        return dane_fits(connection->dane, facts, policy->domain);
    return facts->is_verified && strcmp(facts->name, host) == 0 &&
           (policy->is_authentic || connection->destination->plan.is_route ||
            (connection->level == TLS_VERIFIED && !connection->has_sts) ||
            (policy->sts && sts_policy_matches(policy->sts, host)));
}
