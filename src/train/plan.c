/* SPDX-License-Identifier: Apache-2.0 */
/* plan.c - books every buffer of a run by name and lifetime, and chooses what depends on the sum.
 *
 * Order of preference while the plan exceeds 80 % of the available memory: whole micro-batches of
 * max(longest sample, 2048) tokens with stored activations; the same with recomputation; then
 * halved micro-batches down to the longest sample.  Values the user gave are never changed; a plan
 * that does not fit even so is reported, not refused (the machine may swap, the limit is a
 * prediction).
 *
 * Initialising by SVD happens before activations exist: its scratch and theirs are not added. */
#include "train/plan.h"

#include <dirent.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "adapt/adapter.h"
#include "core/log.h"
#include "io/file.h"
#include "train/loader.h"
#include "train/optimizer.h"

enum { AUTO_TOKENS = 2048, LOGITS_ELEMENTS = 1 << 24, CHUNK_LEAST = 32, CHUNK_MOST = 1024 };

struct planner {
    struct session *s;
    struct backend *b;
    struct checkpoint *shape; /* configuration only */
    struct model *model;      /* a skeleton */
    struct adapter_runtime *adapter;
};

static void planner_release(struct planner *p) {
    adapter_detach(&p->adapter);
    model_free(&p->model);
    checkpoint_free(&p->shape);
}

static enum mil_status planner_init(struct planner *p, struct session *s, struct backend *b,
                                    struct mil_error *err) {
    *p = (struct planner){.s = s, .b = b};
    TRY(checkpoint_open(s->config->model_name_or_path, CHECKPOINT_CONFIG_ONLY, &p->shape, err));
    TRY(model_new(p->shape, b, s->longest, &p->model, err));
    p->model->train_all = !s->method->adapter;
    if (!s->method->adapter) return MIL_OK;
    struct adapter_options o;
    session_adapter_options(s, &o);
    return adapter_attach_skeleton(&o, p->model, &p->adapter, err);
}

/* Rows of logits at a time: about 64 MiB of f32, a multiple of 32. */
static int64_t head_chunk(const struct session *s) {
    int64_t rows = LOGITS_ELEMENTS / s->base->config.vocab / CHUNK_LEAST * CHUNK_LEAST;
    if (rows < CHUNK_LEAST) rows = CHUNK_LEAST;
    return rows < CHUNK_MOST ? rows : CHUNK_MOST;
}

/* Tokens of the largest micro-batch there can be. */
static int64_t largest_batch(const struct session *s, int64_t limit) {
    int64_t step, most = limit;
    if (s->eval.n == 0 && checked_mul_i64(s->per_step, s->longest, &step) && step < most)
        most = step;
    return most > s->longest ? most : s->longest;
}

/* ---- booking ---- */

/* Bytes of the largest module's decomposition: W, its copy, both factors, LAPACK's workspace. */
static size_t init_bytes(const struct session *s) {
    size_t most = 0;
    if (!s->method->adapter || !s->method->needs_weight) return 0;
    for (int i = 0; i < MODULES; i++) {
        size_t m = (size_t)module_rows(&s->base->config, (enum module)i),
               n = (size_t)module_cols(&s->base->config, (enum module)i), k = m < n ? m : n;
        size_t bytes = sizeof(double) * (2 * m * n + k * (m + n) + 4 * k * k + 8 * k);
        if (bytes > most) most = bytes;
    }
    return most;
}

static void book_data(const struct session *s, struct plan *plan) {
    const struct dataset *sets[] = {&s->data, &s->eval};
    size_t bytes = 0;
    for (int i = 0; i < 2; i++)
        if (sets[i]->n)
            bytes += (size_t)sets[i]->begin[sets[i]->n] * (sizeof(int32_t) + 1) +
                     (size_t)(sets[i]->n + 1) * sizeof(int64_t);
    plan_add(plan, PLAN_SESSION, bytes, "tokenised data");
    plan_add(plan, PLAN_SESSION, (size_t)s->data.n * sizeof(int64_t), "data order");
    plan_add(plan, PLAN_SESSION, micro_batch_bytes(s->max_tokens, s->max_tokens), "micro-batch");
}

static size_t directory_weights(const char *path) {
    size_t bytes = 0;
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        char file[PATH_CAP];
        struct stat info;
        if (str_ends(e->d_name, ".safetensors") &&
            path_join(file, path, e->d_name, NULL) == MIL_OK && stat(file, &info) == 0)
            bytes += (size_t)info.st_size;
    }
    if (dir) closedir(dir);
    return bytes;
}

/* Weights that are converted are read from file pages first; these count as resident until the
 * system wants them back. */
static void book_pages(const struct planner *p, struct plan *plan) {
    struct stat info;
    const char *path = p->s->config->model_name_or_path;
    size_t bytes = p->s->config->from_scratch ? 0
                   : path_is_dir(path)        ? directory_weights(path)
                   : stat(path, &info) == 0   ? (size_t)info.st_size
                                              : 0;
    for (size_t i = 0; i < plan->n; i++)
        if (str_starts(plan->entries[i].name, "weights used in place"))
            bytes -= bytes < plan->entries[i].bytes ? bytes : plan->entries[i].bytes;
    if (bytes > 0) plan_add(plan, PLAN_SESSION, bytes, "weights as stored (file pages)");
}

static enum mil_status book(struct planner *p, struct plan *plan, struct mil_error *err) {
    const struct session *s = p->s;
    size_t params = 0;
    struct adapter_options o;
    plan_release(plan);
    memset(plan, 0, sizeof *plan);
    model_plan(s->base, p->b, s->longest, plan);
    book_pages(p, plan);
    if (s->method->adapter) {
        session_adapter_options(s, &o);
        TRY(adapter_plan(&s->base->config, &o, true, backend_act(p->b), plan, err));
        params = 2 * (size_t)s->adapted_modules;
    } else {
        full_plan(&s->base->config, p->b, plan);
        params = (size_t)s->base->config.layers * (2 + 2 * MODULES) + 3;
    }
    plan_add(plan, PLAN_SESSION, optimizer_bytes(s->trainable, params, backend_real(p->b)),
             "optimiser moments");
    book_data(s, plan);
    struct step_options step = {s->max_tokens, s->max_tokens, s->head_chunk, s->recompute};
    step_plan(p->model, &step, plan);
    if (init_bytes(s) > 0)
        plan_add(plan, PLAN_CALL, init_bytes(s), "initialisation: one module in f64");
    return plan->status == MIL_OK ? MIL_OK : error_nomem(err, 0);
}

/* Bytes beyond the baseline. */
static size_t peak_of(const struct session *s, const struct plan *plan) {
    size_t init = init_bytes(s),
           work = plan_bytes(plan, PLAN_STEP) + plan_bytes(plan, PLAN_CALL) - init;
    return plan_bytes(plan, PLAN_SESSION) + (work > init ? work : init);
}

/* ---- choosing ---- */

static enum mil_status try_one(struct planner *p, int64_t tokens, bool recompute,
                               struct memory_plan *out, bool *fits, struct mil_error *err) {
    p->s->tokens_per_micro_batch = tokens;
    p->s->max_tokens = largest_batch(p->s, tokens);
    p->s->recompute = recompute;
    p->s->head_chunk = head_chunk(p->s);
    TRY(book(p, &out->plan, err));
    out->peak = peak_of(p->s, &out->plan);
    *fits = out->available == 0 || out->peak <= out->available / 5 * 4;
    return MIL_OK;
}

static enum mil_status choose(struct planner *p, struct memory_plan *out, bool *fits,
                              struct mil_error *err) {
    struct session *s = p->s;
    const char *wish = s->config->activation_recompute;
    bool may_store = strcmp(wish, "true") != 0, may_redo = strcmp(wish, "false") != 0;
    int64_t given = s->tokens_per_micro_batch > 0 ? s->tokens_per_micro_batch
                                                  : s->config->tokens_per_micro_batch;
    int64_t tokens = given > 0 ? given : s->longest > AUTO_TOKENS ? s->longest : AUTO_TOKENS;
    for (;;) {
        if (may_store) TRY(try_one(p, tokens, false, out, fits, err));
        if (may_redo && (!may_store || !*fits)) TRY(try_one(p, tokens, true, out, fits, err));
        if (*fits || given > 0 || tokens <= s->longest) return MIL_OK;
        tokens = tokens / 2 > s->longest ? tokens / 2 : s->longest;
    }
}

static void explain(const struct session *s, struct memory_plan *out, bool fits) {
    char need[32], have[32];
    format_bytes(need, out->peak);
    format_bytes(have, out->available);
    str_addf(&out->choices,
             "tokens_per_micro_batch %" PRId64 " (%s; the longest sample has %" PRId64 " tokens)\n",
             s->tokens_per_micro_batch,
             s->config->tokens_per_micro_batch > 0 ? "as configured" : "auto", s->longest);
    str_addf(&out->choices, "activation_recompute %s (%s): the plan takes %s, %s is available\n",
             s->recompute ? "on" : "off",
             strcmp(s->config->activation_recompute, "auto") != 0 ? "as configured" : "auto", need,
             have);
    str_addf(&out->choices, "logits in chunks of %" PRId64 " rows\n", s->head_chunk);
    if (!fits)
        str_addf(&out->choices,
                 "the plan exceeds 80 %% of the available memory: expect swapping or a kill; "
                 "lower max_length, or r, or use a smaller model\n");
}

enum mil_status plan_choose(struct session *s, struct backend *b, struct memory_plan *out,
                            struct mil_error *err) {
    struct planner p;
    bool fits = true;
    memset(out, 0, sizeof *out);
    out->baseline = mem_current_rss();
    out->available = mem_machine_available();
    enum mil_status st = planner_init(&p, s, b, err);
    if (st == MIL_OK) st = choose(&p, out, &fits, err);
    planner_release(&p);
    TRY(st);
    explain(s, out, fits);
    out->peak += out->baseline;
    return str_status(&out->choices, err);
}

void memory_plan_release(struct memory_plan *p) {
    plan_release(&p->plan);
    str_release(&p->choices);
}
