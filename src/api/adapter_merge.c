/* SPDX-License-Identifier: Apache-2.0 */
/* adapter_merge.c - merging, with the check that a merge did what it says: logits of
 * base + adapter against logits of the merged directory on a fixed text, both in f32.  Several adapters have no such
 * logits to compare with: then the base's, which tell how far the merge moves it. */
#include <math.h>
#include <string.h>

#include "adapt/adapter.h"
#include "api/adapter_files.h"
#include "api/handle.h"
#include "api/output.h"
#include "core/mem.h"
#include "core/threads.h"
#include "io/file.h"
#include "milora/adapter.h"
#include "milora/model.h"

enum { PROBE_TOKENS = 256 };
static const char default_probe[] =
    "The quick brown fox jumps over the lazy dog. In 1969 two people walked on the Moon; the third "
    "stayed in orbit. If 3x + 5 = 20, then x = 5, because 20 - 5 = 15 and 15 / 3 = 5.\n"
    "def add(a, b):\n    return a + b\n";

struct probe {
    int32_t ids[PROBE_TOKENS];
    size_t n;
    int64_t vocab;
    float *logits; /* [n, vocab] of base + adapter */
};

/* Ids of the text; without a tokenizer a fixed walk through the vocabulary. */
static enum mil_status probe_ids(struct probe *p, const mil_model *m, const char *text,
                                 struct mil_error *err) {
    size_t cap = PROBE_TOKENS < m->positions ? PROBE_TOKENS : (size_t)m->positions;
    if (!m->tokenizer) {
        p->n = cap < 32 ? cap : 32;
        for (size_t i = 0; i < p->n; i++) p->ids[i] = (int32_t)((int64_t)(i + 1) * 7919 % p->vocab);
        return MIL_OK;
    }
    struct tokens tokens = {0};
    enum mil_status st =
        tokenizer_encode(m->tokenizer, text, strlen(text), TOKENIZE_ADD_SPECIAL, &tokens, err);
    if (st == MIL_OK) {
        p->n = tokens.n < cap ? tokens.n : cap;
        memcpy(p->ids, tokens.ids, p->n * sizeof *p->ids);
    }
    tokens_release(&tokens);
    return st;
}

static enum mil_status open_f32(const char *path, const char *adapter, mil_model **out,
                                struct mil_error *err) {
    struct mil_model_options o = {.path = path, .adapter = adapter, .compute = MIL_F32};
    return mil_model_open(&o, out, err);
}

/* What is merged: `adapter`, or the list. */
struct request {
    const struct mil_merge_options *options;
    const char *const *adapters;
    size_t n;
    bool plain; /* one adapter, weight 1 */
};

static double weight_of(const struct request *q, size_t i) {
    return q->options->weights && q->options->n_adapters ? q->options->weights[i] : 1;
}

static enum mil_status check_request(struct request *q, struct mil_error *err) {
    const struct mil_merge_options *o = q->options;
    if (o->adapter && o->n_adapters)
        return error_set(err, MIL_USAGE, "merge takes one adapter or a list of them, not both");
    q->adapters = o->n_adapters ? o->adapters : &o->adapter;
    q->n = o->n_adapters ? o->n_adapters : 1;
    if (!q->adapters[0]) return error_set(err, MIL_USAGE, "merge needs an adapter");
    for (size_t i = 0; i < q->n; i++)
        if (!isfinite(weight_of(q, i)))
            return error_set(err, MIL_USAGE, "the weight of %.200s is %g: it must be finite",
                             q->adapters[i], weight_of(q, i));
    q->plain = q->n == 1 && weight_of(q, 0) == 1;
    return MIL_OK;
}

static enum mil_status probe_before(const struct request *q, struct probe *p,
                                    struct mil_error *err) {
    const struct mil_merge_options *o = q->options;
    mil_model *m = NULL;
    TRY(open_f32(o->model, q->plain ? q->adapters[0] : NULL, &m, err));
    p->vocab = mil_model_vocab(m);
    enum mil_status st = probe_ids(p, m, o->probe_text ? o->probe_text : default_probe, err);
    if (st == MIL_OK) {
        p->logits = mem_alloc(MEM_OTHER, p->n * (size_t)p->vocab, sizeof *p->logits);
        st = p->logits ? mil_logits(m, p->ids, p->n, p->logits, err)
                       : error_nomem(err, p->n * (uint64_t)p->vocab * sizeof *p->logits);
    }
    mil_model_free(&m);
    return st;
}

static size_t argmax(const float *x, int64_t n) {
    size_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = (size_t)i;
    return best;
}

static void compare(const struct probe *p, const float *merged, struct mil_merge_result *r) {
    for (size_t t = 0; t < p->n; t++) {
        const float *a = p->logits + t * (size_t)p->vocab, *b = merged + t * (size_t)p->vocab;
        for (int64_t i = 0; i < p->vocab; i++) {
            double change = fabs((double)a[i] - (double)b[i]), size = fabs((double)a[i]);
            /* !(<=) lets a NaN through to the report. */
            if (!(change <= r->largest_change)) r->largest_change = change;
            if (size > r->largest_logit) r->largest_logit = size;
        }
        r->argmax_changed += argmax(a, p->vocab) != argmax(b, p->vocab);
    }
    r->probe_tokens = p->n;
}

static enum mil_status probe_after(const struct mil_merge_options *o, const struct probe *p,
                                   struct mil_merge_result *r, struct mil_error *err) {
    mil_model *m = NULL;
    TRY(open_f32(o->out, NULL, &m, err));
    float *merged = mem_alloc(MEM_OTHER, p->n * (size_t)p->vocab, sizeof *merged);
    enum mil_status st = merged ? mil_logits(m, p->ids, p->n, merged, err)
                                : error_nomem(err, p->n * (uint64_t)p->vocab * sizeof *merged);
    if (st == MIL_OK) compare(p, merged, r);
    mem_free(merged);
    mil_model_free(&m);
    return st;
}

static enum mil_status load_parts(const struct request *q, const struct checkpoint *base,
                                  struct adapter **adapters, struct adapter_part *parts,
                                  struct mil_error *err) {
    for (size_t i = 0; i < q->n; i++) {
        TRY(adapter_load(q->adapters[i], base, &adapters[i], err));
        parts[i] = (struct adapter_part){adapters[i], weight_of(q, i)};
    }
    return MIL_OK;
}

static enum mil_status write_merged(const struct request *q, struct mil_merge_result *r,
                                    struct mil_error *err) {
    const struct mil_merge_options *o = q->options;
    struct checkpoint *base = NULL;
    struct adapter **adapters = mem_calloc(MEM_ADAPTER, q->n, sizeof *adapters);
    struct adapter_part *parts = mem_calloc(MEM_ADAPTER, q->n, sizeof *parts);
    enum dtype dtype;
    enum mil_status st = adapters && parts ? MIL_OK : error_nomem(err, q->n * sizeof *parts);
    if (st != MIL_OK) goto fail;
    TRY_GOTO(checkpoint_open(o->model, CHECKPOINT_WEIGHTS, &base, err));
    TRY_GOTO(output_dtype(o->dtype, base, DT_BF16, &dtype, err));
    TRY_GOTO(load_parts(q, base, adapters, parts, err));
    TRY_GOTO(adapter_merge_parts(base, parts, q->n, o->out, dtype, err));
    r->dtype = dtype_name(dtype);
fail:
    for (size_t i = 0; adapters && i < q->n; i++) adapter_free(&adapters[i]);
    mem_free(parts);
    mem_free(adapters);
    checkpoint_free(&base);
    return st;
}

enum mil_status mil_merge(const struct mil_merge_options *options, struct mil_merge_result *result,
                          struct mil_error *err) {
    struct mil_merge_result r = {0};
    struct request q = {.options = options};
    struct probe p = {0};
    enum mil_status st;
    double start = clock_seconds();
    TRY_GOTO(check_request(&q, err));
    TRY_GOTO(output_probe(options->out, err));
    if (!options->no_probe) TRY_GOTO(probe_before(&q, &p, err));
    TRY_GOTO(write_merged(&q, &r, err));
    if (!options->no_probe) TRY_GOTO(probe_after(options, &p, &r, err));
    r.against_base = !q.plain;
    r.seconds = clock_seconds() - start;
    if (result) *result = r;
fail:
    mem_free(p.logits);
    return st;
}
