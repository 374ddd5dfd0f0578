/* What came of TLS on a connection, in the words of RFC 8460 4.3, for the domain that it was made for.
 * A route is no policy domain; and a session for a report, or for other mail that goes whatever TLS
 * says (RFC 8689 4), is not counted. */
#include "connection_inner.h"

#include "sts_policy.h"
#include "tls_report.h"

static enum tally_type type_of(const struct connection *connection)
{
    enum dane_wish wish = connection->dane ? dane_wish(connection->dane) : DANE_IS_SILENT;

    if (wish != DANE_IS_SILENT)
        return TALLY_TLSA;
    return connection->policy.sts ? TALLY_STS : TALLY_NO_POLICY;
}

/* As it is counted: lines parted by '|'. */
static void print_policy(const struct connection *connection, enum tally_type type,
                         struct bytes *into)
{
    if (type == TALLY_TLSA &&
        bytes_add_text(into, dane_records(connection->dane)) != RESULT_OK)
        bytes_clear(into);
    if (type == TALLY_STS &&
        sts_policy_print_line(connection->policy.sts, into) != RESULT_OK)
        bytes_clear(into); /* too long: its sums are what counts */
}

static void count(const struct connection *connection, enum tally_result result,
                  const char *reason)
{
    char source[IP_TEXT] = "";
    char address[IP_TEXT] = "";
    struct tally_session session = {.domain = connection->policy.domain,
                                    .type = type_of(connection),
                                    .policy = "",
                                    .result = result,
                                    .texts = {[TALLY_MX] = connection->host.name,
                                              [TALLY_HELO] = connection->helo,
                                              [TALLY_SOURCE] = source,
                                              [TALLY_ADDRESS] = address,
                                              [TALLY_REASON] = reason}};
    struct bytes policy;

    if (connection->destination->plan.is_route || !session.domain[0] ||
        connection->policy.wish == TLS_WISH_WAIVED)
        return;
    if (connection->stream) {
        ip_print(&stream_local(connection->stream)->ip, source);
        ip_print(&stream_peer(connection->stream)->ip, address);
    }
    bytes_init(&policy, TALLY_POLICY_TEXT);
    print_policy(connection, session.type, &policy);
    if (policy.length > 0 && bytes_add(&policy, (struct slice){"", 1}) == RESULT_OK)
        session.policy = policy.data;
    tls_report_count(connection->deliver->tls_report, &session);
    bytes_fini(&policy);
}

void connection_tally_failure(const struct connection *connection, enum tally_result result,
                              const char *reason)
{
    count(connection, result, reason);
}

static enum tally_result result_of(enum tls_flaw flaw)
{
    switch (flaw) {
    case TLS_FLAW_EXPIRED:
        return TALLY_EXPIRED;
    case TLS_FLAW_NAME:
        return TALLY_NAME_MISMATCH;
    case TLS_FLAW_AUTHORITY:
    case TLS_FLAW_NONE:
        break;
    }
    return TALLY_UNTRUSTED;
}

/* A policy that is only tested, and records that cannot be used, stop nothing, and are told. */
void connection_tally_secured(const struct connection *connection)
{
    const struct tls_facts *facts = connection_tls(connection);
    const struct sts_policy *sts = connection->policy.sts;
    const char *failure;

    if (connection->dane && dane_wish(connection->dane) == DANE_WANTS_TLS) {
        count(connection, TALLY_TLSA_INVALID, "none of the records can be used");
        return;
    }
    failure =
        type_of(connection) == TALLY_STS ? connection_sts_failure(connection, sts) : NULL;
    if (!failure)
        count(connection, TALLY_SUCCESS, NULL);
    else if (!sts_policy_matches(sts, connection->host.name))
        count(connection, TALLY_VALIDATION, "the MTA-STS policy does not name this host");
    else
        count(connection, result_of(facts->flaw), failure);
}

void connection_tally_tls(const struct connection *connection)
{
    bool is_dane = connection->dane && dane_wish(connection->dane) == DANE_WANTS_MATCH;
    enum tally_result result = TALLY_VALIDATION;

    if (connection->fault.code == RESULT_UNTRUSTED && !is_dane)
        result = result_of(stream_tls_flaw(connection->stream));
    count(connection, result, connection->fault.text);
}
