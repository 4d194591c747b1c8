/* SPDX-License-Identifier: Apache-2.0 */
/* init_compare.c - all methods from one model with one set of options: what each starts from.
 *
 * One method after the other: its adapter is made, measured (adapt/alignment.h), told and dropped, so that memory is
 * that of one adapter.  Measuring asks for the top and the bottom of every weight again and again: without svd_cache
 * they lie in a temporary directory meanwhile.  A method that the options do not suit has a reason instead of numbers;
 * what suits not even the first one is an error. */
#include <stdlib.h>
#include <string.h>

#include "adapt/alignment.h"
#include "api/adapter_init.h"
#include "api/init_data.h"
#include "api/output.h"
#include "core/mem.h"
#include "io/file.h"

struct comparison {
    const struct mil_adapter_options *options;
    mil_compare_fn fn;
    void *ctx;
    const struct checkpoint *base;
    struct svd_cache *cache;
    char temporary[PATH_CAP]; /* "": the cache is the user's */
    struct init_data data;    /* with a data set, for methods that start from gradients */
    size_t index, total, cached;
    size_t made;    /* methods with numbers */
    double seconds; /* of the method's modules, one thread each */
};

static void on_module(void *ctx, const struct adapter_init_event *e) {
    struct comparison *c = ctx;
    c->cached += e->init->cached;
    c->seconds += e->seconds + e->init->cached_seconds;
}

static bool asked_to_stop(void *ctx) {
    (void)ctx;
    return mil_stop_requested();
}

static enum mil_status gradients(void *ctx, const struct delta *deltas, size_t n, float *const *g,
                                 struct mil_error *err) {
    struct comparison *c = ctx;
    return gradients_add(&c->data.gradients, deltas, n, g, err);
}

/* ---- rows ---- */

static struct mil_compare_row row_of(const struct comparison *c, const struct method *m) {
    return (struct mil_compare_row){
        .method = m->name, .index = c->index, .total = c->total, .learning_rate = m->learning_rate};
}

static void tell_reason(const struct comparison *c, const struct method *m, const char *reason) {
    struct mil_compare_row row = row_of(c, m);
    row.reason = reason;
    c->fn(c->ctx, &row);
}

static void fill(struct mil_compare_row *row, const struct alignment *a) {
    row->part = a->part;
    row->norm_a = a->a;
    row->norm_b = a->b;
    row->energy_left = a->energy_left;
    row->energy_right = a->energy_right;
    row->left_top = a->left_top;
    row->left_bottom = a->left_bottom;
    row->right_top = a->right_top;
    row->right_bottom = a->right_bottom;
    row->first_step = a->first_step;
}

/* Mean of one number over the modules that have it; -1: none. */
static double mean(const struct alignment *a, size_t n, size_t offset) {
    double sum = 0;
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        double v = *(const double *)(const void *)((const char *)&a[i] + offset);
        if (v < 0) continue;
        sum += v;
        count++;
    }
    return count ? sum / (double)count : -1;
}

static struct alignment mean_of(const struct alignment *a, size_t n) {
    static const size_t offsets[] = {offsetof(struct alignment, part),
                                     offsetof(struct alignment, a),
                                     offsetof(struct alignment, b),
                                     offsetof(struct alignment, energy_left),
                                     offsetof(struct alignment, energy_right),
                                     offsetof(struct alignment, left_top),
                                     offsetof(struct alignment, left_bottom),
                                     offsetof(struct alignment, right_top),
                                     offsetof(struct alignment, right_bottom),
                                     offsetof(struct alignment, first_step)};
    struct alignment out;
    for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++)
        *(double *)(void *)((char *)&out + offsets[i]) = mean(a, n, offsets[i]);
    return out;
}

static void tell(const struct comparison *c, const struct adapter *adapter,
                 const struct alignment *a) {
    struct mil_compare_row row = row_of(c, adapter->method);
    for (size_t i = 0; i < adapter->n; i++) {
        const struct delta *d = &adapter->deltas[i];
        char name[MODULE_NAME_CAP];
        module_name(name, d->layer, d->module);
        row.module = name;
        row.modules = i;
        row.rows = d->m;
        row.cols = d->n;
        row.rank = d->r;
        row.alpha = d->alpha;
        row.scale = d->alpha / (double)d->r;
        fill(&row, &a[i]);
        c->fn(c->ctx, &row);
    }
    const struct alignment all = mean_of(a, adapter->n);
    row = row_of(c, adapter->method);
    row.modules = adapter->n;
    row.rank = adapter->options.r;
    row.alpha = adapter->options.alpha;
    row.scale = adapter->deltas[0].alpha / (double)adapter->deltas[0].r;
    row.seconds = c->seconds;
    row.cached = c->cached;
    fill(&row, &all);
    c->fn(c->ctx, &row);
}

/* ---- one method ---- */

static enum mil_status save(const struct comparison *c, const struct adapter *a,
                            struct mil_error *err) {
    char path[PATH_CAP];
    uint64_t bytes;
    if (!c->options->out) return MIL_OK;
    if (c->made == 0) TRY(dir_make(c->options->out, err));
    TRY(path_join(path, c->options->out, a->method->name, err));
    return init_save(a, path, &bytes, err);
}

static enum mil_status make(struct comparison *c, const struct adapter_options *o,
                            struct mil_error *err) {
    const struct adapter_init_hooks hooks = {.progress = on_module,
                                             .stop = asked_to_stop,
                                             .gradients = c->options->dataset ? gradients : NULL,
                                             .ctx = c,
                                             .cache = c->cache};
    struct adapter *a = NULL;
    struct alignment *found = NULL;
    enum mil_status st;
    c->cached = 0;
    c->seconds = 0;
    TRY(adapter_init_with(c->base, o, &hooks, &a, err));
    found = mem_calloc(MEM_OTHER, a->n, sizeof *found);
    st = found ? MIL_OK : error_nomem(err, a->n * sizeof *found);
    if (st == MIL_OK)
        st = alignment_of_adapter(a, c->base, a->method->learning_rate, c->cache, found, err);
    if (st == MIL_OK) st = save(c, a, err);
    if (st == MIL_OK) tell(c, a, found);
    c->made += st == MIL_OK;
    mem_free(found);
    adapter_free(&a);
    return st;
}

static enum mil_status one_method(struct comparison *c, const struct method *m,
                                  struct mil_error *err) {
    struct adapter_options o = init_inner_options(c->options), resolved;
    const struct method *found;
    struct mil_error why = {0};
    o.method = m->name;
    enum mil_status st = adapter_resolve(&o, &resolved, &found, &why);
    if (st == MIL_OK && m->needs_gradient && !c->options->dataset) {
        tell_reason(c, m, "starts from gradients: it needs data (--dataset)");
        return MIL_OK;
    }
    if (st == MIL_OK) st = make(c, &o, &why);
    if (st == MIL_USAGE && c->made > 0) { /* said by this method: others took the options */
        tell_reason(c, m, why.message);
        return MIL_OK;
    }
    if (st != MIL_OK && err) *err = why;
    return st;
}

/* ---- all ---- */

static enum mil_status open_cache(struct comparison *c, struct mil_error *err) {
    const struct mil_adapter_options *o = c->options;
    struct svd_cache_options cache = {.dir = o->svd_cache};
    const char *tmp = getenv("TMPDIR");
    if (o->svd_cache) {
        cache.limit_bytes = o->svd_cache_limit ? o->svd_cache_limit : INIT_CACHE_LIMIT;
        return svd_cache_open(&cache, &c->cache, err);
    }
    TRY(path_join(c->temporary, tmp && *tmp ? tmp : "/tmp", "milora-XXXXXX", err));
    if (!mkdtemp(c->temporary)) {
        error_set(err, MIL_ACCESS,
                  "%.200s: no temporary directory can be made; name one by --svd-cache",
                  c->temporary);
        c->temporary[0] = 0;
        return MIL_ACCESS;
    }
    cache.dir = c->temporary;
    return svd_cache_open(&cache, &c->cache, err);
}

enum mil_status mil_adapter_compare(const struct mil_adapter_options *options, mil_compare_fn fn,
                                    void *ctx, struct mil_error *err) {
    const struct method *const *table = method_table();
    struct comparison c = {.options = options, .fn = fn, .ctx = ctx};
    struct checkpoint *base = NULL;
    enum mil_status st;
    if (!options->model) return error_set(err, MIL_USAGE, "model must be named");
    for (size_t i = 0; table[i]; i++) c.total += table[i]->adapter;
    TRY_GOTO(checkpoint_open(options->model, CHECKPOINT_WEIGHTS, &base, err));
    c.base = base;
    TRY_GOTO(open_cache(&c, err));
    if (options->out) TRY_GOTO(output_probe(options->out, err));
    if (options->dataset) TRY_GOTO(init_data_open(&c.data, options, err));
    for (size_t i = 0; table[i]; i++) {
        if (!table[i]->adapter) continue;
        TRY_GOTO(one_method(&c, table[i], err));
        c.index++;
    }
fail:
    init_data_release(&c.data);
    if (c.temporary[0] && c.cache) svd_cache_remove(c.cache);
    svd_cache_free(&c.cache);
    checkpoint_free(&base);
    return st;
}
