/* SPDX-License-Identifier: Apache-2.0 */
/* plan.c - books every buffer of a run by name and lifetime, and chooses what depends on the sum.
 *
 * Order of preference while the plan exceeds 80 % of the available memory: micro-batches of
 * max(longest sample, AUTO_TOKENS) tokens with stored activations; the same with recomputation; then
 * halved micro-batches down to the longest sample.  Values the user gave are never changed; a plan
 * that does not fit even so is reported, not refused (the machine may swap, the limit is a
 * prediction).
 *
 * The predicted peak is of the resident set.  What the process holds when it plans (tokenizer, data,
 * the C library's arenas) is read from the system; what a run adds outside of booked buffers is a
 * constant, measured: PROGRAM_PAGES and RUN_BYTES below.  The largest micro-batch is not bounded but
 * known: data order and packing are pure functions, so the plan walks all steps.  Initialising by SVD
 * happens before activations exist: its scratch and theirs are not added. */
#include "train/plan.h"

#include <dirent.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "adapt/adapter.h"
#include "core/log.h"
#include "core/resident.h"
#include "core/threads.h"
#include "io/file.h"
#include "linalg/svd.h"
#include "train/gradients.h"
#include "train/loader.h"
#include "train/optimizer.h"

/* Tokens of a micro-batch unless the user or a longer sample says otherwise.  GSM8K on SmolLM2, LoRA,
 * bf16, one thread of a Zen 4, seconds of two steps (6,700 tokens) and peak: 256 tokens 26.3 and 633
 * MiB, 512 25.8 and 721, 768 25.7 and 830, 1024 25.4 and 938, 2048 26.3 and 1376. */
enum { AUTO_TOKENS = 1024 };
enum { LOGITS_ELEMENTS = 1 << 24, CHUNK_LEAST = 32, CHUNK_MOST = 1024 };
/* Pages of the program and its libraries that a run touches; what it takes from the heap beside booked
 * buffers (log, JSON, the library's own), a thread's stack and buffers. */
#define PROGRAM_PAGES ((size_t)13 << 20)
#define RUN_BYTES ((size_t)4 << 20)
#define THREAD_BYTES ((size_t)1 << 20)
/* What adapter initialisation allows itself at most (adapt/init_schedule.c). */
#define INIT_MOST ((size_t)3 << 29)
/* Samples that the walk over all steps may take, beyond them a bound serves. */
#define WALK_MOST ((int64_t)1 << 22)

/* The most tokens and supervised rows of a micro-batch. */
struct extent {
    int64_t tokens, rows;
};
struct planner {
    struct session *s;
    struct loader loader; /* with data: for the walk over all steps */
    int64_t walked;       /* the limit last walked with, */
    struct extent most;   /* and what was found */
    size_t start;         /* bytes of PLAN_CALL that are needed only before the first step, */
    size_t later; /* while these are not yet there: optimiser moments, an attached adapter's */
    struct backend *b;
    struct checkpoint *shape; /* configuration only */
    struct model *model;      /* a skeleton */
    struct model *bare;       /* one without adapters, where the method starts from gradients */
    struct adapter_runtime *adapter;
};

static void planner_release(struct planner *p) {
    loader_release(&p->loader);
    adapter_detach(&p->adapter);
    model_free(&p->model);
    model_free(&p->bare);
    checkpoint_free(&p->shape);
}

static enum mil_status planner_init(struct planner *p, struct session *s, struct backend *b,
                                    struct mil_error *err) {
    const struct config *c = s->config;
    *p = (struct planner){.s = s, .b = b};
    if (s->data.n)
        TRY(loader_init(&p->loader, &s->data, s->per_step, c->shuffle,
                        (uint64_t)(c->data_seed >= 0 ? c->data_seed : c->seed), err));
    TRY(checkpoint_open(s->config->model_name_or_path, CHECKPOINT_CONFIG_ONLY, &p->shape, err));
    TRY(model_new(p->shape, b, s->longest, &p->model, err));
    if (s->method->needs_gradient) TRY(model_new(p->shape, b, s->longest, &p->bare, err));
    s->gradient_bytes = adapter_gradient_budget();
    p->model->train_all = !s->method->adapter;
    if (!s->method->adapter) return MIL_OK;
    struct adapter_options o;
    config_adapter_options(s->config, &o);
    return adapter_attach_skeleton(&o, p->model, &p->adapter, err);
}

/* Rows of logits at a time: about 64 MiB of f32, a multiple of 32. */
static int64_t head_chunk(const struct session *s) {
    int64_t rows = LOGITS_ELEMENTS / s->base->config.vocab / CHUNK_LEAST * CHUNK_LEAST;
    if (rows < CHUNK_LEAST) rows = CHUNK_LEAST;
    return rows < CHUNK_MOST ? rows : CHUNK_MOST;
}

/* ---- the largest micro-batch ---- */

static void take_largest(struct packing *p, const struct dataset *d, struct extent *most) {
    for (int64_t i = 0; i < p->n; i++) {
        int64_t tokens = packing_tokens(p, d, i), rows = 0;
        for (int64_t k = p->begin[i]; k < p->begin[i + 1]; k++)
            rows += sample_rows(d, p->sample[k]);
        if (tokens > most->tokens) most->tokens = tokens;
        if (rows > most->rows) most->rows = rows;
    }
}

/* The micro-batches of every step and of the evaluation as they will be packed, until `enough`. */
static struct extent walk(struct planner *p, int64_t limit, struct extent enough) {
    const struct session *s = p->s;
    struct packing *packing = &p->loader.packing;
    struct extent most = {1, 1};
    int64_t window[LOADER_WINDOW], n;
    for (int64_t step = 1; step <= s->total_steps; step++) {
        if (most.tokens >= enough.tokens && most.rows >= enough.rows) return most;
        const int64_t *samples = loader_step(&p->loader, step, &n);
        packing_fill(packing, &s->data, samples, n, limit);
        take_largest(packing, &s->data, &most);
    }
    for (int64_t at = 0; at < s->eval.n; at += LOADER_WINDOW) {
        if (most.tokens >= enough.tokens && most.rows >= enough.rows) return most;
        n = s->eval.n - at < LOADER_WINDOW ? s->eval.n - at : LOADER_WINDOW;
        for (int64_t i = 0; i < n; i++) window[i] = at + i;
        packing_fill(packing, &s->eval, window, n, limit);
        take_largest(packing, &s->eval, &most);
    }
    return most;
}

/* Without data to look at, or with too many steps to walk: all samples as long as the longest. */
static struct extent bound(const struct session *s, int64_t limit) {
    int64_t step, most = limit;
    if (s->eval.n == 0 && checked_mul_i64(s->per_step, s->longest, &step) && step < most)
        most = step;
    if (most < s->longest) most = s->longest;
    return (struct extent){most, most};
}

static struct extent largest_batch(struct planner *p, int64_t limit) {
    const struct session *s = p->s;
    int64_t seen, most = limit > s->longest ? limit : s->longest;
    bool can_walk = s->data.n && checked_mul_i64(s->total_steps, s->per_step, &seen) &&
                    seen <= WALK_MOST && s->eval.n <= WALK_MOST;
    if (!can_walk) return bound(s, limit);
    if (p->walked != limit) p->most = walk(p, limit, (struct extent){most, s->head_chunk});
    p->walked = limit;
    return p->most;
}

/* ---- booking ---- */

/* Bytes of one decomposition: what the chain's first method says, which has a fixed part for its
 * blocks, and for small matrices less: W, its copy, both factors, LAPACK's workspace. */
static size_t one_init_bytes(const struct session *s, enum module module, int64_t rank) {
    int64_t m = module_rows(&s->base->config, module), n = module_cols(&s->base->config, module);
    int64_t least = m < n ? m : n, r = rank < least ? rank : least;
    if (s->method->scratch) return s->method->scratch(m, n, r);
    const struct svd_request q = {.end = s->method->end, .rank = r};
    size_t chosen = svd_memory(m, n, &q), k = (size_t)least;
    size_t whole = sizeof(double) * (2 * (size_t)(m * n) + k * (size_t)(m + n) + 4 * k * k + 8 * k);
    return chosen < whole ? chosen : whole;
}

/* The largest rank that patterns ask for. */
static int64_t largest_rank(const struct session *s) {
    struct adapter_options o;
    struct adapter_ranges r;
    config_adapter_options(s->config, &o);
    return adapter_ranges(&s->base->config, &o, &r, NULL) == MIL_OK ? r.rank[1] : s->config->r;
}

/* Bytes of decompositions side by side, one a thread, each of the largest module. */
static size_t init_bytes(const struct session *s) {
    size_t most = 0, all;
    if (!s->method->adapter || !(s->method->needs_weight || s->method->scratch)) return 0;
    int64_t rank = largest_rank(s);
    for (int i = 0; i < MODULES; i++) {
        size_t bytes = one_init_bytes(s, (enum module)i, rank);
        if (bytes > most) most = bytes;
    }
    if (!checked_mul(most, (size_t)threads_count(), &all) || all > INIT_MOST) all = INIT_MOST;
    return all > most ? all : most;
}

/* What is held before the first step: gradients that factors are made from, and beside them the pass that computes them
 * or the decompositions, whichever is more. */
static enum mil_status book_init(struct planner *p, struct plan *plan, struct mil_error *err) {
    const struct session *s = p->s;
    size_t gradients = 0, pass = 0, decompositions = init_bytes(s);
    if (s->config->adapter_name_or_path) return MIL_OK; /* it is there already */
    if (p->bare) {
        struct adapter_options o;
        config_adapter_options(s->config, &o);
        TRY(adapter_gradient_bytes(&s->base->config, &o, s->gradient_bytes, &gradients, err));
        pass = gradients_bytes(s, p->bare, s->data.n ? &p->loader : NULL, o.lora_ga.batches);
        plan_add(plan, PLAN_CALL, gradients, "initialisation: gradients of weights");
    }
    if (pass > decompositions)
        plan_add(plan, PLAN_CALL, pass, "initialisation: forward and backward");
    else if (decompositions > 0)
        plan_add(plan, PLAN_CALL, decompositions, "initialisation: decompositions");
    p->start += gradients + (pass > decompositions ? pass : decompositions);
    return MIL_OK;
}

static size_t data_bytes(const struct session *s) {
    const struct dataset *sets[] = {&s->data, &s->eval};
    size_t bytes = 0;
    for (int i = 0; i < 2; i++)
        if (sets[i]->n)
            bytes += (size_t)sets[i]->begin[sets[i]->n] * (sizeof(int32_t) + 1) +
                     (size_t)(sets[i]->n + 1) * sizeof(int64_t);
    return bytes;
}

static void book_data(const struct session *s, struct plan *plan) {
    plan_add(plan, PLAN_SESSION, data_bytes(s), "tokenised data");
    plan_add(plan, PLAN_SESSION, loader_bytes(&s->data, s->per_step), "data order and packing");
    plan_add(plan, PLAN_SESSION, micro_batch_bytes(s->max_tokens, s->max_tokens), "micro-batch");
}

/* What the process holds already, without the data that book_data counts, and what a run adds. */
static size_t program_bytes(const struct session *s) {
    size_t held = resident_anonymous(), data = data_bytes(s);
    return (held > data ? held - data : 0) + PROGRAM_PAGES + RUN_BYTES +
           (size_t)threads_count() * THREAD_BYTES;
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
    /* Of a GGUF file whose weights are more than the file, blocks are multiplied as they are. */
    size_t weights = 0;
    for (size_t i = 0; i < plan->n; i++)
        if (str_starts(plan->entries[i].name, "weights ")) weights += plan->entries[i].bytes;
    bool in_blocks = !path_is_dir(path) && weights > bytes + bytes / 2 && bytes > 0;
    for (size_t i = 0; i < plan->n; i++) {
        struct plan_entry *e = &plan->entries[i];
        bool in_place = str_starts(e->name, "weights used in place");
        bool converted = p->s->method->adapter && str_starts(e->name, "weights as ");
        if (!in_place && !(in_blocks && converted)) continue;
        if (in_blocks) e->bytes = 0; /* the file's pages serve */
        bytes -= bytes < e->bytes ? bytes : e->bytes;
    }
    if (bytes > 0) plan_add(plan, PLAN_SESSION, bytes, "weights as stored (file pages)");
}

/* Full training has its own weights in the compute type: what model_new converts is freed before the
 * first step, and from scratch there is nothing to convert or map. */
static size_t book_replaced(const struct session *s, struct plan *plan) {
    size_t bytes = 0, kept = 0;
    for (size_t i = 0; i < plan->n; i++) {
        struct plan_entry e = plan->entries[i];
        if (s->config->from_scratch && str_starts(e.name, "weights ")) continue;
        if (!s->method->adapter && str_starts(e.name, "weights as ")) {
            e.lifetime = PLAN_CALL;
            bytes += e.bytes;
        }
        plan->entries[kept++] = e;
    }
    plan->n = kept;
    return bytes;
}

/* What attaching an adapter takes, once it is made. */
static size_t attached_bytes(const struct plan *plan) {
    size_t bytes = 0;
    for (size_t i = 0; i < plan->n; i++)
        if (!strcmp(plan->entries[i].name, "adapter: gradients") ||
            !strcmp(plan->entries[i].name, "adapter: compute copies"))
            bytes += plan->entries[i].bytes;
    return bytes;
}

static enum mil_status book(struct planner *p, size_t baseline, struct plan *plan,
                            struct mil_error *err) {
    const struct session *s = p->s;
    size_t params = 0;
    struct adapter_options o;
    plan_release(plan);
    memset(plan, 0, sizeof *plan);
    plan_add(plan, PLAN_SESSION, baseline, "program, libraries, tokenizer");
    model_plan(s->base, p->b, s->longest, plan);
    p->start = book_replaced(s, plan);
    book_pages(p, plan);
    if (s->method->adapter) {
        config_adapter_options(s->config, &o);
        TRY(adapter_plan(&s->base->config, &o, true, backend_act(p->b), plan, err));
        params = s->params;
    } else {
        full_plan(&s->base->config, p->b, plan);
        params = (size_t)s->base->config.layers * (2 + 2 * MODULES) + 3;
    }
    size_t moments = optimizer_bytes(s->trainable, params, backend_real(p->b));
    p->later = attached_bytes(plan) + moments;
    plan_add(plan, PLAN_SESSION, moments, "optimiser moments");
    book_data(s, plan);
    struct step_options step = {s->max_tokens, s->max_tokens, s->head_chunk, s->recompute};
    step_plan(p->model, &step, plan);
    TRY(book_init(p, plan, err));
    return plan->status == MIL_OK ? MIL_OK : error_nomem(err, 0);
}

static size_t peak_of(const struct planner *p, const struct plan *plan) {
    size_t session = plan_bytes(plan, PLAN_SESSION), before = session - p->later + p->start;
    size_t work = plan_bytes(plan, PLAN_STEP) + plan_bytes(plan, PLAN_CALL) - p->start;
    return session + work > before ? session + work : before;
}

/* ---- choosing ---- */

static enum mil_status try_one(struct planner *p, int64_t tokens, bool recompute,
                               struct memory_plan *out, bool *fits, struct mil_error *err) {
    p->s->tokens_per_micro_batch = tokens;
    p->s->head_chunk = head_chunk(p->s);
    struct extent most = largest_batch(p, tokens);
    p->s->max_tokens = most.tokens;
    /* Where no micro-batch fills a chunk of rows, less is reserved; the cut stays the same: none. */
    if (p->s->head_chunk > most.rows) p->s->head_chunk = most.rows;
    p->s->recompute = recompute;
    TRY(book(p, out->baseline, &out->plan, err));
    out->peak = peak_of(p, &out->plan);
    *fits = out->available == 0 || out->peak - out->baseline <= out->available / 5 * 4;
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
    format_bytes(need, out->peak - out->baseline);
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
    resident_trim();
    out->baseline = program_bytes(s);
    out->available = mem_machine_available();
    enum mil_status st = planner_init(&p, s, b, err);
    if (st == MIL_OK) st = choose(&p, out, &fits, err);
    planner_release(&p);
    TRY(st);
    explain(s, out, fits);
    if (out->peak < mem_peak_rss()) out->peak = mem_peak_rss(); /* reading the data took more */
    return str_status(&out->choices, err);
}

void memory_plan_release(struct memory_plan *p) {
    plan_release(&p->plan);
    str_release(&p->choices);
}
