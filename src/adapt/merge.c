/* SPDX-License-Identifier: Apache-2.0 */
/* merge.c - adapters added to the weights of their base: W + sum of w_i (W'_i - W), in f64 and rounded once, where
 * W'_i is the weight under adapter i alone; so too for tensors that train as a whole.
 *
 * A tied model of which embeddings or head were trained, but not both to the same values, becomes an untied one:
 * lm_head.weight is written and config.json says so. */
#include <string.h>

#include "adapt/files.h"
#include "core/mem.h"
#include "io/file.h"

struct merging {
    const struct checkpoint *base;
    const struct adapter_part *parts;
    size_t n;
    struct delta_term *terms; /* room for n */
};

/* ---- which change ---- */

const struct delta *adapter_delta_of(const struct adapter *a, const struct checkpoint *base,
                                     const struct weight_view *v) {
    for (size_t i = 0; i < a->n; i++)
        if (checkpoint_module(base, a->deltas[i].layer, a->deltas[i].module) == v)
            return &a->deltas[i];
    return NULL;
}

/* The whole of a for a tensor of the base, by its Hugging Face name. */
static const struct whole *whole_of(const struct adapter *a, const struct weight_view *v) {
    for (size_t i = 0; i < a->n_wholes; i++) {
        char name[sizeof v->name];
        whole_name(&a->wholes[i], name, sizeof name);
        if (strcmp(name, v->name) == 0) return &a->wholes[i];
    }
    return NULL;
}

static bool changes(void *ctx, const struct weight_view *v) {
    const struct merging *m = ctx;
    for (size_t i = 0; i < m->n; i++)
        if (adapter_delta_of(m->parts[i].adapter, m->base, v) || whole_of(m->parts[i].adapter, v))
            return true;
    return false;
}

/* ---- the change ---- */

/* x += sum of w_i (value_i - x), elements [first, first + n) of v, through `sum`, n elements in f64. */
static void add_wholes(const struct merging *m, const struct weight_view *v, int64_t first,
                       int64_t n, float *x, double *sum) {
    for (int64_t j = 0; j < n; j++) sum[j] = (double)x[j];
    for (size_t i = 0; i < m->n; i++) {
        const struct whole *w = whole_of(m->parts[i].adapter, v);
        double weight = m->parts[i].weight;
        for (int64_t j = 0; w && j < n; j++)
            sum[j] += weight * ((double)w->value[first + j] - (double)x[j]);
    }
    for (int64_t j = 0; j < n; j++) x[j] = (float)sum[j];
}

static enum mil_status apply(void *ctx, const struct weight_view *v, int64_t begin, int64_t rows,
                             float *w, enum dtype stored, struct mil_error *err) {
    struct merging *m = ctx;
    size_t n = 0;
    (void)stored;
    for (size_t i = 0; i < m->n; i++) {
        const struct delta *d = adapter_delta_of(m->parts[i].adapter, m->base, v);
        if (d) m->terms[n++] = (struct delta_term){d, m->parts[i].weight};
    }
    if (n > 0) return deltas_add_to(m->terms, n, w, err);
    double *sum = mem_alloc(MEM_SCRATCH, (size_t)(rows * v->cols), sizeof *sum);
    if (!sum) return error_nomem(err, (uint64_t)(rows * v->cols) * sizeof *sum);
    add_wholes(m, v, begin * v->cols, rows * v->cols, w, sum);
    mem_free(sum);
    return MIL_OK;
}

/* ---- a tied head ---- */

static const struct whole *whole_kind(const struct adapter *a, enum whole_kind kind) {
    for (size_t i = 0; i < a->n_wholes; i++)
        if (a->wholes[i].kind == kind) return &a->wholes[i];
    return NULL;
}

/* Do embeddings and head come out the same? */
static bool stays_tied(const struct merging *m) {
    for (size_t i = 0; i < m->n; i++) {
        const struct whole *e = whole_kind(m->parts[i].adapter, WHOLE_EMBED),
                           *h = whole_kind(m->parts[i].adapter, WHOLE_HEAD);
        if (!e && !h) continue;
        if (!e || !h ||
            memcmp(e->value, h->value, (size_t)(e->rows * e->cols) * sizeof *e->value) != 0)
            return false;
    }
    return true;
}

/* ---- entry points ---- */

enum mil_status adapter_merge_parts(const struct checkpoint *base, const struct adapter_part *parts,
                                    size_t n, const char *out, enum dtype dtype,
                                    struct mil_error *err) {
    struct merging m = {.base = base, .parts = parts, .n = n};
    struct weight_edit edit = {.changes = changes, .apply = apply, .ctx = &m};
    struct stage s;
    REQUIRE(base->layers && n > 0);
    for (size_t i = 0; i < n; i++) TRY(adapter_check_base(parts[i].adapter, &base->config, err));
    edit.untie = base->config.tied_head && !stays_tied(&m);
    m.terms = mem_alloc(MEM_OTHER, n, sizeof *m.terms);
    if (!m.terms) return error_nomem(err, n * sizeof *m.terms);
    enum mil_status st = output_open(&s, out, err);
    if (st == MIL_OK) st = output_close(&s, model_dir_write(base, &edit, dtype, s.tmp, err), err);
    mem_free(m.terms);
    return st;
}

enum mil_status adapter_merge(const struct checkpoint *base, const struct adapter *a,
                              const char *out, enum dtype dtype, struct mil_error *err) {
    const struct adapter_part one = {a, 1};
    return adapter_merge_parts(base, &one, 1, out, dtype, err);
}
