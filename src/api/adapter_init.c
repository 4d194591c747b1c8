/* SPDX-License-Identifier: Apache-2.0 */
/* adapter_init.c - an adapter at step 0, computed or taken from a cache of finished ones.
 *
 * The cache (svd_cache) is a directory of adapters: DIR/<key>/ holds the files of the adapter and
 * rows.json, the table of its modules.  The key is a hash of everything that the factors depend on:
 * the base's fingerprint, method, rank, alpha, seed and the set of modules. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "adapt/adapter.h"
#include "api/output.h"
#include "core/log.h"
#include "core/mem.h"
#include "core/threads.h"
#include "io/file.h"
#include "io/json.h"
#include "milora/adapter.h"

struct init_run {
    const struct mil_adapter_options *options;
    struct adapter_options inner;
    mil_init_fn fn;
    void *ctx;
    struct mil_adapter_result *result;
    json_t *rows; /* the table for the cache; NULL: no cache */
};

static struct adapter_options inner_options(const struct mil_adapter_options *o) {
    static const char *const usual[] = {"q_proj", "k_proj", "v_proj", "up_proj", "down_proj"};
    bool given = o->targets && o->n_targets;
    return (struct adapter_options){
        .method = o->method ? o->method : "milora",
        .r = o->rank ? o->rank : 32,
        .alpha = o->alpha,
        .dropout = o->dropout,
        .targets = given ? o->targets : usual,
        .n_targets = given ? o->n_targets : sizeof usual / sizeof *usual,
        .seed = o->seed,
    };
}

static void count_row(struct init_run *run, const struct mil_init_row *row) {
    if (row->residual > run->result->largest_residual)
        run->result->largest_residual = row->residual;
    if (run->fn) run->fn(run->ctx, row);
}

static void on_module(void *ctx, const struct adapter_init_event *e) {
    struct init_run *run = ctx;
    const struct delta *d = e->delta;
    char name[96];
    snprintf(name, sizeof name, "model.layers.%lld.%s", (long long)d->layer,
             module_path(d->module));
    const struct method_init *in = e->init;
    struct mil_init_row row = {
        .index = e->index,
        .total = e->total,
        .module = name,
        .rows = d->m,
        .cols = d->n,
        .rank = d->r,
        .seconds = e->seconds,
        .residual = in->residual,
        .sigma_first = in->sigma_first,
        .sigma_last = in->sigma_last,
        .sigma_max = in->sigma_max,
        .served_by = in->served_by,
    };
    count_row(run, &row);
    if (!run->rows) return;
    json_array_append_new(run->rows,
                          json_pack("{ss sI sI sI sf sf sf sf sf}", "module", name, "rows",
                                    (json_int_t)d->m, "cols", (json_int_t)d->n, "rank",
                                    (json_int_t)d->r, "seconds", e->seconds, "residual",
                                    in->residual, "sigma_first", in->sigma_first, "sigma_last",
                                    in->sigma_last, "sigma_max", in->sigma_max));
}

/* ---- the cache */

static enum mil_status cache_dir(const struct init_run *run, const struct checkpoint *base,
                                 char out[PATH_CAP], struct mil_error *err) {
    char fingerprint[HASH_HEX], hex[HASH_HEX], text[160];
    size_t modules = (size_t)base->config.layers * MODULES;
    TRY(checkpoint_fingerprint(base, fingerprint, err));
    bool *selected = mem_calloc(MEM_OTHER, modules, sizeof *selected);
    struct hash *h = hash_new();
    enum mil_status st = selected && h ? adapter_select(&base->config, &run->inner, selected, err)
                                       : error_nomem(err, modules);
    if (st == MIL_OK) {
        int n = snprintf(text, sizeof text, "%s %s %lld %.17g %llu ", fingerprint,
                         run->inner.method, (long long)run->inner.r, run->inner.alpha,
                         (unsigned long long)run->inner.seed);
        hash_add(h, text, (size_t)n);
        hash_add(h, selected, modules * sizeof *selected);
        hash_hex(h, hex);
        st = path_join(out, run->options->svd_cache, hex, err);
    }
    hash_free(&h);
    mem_free(selected);
    return st;
}

static enum mil_status replay_row(struct init_run *run, const json_t *row, size_t i, size_t n,
                                  const char *where, struct mil_error *err) {
    struct mil_init_row r = {.index = i, .total = n, .served_by = "cache"};
    TRY(json_member_str(row, where, "module", true, &r.module, err));
    TRY(json_member_i64(row, where, "rows", true, 1, INT64_MAX, &r.rows, err));
    TRY(json_member_i64(row, where, "cols", true, 1, INT64_MAX, &r.cols, err));
    TRY(json_member_i64(row, where, "rank", true, 1, INT64_MAX, &r.rank, err));
    const struct {
        const char *key;
        double *value;
    } reals[] = {{"seconds", &r.seconds},
                 {"residual", &r.residual},
                 {"sigma_first", &r.sigma_first},
                 {"sigma_last", &r.sigma_last},
                 {"sigma_max", &r.sigma_max}};
    for (size_t k = 0; k < sizeof reals / sizeof *reals; k++)
        TRY(json_member_f64(row, where, reals[k].key, true, -1e300, 1e300, reals[k].value, err));
    count_row(run, &r);
    return MIL_OK;
}

static enum mil_status replay(struct init_run *run, const char *dir, struct mil_error *err) {
    char path[PATH_CAP];
    json_t *rows = NULL;
    TRY(path_join(path, dir, "rows.json", err));
    TRY(json_read_file(path, &rows, err));
    enum mil_status st =
        json_is_object(rows) ? MIL_OK : error_set(err, MIL_INPUT, "%s: no table", path);
    json_t *list = json_object_get(rows, "modules");
    for (size_t i = 0; st == MIL_OK && i < json_array_size(list); i++)
        st = replay_row(run, json_array_get(list, i), i, json_array_size(list), path, err);
    json_decref(rows);
    return st;
}

static enum mil_status from_cache(struct init_run *run, const char *dir,
                                  const struct checkpoint *base, struct adapter **out,
                                  struct mil_error *err) {
    TRY(adapter_load(dir, base, out, err));
    (*out)->options.dropout = run->inner.dropout;
    snprintf((*out)->base_path, sizeof(*out)->base_path, "%s", base->path);
    run->result->cached = 1;
    return replay(run, dir, err);
}

/* A cache that cannot be written is worth a warning, not a failure: the adapter itself is done. */
static void to_cache(struct init_run *run, const char *dir, const struct adapter *a) {
    struct mil_error err = {0};
    struct stage stage = {0};
    char path[PATH_CAP];
    json_t *root = json_pack("{sO}", "modules", run->rows);
    enum mil_status st = root ? stage_open(&stage, dir, true, &err) : error_nomem(&err, 0);
    if (st == MIL_OK) st = adapter_save(a, stage.tmp, &err);
    if (st == MIL_OK) st = path_join(path, stage.tmp, "rows.json", &err);
    if (st == MIL_OK) st = json_write_file(path, root, &err);
    if (st == MIL_OK) st = stage_commit(&stage, &err);
    if (st != MIL_OK) log_warning("the initialisation was not cached: %s", err.message);
    stage_abort(&stage);
    json_decref(root);
}

static enum mil_status make(struct init_run *run, const struct checkpoint *base,
                            struct adapter **out, struct mil_error *err) {
    char dir[PATH_CAP] = "";
    if (run->options->svd_cache) TRY(cache_dir(run, base, dir, err));
    if (dir[0] && path_is_dir(dir)) return from_cache(run, dir, base, out, err);
    if (dir[0] && !(run->rows = json_array())) return error_nomem(err, 0);
    enum mil_status st = adapter_init(base, &run->inner, on_module, run, out, err);
    if (st == MIL_OK && dir[0]) to_cache(run, dir, *out);
    json_decref(run->rows);
    run->rows = NULL;
    return st;
}

/* ---- writing */

static enum mil_status save(const struct adapter *a, const char *out,
                            struct mil_adapter_result *result, struct mil_error *err) {
    struct stage stage = {0};
    struct stat info;
    char path[PATH_CAP];
    TRY(stage_open(&stage, out, false, err));
    enum mil_status st = adapter_save(a, stage.tmp, err);
    if (st == MIL_OK) st = stage_commit(&stage, err);
    stage_abort(&stage);
    if (st == MIL_OK && path_join(path, out, "adapter_model.safetensors", NULL) == MIL_OK &&
        stat(path, &info) == 0)
        result->bytes = (uint64_t)info.st_size;
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
    return output_probe(o->out, err);
}

enum mil_status mil_adapter_init(const struct mil_adapter_options *options, mil_init_fn fn,
                                 void *ctx, struct mil_adapter_result *result,
                                 struct mil_error *err) {
    struct mil_adapter_result ignored;
    struct init_run run = {.options = options,
                           .inner = inner_options(options),
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
    TRY_GOTO(make(&run, base, &a, err));
    TRY_GOTO(save(a, options->out, run.result, err));
    run.result->modules = a->n;
    run.result->rank = run.inner.r;
    run.result->alpha = a->deltas[0].alpha;
    run.result->trainable = adapter_elements(a);
    run.result->parameters = model_config_parameters(&base->config);
    run.result->seconds = clock_seconds() - start;
fail:
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
