/* SPDX-License-Identifier: Apache-2.0 */
/* kern.c - how fast the kernels and products are here: reference against each level's variant, and
 * the library's products at the shapes of a small decoder.
 *
 *   bench_kern [filter]     prints rows whose name contains the filter
 *
 * Figures are the best of several runs after one to warm up; GB/s counts what an operation must
 * read and write once, GF/s the multiplications and additions of its definition (causal attention:
 * half the square). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "core/cpu.h"
#include "core/rng.h"
#include "core/threads.h"

enum { T = 2048, C = 576, F = 1536, H = 9, HKV = 3, D = 64, V = 49152, ROWS = 64 };

/* Everything an operation may need, allocated once. */
struct data {
    struct backend *b;
    struct stream *s;
    enum dtype act, real;
    struct tensor x, y, w, rstd, rx, g, u, h, q, k, v, o, d_o, dq, dk, dv, lse, table, logits, loss,
        dlogits, wide, mask;
    struct attn_seq seqs[4];
    int64_t n_seqs;
};

struct item {
    const char *name;
    void (*run)(struct data *d);
    double flops, bytes; /* of activations counted as act; bytes per act element of 1 */
    double elements;     /* that ns are told for */
};

static struct tensor filled(struct data *d, enum dtype t, int64_t rows, int64_t cols) {
    struct tensor x = tensor_of(
        backend_alloc(d->b, MEM_OTHER, (size_t)(rows * cols) * dtype_size(t)), t, rows, cols);
    for (int64_t i = 0; i < rows * cols; i++) {
        float v = rng_unit_f32(rng_words(1, 1, 1, (uint64_t)i / 4).w[i % 4]) - 0.5f;
        if (t == DT_F32) ((float *)x.data)[i] = v;
        if (t == DT_BF16) ((bf16 *)x.data)[i] = bf16_from_f32(v);
    }
    return x;
}

static const struct attn_shape shape = {H, HKV, D, 0, 0.125};

static void data_init(struct data *d, enum dtype act) {
    struct mil_error err;
    if (backend_open("cpu", act, &d->b, &err) != MIL_OK) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    d->s = backend_stream(d->b);
    d->act = act;
    d->real = backend_real(d->b);
    d->x = filled(d, act, T, C);
    d->y = filled(d, act, T, C);
    d->rx = filled(d, d->real, T, C);
    d->w = filled(d, d->real, 1, C);
    d->rstd = filled(d, d->real, T, 1);
    d->g = filled(d, act, T, F);
    d->u = filled(d, act, T, F);
    d->h = filled(d, act, T, F);
    d->q = filled(d, act, T, H * D);
    d->k = filled(d, act, T, HKV * D);
    d->v = filled(d, act, T, HKV * D);
    d->o = filled(d, act, T, H * D);
    d->d_o = filled(d, act, T, H * D);
    d->dq = filled(d, act, T, H * D);
    d->dk = filled(d, act, T, HKV * D);
    d->dv = filled(d, act, T, HKV * D);
    d->lse = filled(d, d->real, T, H);
    d->table = filled(d, d->real, T, D);
    d->logits = filled(d, d->real, ROWS, V);
    d->dlogits = filled(d, act, ROWS, V);
    d->loss = filled(d, d->real, ROWS, 1);
    d->wide = filled(d, act, V, C);
    d->mask = filled(d, DT_U8, T, dropout_mask_bytes(C));
}

static void data_release(struct data *d) {
    struct tensor *all[] = {&d->x,      &d->y,       &d->rx,   &d->w,    &d->rstd, &d->g,
                            &d->u,      &d->h,       &d->q,    &d->k,    &d->v,    &d->o,
                            &d->d_o,    &d->dq,      &d->dk,   &d->dv,   &d->lse,  &d->table,
                            &d->logits, &d->dlogits, &d->loss, &d->wide, &d->mask};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) backend_release(d->b, all[i]->data);
    backend_free(&d->b);
}

static int32_t positions[T];
static uint64_t keys[T];

static void run_convert(struct data *d) {
    be_copy(d->s, d->x, d->rx);
}
static void run_rmsnorm_fwd(struct data *d) {
    be_rmsnorm_fwd(d->s, d->y, d->rstd, d->rx, d->w, 1e-5);
}
static void run_rmsnorm_bwd(struct data *d) {
    be_rmsnorm_bwd(d->s, d->rx, (struct tensor){0}, d->y, d->rx, d->w, d->rstd);
}
static void run_rope(struct data *d) {
    be_rope(d->s, d->q, d->table, positions, D, false);
}
static void run_swiglu_fwd(struct data *d) {
    be_swiglu_fwd(d->s, d->h, d->g, d->u);
}
static void run_swiglu_bwd(struct data *d) {
    be_swiglu_bwd(d->s, d->g, d->u, d->h, d->g, d->u);
}
static void run_dropout_mask(struct data *d) {
    struct dropout_key key = {1, 2, 3, 0.05};
    be_dropout_mask(d->s, d->mask, C, &key, keys);
}
static void run_dropout_apply(struct data *d) {
    be_dropout_apply(d->s, d->y, d->q, d->x, d->mask, 0.05);
}
static void run_swiglu_few(struct data *d) {
    be_swiglu_fwd(d->s, tensor_rows(d->h, 0, 16), tensor_rows(d->g, 0, 16),
                  tensor_rows(d->u, 0, 16));
}
static void run_rmsnorm_one(struct data *d) {
    be_rmsnorm_fwd(d->s, tensor_rows(d->y, 0, 1), tensor_rows(d->rstd, 0, 1),
                   tensor_rows(d->rx, 0, 1), d->w, 1e-5);
}
static void run_cross_entropy(struct data *d) {
    be_cross_entropy(d->s, d->loss, d->dlogits, d->logits, positions, 1);
}
static void run_adamw(struct data *d) {
    struct adamw h = {1e-3, .9, .999, 1e-8, 0, .1, .001, 1};
    be_adamw(d->s, tensor_rows(d->logits, 0, 16), tensor_rows(d->logits, 16, 16),
             tensor_rows(d->logits, 32, 16), tensor_rows(d->logits, 48, 16), (struct tensor){0},
             (struct tensor){0}, &h);
}
static void run_sum_squares(struct data *d) {
    be_sum_squares(d->s, d->rx);
}
static void one_sequence(struct data *d) {
    d->seqs[0] = (struct attn_seq){0, T, 0, T};
    d->n_seqs = 1;
}
static void four_sequences(struct data *d) {
    for (int i = 0; i < 4; i++) d->seqs[i] = (struct attn_seq){i * T / 4, T / 4, i * T / 4, T / 4};
    d->n_seqs = 4;
}
static void attention_fwd(struct data *d) {
    be_attention_fwd(d->s, d->o, d->lse, d->q, d->k, d->v, d->seqs, d->n_seqs, &shape);
}
static void attention_bwd(struct data *d) {
    be_attention_bwd(d->s, d->dq, d->dk, d->dv, d->d_o, d->o, d->lse, d->q, d->k, d->v, d->seqs,
                     d->n_seqs, &shape);
}
static void run_attention_fwd_2048(struct data *d) {
    one_sequence(d);
    attention_fwd(d);
}
static void run_attention_bwd_2048(struct data *d) {
    one_sequence(d);
    attention_bwd(d);
}
static void run_attention_fwd_512(struct data *d) {
    four_sequences(d);
    attention_fwd(d);
}
static void run_attention_bwd_512(struct data *d) {
    four_sequences(d);
    attention_bwd(d);
}
static void run_attention_decode(struct data *d) {
    for (int i = 0; i < 4; i++) d->seqs[i] = (struct attn_seq){i, 1, 0, 512};
    d->n_seqs = 4;
    attention_fwd(d);
}
static void run_matmul_qo(struct data *d) {
    be_matmul(d->s, MATMUL_TRANS_B, 1, d->x, tensor_rows(d->wide, 0, C), 0, d->y);
}
static void run_matmul_up(struct data *d) {
    be_matmul(d->s, MATMUL_TRANS_B, 1, d->x, tensor_rows(d->wide, 0, F), 0, d->h);
}
static void run_matmul_up_bwd(struct data *d) {
    be_matmul(d->s, 0, 1, d->h, tensor_rows(d->wide, 0, F), 0, d->x);
}
static void run_matmul_lora_a(struct data *d) {
    be_matmul(d->s, MATMUL_TRANS_B, 1, d->x, tensor_rows(d->wide, 0, 32), 0,
              tensor_of(d->h.data, d->act, T, 32));
}
static void run_matmul_lora_b(struct data *d) {
    be_matmul(d->s, MATMUL_TRANS_B, 1, tensor_of(d->h.data, d->act, T, 32),
              tensor_of(d->wide.data, d->act, F, 32), 1, d->g);
}
static void run_matmul_lora_db(struct data *d) {
    be_matmul(d->s, MATMUL_TRANS_A, 1, d->h, tensor_of(d->x.data, d->act, T, 32), 1,
              tensor_of(d->logits.data, d->real, F, 32));
}
static void run_matmul_head(struct data *d) {
    be_matmul(d->s, MATMUL_TRANS_B, 1, tensor_rows(d->x, 0, ROWS), d->wide, 0, d->logits);
}
static void run_matmul_decode(struct data *d) {
    be_matmul(d->s, MATMUL_TRANS_B, 1, tensor_rows(d->x, 0, 1), tensor_rows(d->wide, 0, F), 0,
              tensor_rows(d->h, 0, 1));
}
static void run_matmul_head_decode(struct data *d) {
    be_matmul(d->s, MATMUL_TRANS_B, 1, tensor_rows(d->x, 0, 1), d->wide, 0,
              tensor_rows(d->logits, 0, 1));
}

#define SQUARE(n) ((double)(n) * (n) / 2)
static const struct item items[] = {
    {"convert f32->act", run_convert, 0, 2.0 * T *C, 1.0 * T *C},
    {"rmsnorm_fwd", run_rmsnorm_fwd, 0, 2.0 * T *C, 1.0 * T *C},
    {"rmsnorm_bwd", run_rmsnorm_bwd, 0, 4.0 * T *C, 1.0 * T *C},
    {"rope", run_rope, 0, 2.0 * T *C, 1.0 * T *C},
    {"swiglu_fwd", run_swiglu_fwd, 0, 3.0 * T *F, 1.0 * T *F},
    {"swiglu_bwd", run_swiglu_bwd, 0, 5.0 * T *F, 1.0 * T *F},
    {"dropout_mask", run_dropout_mask, 0, 1.0 / 16 * T *C, 1.0 * T *C},
    {"dropout_apply", run_dropout_apply, 0, 3.0 * T *C, 1.0 * T *C},
    {"swiglu_fwd, 16 rows", run_swiglu_few, 0, 3.0 * 16 * F, 16.0 * F},
    {"rmsnorm_fwd, 1 row", run_rmsnorm_one, 0, 2.0 * C, 1.0 * C},
    {"cross_entropy 64 x 49152", run_cross_entropy, 0, 2.0 * ROWS *V, 1.0 * ROWS *V},
    {"adamw (f32)", run_adamw, 0, 7.0 * 16 * V, 1.0 * 16 * V},
    {"sum_squares (f32)", run_sum_squares, 0, 1.0 * T *C, 1.0 * T *C},
    {"attention_fwd 1 x 2048", run_attention_fwd_2048, 4.0 * H *D *SQUARE(T), 0, 0},
    {"attention_bwd 1 x 2048", run_attention_bwd_2048, 10.0 * H *D *SQUARE(T), 0, 0},
    {"attention_fwd 4 x 512", run_attention_fwd_512, 16.0 * H *D *SQUARE(T / 4), 0, 0},
    {"attention_bwd 4 x 512", run_attention_bwd_512, 40.0 * H *D *SQUARE(T / 4), 0, 0},
    {"attention_fwd decode 4 x 512", run_attention_decode, 16.0 * H *D * 512, 0, 0},
    {"matmul 2048 x 576 x 576", run_matmul_qo, 2.0 * T *C *C, 0, 0},
    {"matmul 2048 x 1536 x 576", run_matmul_up, 2.0 * T *F *C, 0, 0},
    {"matmul 2048 x 576 x 1536", run_matmul_up_bwd, 2.0 * T *F *C, 0, 0},
    {"matmul lora A 2048 x 32 x 576", run_matmul_lora_a, 2.0 * T * 32 * C, 0, 0},
    {"matmul lora B 2048 x 1536 x 32", run_matmul_lora_b, 2.0 * T * 32 * F, 0, 0},
    {"matmul lora dB 1536 x 32 x 2048", run_matmul_lora_db, 2.0 * T * 32 * F, 0, 0},
    {"matmul head 64 x 49152 x 576", run_matmul_head, 2.0 * ROWS *V *C, 0, 0},
    {"matmul decode 1 x 1536 x 576", run_matmul_decode, 2.0 * F *C, 0, 0},
    {"matmul decode head 1 x 49152", run_matmul_head_decode, 2.0 * V *C, 0, 0},
};

/* Best of up to 30 runs within about 0.4 s. */
static double best_seconds(const struct item *item, struct data *d) {
    double best = 1e9, spent = 0;
    item->run(d);
    for (int i = 0; i < 30 && spent < 0.4; i++) {
        double start = clock_seconds();
        item->run(d);
        double t = clock_seconds() - start;
        spent += t;
        if (t < best) best = t;
    }
    return best;
}

static void print_rows(enum dtype act, enum isa level, const char *filter) {
    struct data d = {0};
    cpu_isa_limit(level);
    data_init(&d, act);
    printf("# %s\n", backend_describe(d.b));
    for (size_t i = 0; i < sizeof items / sizeof *items; i++) {
        const struct item *item = &items[i];
        if (filter && !strstr(item->name, filter)) continue;
        /* The reference's attention takes seconds: its short case says enough. */
        if (level == ISA_REF && strstr(item->name, "1 x 2048")) continue;
        double t = best_seconds(item, &d);
        printf("%-5s %-12s %-34s %9.3f ms", dtype_name(act), isa_name(cpu_isa_used()), item->name,
               1e3 * t);
        if (item->flops > 0) printf(" %8.1f GF/s", 1e-9 * item->flops / t);
        if (item->bytes > 0)
            printf(" %8.1f GB/s %8.3f ns", 1e-9 * item->bytes * (double)dtype_size(act) / t,
                   1e9 * t / item->elements);
        printf("\n");
        fflush(stdout);
    }
    data_release(&d);
}

int main(int argc, char **argv) {
    const char *filter = argc > 1 ? argv[1] : NULL;
    for (int i = 0; i < T; i++) {
        positions[i] = i;
        keys[i] = (uint64_t)i;
    }
    /* From the highest level down: oneDNN takes its own cap from the first backend opened. */
    static const enum isa levels[] = {ISA_AMX, ISA_AVX512, ISA_AVX2, ISA_REF};
    static const enum dtype acts[] = {DT_BF16, DT_F32};
    for (int a = 0; a < 2; a++)
        for (int l = 0; l < 4; l++) {
            if (l > 0 && levels[l] >= cpu_isa_found()) continue;
            print_rows(acts[a], levels[l], filter);
        }
    return 0;
}
