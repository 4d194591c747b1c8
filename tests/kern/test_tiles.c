/* SPDX-License-Identifier: Apache-2.0 */
/* test_tiles.c - products: as test_kern.c, on shapes around the tiles (384 x 64, blocks of 128 and 896
 * steps), with gaps between rows and items cut in other places. */
#include "kern_cases.h"

/* ---- product ---- */

enum { P_TRANS_A = 1, P_TRANS_B = 2, P_ROUNDED = 4, P_ADDEND = 8, P_BIAS = 16, P_IN_PLACE = 32 };

/* A term's matrices and the masks' bits, in the type under test and in f64. */
struct term_case {
    int64_t k;
    bool masked;
    double kept, dropped;
};
struct term_buffers {
    struct buf a, b;
    uint8_t *mask;
};

static struct term_buffers term_new(const struct kern *k, const struct term_case *c, int64_t m,
                                    int64_t n, int mode, enum fill fill, uint32_t stream,
                                    struct kern_term *own, struct kern_term *exact) {
    bool ta = mode & P_TRANS_A, tb = mode & P_TRANS_B;
    struct term_buffers t = {buf_new(k->act, ta ? c->k : m, ta ? m : c->k, 3, 1),
                             buf_new(k->act, tb ? n : c->k, tb ? c->k : n, 1, 3), NULL};
    int64_t ld_mask = (n + 63) / 64 * 8 + 8;
    buf_fill(&t.a, fill, stream, 1);
    buf_fill(&t.b, fill, stream + 1, 1);
    if (c->masked) {
        t.mask = mem_alloc(MEM_OTHER, (size_t)(m * ld_mask) + 1, 1);
        for (int64_t i = 0; i < m * ld_mask; i++)
            t.mask[i] = (uint8_t)(256 * rng_uniform(SEED, stream + 2, 0, (uint64_t)i));
    }
    *own = (struct kern_term){.a = t.a.p,
                              .b = t.b.p,
                              .trans_a = ta,
                              .trans_b = tb,
                              .k = c->k,
                              .lda = t.a.ld,
                              .ldb = t.b.ld,
                              .mask = t.mask,
                              .ld_mask = ld_mask,
                              .kept = c->kept,
                              .dropped = c->dropped};
    *exact = *own;
    exact->a = t.a.f64;
    exact->b = t.b.f64;
    return t;
}

static void product_case(const struct kern *k, const struct kern *oracle, int64_t m, int64_t n,
                         const struct term_case *terms, int n_terms, int mode, enum fill fill) {
    struct context x = {.op = "product", .kern = k};
    struct kern_term own[3], exact[3];
    struct term_buffers t[3];
    int64_t depth = 0;
    for (int i = 0; i < n_terms; i++) {
        t[i] = term_new(k, &terms[i], m, n, mode, fill, (uint32_t)(10 * i), &own[i], &exact[i]);
        depth += terms[i].k;
    }
    snprintf(x.shape, sizeof x.shape, "%ldx%ldx%ld, %d terms, mode %d", (long)m, (long)n,
             (long)depth, n_terms, mode);
    struct buf c = buf_new(mode & P_ROUNDED ? k->act : DT_F32, m, n, 2, 1);
    struct buf d = buf_new(DT_F32, m, n, 1, 2), e = buf_new(DT_F32, 1, n, 0, 1);
    bool in_place = mode & P_IN_PLACE, add = mode & P_ADDEND;
    buf_fill(&c, add && in_place ? fill : FILL_POISON, 3, 1);
    buf_fill(&d, fill, 4, 1);
    buf_fill(&e, fill, 5, 1);
    const struct buf *addend = in_place ? &c : &d;
    struct kern_product p = {.terms = own,
                             .n_terms = n_terms,
                             .c = c.p,
                             .addend = add ? addend->p : NULL,
                             .bias = mode & P_BIAS ? e.p : NULL,
                             .c_type = c.type,
                             .addend_type = addend->type,
                             .bias_type = DT_F32,
                             .m = m,
                             .n = n,
                             .ldc = c.ld,
                             .ld_addend = addend->ld,
                             .alpha = -1,
                             .beta = 2};
    struct kern_product q = p;
    q.terms = exact, q.c = c.f64, q.addend = add ? addend->f64 : NULL;
    q.bias = mode & P_BIAS ? e.f64 : NULL;
    q.c_type = q.addend_type = q.bias_type = DT_F64;
    k->product(&p, 0, kern_product_cut(&p, 1 + mode % 3));
    oracle->product(&q, 0, kern_product_cut(&q, 1));
    /* K products of numbers below 6 in a chain, times a factor of at most 2, beta d, e; typically
     * |sum| < 12 sqrt(K). */
    double bound = ((double)depth + 8) * U * (12 * sqrt((double)depth) + 18);
    bool integer = fill == FILL_INTEGER && c.type == DT_F32;
    buf_compare(&x, &c, "c", c.type == k->act ? unit(k->act) : 0, integer ? 0 : bound);
    for (int i = 0; i < n_terms; i++) {
        buf_free(&t[i].a);
        buf_free(&t[i].b);
        mem_free(t[i].mask);
    }
    buf_free(&c);
    buf_free(&d);
    buf_free(&e);
}

static void product_table(const struct kern *k, const struct kern *oracle) {
    static const int64_t shapes[][3] = {{0, 3, 3},   {1, 1, 1},     {1, 65, 300},  {2, 17, 0},
                                        {5, 64, 7},  {7, 15, 257},  {193, 66, 40}, {64, 130, 256},
                                        {12, 33, 9}, {49, 64, 1700}};
    for (int i = 0; i < 10; i++)
        for (int mode = 0; mode < 64; mode += i < 6 ? 1 : 5)
            for (int f = 0; f < 2; f++) {
                struct term_case one = {.k = shapes[i][2]};
                product_case(k, oracle, shapes[i][0], shapes[i][1], &one, 1, mode, fills[f]);
            }
}

/* Sums of products, with and without masks; a mask comes first, last and between. */
static void product_terms(const struct kern *k, const struct kern *oracle) {
    static const struct term_case terms[] = {
        {40, true, 1.25, 0}, {7, false, 0, 0}, {64, true, 0.25, -1}, {9, false, 0, 0}};
    static const int64_t shapes[][2] = {{1, 64}, {7, 100}, {70, 33}, {400, 64}, {13, 200}};
    for (int i = 0; i < 5; i++)
        for (int first = 0; first < 4; first++)
            for (int n = 0; n <= 3 && first + n <= 4; n++)
                for (int f = 0; f < 2; f++)
                    product_case(k, oracle, shapes[i][0], shapes[i][1], terms + first, n,
                                 (i * 7 + first * 3 + n * 11) % 64, fills[f]);
}

/* An element's bits depend on its row of A and column of B alone: not on the other rows, the threads
 * the items were cut for, or the order of the items. */
static void product_invariance(const struct kern *k, const struct kern *oracle) {
    (void)oracle;
    enum { M = 61, N = 150, K = 1601 };
    struct buf a = buf_new(k->act, M, K, 1, 0), b = buf_new(k->act, N, K, 0, 0);
    struct buf whole = buf_new(DT_F32, M, N, 0, 0), part = buf_new(DT_F32, M, N, 0, 0);
    buf_fill(&a, FILL_NORMAL, 1, 1);
    buf_fill(&b, FILL_NORMAL, 2, 1);
    struct kern_term t = {.a = a.p, .b = b.p, .trans_b = true, .k = K, .lda = a.ld, .ldb = b.ld};
    struct kern_product p = {.terms = &t, .n_terms = 1, .c = whole.p, .c_type = DT_F32};
    p.m = M, p.n = N, p.ldc = N, p.alpha = 1;
    k->product(&p, 0, kern_product_cut(&p, 1));
    for (int64_t from = 0, rows = 1; from < M; from += rows, rows++) {
        struct kern_product q = p;
        struct kern_term s = t;
        if (rows > M - from) rows = M - from;
        s.a = (const char *)a.p + (size_t)(from * a.ld) * dtype_size(a.type);
        q.terms = &s;
        q.c = (float *)part.p + from * N;
        q.m = rows;
        for (int64_t i = kern_product_cut(&q, 1 + from % 5) - 1; i >= 0; i--)
            k->product(&q, i, i + 1);
    }
    if (memcmp(whole.p, part.p, M * N * sizeof(float)) != 0)
        fail_msg("product: bits depend on the other rows, level %s act %s", isa_name(k->level),
                 dtype_name(k->act));
    buf_free(&a);
    buf_free(&b);
    buf_free(&whole);
    buf_free(&part);
}

/* All entries of A and B are 1 + 2^-7, C is their sum's K (1 + 2^-6 + 2^-14). */
static void long_sums(const struct kern *k, int64_t m, int mode) {
    enum { N = 64, K = 4096 };
    bool ta = mode & P_TRANS_A, tb = mode & P_TRANS_B;
    struct buf a = buf_new(k->act, ta ? K : m, ta ? m : K, 0, 0);
    struct buf b = buf_new(k->act, tb ? N : K, tb ? K : N, 0, 0), c = buf_new(DT_F32, m, N, 0, 0);
    for (int64_t i = 0; i < m * K; i++) put(k->act, a.p, i, 1 + 0x1p-7);
    for (int64_t i = 0; i < N * K; i++) put(k->act, b.p, i, 1 + 0x1p-7);
    struct kern_term t = {
        .a = a.p, .b = b.p, .trans_a = ta, .trans_b = tb, .k = K, .lda = a.ld, .ldb = b.ld};
    struct kern_product p = {.terms = &t,
                             .n_terms = 1,
                             .c = c.p,
                             .c_type = DT_F32,
                             .m = m,
                             .n = N,
                             .ldc = N,
                             .alpha = 1};
    k->product(&p, 0, kern_product_cut(&p, 1));
    bool pairs = k->act == DT_BF16 && k->from.product >= ISA_AVX512_BF16;
    double want = K * (1 + 0x1p-6 + 0x1p-14), chain = pairs ? K : KERN_PRODUCT_CHAIN;
    double bound = (chain + K / chain) * U * want;
    for (int64_t i = 0; i < m * N; i++)
        if (!(fabs(get(DT_F32, c.p, i) - want) <= bound))
            fail_msg("product: level %s act %s, %ld rows, mode %d: sum %.9g, want %.9g within %.2g",
                     isa_name(k->level), dtype_name(k->act), (long)m, mode, get(DT_F32, c.p, i),
                     want, bound);
    buf_free(&a);
    buf_free(&b);
    buf_free(&c);
}

/* The error of a long sum does not grow with its length.  K numbers x > 0 in chains of n: a chain's multiply-adds round
 * n times, each by at most u of what has been summed, and adding up K / n chains rounds as often: (n + K / n) u K x.
 * (1 + 2^-7)^2 added to a sum between 2048 and 4096, whose last place is 2^-12, always loses 2^-14, so that one chain of
 * 4096 errs by 760 u; the bound of chains of 128 is 160 u. */
static void product_long_sums(const struct kern *k, const struct kern *oracle) {
    (void)oracle;
    static const int64_t rows[] = {1, 3, 7, 40};
    for (int i = 0; i < 4; i++)
        for (int mode = 0; mode < 4; mode++) long_sums(k, rows[i], mode);
}

static const struct table_test tests[] = {
    {"product_table", product_table},
    {"product_terms", product_terms},
    {"product_invariance", product_invariance},
    {"product_long_sums", product_long_sums},
};
enum { N_TESTS = sizeof tests / sizeof *tests };

int main(void) {
    printf("seed %d, levels up to %s\n", SEED, isa_name(cpu_isa_found()));
    struct CMUnitTest list[N_TESTS];
    for (int i = 0; i < N_TESTS; i++) list[i] = table_unit_test(&tests[i]);
    return cmocka_run_group_tests(list, NULL, NULL);
}
