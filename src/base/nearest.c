/* Edit distance (Levenshtein), over names of bounded length. */
#include "smtpd/base/nearest.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { NAME_MAX_COMPARED = 64 };

static unsigned distance(const char *a, const char *b)
{
    unsigned row[NAME_MAX_COMPARED + 1];
    size_t a_length = strlen(a);
    size_t b_length = strlen(b);
    size_t i;
    size_t j;

    if (a_length > NAME_MAX_COMPARED || b_length > NAME_MAX_COMPARED)
        return UINT32_MAX;
    for (j = 0; j <= b_length; j++)
        row[j] = (unsigned)j;
    for (i = 1; i <= a_length; i++) {
        unsigned corner = row[0];

        row[0] = (unsigned)i;
        for (j = 1; j <= b_length; j++) {
            unsigned change = corner + (a[i - 1] != b[j - 1]);
            unsigned least = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;

            corner = row[j];
            row[j] = change < least ? change : least;
        }
    }
    return row[b_length];
}

void nearest_offer(struct nearest *nearest, const char *name)
{
    unsigned found = distance(nearest->wanted, name);

    if (!nearest->name || found < nearest->distance) {
        nearest->name = name;
        nearest->distance = found;
    }
}
