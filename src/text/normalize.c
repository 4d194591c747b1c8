/* SPDX-License-Identifier: Apache-2.0 */
/* normalize.c - see normalize.h.
 *
 * Unicode forms are applied to one segment at a time, so that offsets survive.  A segment begins at
 * a character before which nothing can compose or reorder: its first decomposed character has
 * combining class 0, is no mark, and is no Hangul vowel or trailing consonant.  (Every character
 * that can be the second of a primary composite is a mark or such a Jamo, so normalising segments
 * apart equals normalising the whole.)  Bytes of a segment that changes all map to its beginning.
 */
#include "text/normalize.h"

#include <string.h>
#include <utf8proc.h>

#include "core/mem.h"

void mapped_release(struct mapped_text *m) {
    str_release(&m->text);
    mem_free(m->map);
    memset(m, 0, sizeof *m);
}

void mapped_reset(struct mapped_text *m) {
    str_reset(&m->text);
}

void mapped_add(struct mapped_text *m, const char *bytes, size_t n, int64_t base, bool moving) {
    size_t at = m->text.len;
    str_addn(&m->text, bytes, n);
    if (m->text.failed) return;
    if (m->text.len > m->cap) {
        size_t cap = m->cap ? m->cap : 256;
        while (cap < m->text.len) cap *= 2;
        int64_t *grown = mem_realloc(MEM_TEXT, m->map, cap, sizeof *grown);
        if (!grown) {
            m->text.failed = true;
            return;
        }
        m->map = grown;
        m->cap = cap;
    }
    for (size_t i = 0; i < n; i++) m->map[at + i] = base + (moving ? (int64_t)i : 0);
}

enum mil_status mapped_status(const struct mapped_text *m, struct mil_error *err) {
    return str_status(&m->text, err);
}

/* Bytes [begin, end) of in, with their offsets. */
static void keep(struct mapped_text *out, const struct mapped_text *in, size_t begin, size_t end) {
    size_t at = out->text.len;
    mapped_add(out, str_c(&in->text) + begin, end - begin, 0, false);
    if (!out->text.failed && end > begin)
        memcpy(out->map + at, in->map + begin, (end - begin) * sizeof *out->map);
}

static enum mil_status replace_all(const struct normal_step *step, const struct mapped_text *in,
                                   struct mapped_text *out, struct mil_error *err) {
    struct search s = {0};
    TRY(search_begin(&s, &step->pattern, str_c(&in->text), in->text.len, err));
    enum mil_status st;
    size_t done = 0;
    for (;;) {
        bool found;
        size_t begin, end;
        st = search_next(&s, &found, &begin, &end, err);
        if (st != MIL_OK || !found) break;
        keep(out, in, done, begin);
        size_t at = begin < in->text.len ? begin : begin - 1; /* an empty match at the end */
        int64_t from = in->text.len ? in->map[at] : 0;
        mapped_add(out, str_c(&step->text), step->text.len, from, false);
        done = end;
    }
    keep(out, in, done, in->text.len);
    search_release(&s);
    return st;
}

static void prepend(const struct normal_step *step, const struct mapped_text *in,
                    struct mapped_text *out) {
    if (in->text.len == 0) return;
    mapped_add(out, str_c(&step->text), step->text.len, in->map[0], false);
    keep(out, in, 0, in->text.len);
}

static void collapse(const struct mapped_text *in, struct mapped_text *out) {
    const char *text = str_c(&in->text);
    size_t end = in->text.len;
    while (end > 0 && text[end - 1] == ' ') end--;
    for (size_t i = 0; i < end; i++)
        if (text[i] != ' ' || (i > 0 && out->text.len > 0 && text[i - 1] != ' '))
            keep(out, in, i, i + 1);
}

static utf8proc_option_t form_options(enum unicode_form form) {
    static const int options[] = {
        [FORM_NFC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE,
        [FORM_NFD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
        [FORM_NFKC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
        [FORM_NFKD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT,
    };
    return (utf8proc_option_t)options[form];
}

/* Longest decomposition of one character in Unicode: 18 (U+FDFA under NFKD). */
#define MAX_DECOMPOSED 32

/* Nothing before c can compose or reorder with it. */
static bool starts_segment(uint32_t c, utf8proc_option_t options) {
    if (c < 0x300) return true; /* below the first combining mark */
    utf8proc_int32_t d[MAX_DECOMPOSED];
    int last_class = 0;
    utf8proc_option_t decompose = (options & ~(unsigned)UTF8PROC_COMPOSE) | UTF8PROC_DECOMPOSE;
    utf8proc_ssize_t n =
        utf8proc_decompose_char((utf8proc_int32_t)c, d, MAX_DECOMPOSED, decompose, &last_class);
    if (n < 1 || n > MAX_DECOMPOSED) return false;
    const utf8proc_property_t *p = utf8proc_get_property(d[0]);
    bool mark = p->category == UTF8PROC_CATEGORY_MN || p->category == UTF8PROC_CATEGORY_MC ||
                p->category == UTF8PROC_CATEGORY_ME;
    bool jamo = (d[0] >= 0x1160 && d[0] <= 0x11ff) || (d[0] >= 0xd7b0 && d[0] <= 0xd7ff);
    return p->combining_class == 0 && !mark && !jamo;
}

/* Ordering of marks is quadratic in the length of a segment: longer ones are no text. */
#define MAX_SEGMENT 16384

static enum mil_status normal_segment(const struct mapped_text *in, size_t begin, size_t end,
                                      utf8proc_option_t options, struct mapped_text *out,
                                      struct mil_error *err) {
    const utf8proc_uint8_t *text = (const utf8proc_uint8_t *)str_c(&in->text) + begin;
    size_t n = end - begin;
    if (n == 1 && *text < 0x80) {
        keep(out, in, begin, end);
        return MIL_OK;
    }
    if (n > MAX_SEGMENT)
        return error_set_at(err, MIL_INPUT, in->map[begin],
                            "%zu bytes of combining marks in a row at byte %lld (limit %d)", n,
                            (long long)in->map[begin], MAX_SEGMENT);
    utf8proc_ssize_t len = utf8proc_decompose(text, (utf8proc_ssize_t)n, NULL, 0, options);
    utf8proc_int32_t *codes = len < 0 ? NULL : mem_alloc(MEM_TEXT, (size_t)len + 1, sizeof *codes);
    if (len >= 0 && !codes) return error_nomem(err, (uint64_t)len * sizeof *codes);
    if (len >= 0) len = utf8proc_decompose(text, (utf8proc_ssize_t)n, codes, len, options);
    if (len >= 0) len = utf8proc_reencode(codes, len, options); /* in place, as UTF-8 */
    enum mil_status st = MIL_OK;
    if (len < 0)
        st = error_set(err, MIL_INPUT, "Unicode normalisation failed: %s", utf8proc_errmsg(len));
    else if ((size_t)len == n && memcmp(codes, text, n) == 0)
        keep(out, in, begin, end);
    else
        mapped_add(out, (const char *)codes, (size_t)len, in->map[begin], false);
    mem_free(codes);
    return st;
}

static enum mil_status unicode_form(const struct normal_step *step, const struct mapped_text *in,
                                    struct mapped_text *out, struct mil_error *err) {
    utf8proc_option_t options = form_options(step->form);
    const char *text = str_c(&in->text);
    size_t begin = 0;
    for (size_t at = 0; at < in->text.len;) {
        uint32_t c = 0;
        size_t len = utf8_decode(text + at, in->text.len - at, &c);
        REQUIRE(len > 0);
        if (at > begin && starts_segment(c, options)) {
            TRY(normal_segment(in, begin, at, options, out, err));
            begin = at;
        }
        at += len;
    }
    return begin < in->text.len ? normal_segment(in, begin, in->text.len, options, out, err)
                                : MIL_OK;
}

void normalizer_release(struct normalizer *z) {
    for (size_t i = 0; i < z->n; i++) {
        str_release(&z->steps[i].text);
        pattern_release(&z->steps[i].pattern);
    }
    z->n = 0;
}

enum mil_status normalizer_add(struct normalizer *z, enum normal_kind kind,
                               struct normal_step **step, struct mil_error *err) {
    if (z->n == NORMAL_MAX_STEPS)
        return error_set(err, MIL_UNSUPPORTED, "more than %d normalisation steps",
                         NORMAL_MAX_STEPS);
    *step = &z->steps[z->n++];
    memset(*step, 0, sizeof **step);
    (*step)->kind = kind;
    return MIL_OK;
}

enum mil_status normalizer_run(const struct normalizer *z, const char *text, size_t n, int64_t base,
                               struct mapped_text *out, struct mapped_text *spare,
                               struct mil_error *err) {
    mapped_reset(out);
    mapped_add(out, text, n, base, true);
    TRY(mapped_status(out, err));
    for (size_t i = 0; i < z->n; i++) {
        const struct normal_step *step = &z->steps[i];
        struct mapped_text in = *out;
        *out = *spare;
        *spare = in;
        mapped_reset(out);
        enum mil_status st = MIL_OK;
        switch (step->kind) {
        case NORMAL_PREPEND: prepend(step, spare, out); break;
        case NORMAL_REPLACE: st = replace_all(step, spare, out, err); break;
        case NORMAL_UNICODE: st = unicode_form(step, spare, out, err); break;
        case NORMAL_COLLAPSE: collapse(spare, out); break;
        }
        if (st != MIL_OK) return st;
        TRY(mapped_status(out, err));
    }
    return MIL_OK;
}
