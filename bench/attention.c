/* SPDX-License-Identifier: Apache-2.0 */
/* attention.c - how fast attention is here, at each level of the instruction set.
 *
 *   bench_attention [-t threads] [filter ..]     prints rows that contain every filter: "BF16", "512 x"
 *
 * Rows give the best of several runs in milliseconds: of CPU time with one thread (the default), so that
 * a busy machine does not show, of wall time with more.  GF/s counts what causal attention needs: 2 D
 * operations a product and pair of a query and a key it sees, two products forward and five backward;
 * GB/s counts K and V once, which is what decoding must read.  The work is that of one layer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend/backend.h"
#include "core/cpu.h"
#include "core/rng.h"
#include "core/threads.h"

enum { MAX_SEQS = 16, RUNS = 25 };

/* n sequences of n_q queries and n_kv keys. */
struct shape_case {
    const char *name;
    int64_t n, n_q, n_kv, heads, kv_heads, dim;
};
static const struct shape_case cases[] = {
    {"smollm2 train 5 x 200", 5, 200, 200, 9, 3, 64},
    {"smollm2 train 4 x 512", 4, 512, 512, 9, 3, 64},
    {"smollm2 train 1 x 2048", 1, 2048, 2048, 9, 3, 64},
    {"llama-2-7b train 1 x 1024", 1, 1024, 1024, 32, 32, 128},
    {"smollm2 decode 1 x 512", 1, 1, 512, 9, 3, 64},
    {"smollm2 decode 1 x 4096", 1, 1, 4096, 9, 3, 64},
    {"smollm2 decode 16 x 512", 16, 1, 512, 9, 3, 64},
    {"smollm2 decode 16 x 4096", 16, 1, 4096, 9, 3, 64},
    {"llama-2-7b decode 1 x 4096", 1, 1, 4096, 32, 32, 128},
};

struct data {
    struct backend *b;
    struct stream *s;
    struct tensor q, k, v, o, d_o, dq, dk, dv, lse;
    struct attn_seq seqs[MAX_SEQS];
    struct attn_shape shape;
    const struct shape_case *c;
};

static struct tensor filled(struct data *d, enum dtype t, int64_t rows, int64_t cols,
                            uint32_t stream) {
    size_t bytes = (size_t)(rows * cols) * dtype_size(t);
    struct tensor x = tensor_of(backend_alloc(d->b, MEM_OTHER, bytes), t, rows, cols);
    for (int64_t i = 0; i < rows * cols; i++) {
        float v = 4 * rng_unit_f32(rng_words(1, stream, 1, (uint64_t)i / 4).w[i % 4]) - 2;
        if (t == DT_F32) ((float *)x.data)[i] = v;
        if (t == DT_BF16) ((bf16 *)x.data)[i] = bf16_from_f32(v);
    }
    return x;
}

static void data_init(struct data *d, const struct shape_case *c, enum dtype act) {
    struct mil_error err;
    if (backend_open("cpu", act, &d->b, &err) != MIL_OK) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    d->s = backend_stream(d->b);
    d->c = c;
    d->shape =
        (struct attn_shape){c->heads, c->kv_heads, c->dim, 0, 1 / __builtin_sqrt((double)c->dim)};
    int64_t qs = c->n * c->n_q, ks = c->n * c->n_kv, qc = c->heads * c->dim,
            kc = c->kv_heads * c->dim;
    struct tensor *query[] = {&d->q, &d->o, &d->d_o, &d->dq};
    struct tensor *key[] = {&d->k, &d->v, &d->dk, &d->dv};
    for (uint32_t i = 0; i < 4; i++) {
        *query[i] = filled(d, act, qs, qc, i);
        *key[i] = filled(d, act, ks, kc, 4 + i);
    }
    d->lse = filled(d, backend_real(d->b), qs, c->heads, 8);
    for (int64_t i = 0; i < c->n; i++)
        d->seqs[i] = (struct attn_seq){i * c->n_q, c->n_q, i * c->n_kv, c->n_kv};
}

static void data_release(struct data *d) {
    struct tensor *all[] = {&d->q, &d->k, &d->v, &d->o, &d->d_o, &d->dq, &d->dk, &d->dv, &d->lse};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) backend_release(d->b, all[i]->data);
    backend_free(&d->b);
}

static void forward(struct data *d) {
    be_attention_fwd(d->s, d->o, d->lse, d->q, d->k, d->v, d->seqs, d->c->n, &d->shape);
}
static void backward(struct data *d) {
    be_attention_bwd(d->s, d->dq, d->dk, d->dv, d->d_o, d->o, d->lse, d->q, d->k, d->v, d->seqs,
                     d->c->n, &d->shape);
}

static double now(void) {
    struct timespec t;
    clock_gettime(threads_count() == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double best_seconds(void (*run)(struct data *d), struct data *d) {
    double best = 1e9, spent = 0;
    for (int i = 0; i < RUNS && spent < 0.5; i++) {
        double start = now();
        run(d);
        double t = now() - start;
        spent += t;
        if (t < best) best = t;
    }
    return best;
}

static void print_case(const struct shape_case *c, enum dtype act, char **filters) {
    char name[96];
    snprintf(name, sizeof name, "%-5s %-12s %-28s", dtype_name(act), isa_name(cpu_isa_used()),
             c->name);
    for (; *filters; filters++)
        if (!strstr(name, *filters)) return;
    struct data d = {0};
    data_init(&d, c, act);
    double pairs = 0;
    for (int64_t i = 0; i < c->n_q; i++) pairs += (double)(c->n_kv - c->n_q + i + 1);
    double product = 2e-9 * pairs * (double)(c->n * c->heads * c->dim);
    double t = best_seconds(forward, &d);
    printf("%s forward %9.3f ms %7.1f GF/s", name, 1e3 * t, 2 * product / t);
    if (c->n_q == 1) {
        double bytes =
            2.0 * (double)(c->n * c->n_kv * c->kv_heads * c->dim) * (double)dtype_size(act);
        printf(" %6.1f GB/s\n", 1e-9 * bytes / t);
    } else {
        double u = best_seconds(backward, &d);
        printf("  backward %9.3f ms %7.1f GF/s  both %7.1f GF/s\n", 1e3 * u, 5 * product / u,
               7 * product / (t + u));
    }
    fflush(stdout);
    data_release(&d);
}

int main(int argc, char **argv) {
    int first = 1, threads = 1;
    if (argc > 2 && strcmp(argv[1], "-t") == 0) {
        threads = atoi(argv[2]);
        first = 3;
    }
    threads_set(threads);
    /* From the highest level down: oneDNN takes its own cap from the first backend opened. */
    static const enum isa levels[] = {ISA_AMX, ISA_AVX512, ISA_AVX2, ISA_REF};
    static const enum dtype acts[] = {DT_BF16, DT_F32};
    for (int a = 0; a < 2; a++)
        for (int l = 0; l < 4; l++) {
            if (l > 0 && levels[l] >= cpu_isa_found()) continue;
            cpu_isa_limit(levels[l]);
            for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                /* The reference takes seconds at the longer ones. */
                if (levels[l] == ISA_REF && cases[i].n_q * cases[i].n_kv * cases[i].heads > 400000)
                    continue;
                print_case(&cases[i], acts[a], argv + first);
            }
        }
    return 0;
}
