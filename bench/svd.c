/* SPDX-License-Identifier: Apache-2.0 */
/* svd.c - how long the partial SVD takes, by shape, end and rank, with its certificate.
 *
 *     bench_svd [--shapes 7b --ends bottom --ranks 64 --reference --torch python3 ...]
 *     bench_svd --model-shapes llama2-7b
 *
 * One row a decomposition: wall seconds (the best of --repeat), processor seconds of the same run
 * (what counts on a busy machine), the method that served, residual, orthogonality and cut as
 * linalg/svd.h defines them; with --reference the errors against LAPACK's full decomposition, and
 * ratios to the peers' seconds of this very run (svd/peers.c).  The matrices are made on the fly
 * and making them is not counted. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "core/cpu.h"
#include "core/mem.h"
#include "core/threads.h"
#include "io/json.h"
#include "svd/bench_svd.h"

/* ---- measuring ---- */

static double cpu_seconds(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

enum mil_status batch_make(struct batch *b, const struct synth_spec *spec, int64_t n,
                           struct mil_error *err) {
    size_t count = (size_t)spec->m * (size_t)spec->n;
    struct synth_spec s = *spec;
    for (b->n = 0; b->n < n; b->n++, s.layer++) {
        bf16 *w = mem_alloc(MEM_WEIGHTS, count, sizeof *w);
        if (!w) return error_nomem(err, count * sizeof *w);
        b->w[b->n] = (struct svd_matrix){w, DT_BF16, s.m, s.n};
        enum mil_status st = synth_weight(&s, w, err);
        if (st != MIL_OK) {
            mem_free(w);
            return st;
        }
    }
    return MIL_OK;
}

static void decompose(void *ctx, int64_t begin, int64_t end) {
    struct batch *b = ctx;
    for (int64_t i = begin; i < end; i++)
        b->status[i] = svd_compute(&b->w[i], &b->q, &b->r[i], &b->err[i]);
}

enum mil_status batch_decompose(struct batch *b, struct mil_error *err) {
    double cpu = cpu_seconds(), start = clock_seconds();
    if (b->n == 1)
        decompose(b, 0, 1);
    else
        parallel_for(b->n, 1, decompose, b);
    b->seconds = clock_seconds() - start;
    b->cpu = cpu_seconds() - cpu;
    for (int64_t i = 0; i < b->n; i++)
        if (b->status[i] != MIL_OK) {
            *err = b->err[i];
            return b->status[i];
        }
    return MIL_OK;
}

void batch_release_results(struct batch *b) {
    for (int64_t i = 0; i < b->n; i++) svd_release(&b->r[i]);
}

void batch_release(struct batch *b) {
    batch_release_results(b);
    for (int64_t i = 0; i < b->n; i++) mem_free((void *)(uintptr_t)b->w[i].data);
    b->n = 0;
}

void certificate_add(struct certificate *c, const struct svd_result *r) {
    if (!(r->residual <= c->residual)) c->residual = r->residual;
    if (!(r->orthogonality <= c->orthogonality)) c->orthogonality = r->orthogonality;
    if (!(r->cut <= c->cut)) c->cut = r->cut;
    if (c->n++ == 0)
        c->served_by = r->served_by;
    else if (strcmp(c->served_by, r->served_by) != 0)
        c->served_by = "several";
}

/* ---- one row ---- */

struct row {
    struct synth_spec spec;
    const struct svd_request *q;
    int64_t n; /* matrices at a time */
    double seconds, cpu, all[MAX_REPEAT];
    struct certificate c;
    struct difference d;
    double sigma_max, sigma_first, sigma_last; /* of the first matrix */
};

static void print_head(const struct options *o) {
    printf("%-12s %-4s %-6s %4s %9s %9s %-12s %8s %8s %8s", "shape", "like", "end", "r", "seconds",
           "cpu s", "served by", "residual", "orthog.", "cut");
    if (o->reference) printf(" %8s %8s %8s %9s %6s", "d sigma", "sine", "gap", "dgesdd s", "ratio");
    if (o->torch) printf(" %9s %6s", "torch s", "ratio");
    printf("\n");
}

static void print_row(const struct options *o, const struct row *r, const struct peers *p) {
    char shape[32];
    snprintf(shape, sizeof shape, "%lldx%lld", (long long)r->spec.m, (long long)r->spec.n);
    printf("%-12s %-4s %-6s %4lld %9.4f %9.4f %-12s %8.1e %8.1e %8.1e", shape,
           synth_kind_name(r->spec.kind), end_name(r->q->end), (long long)r->q->rank, r->seconds,
           r->cpu, r->c.served_by, r->c.residual, r->c.orthogonality, r->c.cut);
    if (o->reference)
        printf(" %8.1e %8.1e %8.1e %9.3f %6.1f", r->d.sigma, r->d.sine, r->d.gap, p->gesdd_seconds,
               p->gesdd_seconds / r->seconds);
    if (o->torch) printf(" %9.3f %6.1f", p->torch_seconds, p->torch_seconds / r->seconds);
    printf("\n");
    fflush(stdout);
}

static json_t *json_row(const struct options *o, const struct row *r, const struct peers *p) {
    json_t *x = json_pack(
        "{sI sI ss ss sI sI sf sf ss sf sf sf sf sf sf sI}", "m", (json_int_t)r->spec.m, "n",
        (json_int_t)r->spec.n, "like", synth_kind_name(r->spec.kind), "end", end_name(r->q->end),
        "rank", (json_int_t)r->q->rank, "at_a_time", (json_int_t)r->n, "seconds", r->seconds,
        "cpu_seconds", r->cpu, "served_by", r->c.served_by, "residual", r->c.residual,
        "orthogonality", r->c.orthogonality, "cut", r->c.cut, "sigma_max", r->sigma_max,
        "sigma_first", r->sigma_first, "sigma_last", r->sigma_last, "memory",
        (json_int_t)svd_memory(r->spec.m, r->spec.n, r->q));
    json_t *all = json_array();
    for (int64_t i = 0; i < o->repeat; i++) json_array_append_new(all, json_real(r->all[i]));
    json_object_set_new(x, "all_seconds", all);
    if (o->reference)
        json_object_update_new(x, json_pack("{sf sf sf sf}", "sigma_error", r->d.sigma, "sine",
                                            r->d.sine, "gap", r->d.gap, "dgesdd_seconds",
                                            p->gesdd_seconds));
    if (o->torch) json_object_set_new(x, "torch_seconds", json_real(p->torch_seconds));
    return x;
}

/* o->repeat runs; what the last one gave stays in the batch. */
static enum mil_status measure(const struct options *o, struct batch *b, struct row *r,
                               struct mil_error *err) {
    for (int64_t i = 0; i < o->repeat; i++) {
        batch_release_results(b);
        TRY(batch_decompose(b, err));
        r->all[i] = b->seconds / (double)b->n;
        if (i > 0 && r->all[i] >= r->seconds) continue;
        r->seconds = r->all[i];
        r->cpu = b->cpu / (double)b->n;
    }
    for (int64_t i = 0; i < b->n; i++) certificate_add(&r->c, &b->r[i]);
    r->sigma_max = b->r[0].sigma_max;
    r->sigma_first = b->r[0].sigma[0];
    r->sigma_last = b->r[0].sigma[b->q.rank - 1];
    return MIL_OK;
}

/* A row, or why there is none (which is told and counted, and the bench goes on). */
static enum mil_status run_row(const struct options *o, struct batch *b, struct row *r,
                               const struct peers *p, json_t *rows, struct mil_error *err) {
    TRY(measure(o, b, r, err));
    if (o->reference) TRY(peers_compare(p, r->q, &b->r[0], &r->d, err));
    if (o->torch && fabs(p->torch_sigma_max - r->sigma_max) > 1e-3 * r->sigma_max)
        return error_set(err, MIL_MISMATCH, "torch found sigma_max %.9g, we %.9g",
                         p->torch_sigma_max, r->sigma_max);
    if (o->json)
        json_array_append_new(rows, json_row(o, r, p));
    else
        print_row(o, r, p);
    return MIL_OK;
}

static enum mil_status run_rows(const struct options *o, struct batch *b, struct synth_spec spec,
                                const struct peers *p, json_t *rows, struct mil_error *err) {
    int64_t k = spec.m < spec.n ? spec.m : spec.n;
    enum mil_status worst = MIL_OK;
    for (size_t i = 0; i < ENDS * o->n_ranks; i++) {
        enum svd_end end = (enum svd_end)(i / o->n_ranks);
        int64_t rank = o->ranks[i % o->n_ranks];
        if (!o->ends[end]) continue;
        b->q = (struct svd_request){.end = end, .rank = rank < k ? rank : k, .only = o->method};
        struct row r = {.spec = spec, .q = &b->q, .n = b->n};
        enum mil_status st = run_row(o, b, &r, p, rows, err);
        if (st == MIL_OK) continue;
        if (st != MIL_NUMERIC) return st;
        fprintf(stderr, "%lldx%lld %s %lld: %s\n", (long long)spec.m, (long long)spec.n,
                end_name(end), (long long)rank, err->message);
        worst = st;
    }
    return worst;
}

static enum mil_status run_shape(const struct options *o, struct batch *b, struct shape shape,
                                 json_t *rows, struct mil_error *err) {
    struct synth_spec spec = {synth_kind_of_shape(shape.m, shape.n), shape.m, shape.n,
                              (int)o->layer, (uint64_t)o->seed};
    struct peers peers = {0};
    if (o->kind >= 0) spec.kind = (enum synth_kind)o->kind;
    enum mil_status st = batch_make(b, &spec, o->side_by_side ? threads_count() : 1, err);
    if (st == MIL_OK) st = peers_run(o, &b->w[0], &peers, err);
    if (st == MIL_OK) st = run_rows(o, b, spec, &peers, rows, err);
    peers_release(&peers);
    batch_release(b);
    return st;
}

static enum mil_status run_shapes(const struct options *o, json_t *rows, struct mil_error *err) {
    struct batch *b = mem_calloc(MEM_OTHER, 1, sizeof *b);
    if (!b) return error_nomem(err, sizeof *b);
    enum mil_status st = MIL_OK;
    if (!o->json) print_head(o);
    for (size_t i = 0; i < o->n_shapes && (st == MIL_OK || st == MIL_NUMERIC); i++) {
        enum mil_status one = run_shape(o, b, o->shapes[i], rows, err);
        if (one != MIL_OK) st = one;
    }
    mem_free(b);
    return st;
}

/* ---- entry point ---- */

static enum mil_status print_json(const struct options *o, json_t *rows, struct mil_error *err) {
    struct str text = {0};
    json_t *root = json_pack("{ss si sI sO}", "isa", isa_name(cpu_isa_used()), "threads",
                             threads_count(), "seed", (json_int_t)o->seed, "rows", rows);
    json_append(root, 2, &text);
    enum mil_status st = str_status(&text, err);
    if (st == MIL_OK) puts(str_c(&text));
    str_release(&text);
    json_decref(root);
    return st;
}

int main(int argc, char **argv) {
    struct mil_error err = {0};
    struct options o;
    enum mil_status st = options_parse(argc, argv, &o, &err);
    if (st == MIL_OK && o.help) {
        fputs(options_usage, stdout);
        return 0;
    }
    json_t *rows = json_array();
    threads_set((int)o.threads);
    if (st == MIL_OK && !o.json)
        printf("# %d thread%s%s, seed %lld\n", threads_count(), threads_count() == 1 ? "" : "s",
               o.side_by_side && threads_count() > 1 ? ", one matrix each" : "", (long long)o.seed);
    if (st == MIL_OK) st = o.model ? model_run(&o, rows, &err) : run_shapes(&o, rows, &err);
    if ((st == MIL_OK || st == MIL_NUMERIC) && o.json) print_json(&o, rows, &err);
    json_decref(rows);
    if (st != MIL_OK) fprintf(stderr, "bench_svd: %s\n", err.message);
    return mil_status_exit_code(st);
}
