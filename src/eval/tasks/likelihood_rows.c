/* SPDX-License-Identifier: Apache-2.0 */
/* likelihood_rows.c - multiple-choice rows as tokens, which are lm-evaluation-harness's.
 *
 * White space at a context's end moves to the continuation; the whole text is encoded as the
 * tokenizer does by default (what it adds in front included, unless the text begins with that
 * itself), and the number of tokens of the context alone is taken off.  A special token written in a
 * row is that token, as there.  An empty context is the first (else the last) token of the
 * tokenizer.  Sequences too long for the model lose their beginning. */
#include <string.h>

#include "core/mem.h"
#include "eval/rows.h"
#include "eval/tasks/choices_text.h"
#include "eval/tasks/likelihood.h"

struct reader {
    const struct task_run *run;
    struct asked_rows *rows;
    struct str bos; /* text of the token that stands for "nothing before" */
    int32_t prefix; /* that token */
    struct tokens whole, context;
};

static enum mil_status encode(const struct reader *s, const char *text, bool special,
                              struct tokens *out, struct mil_error *err) {
    unsigned flags = TOKENIZE_PARSE_SPECIAL;
    /* A text that brings its own first token gets no second one. */
    bool has = s->bos.len > 0 && str_starts(text, str_c(&s->bos));
    if (special && !has) flags |= TOKENIZE_ADD_SPECIAL;
    return tokenizer_encode(s->run->tokenizer, text, strlen(text), flags, out, err);
}

/* The whole text's tokens; *from: where the choice's begin.  An empty context is the prefix token,
 * *lead: in front of the tokens, unless the text's first token is that already. */
static enum mil_status encode_pair(struct reader *s, const struct choice *c, int64_t *from,
                                   bool *lead, struct mil_error *err) {
    struct str text = {0};
    enum mil_status st;
    *lead = false;
    str_addn(&text, c->context, text_without_end_space(c->context, strlen(c->context)));
    TRY_GOTO(str_status(&text, err));
    s->context.n = 0;
    if (c->context[0]) TRY_GOTO(encode(s, str_c(&text), true, &s->context, err));
    *from = (int64_t)s->context.n;
    str_reset(&text);
    str_add(&text, c->context);
    str_add(&text, c->continuation);
    TRY_GOTO(str_status(&text, err));
    TRY_GOTO(encode(s, str_c(&text), *from > 0, &s->whole, err));
    if (*from > 0) goto fail;
    *from = 1;
    *lead = s->whole.n == 0 || s->whole.ids[0] != s->prefix;
    if (s->prefix < 0)
        st = error_set(err, MIL_INPUT,
                       "the context is empty, and the tokenizer has no first or last token that "
                       "could stand for it");
fail:
    str_release(&text);
    return st;
}

static enum mil_status option_fill(struct reader *s, const struct choice *c, struct option *o,
                                   bool *cut, struct mil_error *err) {
    int64_t from;
    bool lead;
    TRY(encode_pair(s, c, &from, &lead, err));
    size_t total = s->whole.n + lead;
    int64_t own = (int64_t)total - from, drop = (int64_t)total - 1 - s->rows->max_length;
    if (own <= 0)
        return error_set(err, MIL_INPUT, "a choice has no tokens of its own after its context");
    if (own > s->rows->max_length)
        return error_set(err, MIL_INPUT,
                         "a choice has %lld tokens, more than the %lld positions there are",
                         (long long)own, (long long)s->rows->max_length);
    if (drop < 0) drop = 0;
    o->ids = mem_alloc(MEM_TEXT, total, sizeof *o->ids);
    if (!o->ids) return error_nomem(err, total * sizeof *o->ids);
    o->ids[0] = s->prefix;
    memcpy(o->ids + lead, s->whole.ids, s->whole.n * sizeof *o->ids);
    memmove(o->ids, o->ids + drop, (total - (size_t)drop) * sizeof *o->ids);
    *cut |= drop > 0;
    o->n = (int64_t)total - 1 - drop;
    o->start = from - 1 - drop;
    o->characters = c->characters;
    return MIL_OK;
}

static void find_shared(struct asked *a) {
    const struct option *first = &a->option[0];
    int64_t n = first->start + 1;
    for (int64_t i = 1; i < a->n; i++) {
        const struct option *o = &a->option[i];
        int64_t same = 0;
        if (o->start + 1 < n) n = o->start + 1;
        while (same < n && o->ids[same] == first->ids[same]) same++;
        n = same;
    }
    a->shared = n;
}

static enum mil_status asked_fill(struct reader *s, const struct question *q, struct asked *a,
                                  struct mil_error *err) {
    bool cut = false;
    a->n = q->n;
    a->right = q->right;
    for (int64_t i = 0; i < q->n; i++) {
        TRY(option_fill(s, &q->choices[i], &a->option[i], &cut, err));
        s->rows->tokens += a->option[i].n;
        if (a->option[i].n > s->rows->longest) s->rows->longest = a->option[i].n;
    }
    find_shared(a);
    if (q->lost) {
        s->rows->poorer++;
        s->rows->lost = q->lost;
    }
    s->rows->truncated += cut;
    s->rows->choices += a->n;
    s->rows->chance += 1 / (double)a->n;
    return MIL_OK;
}

static enum mil_status add_row(void *ctx, const json_t *row, int64_t number,
                               struct mil_error *err) {
    struct reader *s = ctx;
    struct asked_rows *r = s->rows;
    if (r->n == r->cap) {
        size_t cap = r->cap ? 2 * r->cap : 64;
        struct asked *grown = mem_realloc(MEM_TEXT, r->rows, cap, sizeof *grown);
        if (!grown) return error_nomem(err, cap * sizeof *grown);
        r->rows = grown;
        r->cap = cap;
    }
    struct question *q = mem_calloc(MEM_TEXT, 1, sizeof *q);
    if (!q) return error_nomem(err, sizeof *q);
    struct asked *a = &r->rows[r->n++]; /* counted at once: the release sees it */
    *a = (struct asked){.row = number, .texts = q};
    TRY(question_parse(s->run->task->name, row, q, err));
    TRY(asked_fill(s, q, a, err));
    if (s->run->options->samples_path) return MIL_OK;
    question_release(q);
    mem_free(q);
    a->texts = NULL;
    return MIL_OK;
}

static enum mil_status prefix_find(struct reader *s, struct mil_error *err) {
    const struct tokenizer *t = s->run->tokenizer;
    s->prefix = tokenizer_bos(t) >= 0 ? tokenizer_bos(t) : tokenizer_eos(t);
    if (s->prefix < 0) return MIL_OK;
    return tokenizer_decode(t, &s->prefix, 1, false, &s->bos, err);
}

enum mil_status asked_rows_load(struct asked_rows *r, const struct task_run *run,
                                struct mil_error *err) {
    struct reader s = {.run = run, .rows = r};
    enum mil_status st = prefix_find(&s, err);
    if (st == MIL_OK) st = rows_each(run->data_path, run->options->limit, add_row, &s, err);
    tokens_release(&s.whole);
    tokens_release(&s.context);
    str_release(&s.bos);
    return st;
}

void asked_rows_release(struct asked_rows *r) {
    for (size_t i = 0; i < r->n; i++) {
        for (int j = 0; j < CHOICES_MOST; j++) mem_free(r->rows[i].option[j].ids);
        if (r->rows[i].texts) question_release(r->rows[i].texts);
        mem_free(r->rows[i].texts);
    }
    mem_free(r->rows);
    *r = (struct asked_rows){.n = 0};
}
