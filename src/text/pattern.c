/* SPDX-License-Identifier: Apache-2.0 */
/* pattern.c - see pattern.h.
 *
 * Differences between Oniguruma (Ruby syntax, as Hugging Face tokenizers run it) and PCRE2 that the
 * translation settles:
 *   \s    PCRE2 adds U+180E, which is no white space since Unicode 6.3: written out as a class
 *   \w    Oniguruma counts marks and connector punctuation: written out
 *   ^ $   always match at line breaks in Ruby syntax: PCRE2_MULTILINE
 * Refused: \h \H \y \Y \O \N (other meanings), (?~ (absence), (?m (dot matches newline there), &&
 * and nested classes inside [...], \S \W inside [...].
 * Letters and digits are those of the Unicode version that PCRE2 was built with. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/pattern.h"

#include <pcre2.h>
#include <string.h>

#define SPACES                                                                                     \
    "\\t-\\r\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}" \
    "\\x{3000}"
#define WORD "\\p{L}\\p{M}\\p{N}\\p{Pc}"

enum mil_status pattern_init_literal(struct pattern *p, const char *text, struct mil_error *err) {
    memset(p, 0, sizeof *p);
    if (!*text) return error_set(err, MIL_INPUT, "an empty string cannot be searched for");
    str_add(&p->literal, text);
    return str_status(&p->literal, err);
}

static enum mil_status refuse(const char *what, const char *regex, struct mil_error *err) {
    return error_set(err, MIL_UNSUPPORTED, "the regular expression '%.200s' uses %s", regex, what);
}

/* One escape at r ("\s"), inside or outside a class, appended to out. */
static enum mil_status add_escape(struct str *out, const char *r, bool in_class, const char *regex,
                                  struct mil_error *err) {
    char c = r[1];
    if (c == 0)
        return error_set(err, MIL_INPUT, "the regular expression '%.200s' ends in '\\'", regex);
    if (strchr("hHyYON", c)) return refuse("\\h, \\y, \\O or \\N", regex, err);
    if (c == 's' || c == 'w')
        str_addf(out, in_class ? "%s" : "[%s]", c == 's' ? SPACES : WORD);
    else if ((c == 'S' || c == 'W') && in_class)
        return refuse("\\S or \\W inside a class", regex, err);
    else if (c == 'S' || c == 'W')
        str_addf(out, "[^%s]", c == 'S' ? SPACES : WORD);
    else
        str_addn(out, r, 2);
    return MIL_OK;
}

static enum mil_status translate(const char *regex, struct str *out, struct mil_error *err) {
    bool in_class = false;
    for (const char *r = regex; *r; r++) {
        if (*r == '\\') {
            TRY(add_escape(out, r, in_class, regex, err));
            r++;
            continue;
        }
        if (in_class && (*r == '[' || (r[0] == '&' && r[1] == '&')))
            return refuse("a nested class or &&", regex, err);
        if (!in_class && (str_starts(r, "(?~") || str_starts(r, "(?m")))
            return refuse("(?~...) or (?m...)", regex, err);
        if (*r == '[') {
            in_class = true;
            str_addc(out, *r);
            if (r[1] == '^') str_addc(out, *++r);
            if (r[1] == ']') str_add(out, "\\]"), r++;
            continue;
        }
        if (*r == ']') in_class = false;
        str_addc(out, *r);
    }
    return str_status(out, err);
}

enum mil_status pattern_init_regex(struct pattern *p, const char *regex, struct mil_error *err) {
    memset(p, 0, sizeof *p);
    struct str translated = {0};
    enum mil_status st = translate(regex, &translated, err);
    if (st == MIL_OK) {
        int code;
        PCRE2_SIZE at;
        p->code = pcre2_compile((PCRE2_SPTR)str_c(&translated), translated.len,
                                PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                                &code, &at, NULL);
        if (!p->code) {
            char text[120] = "";
            pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text);
            st = error_set(err, MIL_INPUT, "the regular expression '%.200s' is broken: %s", regex,
                           text);
        } else {
            p->jit = pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE) == 0; /* else only slower */
        }
    }
    str_release(&translated);
    return st;
}

void pattern_release(struct pattern *p) {
    str_release(&p->literal);
    pcre2_code_free(p->code);
    p->code = NULL;
}

enum mil_status search_begin(struct search *s, const struct pattern *p, const char *text, size_t n,
                             struct mil_error *err) {
    *s = (struct search){.pattern = p, .text = text, .n = n, .data = s->data};
    if (!p->code || s->data) return MIL_OK;
    s->data = pcre2_match_data_create(1, NULL);
    return s->data ? MIL_OK : error_nomem(err, 0);
}

void search_release(struct search *s) {
    pcre2_match_data_free(s->data);
    s->data = NULL;
}

static void next_literal(struct search *s, bool *found, size_t *begin, size_t *end) {
    const struct str *lit = &s->pattern->literal;
    const char *hit =
        s->at < s->n ? memmem(s->text + s->at, s->n - s->at, lit->data, lit->len) : NULL;
    *found = hit != NULL;
    if (!hit) return;
    *begin = (size_t)(hit - s->text);
    *end = s->at = *begin + lit->len;
}

enum mil_status search_next(struct search *s, bool *found, size_t *begin, size_t *end,
                            struct mil_error *err) {
    *found = false;
    if (!s->pattern->code) {
        next_literal(s, found, begin, end);
        return MIL_OK;
    }
    if (s->at > s->n) return MIL_OK;
    const unsigned flags = PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT;
    const pcre2_code *code = s->pattern->code;
    PCRE2_SPTR text = (PCRE2_SPTR)s->text;
    int rc = PCRE2_ERROR_JIT_STACKLIMIT;
    if (s->pattern->jit) rc = pcre2_jit_match(code, text, s->n, s->at, 0, s->data, NULL);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter uses the heap instead */
        rc = pcre2_match(code, text, s->n, s->at, flags, s->data, NULL);
    if (rc == PCRE2_ERROR_NOMATCH) return MIL_OK;
    if (rc < 0)
        return error_set_at(err, MIL_INPUT, (int64_t)s->at,
                            "the tokenizer's regular expression gave up at byte %zu (PCRE2 error "
                            "%d): the text there is too intricate for it",
                            s->at, rc);
    const PCRE2_SIZE *ovector = pcre2_get_ovector_pointer(s->data);
    *found = true;
    *begin = ovector[0];
    *end = s->at = ovector[1];
    if (*begin >= *end) { /* an empty match: go on after the next character */
        *end = *begin;
        uint32_t c;
        size_t len = utf8_decode(s->text + *end, s->n - *end, &c);
        s->at = *end + (len ? len : 1);
    }
    return MIL_OK;
}
