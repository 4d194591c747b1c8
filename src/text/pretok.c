/* SPDX-License-Identifier: Apache-2.0 */
/* pretok.c - see pretok.h.  The five split behaviours and the two text-changing steps (a prefix, a
 * replaced space) have the meaning that Hugging Face tokenizers gives them; tests/text holds its
 * recorded outputs. */
#include "text/pretok.h"

#include <string.h>

#include "core/mem.h"

void span_list_release(struct span_list *l) {
    mem_free(l->spans);
    memset(l, 0, sizeof *l);
}

enum mil_status span_list_add(struct span_list *l, size_t begin, size_t end,
                              struct mil_error *err) {
    if (begin == end) return MIL_OK;
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 64;
        struct span *grown = mem_realloc(MEM_TEXT, l->spans, cap, sizeof *grown);
        if (!grown) return error_nomem(err, cap * sizeof *grown);
        l->spans = grown;
        l->cap = cap;
    }
    l->spans[l->n++] = (struct span){begin, end};
    return MIL_OK;
}

void pretok_scratch_release(struct pretok_scratch *s) {
    mapped_release(&s->text);
    mapped_release(&s->spare);
    span_list_release(&s->spans);
    span_list_release(&s->spare_spans);
    span_list_release(&s->matches);
    search_release(&s->search);
}

void pretok_release(struct pretok *p) {
    for (size_t i = 0; i < p->n; i++) pattern_release(&p->steps[i].pattern);
    p->n = 0;
}

enum mil_status pretok_add(struct pretok *p, enum pretok_kind kind, struct pretok_step **step,
                           struct mil_error *err) {
    if (p->n == PRETOK_MAX_STEPS)
        return error_set(err, MIL_UNSUPPORTED, "more than %d pre-tokenisation steps",
                         PRETOK_MAX_STEPS);
    *step = &p->steps[p->n++];
    memset(*step, 0, sizeof **step);
    (*step)->kind = kind;
    return MIL_OK;
}

enum mil_status pretok_add_isolated(struct pretok *p, const char *regex, struct mil_error *err) {
    struct pretok_step *step = NULL;
    TRY(pretok_add(p, PRETOK_SPLIT, &step, err));
    step->behavior = SPLIT_ISOLATED;
    return pattern_init_regex(&step->pattern, regex, err);
}

/* Matches of a step's pattern in one stretch, as offsets in the text. */
static enum mil_status find_matches(const struct pretok_step *step, const char *text,
                                    struct span in, struct pretok_scratch *s,
                                    struct mil_error *err) {
    s->matches.n = 0;
    TRY(search_begin(&s->search, &step->pattern, text + in.begin, in.end - in.begin, err));
    for (;;) {
        bool found;
        size_t begin, end;
        TRY(search_next(&s->search, &found, &begin, &end, err));
        if (!found) return MIL_OK;
        TRY(span_list_add(&s->matches, in.begin + begin, in.begin + end, err));
    }
}

/* A stretch as alternating parts, matches and what lies between; emitted part by part. */
struct splitter {
    const struct pretok_step *step;
    struct span_list *out;
    size_t begin;    /* of the open part; nothing is open when begin == end */
    size_t end;      /* what was seen so far ends here */
    bool open_match; /* the last part seen was a match */
};

static enum mil_status part(struct splitter *sp, size_t end, bool match, struct mil_error *err) {
    if (end == sp->end) return MIL_OK;
    match = match != sp->step->invert;
    bool join = false, drop = false;
    switch (sp->step->behavior) {
    case SPLIT_REMOVED: drop = match; break;
    case SPLIT_ISOLATED: break;
    case SPLIT_WITH_PREVIOUS: join = match && !sp->open_match; break;
    case SPLIT_WITH_NEXT: join = !match && sp->open_match; break;
    case SPLIT_CONTIGUOUS: join = match == sp->open_match; break;
    }
    if (!join) {
        TRY(span_list_add(sp->out, sp->begin, sp->end, err));
        sp->begin = sp->end;
    }
    sp->end = end;
    if (drop) sp->begin = end;
    sp->open_match = match;
    return MIL_OK;
}

static enum mil_status split(const struct pretok_step *step, const char *text,
                             struct pretok_scratch *s, struct mil_error *err) {
    s->spare_spans.n = 0;
    for (size_t i = 0; i < s->spans.n; i++) {
        struct span in = s->spans.spans[i];
        TRY(find_matches(step, text, in, s, err));
        struct splitter sp = {step, &s->spare_spans, in.begin, in.begin, false};
        for (size_t k = 0; k < s->matches.n; k++) {
            TRY(part(&sp, s->matches.spans[k].begin, false, err));
            TRY(part(&sp, s->matches.spans[k].end, true, err));
        }
        TRY(part(&sp, in.end, false, err));
        TRY(span_list_add(sp.out, sp.begin, sp.end, err));
    }
    struct span_list done = s->spare_spans;
    s->spare_spans = s->spans;
    s->spans = done;
    return MIL_OK;
}

/* Bytes [begin, end) of the current text, with a space replaced if the step says so. */
static void copy_stretch(const struct pretok_step *step, const struct pretok_result *r,
                         size_t begin, size_t end, struct mapped_text *out) {
    const struct str *with = &step->pattern.literal;
    for (size_t i = begin; i < end; i++) {
        int64_t from = r->map ? r->map[i] : r->base + (int64_t)i;
        if (step->kind == PRETOK_REPLACE && r->text[i] == ' ')
            mapped_add(out, str_c(with), with->len, from, false);
        else
            mapped_add(out, r->text + i, 1, from, false);
    }
}

static bool wants_prefix(const struct pretok_step *step, const struct pretok_result *r,
                         struct span in) {
    if (step->kind != PRETOK_PREFIX || step->when == PREFIX_NEVER) return false;
    int64_t from = r->map ? r->map[in.begin] : r->base + (int64_t)in.begin;
    if (step->when == PREFIX_FIRST && from != 0) return false;
    const struct str *prefix = &step->pattern.literal;
    return in.end - in.begin < prefix->len ||
           memcmp(r->text + in.begin, str_c(prefix), prefix->len) != 0;
}

/* A step that changes the text: rebuild it, and the stretches with it. */
static enum mil_status rewrite(const struct pretok_step *step, struct pretok_scratch *s,
                               struct pretok_result *r, struct mil_error *err) {
    mapped_reset(&s->spare);
    for (size_t i = 0; i < s->spans.n; i++) {
        struct span in = s->spans.spans[i];
        size_t begin = s->spare.text.len;
        if (wants_prefix(step, r, in)) {
            int64_t from = r->map ? r->map[in.begin] : r->base + (int64_t)in.begin;
            const struct str *prefix = &step->pattern.literal;
            mapped_add(&s->spare, str_c(prefix), prefix->len, from, false);
        }
        copy_stretch(step, r, in.begin, in.end, &s->spare);
        s->spans.spans[i] = (struct span){begin, s->spare.text.len};
    }
    struct mapped_text done = s->spare;
    s->spare = s->text;
    s->text = done;
    *r = (struct pretok_result){.text = str_c(&s->text.text), .map = s->text.map};
    return mapped_status(&s->text, err);
}

enum mil_status pretok_run(const struct pretok *p, const char *text, size_t n, const int64_t *map,
                           int64_t base, struct pretok_scratch *s, struct pretok_result *out,
                           struct mil_error *err) {
    *out = (struct pretok_result){text, map, base};
    s->spans.n = 0;
    TRY(span_list_add(&s->spans, 0, n, err));
    for (size_t i = 0; i < p->n; i++) {
        const struct pretok_step *step = &p->steps[i];
        if (step->kind == PRETOK_SPLIT)
            TRY(split(step, out->text, s, err));
        else
            TRY(rewrite(step, s, out, err));
    }
    return MIL_OK;
}
