/* SPDX-License-Identifier: Apache-2.0 */
/* pattern.h - what tokenizer files search for: a literal string or a regular expression.
 *
 * Regular expressions are written for Oniguruma; they are translated to PCRE2 (UTF, Unicode
 * properties, JIT) where the two mean different things, and refused by name where they cannot be.
 * A compiled pattern is read-only; a search belongs to one call. */
#ifndef MIL_TEXT_PATTERN_H
#define MIL_TEXT_PATTERN_H

#include <stdbool.h>

#include "core/error.h"
#include "core/str.h"

struct pattern {
    struct str literal;
    struct pcre2_real_code_8 *code; /* NULL: the literal */
    bool jit;
};
enum mil_status pattern_init_literal(struct pattern *p, const char *text, struct mil_error *err);
enum mil_status pattern_init_regex(struct pattern *p, const char *regex, struct mil_error *err);
void pattern_release(struct pattern *p);

/* Zero-initialise; any number of searches, then search_release. */
struct search {
    const struct pattern *pattern;
    const char *text; /* valid UTF-8 */
    size_t n, at;
    struct pcre2_real_match_data_8 *data; /* of any pattern */
};
enum mil_status search_begin(struct search *s, const struct pattern *p, const char *text, size_t n,
                             struct mil_error *err);
/* Next match [*begin, *end) at or after the end of the last one; *found false at the end. */
enum mil_status search_next(struct search *s, bool *found, size_t *begin, size_t *end,
                            struct mil_error *err);
void search_release(struct search *s);

#endif
