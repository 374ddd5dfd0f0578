/* GET /v1/summary: the longest domain queues and what holds them, from memory. There may be a
 * million of them: they are looked through in portions, with the loop's other work between, and
 * only the thousand longest so far are kept. One that moves in the index meanwhile, because another
 * was forgotten, may be missed. */
#include "request.h"
#include "why.h"
#include "smtpd/base/memory.h"

#include <stdlib.h>
#include <string.h>

/* LOOKS: of a turn of the loop. A look at a queue whose oldest entry must be found costs as many
 * as it has entries. */
enum { LINES_MAX = 1000, QUEUES_A_TURN = 1000, LOOKS_A_TURN = 200000 };

struct line {
    size_t groups;
    size_t held;
    int64_t oldest_ms;
    enum why_kind why;
    int64_t until_ms;
    char *text;
    char *lane;
};

struct summary {
    struct request *request;
    struct deferred turn;
    size_t position;
    struct line *lines; /* a heap, the shortest queue first, until it is sorted */
    size_t count;
};

static void line_fini(struct line *line)
{
    memory_free(line->text);
    memory_free(line->lane);
}

static void summary_free(struct summary *summary)
{
    deferred_cancel(summary->request->rooms->loop, &summary->turn);
    for (size_t i = 0; i < summary->count; i++)
        line_fini(&summary->lines[i]);
    memory_free(summary->lines);
    memory_free(summary);
}

static void summary_forget(struct request *request)
{
    struct summary *summary = request->work;

    request->on_gone = NULL;
    request->work = NULL;
    summary_free(summary);
}

/* ---- the thousand longest ---- */

static void sift_up(struct line *lines, size_t at)
{
    struct line line = lines[at];

    for (; at > 0 && line.groups < lines[(at - 1) / 2].groups; at = (at - 1) / 2)
        lines[at] = lines[(at - 1) / 2];
    lines[at] = line;
}

static void sift_down(struct line *lines, size_t count)
{
    struct line line = lines[0];
    size_t at = 0;

    for (;;) {
        size_t child = 2 * at + 1;

        if (child + 1 < count && lines[child + 1].groups < lines[child].groups)
            child++;
        if (child >= count || lines[child].groups >= line.groups)
            break;
        lines[at] = lines[child];
        at = child;
    }
    lines[at] = line;
}

static struct line line_of(const struct summary *summary,
                           const struct domain_queue *domain_queue)
{
    const char *lane = domain_queue_lane(domain_queue);
    struct why why = {0};

    deliver_why(summary->request->rooms->deliver, lane, NULL, &why);
    return (struct line){.groups = domain_queue_count(domain_queue),
                         .held = domain_queue_held_count(domain_queue),
                         .oldest_ms = domain_queue_oldest_ms(domain_queue),
                         .why = why.kind,
                         .until_ms = why.until_ms,
                         .text = memory_text(why.text),
                         .lane = memory_text(lane)};
}

/* What it cost. */
static size_t look(struct summary *summary, const struct domain_queue *domain_queue)
{
    size_t groups = domain_queue_count(domain_queue);

    if (groups == 0 || (summary->count == LINES_MAX && groups <= summary->lines[0].groups))
        return 0;
    if (summary->count < LINES_MAX) {
        summary->lines[summary->count] = line_of(summary, domain_queue);
        sift_up(summary->lines, summary->count++);
    } else {
        line_fini(&summary->lines[0]);
        summary->lines[0] = line_of(summary, domain_queue);
        sift_down(summary->lines, summary->count);
    }
    return groups;
}

/* ---- the answer ---- */

static int by_groups(const void *a, const void *b)
{
    const struct line *left = a;
    const struct line *right = b;

    if (left->groups != right->groups)
        return left->groups < right->groups ? 1 : -1;
    return strcmp(left->lane, right->lane);
}

static json_t *line_json(const struct line *line)
{
    return json_pack("{s:o,s:I,s:I,s:I,s:s,s:o,s:I}", "lane", request_text(line->lane),
                     "groups", (json_int_t)line->groups, "held", (json_int_t)line->held,
                     "oldest_ms", (json_int_t)line->oldest_ms, "why", why_name(line->why),
                     "text", request_text(line->text), "until_ms",
                     (json_int_t)line->until_ms);
}

static void answer(struct summary *summary)
{
    struct request *request = summary->request;
    struct queue_statistics statistics;
    json_t *lanes = json_array();

    queue_statistics(request->rooms->queue, &statistics);
    if (summary->count > 0)
        qsort(summary->lines, summary->count, sizeof *summary->lines, by_groups);
    for (size_t i = 0; i < summary->count; i++)
        (void)json_array_append_new(lanes, line_json(&summary->lines[i]));
    summary_forget(request);
    request_answer(request, MHD_HTTP_OK,
                   json_pack("{s:o,s:I,s:b}", "lanes", lanes, "lane_count",
                             (json_int_t)statistics.domain_queues, "is_rebuilding",
                             (int)statistics.is_rebuilding));
}

static void turn(void *owner)
{
    struct summary *summary = owner;
    struct queue *queue = summary->request->rooms->queue;
    size_t looks = 0;

    for (int i = 0; i < QUEUES_A_TURN && looks < LOOKS_A_TURN; i++) {
        const struct domain_queue *next =
            queue_next_domain_queue(queue, &summary->position);

        if (!next) {
            answer(summary);
            return;
        }
        looks += look(summary, next);
    }
    loop_defer(summary->request->rooms->loop, &summary->turn, turn, summary);
}

void queue_handle_summary(struct request *request)
{
    struct summary *summary = NEW(struct summary);

    summary->request = request;
    summary->lines = NEW_ARRAY(struct line, LINES_MAX);
    request->work = summary;
    request->on_gone = summary_forget;
    turn(summary);
}
