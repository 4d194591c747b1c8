/* SPDX-License-Identifier: Apache-2.0 */
/* spectrum_run.c - all singular values of the chosen modules of a model.
 *
 * Small matrices go side by side, one thread each; a large one has all threads and the memory for
 * itself.  So the bits do not depend on how the small ones were grouped, and the memory is that of
 * one large matrix, or of one small one a thread.  The values are checked against the entries: sum
 * s_i^2 must be ||W||_F^2. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "adapt/adapter.h"
#include "analysis/spectrum.h"
#include "analysis/weight.h"
#include "core/mem.h"
#include "core/threads.h"

/* SMALL: elements of a matrix that one thread decomposes.  DEFAULT_RANK as in the adapters. */
enum { SMALL = 1 << 21, BATCH = 64, DEFAULT_RANK = 32 };

/* svd_values errs by 1e-10 s_1 a value, so sum s^2 by 2e-10 sqrt(k) ||W||_F^2 at most: 7e-8 at the
 * widest model.  More than this means that the values are not those of the matrix. */
static const double energy_limit = 1e-6;

/* ---- which modules ---- */

/* The shortest side among the selected modules, and where it is first found. */
static int64_t shortest_side(const struct model_config *c, const bool *selected, int64_t *at) {
    int64_t shortest = INT64_MAX;
    for (int64_t i = 0; i < c->layers * MODULES; i++) {
        if (!selected[i]) continue;
        int64_t m = module_rows(c, (enum module)(i % MODULES));
        int64_t n = module_cols(c, (enum module)(i % MODULES));
        int64_t k = m < n ? m : n;
        if (k >= shortest) continue;
        shortest = k;
        *at = i;
    }
    return shortest;
}

static enum mil_status choose_rank(const struct model_config *c, const bool *selected,
                                   int64_t asked, int64_t *rank, struct mil_error *err) {
    int64_t at = 0, limit = shortest_side(c, selected, &at);
    *rank = asked ? asked : (DEFAULT_RANK < limit ? DEFAULT_RANK : limit);
    if (*rank >= 1 && *rank <= limit) return MIL_OK;
    enum module m = (enum module)(at % MODULES);
    return error_set(err, MIL_USAGE,
                     "rank is %lld, but model.layers.%lld.%s is %lld x %lld: it lies between 1 and "
                     "%lld",
                     (long long)asked, (long long)(at / MODULES), module_path(m),
                     (long long)module_rows(c, m), (long long)module_cols(c, m), (long long)limit);
}

static enum mil_status select_all(const struct model_config *c,
                                  const struct mil_spectrum_options *o, bool *selected,
                                  struct mil_error *err) {
    static const char *const every[] = {"all-linear"};
    bool given = o->targets && o->n_targets, layer[MODEL_MAX_LAYERS];
    struct adapter_options a = {.targets = given ? o->targets : every,
                                .n_targets = given ? o->n_targets : 1};
    TRY(adapter_select(c, &a, selected, err));
    if (!o->layers) return MIL_OK;
    TRY(spectrum_layers(o->layers, c->layers, layer, err));
    bool any = false;
    for (int64_t i = 0; i < c->layers * MODULES; i++) any |= selected[i] &= layer[i / MODULES];
    if (any) return MIL_OK;
    return error_set(err, MIL_USAGE, "layers '%.40s' hold none of the target modules", o->layers);
}

/* ---- rows ---- */

static void name_row(struct mil_spectrum_row *row, const struct model_config *c, int64_t layer,
                     enum module m) {
    char name[MODULE_NAME_CAP];
    module_name(name, layer, m);
    snprintf(row->module, sizeof row->module, "%s", name);
    snprintf(row->type, sizeof row->type, "%s", module_suffix(m));
    row->layer = layer;
    row->rows = module_rows(c, m);
    row->cols = module_cols(c, m);
    row->n_sigma = (size_t)(row->rows < row->cols ? row->rows : row->cols);
}

static enum module row_module(const struct mil_spectrum_row *row) {
    int m = 0;
    while (strcmp(module_suffix((enum module)m), row->type) != 0) m++;
    return (enum module)m;
}

/* Work of the values of one matrix: m n k, to a factor. */
static double row_work(const struct mil_spectrum_row *row) {
    return (double)row->rows * (double)row->cols * (double)row->n_sigma;
}

/* A copy of the path that any document can hold. */
static char *valid_text(const char *s) {
    struct str out = {0};
    for (size_t n = strlen(s); n > 0;) {
        size_t valid = utf8_valid_prefix(s, n);
        str_addn(&out, s, valid);
        if (valid < n) {
            str_add_utf8(&out, 0xFFFD);
            valid++;
        }
        s += valid;
        n -= valid;
    }
    return str_take(&out);
}

/* The rows without their values, and room for these. */
static enum mil_status lay_out(struct mil_spectrum *s, const struct checkpoint *base,
                               const bool *selected, struct mil_error *err) {
    const struct model_config *c = &base->config;
    size_t values = 0, n = 0;
    for (int64_t i = 0; i < c->layers * MODULES; i++) s->n_rows += selected[i];
    s->rows = mem_calloc(MEM_OTHER, s->n_rows, sizeof *s->rows);
    if (!s->rows) return error_nomem(err, s->n_rows * sizeof *s->rows);
    for (int64_t i = 0; i < c->layers * MODULES; i++) {
        if (!selected[i]) continue;
        struct mil_spectrum_row *row = &s->rows[n];
        name_row(row, c, i / MODULES, (enum module)(i % MODULES));
        row->dtype =
            dtype_name(checkpoint_module(base, i / MODULES, (enum module)(i % MODULES))->dtype);
        row->index = n++;
        row->total = s->n_rows;
        values += row->n_sigma;
    }
    s->sigma = mem_calloc(MEM_OTHER, values, sizeof *s->sigma);
    if (!s->sigma) return error_nomem(err, values * sizeof *s->sigma);
    values = 0;
    for (size_t i = 0; i < s->n_rows; i++) {
        s->rows[i].sigma = s->sigma + values;
        values += s->rows[i].n_sigma;
    }
    return MIL_OK;
}

/* ---- the work ---- */

struct job {
    struct mil_spectrum *s;
    const struct checkpoint *base;
    size_t index;
    enum mil_status status;
    struct mil_error err;
};

static enum mil_status run_job(struct job *j, struct mil_error *err) {
    struct mil_spectrum_row *row = &j->s->rows[j->index];
    double *sigma = j->s->sigma + (row->sigma - j->s->sigma);
    struct weight_view plain;
    float *copy;
    double start = clock_seconds();
    const struct weight_view *v = checkpoint_module(j->base, row->layer, row_module(row));
    enum mil_status st = weight_plain(v, &plain, &copy, err);
    struct svd_matrix w = {plain.data, plain.dtype, plain.rows, plain.cols};
    if (st == MIL_OK) st = svd_values(&w, sigma, err);
    if (st == MIL_OK) {
        spectrum_measure(sigma, (int64_t)row->n_sigma, j->s->rank, weight_frobenius(&w),
                         &row->measures);
        if (!(row->measures.energy_error <= energy_limit))
            st = error_set(err, MIL_NUMERIC,
                           "the squares of the singular values and of the entries differ by %.1e "
                           "of their sum: they may differ by %.0e",
                           row->measures.energy_error, energy_limit);
    }
    if (st != MIL_OK) error_prefix(err, "%s: ", row->module);
    row->seconds = clock_seconds() - start;
    mem_free(copy);
    return st;
}

static void run_jobs(void *ctx, int64_t begin, int64_t end) {
    struct job *jobs = ctx;
    for (int64_t i = begin; i < end; i++)
        if (jobs[i].s) jobs[i].status = run_job(&jobs[i], &jobs[i].err);
}

static bool is_small(const struct mil_spectrum_row *row) {
    return row->rows * row->cols <= SMALL;
}

/* How many rows from `first` on go side by side: a few a thread, so that progress is seen. */
static size_t batch_size(const struct mil_spectrum *s, size_t first) {
    size_t n = 0, most = 4 * (size_t)threads_count();
    if (most > BATCH) most = BATCH;
    while (first + n < s->n_rows && n < most && is_small(&s->rows[first + n])) n++;
    return n ? n : 1;
}

/* Rows [first, first + n).  A lone small one, too, is in a parallel region (beside an empty job):
 * then its bits are those it has among others. */
static void run_batch(struct mil_spectrum *s, const struct checkpoint *base, struct job *jobs,
                      size_t first, size_t n) {
    for (size_t i = 0; i < n; i++) jobs[i] = (struct job){s, base, first + i, MIL_OK, {0}};
    if (n == 1) jobs[1].s = NULL;
    if (is_small(&s->rows[first]))
        parallel_for(n > 2 ? (int64_t)n : 2, 1, run_jobs, jobs);
    else
        run_jobs(jobs, 0, 1);
}

static enum mil_status run_all(struct mil_spectrum *s, const struct checkpoint *base,
                               mil_spectrum_fn fn, void *ctx, struct mil_error *err) {
    struct job *jobs = mem_calloc(MEM_SCRATCH, BATCH, sizeof *jobs);
    if (!jobs) return error_nomem(err, BATCH * sizeof *jobs);
    enum mil_status st = MIL_OK;
    double work = 0, done = 0;
    size_t n = 0;
    for (size_t i = 0; i < s->n_rows; i++) work += row_work(&s->rows[i]);
    for (size_t first = 0; first < s->n_rows && st == MIL_OK; first += n) {
        n = batch_size(s, first);
        run_batch(s, base, jobs, first, n);
        for (size_t i = 0; i < n && st == MIL_OK; i++) {
            struct mil_spectrum_row *row = &s->rows[first + i];
            done += row_work(row);
            row->done = done / work;
            st = jobs[i].status;
            if (st != MIL_OK && err) *err = jobs[i].err;
            if (st == MIL_OK && fn) fn(ctx, row);
        }
    }
    mem_free(jobs);
    return st;
}

/* ---- entry points ---- */

enum mil_status spectrum_run(const struct checkpoint *base, const struct mil_spectrum_options *o,
                             mil_spectrum_fn fn, void *ctx, struct mil_spectrum **out,
                             struct mil_error *err) {
    const struct model_config *c = &base->config;
    double start = clock_seconds();
    *out = NULL;
    struct mil_spectrum *s = mem_calloc(MEM_OTHER, 1, sizeof *s);
    bool *selected = mem_calloc(MEM_OTHER, (size_t)c->layers * MODULES, sizeof *selected);
    enum mil_status st;
    if (!s || !selected || !(s->model = valid_text(o->model))) {
        st = error_nomem(err, 0);
        goto fail;
    }
    s->layers = c->layers;
    TRY_GOTO(select_all(c, o, selected, err));
    TRY_GOTO(choose_rank(c, selected, o->rank, &s->rank, err));
    TRY_GOTO(lay_out(s, base, selected, err));
    TRY_GOTO(checkpoint_fingerprint(base, s->fingerprint, err));
    TRY_GOTO(run_all(s, base, fn, ctx, err));
    spectrum_average(s);
    s->seconds = clock_seconds() - start;
    *out = s;
    s = NULL;
fail:
    mem_free(selected);
    spectrum_free(&s);
    return st;
}

void spectrum_free(struct mil_spectrum **s) {
    if (!*s) return;
    mem_free((*s)->sigma);
    mem_free((*s)->rows);
    mem_free((*s)->model);
    mem_free(*s);
    *s = NULL;
}
