/* SPDX-License-Identifier: Apache-2.0 */
/* init_options.c - patterns with a number, layers and ranges of them. */
#include "init_options.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* A pattern may hold commas, so it ends at its '='; the number ends at a comma. */
enum mil_status init_patterns(const char *option, const char *value, struct pattern_list *out,
                              struct mil_error *err) {
    size_t most = sizeof out->items / sizeof *out->items;
    out->n = 0;
    if (!value) return MIL_OK;
    size_t bytes = strlen(value) + 1;
    if (bytes > sizeof out->text)
        return cli_usage(err, "%s: more than %zu bytes", option, sizeof out->text - 1);
    memcpy(out->text, value, bytes);
    for (char *s = out->text; *s;) {
        char *equals = strchr(s, '='), *end;
        if (!equals || equals == s)
            return cli_usage(err, "%s: '%.64s' is no pattern=number", option, s);
        double number = strtod(equals + 1, &end);
        if (end == equals + 1 || (*end && *end != ','))
            return cli_usage(err, "%s: after '%.64s' a number is expected, then a comma or the end",
                             option, equals);
        if (out->n == most) return cli_usage(err, "%s: more than %zu patterns", option, most);
        *equals = '\0';
        out->items[out->n++] = (struct mil_pattern){s, number};
        s = *end ? end + 1 : end;
    }
    return MIL_OK;
}

static enum mil_status add_layers(const char *option, int64_t first, int64_t last,
                                  struct layer_list *out, struct mil_error *err) {
    int64_t most = (int64_t)(sizeof out->items / sizeof *out->items);
    if (first < 0 || last < first || last >= most)
        return cli_usage(err,
                         "%s: %" PRId64 "-%" PRId64 " is no range of layers from 0 to %" PRId64,
                         option, first, last, most - 1);
    if (last - first >= most - (int64_t)out->n)
        return cli_usage(err, "%s: more than %" PRId64 " layers", option, most);
    for (int64_t i = first; i <= last; i++) out->items[out->n++] = i;
    return MIL_OK;
}

enum mil_status init_layers(const char *option, const char *value, struct layer_list *out,
                            struct mil_error *err) {
    out->n = 0;
    for (const char *s = value ? value : ""; *s;) {
        char *end;
        int64_t first = strtoll(s, &end, 10), last = first;
        if (end == s || *s == '-')
            return cli_usage(err, "%s: '%.64s' is no layer number", option, s);
        if (*end == '-') {
            s = end + 1;
            last = strtoll(s, &end, 10);
            if (end == s) return cli_usage(err, "%s: the range has no end", option);
        }
        enum mil_status st = add_layers(option, first, last, out, err);
        if (st != MIL_OK) return st;
        if (*end && *end != ',')
            return cli_usage(err, "%s: '%.64s' after a layer number", option, end);
        s = *end ? end + 1 : end;
    }
    return MIL_OK;
}
