/* SPDX-License-Identifier: Apache-2.0 */
/* pattern.c - whole-string regular expressions over module names, by PCRE2.
 *
 * PEFT matches with Python's re.fullmatch; the syntax that occurs in target patterns (classes,
 * groups, alternation, counts) means the same in PCRE2.  Steps of a match are limited, because a
 * pattern from a file may backtrack without end. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <string.h>

#include "adapt/internal.h"
#include "core/mem.h"
#include "core/str.h"

/* Module names have under 64 bytes: an honest pattern needs a few hundred steps. */
enum { STEP_LIMIT = 100000, LENGTH_LIMIT = 4096 };

struct pattern {
    char where[64], text[64];
    pcre2_code *code;
    pcre2_match_data *data;
    pcre2_match_context *limits;
};

void pattern_free(struct pattern **p) {
    if (!*p) return;
    pcre2_match_context_free((*p)->limits);
    pcre2_match_data_free((*p)->data);
    pcre2_code_free((*p)->code);
    mem_free(*p);
    *p = NULL;
}

static void keep(char *out, size_t cap, const char *text) {
    size_t n = strlen(text);
    if (n >= cap) n = cap - 1;
    memcpy(out, text, n);
    out[n] = 0;
}

enum mil_status pattern_new(const char *where, const char *text, struct pattern **out,
                            struct mil_error *err) {
    *out = NULL;
    if (strlen(text) > LENGTH_LIMIT)
        return error_set(err, MIL_USAGE, "%s: a pattern of %zu bytes, the limit is %d", where,
                         strlen(text), LENGTH_LIMIT);
    struct pattern *p = mem_calloc(MEM_OTHER, 1, sizeof *p);
    if (!p) return error_nomem(err, sizeof *p);
    keep(p->where, sizeof p->where, where);
    keep(p->text, sizeof p->text, text);
    int code = 0;
    PCRE2_SIZE at = 0;
    p->code = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED,
                            PCRE2_UTF | PCRE2_ANCHORED | PCRE2_ENDANCHORED, &code, &at, NULL);
    if (!p->code) {
        PCRE2_UCHAR reason[128];
        pcre2_get_error_message(code, reason, sizeof reason);
        pattern_free(&p);
        return error_set(err, MIL_USAGE, "%s: '%.64s' is not a regular expression: %s at byte %zu",
                         where, text, (const char *)reason, (size_t)at);
    }
    p->data = pcre2_match_data_create_from_pattern(p->code, NULL);
    p->limits = pcre2_match_context_create(NULL);
    if (!p->data || !p->limits) {
        pattern_free(&p);
        return error_nomem(err, 0);
    }
    pcre2_set_match_limit(p->limits, STEP_LIMIT);
    *out = p;
    return MIL_OK;
}

enum mil_status pattern_matches(const struct pattern *p, const char *subject, bool *out,
                                struct mil_error *err) {
    int rc = pcre2_match(p->code, (PCRE2_SPTR)subject, strlen(subject), 0, 0, p->data, p->limits);
    *out = rc >= 0;
    if (rc >= 0 || rc == PCRE2_ERROR_NOMATCH) return MIL_OK;
    return error_set(
        err, MIL_USAGE,
        "%s: matching '%s' against '%s' needs more than %d steps; simplify the pattern", p->where,
        p->text, subject, STEP_LIMIT);
}

enum mil_status pattern_new_key(const char *where, const char *text, struct pattern **out,
                                struct mil_error *err) {
    struct str whole = {0};
    *out = NULL;
    str_addf(&whole, "(?:.*\\.)?(?:%s)", text);
    enum mil_status st = str_status(&whole, err);
    if (st == MIL_OK) st = pattern_new(where, str_c(&whole), out, err);
    str_release(&whole);
    return st;
}

enum mil_status pattern_names(const char *where, const char *text, const char *module, bool *out,
                              struct mil_error *err) {
    struct pattern *p = NULL;
    TRY(pattern_new_key(where, text, &p, err));
    enum mil_status st = pattern_matches(p, module, out, err);
    pattern_free(&p);
    return st;
}
