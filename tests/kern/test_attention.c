/* SPDX-License-Identifier: Apache-2.0 */
/* test_attention.c - attention's kernels: as test_kern.c, on shapes around the tiles (64 keys, 24 rows), the
 * blocks (288 rows) and the segments (256 keys), with windows, grouped heads, gaps between rows, and ranges
 * cut in other places. */
#include "kern_cases.h"

struct attention_case {
    int64_t n_q, n_kv, dim, window, group;
    double spread;
};

static const struct attention_case attentions[] = {
    {1, 1, 2, 0, 1, 1},       {1, 17, 8, 0, 1, 1},      {1, 130, 64, 0, 2, 1},
    {5, 5, 16, 0, 1, 1},      {64, 64, 16, 0, 1, 1},    {65, 65, 24, 0, 3, 1},
    {63, 127, 30, 0, 1, 1},   {100, 200, 64, 0, 2, 3},  {70, 70, 8, 1, 1, 1},
    {70, 70, 8, 5, 2, 1},     {150, 150, 16, 64, 1, 1}, {150, 300, 16, 100, 2, 1},
    {130, 130, 9, 65, 1, 1},  {3, 200, 17, 10, 1, 1},   {20, 20, 256, 0, 1, 1},
    {200, 200, 16, 0, 1, 30}, {1, 256, 64, 0, 3, 1},    {1, 700, 64, 0, 3, 1},
    {2, 515, 128, 0, 1, 1},   {300, 520, 64, 0, 3, 1},  {310, 310, 33, 0, 1, 1},
    {40, 600, 32, 300, 2, 1}, {260, 777, 20, 20, 1, 1}, {30, 41, 256, 0, 13, 1},
    {1, 90, 130, 0, 30, 1}};

enum { A_Q, A_K, A_V, A_DO, A_O, A_DQ, A_DK, A_DV, A_LSE, A_BUFFERS };
enum { PART_QUERIES = 96 };

/* Which buffers have a row for each key. */
static bool is_key(int i) {
    return i == A_K || i == A_V || i == A_DK || i == A_DV;
}

static void attention_buffers(const struct attention_case *c, enum dtype act, struct buf *b) {
    for (int i = 0; i < A_BUFFERS; i++) {
        int64_t cols = i == A_LSE ? c->group : is_key(i) ? c->dim : c->dim * c->group;
        b[i] = buf_new(i == A_LSE ? DT_F32 : act, is_key(i) ? c->n_kv : c->n_q, cols, i % 4, i % 3);
        buf_fill(&b[i], i <= A_DO ? FILL_NORMAL : FILL_POISON, (uint32_t)i,
                 i <= A_K ? c->spread : 1);
    }
}
static void attention_release(struct buf *b) {
    for (int i = 0; i < A_BUFFERS; i++) buf_free(&b[i]);
}

/* Numbers that the case's parts take, forward and backward. */
static size_t parts_size(const struct attention_case *c) {
    int64_t segments = (c->n_kv + KERN_ATTENTION_SEGMENT - 1) / KERN_ATTENTION_SEGMENT;
    int64_t forward = segments * c->n_q * c->group * kern_attention_part_row(c->dim);
    int64_t backward = c->n_q * kern_attention_sums(c->n_kv, c->dim);
    return (size_t)(forward > backward ? forward : backward);
}
static void *parts_new(const struct attention_case *c, enum dtype real) {
    size_t bytes = parts_size(c) * dtype_size(real);
    void *p = mem_alloc(MEM_OTHER, bytes, 1);
    memset(p, 0xFF, bytes); /* NaN */
    return p;
}

static struct kern_attention attention_args(const struct attention_case *c, struct buf *b,
                                            void *parts, bool f64) {
    void *p[A_BUFFERS];
    for (int i = 0; i < A_BUFFERS; i++) p[i] = f64 ? (void *)b[i].f64 : b[i].p;
    return (struct kern_attention){.q = p[A_Q],
                                   .k = p[A_K],
                                   .v = p[A_V],
                                   .d_o = p[A_DO],
                                   .o = p[A_O],
                                   .dq = p[A_DQ],
                                   .dk = p[A_DK],
                                   .dv = p[A_DV],
                                   .lse = p[A_LSE],
                                   .parts = parts,
                                   .ldq = b[A_Q].ld,
                                   .ldk = b[A_K].ld,
                                   .ldv = b[A_V].ld,
                                   .ldo = b[A_O].ld,
                                   .ld_do = b[A_DO].ld,
                                   .ld_lse = b[A_LSE].ld,
                                   .ld_dq = b[A_DQ].ld,
                                   .ld_dk = b[A_DK].ld,
                                   .ld_dv = b[A_DV].ld,
                                   .n_q = c->n_q,
                                   .n_kv = c->n_kv,
                                   .head_dim = c->dim,
                                   .window = c->window,
                                   .group = c->group,
                                   .kv_heads = 1,
                                   .part_queries = PART_QUERIES,
                                   .scale = 1 / sqrt((double)c->dim)};
}

/* Forward, or all of it. */
static void run_forward(const struct kern *k, const struct kern_attention *a) {
    k->attention_fwd(a, 0, a->n_q);
}
static void run_backward(const struct kern *k, const struct kern_attention *a) {
    k->attention_bwd(a, 0, (a->n_q + a->part_queries - 1) / a->part_queries);
    k->attention_bwd_kv(a, 0, a->n_kv);
}

/* The f64 copies take over what the kernel under test made: each step is checked on its own. */
static void take_over(struct buf *b) {
    for (int64_t r = 0; r < b->rows; r++)
        for (int64_t c = 0; c < b->cols; c++)
            b->f64[r * b->ld + c] = get(b->type, b->p, r * b->ld + c);
}

/* Relative errors of P:
 *
 * score    A score is scale times D products of numbers below 5 spread and 5 spread: error (D + 3) u S, S =
 *          scale D 25 spread^2 at the very worst, in practice a few standard deviations of the sum of D
 *          products, 6 sqrt(D) spread^2 scale = 6 spread^2; the worst case of the rounding is likewise not
 *          met.  As an exponent of 2 it is multiplied by log2 e, and so is lse, with one rounding each.
 * exp      2 units in the last place; with bf16 2^-18.4 (simd.h), here and in the sums of P.
 * sums     n terms add n u.
 * stored   where pairs of bf16 are multiplied, P and dS are rounded to bf16 first: 2^-9. */
struct error_terms {
    double p, stored;
};
static struct error_terms error_terms(const struct kern *k, const struct attention_case *c) {
    double scores = 6 * c->spread * c->spread, n = (double)(c->n_kv + c->n_q * c->group);
    double p = ((double)c->dim + 6) * U * scores + (n + 20) * U;
    if (k->act == DT_BF16) p += 0x1p-18;
    bool pairs = k->act == DT_BF16 && k->from.attention_fwd >= ISA_AVX512_BF16;
    return (struct error_terms){p, pairs ? 0x1p-9 : 0};
}

/* The same bits from segments that are joined, one at a time and backwards. */
static void check_joined(const struct context *x, const struct kern_attention *a,
                         const struct attention_case *c, const struct buf *b) {
    struct buf again[A_BUFFERS];
    if (c->n_q * c->group > KERN_ATTENTION_FEW) return;
    attention_buffers(c, x->kern->act, again);
    struct kern_attention j = *a;
    j.o = again[A_O].p, j.lse = again[A_LSE].p;
    for (int64_t i = (c->n_kv + KERN_ATTENTION_SEGMENT - 1) / KERN_ATTENTION_SEGMENT - 1; i >= 0;
         i--)
        x->kern->attention_part(&j, i, i + 1);
    for (int64_t i = c->n_q - 1; i >= 0; i--) x->kern->attention_join(&j, i, i + 1);
    if (memcmp(again[A_O].memory, b[A_O].memory, b[A_O].bytes) != 0 ||
        memcmp(again[A_LSE].memory, b[A_LSE].memory, b[A_LSE].bytes) != 0)
        fail_msg("%s level %s act %s %s: joined segments differ", x->op, isa_name(x->kern->level),
                 dtype_name(x->kern->act), x->shape);
    attention_release(again);
}

static void attention_check(const struct kern *k, const struct kern *oracle,
                            const struct attention_case *c) {
    struct context x = {.op = "attention", .kern = k};
    snprintf(x.shape, sizeof x.shape, "q %ld kv %ld dim %ld window %ld group %ld", (long)c->n_q,
             (long)c->n_kv, (long)c->dim, (long)c->window, (long)c->group);
    struct buf b[A_BUFFERS];
    attention_buffers(c, k->act, b);
    void *own = parts_new(c, DT_F32), *exact = parts_new(c, DT_F64);
    struct kern_attention a = attention_args(c, b, own, false),
                          e = attention_args(c, b, exact, true);
    struct error_terms err = error_terms(k, c);
    run_forward(k, &a);
    run_forward(oracle, &e);
    /* o = sum P v / sum P, |v| < 5. */
    buf_compare(&x, &b[A_LSE], "lse", 2 * U, err.p);
    buf_compare(&x, &b[A_O], "o", unit(k->act), 5 * (2 * err.p + err.stored));
    check_joined(&x, &a, c, b);
    take_over(&b[A_O]);
    take_over(&b[A_LSE]);
    run_backward(k, &a);
    run_backward(oracle, &e);
    /* dS = P (dP - delta), |dP|, |delta| < dots, errs by P times |dP - delta| p + 2 (D + 3) u dots, and by the
     * rounding of what is stored; rows of P sum to 1, columns to at most the number of queries (times the
     * group). */
    double dots = 5 * 5 * sqrt((double)c->dim), scale = 1 / sqrt((double)c->dim);
    double ds = 2 * dots * (err.p + err.stored + ((double)c->dim + 3) * U);
    double columns = (double)(c->n_q * c->group);
    buf_compare(&x, &b[A_DQ], "dq", unit(k->act), scale * ds * 5 * c->spread);
    buf_compare(&x, &b[A_DK], "dk", unit(k->act), scale * ds * 5 * c->spread * columns);
    buf_compare(&x, &b[A_DV], "dv", unit(k->act), (2 * err.p + err.stored) * 5 * columns);
    mem_free(own);
    mem_free(exact);
    attention_release(b);
}

static void attention_table(const struct kern *k, const struct kern *oracle) {
    for (size_t i = 0; i < sizeof attentions / sizeof *attentions; i++)
        attention_check(k, oracle, &attentions[i]);
}

/* A query's bits (o, lse, dq) do not depend on where queries are cut, nor a key's on where keys are. */
static void attention_cuts(const struct kern *k, const struct kern *oracle) {
    (void)oracle;
    static const struct attention_case cases[] = {{150, 413, 24, 290, 2, 1},
                                                  {310, 330, 64, 0, 3, 1}};
    for (int n = 0; n < 2; n++) {
        const struct attention_case *c = &cases[n];
        struct buf whole[A_BUFFERS], cut[A_BUFFERS];
        attention_buffers(c, k->act, whole);
        attention_buffers(c, k->act, cut);
        void *parts = parts_new(c, DT_F32);
        struct kern_attention a = attention_args(c, whole, parts, false);
        a.part_queries = c->n_q;
        run_forward(k, &a);
        run_backward(k, &a);
        a = attention_args(c, cut, parts, false);
        for (int64_t i = 0, step = 1; i < c->n_q; i += step, step = step % 37 + 1)
            k->attention_fwd(&a, i, i + step < c->n_q ? i + step : c->n_q);
        a.part_queries = c->n_q;
        k->attention_bwd(&a, 0, 1);
        for (int64_t j = 0; j < c->n_kv; j += 7)
            k->attention_bwd_kv(&a, j, j + 7 < c->n_kv ? j + 7 : c->n_kv);
        a.part_queries = 13; /* dq once more */
        for (int64_t i = (c->n_q + 12) / 13 - 1; i >= 0; i--) k->attention_bwd(&a, i, i + 1);
        for (int i = A_O; i < A_BUFFERS; i++)
            if (memcmp(whole[i].memory, cut[i].memory, whole[i].bytes) != 0)
                fail_msg("attention: buffer %d depends on the cut, level %s act %s", i,
                         isa_name(k->level), dtype_name(k->act));
        mem_free(parts);
        attention_release(whole);
        attention_release(cut);
    }
}

static const struct table_test tests[] = {{"attention_table", attention_table},
                                          {"attention_cuts", attention_cuts}};
enum { N_TESTS = sizeof tests / sizeof *tests };

int main(void) {
    printf("seed %d, levels up to %s\n", SEED, isa_name(cpu_isa_found()));
    struct CMUnitTest list[N_TESTS];
    for (int i = 0; i < N_TESTS; i++) list[i] = table_unit_test(&tests[i]);
    return cmocka_run_group_tests(list, NULL, NULL);
}
