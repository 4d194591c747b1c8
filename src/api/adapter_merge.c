/* SPDX-License-Identifier: Apache-2.0 */
/* adapter_merge.c - merging and exporting, with the check that a merge did what it says: logits of
 * base + adapter against logits of the merged directory on a fixed text, both in f32. */
#include <math.h>
#include <string.h>

#include "adapt/adapter.h"
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

static enum mil_status probe_before(const struct mil_merge_options *o, struct probe *p,
                                    struct mil_error *err) {
    mil_model *m = NULL;
    TRY(open_f32(o->model, o->adapter, &m, err));
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

/* The type to write: as asked, else as the base's matrices are stored, else bf16. */
static enum mil_status stored_dtype(const char *asked, const struct checkpoint *base,
                                    enum dtype fallback, enum dtype *out, struct mil_error *err) {
    *out = fallback;
    if (!asked) {
        if (base && base->layers) *out = base->layers[0].weight[MODULE_Q].dtype;
        if (*out != DT_F32 && *out != DT_F16) *out = DT_BF16;
        return MIL_OK;
    }
    if (dtype_from_name(asked, out) && (*out == DT_F32 || *out == DT_F16 || *out == DT_BF16))
        return MIL_OK;
    return error_set(err, MIL_USAGE, "dtype '%s': use bf16, f16 or f32", asked);
}

static enum mil_status write_merged(const struct mil_merge_options *o, struct mil_merge_result *r,
                                    struct mil_error *err) {
    struct checkpoint *base = NULL;
    struct adapter *a = NULL;
    enum dtype dtype;
    enum mil_status st;
    TRY_GOTO(checkpoint_open(o->model, CHECKPOINT_WEIGHTS, &base, err));
    TRY_GOTO(stored_dtype(o->dtype, base, DT_BF16, &dtype, err));
    TRY_GOTO(adapter_load(o->adapter, base, &a, err));
    TRY_GOTO(adapter_merge(base, a, o->out, dtype, err));
    r->dtype = dtype_name(dtype);
fail:
    adapter_free(&a);
    checkpoint_free(&base);
    return st;
}

enum mil_status mil_merge(const struct mil_merge_options *options, struct mil_merge_result *result,
                          struct mil_error *err) {
    struct mil_merge_result r = {0};
    struct probe p = {0};
    enum mil_status st;
    double start = clock_seconds();
    TRY_GOTO(output_probe(options->out, err));
    if (!options->no_probe) TRY_GOTO(probe_before(options, &p, err));
    TRY_GOTO(write_merged(options, &r, err));
    if (!options->no_probe) TRY_GOTO(probe_after(options, &p, &r, err));
    r.seconds = clock_seconds() - start;
    if (result) *result = r;
fail:
    mem_free(p.logits);
    return st;
}

/* ---- exporting */

static enum mil_status format_of(const char *name, enum export_format *out, struct mil_error *err) {
    static const char *const names[] = {"peft", "residual", "gguf"};
    for (size_t i = 0; i < 3; i++)
        if (name && strcmp(name, names[i]) == 0) {
            *out = (enum export_format)i;
            return MIL_OK;
        }
    return error_set(err, MIL_USAGE, "export format '%s': there are peft, residual and gguf",
                     name ? name : "");
}

/* Where the base is: as given, else as the adapter names it. */
static enum mil_status find_base(const struct mil_export_options *o, const struct adapter *a,
                                 struct checkpoint **out, struct mil_error *err) {
    const char *path = o->model ? o->model : a->base_path;
    if (!path[0])
        return error_set(err, MIL_USAGE, "export to %s needs the base model: name it with --model",
                         o->format);
    enum mil_status st = checkpoint_open(path, CHECKPOINT_WEIGHTS, out, err);
    if (st != MIL_OK && !o->model)
        error_prefix(err, "the adapter's base (name another with --model): ");
    return st;
}

enum mil_status mil_export(const struct mil_export_options *options, struct mil_error *err) {
    struct checkpoint *base = NULL;
    struct adapter *a = NULL, *checked = NULL;
    enum export_format format = EXPORT_PEFT;
    enum dtype dtype = DT_F32;
    enum mil_status st;
    TRY_GOTO(format_of(options->format, &format, err));
    TRY_GOTO(output_probe(options->out, err));
    TRY_GOTO(stored_dtype(options->dtype ? options->dtype : "f32", NULL, DT_F32, &dtype, err));
    TRY_GOTO(adapter_load(options->adapter, NULL, &a, err));
    if (options->model || format != EXPORT_PEFT) {
        TRY_GOTO(find_base(options, a, &base, err));
        TRY_GOTO(adapter_load(options->adapter, base, &checked, err));
    }
    TRY_GOTO(adapter_export(checked ? checked : a, base, format, dtype, options->out, err));
fail:
    adapter_free(&checked);
    adapter_free(&a);
    checkpoint_free(&base);
    return st;
}
