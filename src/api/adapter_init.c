/* SPDX-License-Identifier: Apache-2.0 */
/* adapter_init.c - an adapter at step 0 as a directory.
 *
 * Decompositions are kept in svd_cache where that is given, else in OUT.partial, which is made once
 * some seconds of computing would be lost and is removed when the adapter is written: a run that
 * was killed or stopped goes on from there, because the same weights ask for the same entries. */
#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "adapt/adapter.h"
#include "api/adapter_init.h"
#include "api/init_data.h"
#include "api/output.h"
#include "core/log.h"
#include "core/mem.h"
#include "core/threads.h"
#include "io/file.h"
#include "milora/adapter.h"

#define KEEP_AFTER_SECONDS 10.0

struct init_run {
    const struct mil_adapter_options *options;
    struct adapter_options inner;
    mil_init_fn fn;
    void *ctx;
    struct mil_adapter_result *result;
    struct svd_cache *cache;
    char cache_dir[PATH_CAP];
    bool partial;          /* the cache is OUT.partial */
    struct init_data data; /* with a data set */
};

/* The public pattern and the adapter layer's have the same members. */
static const struct adapter_pattern *inner_patterns(const struct mil_pattern *p) {
    static_assert(sizeof(struct mil_pattern) == sizeof(struct adapter_pattern) &&
                      offsetof(struct mil_pattern, value) ==
                          offsetof(struct adapter_pattern, value),
                  "one layout");
    return (const struct adapter_pattern *)(const void *)p;
}

struct adapter_options init_inner_options(const struct mil_adapter_options *o) {
    static const char *const usual[] = {"q_proj", "k_proj", "v_proj", "up_proj", "down_proj"};
    bool given = o->targets && o->n_targets;
    return (struct adapter_options){
        .method = o->method ? o->method : "milora",
        .r = o->rank ? o->rank : 32,
        .alpha = o->alpha,
        .dropout = o->dropout,
        .targets = given ? o->targets : usual,
        .n_targets = given ? o->n_targets : sizeof usual / sizeof *usual,
        .excluded = o->excluded,
        .n_excluded = o->n_excluded,
        .layers = o->layers,
        .n_layers = o->n_layers,
        .ranks = inner_patterns(o->ranks),
        .n_ranks = o->n_ranks,
        .alphas = inner_patterns(o->alphas),
        .n_alphas = o->n_alphas,
        .rslora = o->use_rslora,
        .dora = o->use_dora,
        .adalora = {.tinit = -1, .tfinal = -1, .orth_reg_weight = -1}, /* as chosen */
        .lora_ga = {.batches = o->batches},
        .seed = o->seed,
    };
}

static void count_served(struct mil_adapter_result *r, const char *name) {
    const size_t most = sizeof r->served / sizeof *r->served;
    size_t i = 0;
    while (i < r->n_served && strcmp(r->served[i].name, name) != 0) i++;
    if (i == most) return;
    if (i == r->n_served) r->served[r->n_served++].name = name;
    r->served[i].modules++;
}

static void on_module(void *ctx, const struct adapter_init_event *e) {
    struct init_run *run = ctx;
    const struct delta *d = e->delta;
    char name[MODULE_NAME_CAP];
    module_name(name, d->layer, d->module);
    const struct method_init *in = e->init;
    struct mil_init_row row = {
        .index = e->index,
        .total = e->total,
        .position = e->position,
        .module = name,
        .rows = d->m,
        .cols = d->n,
        .rank = d->r,
        .seconds = e->seconds,
        .residual = in->residual,
        .orthogonality = in->orthogonality,
        .cut = in->cut,
        .sigma_first = in->sigma_first,
        .sigma_last = in->sigma_last,
        .sigma_max = in->sigma_max,
        .served_by = in->served_by,
        .cached = in->cached,
        .left = e->left,
    };
    if (row.residual > run->result->largest_residual) run->result->largest_residual = row.residual;
    run->result->cached += row.cached;
    if (row.served_by) count_served(run->result, row.served_by);
    if (run->fn) run->fn(run->ctx, &row);
}

static bool asked_to_stop(void *ctx) {
    (void)ctx;
    return mil_stop_requested();
}

static enum mil_status gradients(void *ctx, const struct delta *deltas, size_t n, float *const *g,
                                 struct mil_error *err) {
    struct init_run *run = ctx;
    return gradients_add(&run->data.gradients, deltas, n, g, err);
}

/* ---- the cache */

/* "<out>.partial", where out may end in slashes. */
static enum mil_status partial_dir(const char *out, char dir[PATH_CAP], struct mil_error *err) {
    size_t n = strlen(out);
    while (n > 1 && out[n - 1] == '/') n--;
    if (n + sizeof ".partial" > PATH_CAP)
        return error_set(err, MIL_USAGE, "%.100s...: path longer than %d bytes", out, PATH_CAP - 1);
    memcpy(dir, out, n);
    memcpy(dir + n, ".partial", sizeof ".partial");
    return MIL_OK;
}

static enum mil_status open_cache(struct init_run *run, struct mil_error *err) {
    const struct mil_adapter_options *o = run->options;
    const struct method *method;
    TRY(method_find(run->inner.method, &method, err));
    struct svd_cache_options c = {.dir = run->cache_dir};
    run->partial = !o->svd_cache;
    if (run->partial) {
        if (!method_decomposes(method)) return MIL_OK;
        TRY(partial_dir(o->out, run->cache_dir, err));
        c.after_seconds = o->keep_after > 0 ? o->keep_after : KEEP_AFTER_SECONDS;
        if (o->keep_after < 0) c.after_seconds = 0;
    } else {
        TRY(path_join(run->cache_dir, "", o->svd_cache, err));
        c.limit_bytes = o->svd_cache_limit ? o->svd_cache_limit : INIT_CACHE_LIMIT;
    }
    struct mil_error why;
    enum mil_status st = svd_cache_open(&c, &run->cache, &why);
    if (st == MIL_ACCESS && run->partial) { /* nobody asked for it by name */
        log_warning("%s; this run could not go on after a stop", why.message);
        return MIL_OK;
    }
    if (st != MIL_OK && err) *err = why;
    return st;
}

/* What a run that did not end has left, and how to go on. */
static enum mil_status unfinished(const struct init_run *run, enum mil_status st,
                                  struct mil_error *err) {
    struct svd_cache_stats stats = {0};
    if (run->cache) stats = svd_cache_stats(run->cache);
    bool kept = stats.stored + stats.hits > 0;
    if (st == MIL_INTERRUPTED && err) {
        char what[sizeof err->message];
        snprintf(what, sizeof what, "%.150s", err->message);
        if (kept)
            error_set(err, st, "%s; decompositions are kept in %.200s, the same command goes on",
                      what, run->cache_dir);
        else
            error_set(err, st, "%s; nothing was kept", what);
    } else if (kept && run->partial) {
        log_info("finished decompositions are kept in %s, the same command goes on from there",
                 run->cache_dir);
    }
    return st;
}

static enum mil_status make(struct init_run *run, const struct checkpoint *base,
                            struct adapter **out, struct mil_error *err) {
    struct adapter_init_hooks hooks = {
        .progress = on_module, .stop = asked_to_stop, .ctx = run, .cache = run->cache};
    if (run->options->dataset) hooks.gradients = gradients;
    enum mil_status st = adapter_init_with(base, &run->inner, &hooks, out, err);
    return st == MIL_OK ? MIL_OK : unfinished(run, st, err);
}

/* ---- writing */

enum mil_status init_save(const struct adapter *a, const char *out, uint64_t *bytes,
                          struct mil_error *err) {
    struct stage stage = {0};
    struct stat info;
    char path[PATH_CAP];
    TRY(stage_open(&stage, out, false, err));
    enum mil_status st = adapter_save(a, stage.tmp, err);
    if (st == MIL_OK) st = stage_commit(&stage, err);
    stage_abort(&stage);
    if (st == MIL_OK && path_join(path, out, "adapter_model.safetensors", NULL) == MIL_OK &&
        stat(path, &info) == 0)
        *bytes = (uint64_t)info.st_size;
    return st;
}

static enum mil_status check_options(const struct mil_adapter_options *o, struct mil_error *err) {
    const struct method *method;
    if (!o->model || !o->out) return error_set(err, MIL_USAGE, "model and out must be named");
    if (o->rank < 0)
        return error_set(err, MIL_USAGE, "rank %lld: must be positive", (long long)o->rank);
    TRY(method_find(o->method ? o->method : "milora", &method, err));
    if (!method->adapter)
        return error_set(err, MIL_USAGE,
                         "method '%s' has no adapter to initialise; train with it directly",
                         method->name);
    if (method->needs_gradient && !o->dataset)
        return error_set(err, MIL_USAGE,
                         "method '%s' starts from the gradient of the loss on your data: name them "
                         "with --dataset FILE (and --template, --batches, --max-length)",
                         method->name);
    if (!method->needs_gradient && o->dataset)
        return error_set(err, MIL_USAGE, "--dataset: method '%s' starts without data; leave it out",
                         method->name);
    return output_probe(o->out, err);
}

enum mil_status mil_adapter_init(const struct mil_adapter_options *options, mil_init_fn fn,
                                 void *ctx, struct mil_adapter_result *result,
                                 struct mil_error *err) {
    struct mil_adapter_result ignored;
    struct init_run run = {.options = options,
                           .inner = init_inner_options(options),
                           .fn = fn,
                           .ctx = ctx,
                           .result = result ? result : &ignored};
    *run.result = (struct mil_adapter_result){0};
    TRY(check_options(options, err));
    double start = clock_seconds();
    struct checkpoint *base = NULL;
    struct adapter *a = NULL;
    enum mil_status st;
    TRY_GOTO(checkpoint_open(options->model, CHECKPOINT_WEIGHTS, &base, err));
    if (options->dataset) TRY_GOTO(init_data_open(&run.data, options, err));
    TRY_GOTO(open_cache(&run, err));
    TRY_GOTO(make(&run, base, &a, err));
    TRY_GOTO(init_save(a, options->out, &run.result->bytes, err));
    if (run.partial && run.cache) svd_cache_remove(run.cache);
    run.result->modules = a->n;
    run.result->alpha = a->options.alpha;
    run.result->rank = a->options.r;
    run.result->trainable = adapter_elements(a);
    run.result->parameters = model_config_parameters(&base->config);
    run.result->seconds = clock_seconds() - start;
    run.result->peak_rss_bytes = mem_peak_rss();
    run.result->scratch_bytes = mem_stats(MEM_SCRATCH).peak;
fail:
    init_data_release(&run.data);
    svd_cache_free(&run.cache);
    adapter_free(&a);
    checkpoint_free(&base);
    return st;
}

/* ---- the table of methods */

int mil_method(size_t i, struct mil_method_info *out) {
    const struct method *const *table = method_table();
    size_t n = 0;
    while (table[n]) n++;
    if (i >= n) return 0;
    *out = (struct mil_method_info){table[i]->name, table[i]->summary, table[i]->reference,
                                    table[i]->adapter};
    return 1;
}

const char *const *mil_method_names(void) {
    static const char *names[64];
    const struct method *const *table = method_table();
    for (size_t i = 0; table[i] && i < 63; i++) names[i] = table[i]->name;
    return names;
}
