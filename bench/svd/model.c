/* SPDX-License-Identifier: Apache-2.0 */
/* model.c - every matrix of a model's shapes, as `milora init` decomposes them.
 *
 * Side by side, one matrix a thread, where as many fit into the memory that initialisation may take
 * (1.5 GiB less the factors it makes and 128 MiB), else alone with all threads; the most expensive
 * shapes first.  A round is a batch of made matrices, timed from the first to the last
 * decomposition; init has no barrier between rounds, so its total is a little shorter. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/mem.h"
#include "core/str.h"
#include "core/threads.h"
#include "svd/bench_svd.h"

enum { SMALL = 1 << 21, MAX_BATCH = 256 };

struct group {
    struct synth_spec spec;
    int64_t at_a_time;
    double seconds, cpu, made, longest;
    struct certificate c;
};

static double cost(const struct group *g) {
    double m = (double)g->spec.m, n = (double)g->spec.n;
    return m * n * (m < n ? m : n);
}

static int by_cost(const void *a, const void *b) {
    double x = cost(a), y = cost(b);
    if (x != y) return x > y ? -1 : 1;
    const struct group *g = a, *h = b;
    return g->spec.kind < h->spec.kind ? -1 : 1;
}

/* Bytes of A0 and B0 in f32. */
static size_t factor_bytes(const struct group *g, size_t n, int64_t layers, int64_t rank) {
    size_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += (size_t)(g[i].spec.m + g[i].spec.n);
    return sum * (size_t)layers * (size_t)rank * sizeof(float);
}

static int64_t at_a_time(const struct options *o, const struct group *g, int64_t layers,
                         const struct svd_request *q, size_t budget) {
    int64_t threads = threads_count(), n = threads;
    bool fits = svd_memory(g->spec.m, g->spec.n, q) * (size_t)threads <= budget;
    if (o->alone || threads == 1 || !(fits || o->side_by_side)) return 1;
    if (g->spec.m * g->spec.n <= SMALL) n = 8 * threads;
    if (n > MAX_BATCH) n = MAX_BATCH;
    return n < layers ? n : layers;
}

static enum mil_status run_group(struct batch *b, struct group *g, int64_t layers,
                                 struct mil_error *err) {
    for (int64_t layer = 0; layer < layers; layer += b->n) {
        double start = clock_seconds();
        struct synth_spec s = g->spec;
        s.layer = (int)layer;
        batch_release(b);
        TRY(batch_make(b, &s, layers - layer < g->at_a_time ? layers - layer : g->at_a_time, err));
        g->made += clock_seconds() - start;
        TRY(batch_decompose(b, err));
        g->seconds += b->seconds;
        g->cpu += b->cpu;
        for (int64_t i = 0; i < b->n; i++) {
            certificate_add(&g->c, &b->r[i]);
            if (b->r[i].seconds > g->longest) g->longest = b->r[i].seconds;
        }
        if (isatty(STDERR_FILENO))
            fprintf(stderr, "\r%s: %lld of %lld ", synth_kind_name(g->spec.kind),
                    (long long)(layer + b->n), (long long)layers);
    }
    if (isatty(STDERR_FILENO)) fputc('\r', stderr);
    return MIL_OK;
}

static void print_group(const struct group *g, int64_t layers) {
    char shape[32];
    snprintf(shape, sizeof shape, "%lldx%lld", (long long)g->spec.m, (long long)g->spec.n);
    printf("%-5s %-12s %5lld %5lld %9.2f %9.2f %9.4f %9.4f %-12s %8.1e %8.1e %8.1e\n",
           synth_kind_name(g->spec.kind), shape, (long long)layers, (long long)g->at_a_time,
           g->seconds, g->cpu, g->seconds / (double)layers, g->longest, g->c.served_by,
           g->c.residual, g->c.orthogonality, g->c.cut);
    fflush(stdout);
}

static json_t *json_group(const struct group *g, const struct svd_request *q, int64_t layers) {
    return json_pack("{ss sI sI sI ss sI sI sf sf sf ss sf sf sf}", "module",
                     synth_kind_name(g->spec.kind), "m", (json_int_t)g->spec.m, "n",
                     (json_int_t)g->spec.n, "rank", (json_int_t)q->rank, "end", end_name(q->end),
                     "matrices", (json_int_t)layers, "at_a_time", (json_int_t)g->at_a_time,
                     "seconds", g->seconds, "cpu_seconds", g->cpu, "longest", g->longest,
                     "served_by", g->c.served_by, "residual", g->c.residual, "orthogonality",
                     g->c.orthogonality, "cut", g->c.cut);
}

static size_t collect(const struct options *o, const struct synth_model *model, struct group *g) {
    size_t n = 0;
    for (int kind = 0; kind < SYNTH_KINDS; kind++) {
        if (!(o->modules & 1u << kind)) continue;
        g[n] = (struct group){.spec.kind = (enum synth_kind)kind, .spec.seed = (uint64_t)o->seed};
        synth_module_shape(model, g[n].spec.kind, &g[n].spec.m, &g[n].spec.n);
        n++;
    }
    qsort(g, n, sizeof *g, by_cost);
    return n;
}

static void print_total(const struct options *o, const struct group *g, size_t n, int64_t layers,
                        size_t weights, json_t *rows) {
    double seconds = 0, cpu = 0, made = 0;
    char time[32], rss[32], held[32];
    for (size_t i = 0; i < n; i++) {
        seconds += g[i].seconds;
        cpu += g[i].cpu;
        made += g[i].made;
    }
    if (o->json) {
        json_array_append_new(rows,
                              json_pack("{ss sI sf sf sI sI}", "module", "all", "matrices",
                                        (json_int_t)n * (json_int_t)layers, "seconds", seconds,
                                        "cpu_seconds", cpu, "peak_rss", (json_int_t)mem_peak_rss(),
                                        "weights_held", (json_int_t)weights));
        return;
    }
    printf("total: %lld matrices in %.2f s (%s), %.1f cpu s; making them took %.1f s; peak RSS %s "
           "with up to %s of weights\n",
           (long long)n * (long long)layers, seconds, format_seconds(time, seconds), cpu, made,
           format_bytes(rss, mem_peak_rss()), format_bytes(held, weights));
}

static enum mil_status run_request(const struct options *o, struct batch *b, struct group *g,
                                   size_t n, int64_t layers, json_t *rows, struct mil_error *err) {
    const struct svd_request q = b->q;
    size_t all = (size_t)3 << 29, taken = factor_bytes(g, n, layers, q.rank) + ((size_t)1 << 27);
    size_t budget = taken < all - ((size_t)1 << 29) ? all - taken : (size_t)1 << 29, weights = 0;
    if (!o->json)
        printf("# %s, rank %lld\n%-5s %-12s %5s %5s %9s %9s %9s %9s %-12s %8s %8s %8s\n",
               end_name(q.end), (long long)q.rank, "like", "shape", "n", "at a", "seconds", "cpu s",
               "s each", "longest", "served by", "residual", "orthog.", "cut");
    for (size_t i = 0; i < n; i++) {
        int64_t k = g[i].spec.m < g[i].spec.n ? g[i].spec.m : g[i].spec.n;
        b->q.rank = q.rank < k ? q.rank : k;
        g[i].at_a_time = at_a_time(o, &g[i], layers, &b->q, budget);
        size_t held = (size_t)(g[i].at_a_time * g[i].spec.m * g[i].spec.n) * sizeof(bf16);
        if (held > weights) weights = held;
        enum mil_status st = run_group(b, &g[i], layers, err);
        batch_release(b);
        if (st != MIL_OK) {
            error_prefix(err, "%s of %lld x %lld: ", synth_kind_name(g[i].spec.kind),
                         (long long)g[i].spec.m, (long long)g[i].spec.n);
            return st;
        }
        if (o->json)
            json_array_append_new(rows, json_group(&g[i], &b->q, layers));
        else
            print_group(&g[i], layers);
    }
    print_total(o, g, n, layers, weights, rows);
    return MIL_OK;
}

enum mil_status model_run(const struct options *o, json_t *rows, struct mil_error *err) {
    const struct synth_model *model;
    TRY(synth_model_find(o->model, &model, err));
    struct batch *b = mem_calloc(MEM_OTHER, 1, sizeof *b);
    if (!b) return error_nomem(err, sizeof *b);
    int64_t layers = o->layers ? o->layers : model->layers;
    enum mil_status st = MIL_OK;
    for (size_t i = 0; i < ENDS * o->n_ranks && st == MIL_OK; i++) {
        struct group g[SYNTH_KINDS];
        enum svd_end end = (enum svd_end)(i / o->n_ranks);
        if (!o->ends[end]) continue;
        b->q =
            (struct svd_request){.end = end, .rank = o->ranks[i % o->n_ranks], .only = o->method};
        st = run_request(o, b, g, collect(o, model, g), layers, rows, err);
    }
    batch_release(b);
    mem_free(b);
    return st;
}
