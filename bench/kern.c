/* SPDX-License-Identifier: Apache-2.0 */
/* kern.c - how fast the products and kernels are here: reference against each level's variant, and
 * our products against the library's, at the shapes of a small decoder.
 *
 *   bench_kern [filter]     prints rows whose name contains the filter
 *
 * Products: GF/s, best of several rounds in which every column takes its turn, on one thread (by its own
 * processor seconds, so that what else runs counts less) and on all (by the clock).  The reference takes as
 * many rows as a moment allows.  Kernels: best of several runs on all threads; GB/s counts what an operation
 * must read and write once, GF/s the multiplications and additions of its definition (causal attention:
 * half the square).  Operands are as warm as a run before has left them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend/backend.h"
#include "backend/product.h"
#include "core/cpu.h"
#include "core/rng.h"
#include "core/threads.h"
#include "kern/kern.h"

static void give_up(const struct mil_error *err) {
    fprintf(stderr, "bench_kern: %s\n", err->message);
    exit(1);
}

/* Numbers between -1/2 and 1/2. */
static void fill(void *p, enum dtype t, int64_t n) {
    for (int64_t i = 0; i < n; i += 4) {
        struct rng_words r = rng_words(1, 1, 1, (uint64_t)i / 4);
        for (int64_t k = 0; k < 4 && i + k < n; k++) {
            float v = rng_unit_f32(r.w[k]) - 0.5f;
            if (t == DT_F32) ((float *)p)[i + k] = v;
            if (t == DT_BF16) ((bf16 *)p)[i + k] = bf16_from_f32(v);
        }
    }
}

/* Levels that have kernels of their own. */
static const enum isa levels[] = {ISA_REF, ISA_AVX2, ISA_AVX512, ISA_AVX512_BF16};
enum { N_LEVELS = sizeof levels / sizeof *levels };

/* How many of them this machine has for a type: f32 has nothing new at avx512_bf16. */
static int levels_for(enum dtype t) {
    int n = 1;
    enum isa highest = t == DT_F32 && cpu_isa_used() > ISA_AVX512 ? ISA_AVX512 : cpu_isa_used();
    while (n < N_LEVELS && levels[n] <= highest) n++;
    return n;
}

/* ---- products ---- */

/* C [m, n] = op(A) [m, k] op(B) [k, n]. */
struct shape {
    const char *name;
    unsigned flags;
    int64_t m, n, k;
    bool sums; /* C is f32 in any case: gradients of parameters, logits */
};
enum { ROWS_T = 1024 };
static const struct shape shapes[] = {
    {"q o: W x", MATMUL_TRANS_B, ROWS_T, 576, 576, false},
    {"q o: W^T dy", 0, ROWS_T, 576, 576, false},
    {"gate up: W x", MATMUL_TRANS_B, ROWS_T, 1536, 576, false},
    {"gate up: W^T dy", 0, ROWS_T, 576, 1536, false},
    {"down: W x", MATMUL_TRANS_B, ROWS_T, 576, 1536, false},
    {"down: W^T dy", 0, ROWS_T, 1536, 576, false},
    {"k v: W x", MATMUL_TRANS_B, ROWS_T, 192, 576, false},
    {"k v: W^T dy", 0, ROWS_T, 576, 192, false},
    {"adapter: A x", MATMUL_TRANS_B, ROWS_T, 64, 576, false},
    {"adapter: A^T g", 0, ROWS_T, 576, 64, false},
    {"adapter: dA", MATMUL_TRANS_A, 32, 576, ROWS_T, true},
    {"adapter: dB", MATMUL_TRANS_A, 1536, 32, ROWS_T, true},
    {"head: W x", MATMUL_TRANS_B, 341, 49152, 576, true},
    {"one row: W x", MATMUL_TRANS_B, 1, 1536, 576, false},
    {"16 rows: W x", MATMUL_TRANS_B, 16, 1536, 576, false},
    {"4096: W x", MATMUL_TRANS_B, 512, 4096, 4096, false},
    {"4096: W^T dy", 0, 512, 4096, 4096, false},
};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

struct own_call {
    const struct kern *kern;
    struct kern_product a;
};
static void own_items(void *ctx, int64_t begin, int64_t end) {
    const struct own_call *c = ctx;
    c->kern->product(&c->a, begin, end);
}
static void run_own(const struct kern *kern, const struct shape *s, int64_t m, struct tensor a,
                    struct tensor b, struct tensor c) {
    struct kern_term term = {.a = a.data,
                             .b = b.data,
                             .trans_a = s->flags & MATMUL_TRANS_A,
                             .trans_b = s->flags & MATMUL_TRANS_B,
                             .b_type = b.dtype,
                             .k = s->k,
                             .lda = a.ld,
                             .ldb = b.ld};
    struct own_call call = {kern,
                            {.terms = &term,
                             .n_terms = 1,
                             .c = c.data,
                             .c_type = c.dtype,
                             .m = m,
                             .n = s->n,
                             .ldc = c.ld,
                             .alpha = 1}};
    parallel_for(kern_product_cut(&call.a, threads_count()), 1, own_items, &call);
}

/* The machine in one configuration: type and number of threads. */
struct contest {
    enum dtype type;
    int n_levels;
    struct kern kern[N_LEVELS];
    struct product library;
    bool with_library;
    void *a, *b, *c;
};
enum { LIBRARY = N_LEVELS, COLUMNS };

static double seconds(void) {
    if (threads_count() > 1) return clock_seconds();
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* One run of a column; how many operations a second. */
static double rate(struct contest *x, const struct shape *s, int column) {
    bool ta = s->flags & MATMUL_TRANS_A, tb = s->flags & MATMUL_TRANS_B;
    struct tensor a = tensor_of(x->a, x->type, ta ? s->k : s->m, ta ? s->m : s->k);
    struct tensor b = tensor_of(x->b, x->type, tb ? s->n : s->k, tb ? s->k : s->n);
    struct tensor c = tensor_of(x->c, s->sums ? DT_F32 : x->type, s->m, s->n);
    struct mil_error err;
    int64_t m = s->m, few = 1 + 20000000 / (s->n * s->k);
    if (column == 0 && m > few) m = few; /* the reference: about 20 ms */
    double start = seconds();
    if (column != LIBRARY)
        run_own(&x->kern[column], s, m, a, b, c);
    else if (product_run(&x->library, s->flags, 1, a, b, 0, c, &err) != MIL_OK)
        give_up(&err);
    return 2.0 * (double)m * (double)s->n * (double)s->k / (seconds() - start);
}

static void print_product(struct contest *x, const struct shape *s) {
    double best[COLUMNS] = {0}, start = clock_seconds();
    /* The first round prepares code and touches memory; it counts where there is time for few others. */
    for (int round = 0; round < 2 || (round < 40 && clock_seconds() - start < 0.15); round++)
        for (int i = 0; i < COLUMNS; i++) {
            if (i == LIBRARY ? !x->with_library : i >= x->n_levels) continue;
            double r = rate(x, s, i);
            if (r > best[i]) best[i] = r;
        }
    printf("%-5s %2d  %-16s %5ld x %5ld x %4ld", dtype_name(x->type), threads_count(), s->name,
           (long)s->m, (long)s->n, (long)s->k);
    for (int i = 0; i < COLUMNS; i++) {
        if (best[i] > 0)
            printf(" %11.1f", 1e-9 * best[i]);
        else
            printf(" %11s", "-");
    }
    if (x->with_library) printf(" %7.2f", best[x->n_levels - 1] / best[LIBRARY]);
    printf("\n");
    fflush(stdout);
}

static bool chosen(const char *name, const char *filter) {
    return !filter || strstr(name, filter);
}

static void print_products(struct contest *x, const char *filter) {
    struct mil_error err;
    /* Prepared anew for each number of threads: the library plans for as many as it finds. */
    if (product_init(&x->library, &err) != MIL_OK) give_up(&err);
    x->with_library = x->type == DT_F32 || x->library.has_bf16;
    x->n_levels = levels_for(x->type);
    for (int i = 0; i < x->n_levels; i++) kern_table_init(&x->kern[i], x->type, levels[i]);
    for (int i = 0; i < N_SHAPES; i++)
        if (chosen(shapes[i].name, filter)) print_product(x, &shapes[i]);
    product_release(&x->library);
}

/* The most that an operand of the shapes holds. */
static void operands_new(struct contest *x) {
    int64_t a = 0, b = 0, c = 0;
    for (int i = 0; i < N_SHAPES; i++) {
        const struct shape *s = &shapes[i];
        if (s->m * s->k > a) a = s->m * s->k;
        if (s->n * s->k > b) b = s->n * s->k;
        if (s->m * s->n > c) c = s->m * s->n;
    }
    x->a = mem_alloc(MEM_OTHER, (size_t)a, dtype_size(x->type));
    x->b = mem_alloc(MEM_OTHER, (size_t)b, dtype_size(x->type));
    x->c = mem_calloc(MEM_OTHER, (size_t)c, sizeof(float));
    struct mil_error err;
    if (!x->a || !x->b || !x->c) {
        error_nomem(&err, (size_t)(a + b + c) * sizeof(float));
        give_up(&err);
    }
    fill(x->a, x->type, a);
    fill(x->b, x->type, b);
}

static void products(const char *filter) {
    static const enum dtype types[] = {DT_BF16, DT_F32};
    bool any = false;
    for (int i = 0; i < N_SHAPES; i++) any |= chosen(shapes[i].name, filter);
    if (!any) return;
    printf("# products m x n x k, GF/s: ours by level, %s, ours at the highest level over it\n",
           product_library());
    printf("type  threads                                 ");
    for (int i = 0; i < N_LEVELS; i++) printf(" %11s", isa_name(levels[i]));
    printf(" %11s %7s\n", "oneDNN", "ratio");
    for (int t = 0; t < 2; t++) {
        struct contest x = {.type = types[t]};
        operands_new(&x);
        for (int all = 0; all < 2; all++) {
            threads_set(all ? 0 : 1);
            if (!all || threads_count() > 1) print_products(&x, filter);
        }
        mem_free(x.a);
        mem_free(x.b);
        mem_free(x.c);
    }
    threads_set(0);
}

/* ---- kernels ---- */

enum { T = 2048, C = 576, F = 1536, H = 9, HKV = 3, D = 64, V = 49152, ROWS = 64 };

/* Everything an operation may need, allocated once. */
struct data {
    struct backend *b;
    struct stream *s;
    enum dtype act, real;
    struct tensor x, y, w, rstd, rx, g, u, h, q, k, v, o, d_o, dq, dk, dv, lse, table, logits, loss,
        dlogits, mask, fm, ones;
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
    size_t bytes = (size_t)(rows * cols) * dtype_size(t);
    struct tensor x = tensor_of(backend_alloc(d->b, MEM_OTHER, bytes), t, rows, cols);
    fill(x.data, t, rows * cols);
    return x;
}

static const struct attn_shape shape = {H, HKV, D, 0, 0.125};

static void data_init(struct data *d, struct backend *b, enum dtype act) {
    *d = (struct data){.b = b, .act = act, .real = backend_real(b)};
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
    d->mask = filled(d, DT_U8, T, dropout_mask_bytes(C));
    d->fm = filled(d, d->real, 1, F);
    d->ones = filled(d, d->real, 1, F);
    for (int64_t i = 0; i < F && d->real == DT_F32; i++) ((float *)d->ones.data)[i] = 1;
}

static void data_release(struct data *d) {
    struct tensor *all[] = {&d->x,    &d->y,    &d->rx,     &d->w,       &d->rstd, &d->g,
                            &d->u,    &d->h,    &d->q,      &d->k,       &d->v,    &d->o,
                            &d->d_o,  &d->dq,   &d->dk,     &d->dv,      &d->lse,  &d->table,
                            &d->loss, &d->mask, &d->logits, &d->dlogits, &d->fm,   &d->ones};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) backend_release(d->b, all[i]->data);
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
/* With a factor of 1: the gradient keeps its size however often it runs. */
static void run_factor_bwd(struct data *d) {
    struct tensor none = {0};
    be_factor_bwd(d->s, &(struct factor_grad){d->fm, d->g, d->u, none, none, d->ones, d->ones});
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
#define SQUARE(n) ((double)(n) * (n) / 2)
static const struct item items[] = {
    {"convert f32->act", run_convert, 0, 2.0 * T *C, 1.0 * T *C},
    {"rmsnorm_fwd", run_rmsnorm_fwd, 0, 2.0 * T *C, 1.0 * T *C},
    {"rmsnorm_bwd", run_rmsnorm_bwd, 0, 4.0 * T *C, 1.0 * T *C},
    {"rope", run_rope, 0, 2.0 * T *C, 1.0 * T *C},
    {"swiglu_fwd", run_swiglu_fwd, 0, 3.0 * T *F, 1.0 * T *F},
    {"swiglu_bwd", run_swiglu_bwd, 0, 5.0 * T *F, 1.0 * T *F},
    {"factor_bwd", run_factor_bwd, 0, 3.0 * T *F, 1.0 * T *F},
    {"dropout_mask", run_dropout_mask, 0, 0, 1.0 * T *C},
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
};

/* Best of up to 30 runs within about a tenth of a second; the first, which prepares and touches memory, counts
 * only if it takes that long by itself. */
static double best_seconds(const struct item *item, struct data *d) {
    double best = 1e9, spent = 0;
    for (int i = 0; i <= 30 && spent < 0.1; i++) {
        double start = clock_seconds();
        item->run(d);
        double t = clock_seconds() - start;
        if (i == 0 && t < 0.1) continue;
        spent += t;
        if (t < best) best = t;
    }
    return best;
}

static void print_item(const struct item *item, struct data *d, struct backend *b[N_LEVELS],
                       int n) {
    double t[N_LEVELS] = {0}, best;
    printf("%-5s %-30s", dtype_name(d->act), item->name);
    for (int l = 0; l < N_LEVELS; l++) {
        /* The reference's attention takes seconds: its short case says enough. */
        if (l >= n || (l == 0 && strstr(item->name, "1 x 2048"))) {
            printf(" %11s", "-");
            continue;
        }
        d->s = backend_stream(b[l]);
        t[l] = best_seconds(item, d);
        printf(" %11.3f", 1e3 * t[l]);
    }
    best = t[n - 1];
    if (t[0] > 0)
        printf(" %7.1f", t[0] / best);
    else
        printf(" %7s", "-");
    if (item->flops > 0) printf(" %8.1f GF/s", 1e-9 * item->flops / best);
    if (item->bytes > 0)
        printf(" %8.1f GB/s", 1e-9 * item->bytes * (double)dtype_size(d->act) / best);
    if (item->elements > 0) printf(" %8.3f ns", 1e9 * best / item->elements);
    printf("\n");
    fflush(stdout);
}

static void kernels(enum dtype act, const char *filter) {
    struct backend *b[N_LEVELS] = {0};
    struct data d;
    struct mil_error err;
    enum isa used = cpu_isa_used();
    int n = levels_for(act);
    for (int l = 0; l < n; l++) {
        cpu_isa_limit(levels[l]);
        if (backend_open("cpu", act, &b[l], &err) != MIL_OK) give_up(&err);
    }
    cpu_isa_limit(used);
    data_init(&d, b[0], act);
    for (size_t i = 0; i < sizeof items / sizeof *items; i++)
        if (chosen(items[i].name, filter)) print_item(&items[i], &d, b, n);
    data_release(&d);
    for (int l = 0; l < n; l++) backend_free(&b[l]);
}

int main(int argc, char **argv) {
    const char *filter = argc > 1 ? argv[1] : NULL;
    struct mil_error err;
    if (cpu_isa_from_environment(&err) != MIL_OK) give_up(&err);
    for (int i = 0; i < T; i++) {
        positions[i] = i;
        keys[i] = (uint64_t)i;
    }
    printf("# %s, %s, %d threads\n", cpu_model_name(), isa_name(cpu_isa_used()), threads_count());
    products(filter); /* first: the library takes its level once, before a backend is lowered */
    printf("# kernels on all threads, ms by level; the highest level's gain over ref, its rate\n");
    kernels(DT_BF16, filter);
    kernels(DT_F32, filter);
    return 0;
}
