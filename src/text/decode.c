/* SPDX-License-Identifier: Apache-2.0 */
/* decode.c - see decode.h.  Tokens travel through the steps as a list of strings, as in Hugging
 * Face tokenizers, because some steps depend on where a token begins.  The list is one buffer with
 * end offsets; a step reads one list and writes the other. */
#include "text/decode.h"

#include <string.h>

#include "core/mem.h"

struct list {
    struct str bytes;
    size_t *ends; /* end of item i in bytes */
    size_t n;
};

static void list_release(struct list *l) {
    str_release(&l->bytes);
    mem_free(l->ends);
}

static void close_item(struct list *l) {
    l->ends[l->n++] = l->bytes.len;
}

void decoder_release(struct decoder *d) {
    for (size_t i = 0; i < d->n; i++) {
        str_release(&d->steps[i].from);
        str_release(&d->steps[i].to);
    }
    d->n = 0;
}

enum mil_status decoder_add(struct decoder *d, enum decode_kind kind, const char *from,
                            const char *to, struct decode_step **step, struct mil_error *err) {
    if (d->n == DECODE_MAX_STEPS)
        return error_set(err, MIL_UNSUPPORTED, "more than %d decoder steps", DECODE_MAX_STEPS);
    struct decode_step *s = &d->steps[d->n++];
    memset(s, 0, sizeof *s);
    s->kind = kind;
    if (from) str_add(&s->from, from);
    if (to) str_add(&s->to, to);
    if (step) *step = s;
    TRY(str_status(&s->from, err));
    return str_status(&s->to, err);
}

/* Bytes that a lead byte announces, and the range its second byte must lie in (Unicode table 3-7).
 */
static size_t lead(unsigned char c, unsigned char *low, unsigned char *high) {
    *low = 0x80;
    *high = 0xbf;
    if (c < 0x80) return 1;
    if (c >= 0xc2 && c <= 0xdf) return 2;
    if (c >= 0xe0 && c <= 0xef) {
        if (c == 0xe0) *low = 0xa0;
        if (c == 0xed) *high = 0x9f;
        return 3;
    }
    if (c >= 0xf0 && c <= 0xf4) {
        if (c == 0xf0) *low = 0x90;
        if (c == 0xf4) *high = 0x8f;
        return 4;
    }
    return 0;
}

size_t utf8_lossy(const char *bytes, size_t n, bool final, struct str *out) {
    const unsigned char *p = (const unsigned char *)bytes;
    size_t i = 0;
    while (i < n) {
        unsigned char low, high;
        size_t len = lead(p[i], &low, &high), got = 1;
        while (got < len && i + got < n && p[i + got] >= (got == 1 ? low : 0x80) &&
               p[i + got] <= (got == 1 ? high : 0xbf))
            got++;
        if (got < len && i + got == n && !final) break;
        if (len && got == len)
            str_addn(out, bytes + i, len);
        else
            str_add(out, "\xef\xbf\xbd");
        i += got;
    }
    return i;
}

/* The byte that a token "<0xXX>" stands for, or -1. */
static int fallback_byte(const char *s, size_t n) {
    if (n != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>') return -1;
    int value = 0;
    for (int i = 3; i < 5; i++) {
        char c = s[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                           : -1;
        if (digit < 0) return -1;
        value = 16 * value + digit;
    }
    return value;
}

static void add_replaced(struct str *out, const char *s, size_t n, const struct str *from,
                         const char *to) {
    while (n) {
        const char *hit = from->len ? memmem(s, n, from->data, from->len) : NULL;
        size_t before = hit ? (size_t)(hit - s) : n;
        str_addn(out, s, before);
        if (!hit) break;
        str_add(out, to);
        s += before + from->len;
        n -= before + from->len;
    }
}

static void add_stripped(const struct decode_step *step, const char *s, size_t n, struct str *out) {
    size_t len = step->from.len;
    for (int64_t k = 0; k < step->start && len && n >= len && !memcmp(s, step->from.data, len); k++)
        s += len, n -= len;
    for (int64_t k = 0;
         k < step->stop && len && n >= len && !memcmp(s + n - len, step->from.data, len); k++)
        n -= len;
    str_addn(out, s, n);
}

static void run_of_bytes(struct list *out, const struct str *run) {
    if (run->len == 0) return;
    if (utf8_valid_prefix(run->data, run->len) == run->len) {
        str_addn(&out->bytes, run->data, run->len);
        close_item(out);
        return;
    }
    for (size_t i = 0; i < run->len; i++) {
        str_add(&out->bytes, "\xef\xbf\xbd");
        close_item(out);
    }
}

static enum mil_status fallback(const struct list *in, struct list *out, struct mil_error *err) {
    struct str run = {0};
    for (size_t i = 0; i < in->n; i++) {
        size_t begin = i ? in->ends[i - 1] : 0, n = in->ends[i] - begin;
        int byte = fallback_byte(str_c(&in->bytes) + begin, n);
        if (byte >= 0) {
            str_addc(&run, (char)byte);
            continue;
        }
        run_of_bytes(out, &run);
        str_reset(&run);
        str_addn(&out->bytes, str_c(&in->bytes) + begin, n);
        close_item(out);
    }
    run_of_bytes(out, &run);
    enum mil_status st = str_status(&run, err);
    str_release(&run);
    return st;
}

static enum mil_status run_step(const struct decode_step *step, const struct list *in,
                                struct list *out, struct mil_error *err) {
    if (step->kind == DECODE_FALLBACK) return fallback(in, out, err);
    if (step->kind == DECODE_BYTES || step->kind == DECODE_FUSE) {
        if (step->kind == DECODE_BYTES)
            utf8_lossy(str_c(&in->bytes), in->bytes.len, true, &out->bytes);
        else
            str_addn(&out->bytes, str_c(&in->bytes), in->bytes.len);
        close_item(out);
        return MIL_OK;
    }
    for (size_t i = 0; i < in->n; i++) {
        size_t begin = i ? in->ends[i - 1] : 0, n = in->ends[i] - begin;
        const char *s = str_c(&in->bytes) + begin;
        if (step->kind == DECODE_STRIP)
            add_stripped(step, s, n, &out->bytes);
        else if (step->kind == DECODE_FIRST_SPACE)
            add_replaced(&out->bytes, s, n, &step->from, i == 0 ? "" : " ");
        else
            add_replaced(&out->bytes, s, n, &step->from, str_c(&step->to));
        close_item(out);
    }
    return MIL_OK;
}

static enum mil_status run_steps(const struct decoder *d, struct list lists[2],
                                 struct mil_error *err) {
    for (size_t k = 0; k < d->n; k++) {
        struct list *out = &lists[(k + 1) % 2];
        str_reset(&out->bytes);
        out->n = 0;
        TRY(run_step(&d->steps[k], &lists[k % 2], out, err));
        TRY(str_status(&out->bytes, err));
    }
    return MIL_OK;
}

enum mil_status decoder_run(const struct decoder *d, const struct vocab *v, const int32_t *ids,
                            size_t n, bool skip_special, struct str *out, struct mil_error *err) {
    struct list lists[2] = {{{0}, NULL, 0}, {{0}, NULL, 0}};
    enum mil_status st = MIL_OK;
    for (int k = 0; k < 2; k++) {
        lists[k].ends = mem_alloc(MEM_TEXT, n + 1, sizeof(size_t));
        if (!lists[k].ends) st = error_nomem(err, n * sizeof(size_t));
    }
    for (size_t i = 0; st == MIL_OK && i < n; i++) {
        const struct piece *p = &v->pieces[ids[i]];
        if (skip_special && (p->flags & PIECE_SPECIAL)) continue;
        str_addn(&lists[0].bytes, vocab_bytes(v, ids[i]), p->n);
        close_item(&lists[0]);
    }
    if (st == MIL_OK) st = run_steps(d, lists, err);
    const struct list *last = &lists[d->n % 2];
    for (size_t i = 0; st == MIL_OK && i < last->n; i++) {
        size_t begin = i ? last->ends[i - 1] : 0;
        if (i && d->join_by_space) str_addc(out, ' ');
        str_addn(out, str_c(&last->bytes) + begin, last->ends[i] - begin);
    }
    if (st == MIL_OK) st = str_status(out, err);
    list_release(&lists[0]);
    list_release(&lists[1]);
    return st;
}

/* A stream has no list: steps that need to know the beginning are told by `first`, and byte tokens
 * are given as bytes at once (their reader puts characters together). */
enum mil_status decoder_piece(const struct decoder *d, const struct vocab *v, int32_t id,
                              bool first, struct str *out, struct mil_error *err) {
    struct str a = {0}, b = {0};
    bool fused = false, bytes = false;
    if (!first && d->join_by_space) str_addc(out, ' ');
    str_addn(&a, vocab_bytes(v, id), v->pieces[id].n);
    for (size_t k = 0; k < d->n; k++) {
        const struct decode_step *step = &d->steps[k];
        int byte = step->kind == DECODE_FALLBACK ? fallback_byte(str_c(&a), a.len) : -1;
        str_reset(&b);
        if (step->kind == DECODE_REPLACE)
            add_replaced(&b, str_c(&a), a.len, &step->from, str_c(&step->to));
        else if (step->kind == DECODE_FIRST_SPACE)
            add_replaced(&b, str_c(&a), a.len, &step->from, first ? "" : " ");
        else if (step->kind == DECODE_STRIP && (first || !fused) && !bytes)
            add_stripped(step, str_c(&a), a.len, &b);
        else if (byte >= 0)
            str_addc(&b, (char)byte);
        else
            str_addn(&b, str_c(&a), a.len);
        bytes = bytes || byte >= 0;
        fused = fused || step->kind == DECODE_FUSE;
        struct str swap = a;
        a = b;
        b = swap;
    }
    str_addn(out, str_c(&a), a.len);
    enum mil_status st = str_status(&a, err);
    str_release(&a);
    str_release(&b);
    return st == MIL_OK ? str_status(out, err) : st;
}
