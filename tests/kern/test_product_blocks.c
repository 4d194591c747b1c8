/* SPDX-License-Identifier: Apache-2.0 */
/* test_product_blocks.c - products with weights in GGUF's blocks: bit for bit those with the expanded copy, for every
 * format, level, number of rows, and both ways round. */
#include "kern_cases.h"

#include "kern/dequant.h"

static const enum dtype formats[] = {DT_Q4_0, DT_Q4_1, DT_Q5_0, DT_Q5_1,
                                     DT_Q8_0, DT_Q4_K, DT_Q5_K, DT_Q6_K};
enum { N_FORMATS = sizeof formats / sizeof *formats };

/* Where a block's f16 factors stand. */
static void factors_at(enum dtype t, size_t at[2]) {
    at[0] = t == DT_Q6_K ? 208 : 0;
    at[1] = t == DT_Q4_1 || t == DT_Q5_1 || t == DT_Q4_K || t == DT_Q5_K ? 2 : at[0];
}

/* Random bytes with finite factors: normal, subnormal, zero, of both signs. */
static unsigned char *random_blocks(enum dtype t, int64_t rows, int64_t cols) {
    size_t bytes, step = dtype_block_bytes(t), at[2];
    if (!dtype_bytes(t, (uint64_t)(rows * cols), &bytes)) fail();
    unsigned char *p = mem_alloc(MEM_OTHER, bytes, 1);
    for (size_t i = 0; i < bytes; i++) p[i] = (unsigned char)(256 * rng_uniform(SEED, 5, t, i));
    factors_at(t, at);
    for (size_t b = 0; b < bytes; b += step)
        for (int f = 0; f < 2; f++) {
            float x = (float)rng_normal(SEED, 6, (uint32_t)f, b);
            if (b / step % 7 == 3) x *= 0x1p-20f;
            if (b / step % 11 == 5) x = 0;
            f16 h = f16_from_f32(x);
            memcpy(p + b + at[f], &h, sizeof h);
        }
    return p;
}

struct matrices {
    struct buf a, b; /* b: the expanded copy */
    unsigned char *blocks;
    enum dtype type;
    int64_t n, k;
    bool trans_b;
};

static void run(const struct kern *k, const struct matrices *x, int64_t m, bool blocks,
                struct buf *c) {
    struct kern_term t = {.a = x->a.p,
                          .b = blocks ? (const void *)x->blocks : x->b.p,
                          .b_type = blocks ? x->type : k->act,
                          .trans_b = x->trans_b,
                          .k = x->k,
                          .lda = x->a.ld,
                          .ldb = x->b.ld};
    struct kern_product a = {.terms = &t,
                             .n_terms = 1,
                             .c = c->p,
                             .c_type = DT_F32,
                             .m = m,
                             .n = x->n,
                             .ldc = c->ld,
                             .alpha = 1};
    int64_t items = kern_product_cut(&a, 2);
    for (int64_t i = 0; i < items; i++) k->product(&a, i, i + 1);
}

static void compare(const struct kern *k, const struct matrices *x, int64_t m) {
    struct buf got = buf_new(DT_F32, m, x->n, 0, 1), want = buf_new(DT_F32, m, x->n, 0, 1);
    run(k, x, m, true, &got);
    run(k, x, m, false, &want);
    if (memcmp(got.p, want.p, (size_t)(m * x->n) * sizeof(float)) != 0)
        fail_msg("level %s act %s: %s, %ld x %ld x %ld%s differs from the expanded copy",
                 isa_name(k->level), dtype_name(k->act), dtype_name(x->type), (long)m, (long)x->n,
                 (long)x->k, x->trans_b ? " transposed" : "");
    buf_check_bands(&got, "product of blocks");
    buf_free(&got);
    buf_free(&want);
}

static void shape_case(const struct kern *k, enum dtype t, int64_t n, int64_t depth, bool trans) {
    enum { MOST = 31 };
    int64_t rows = trans ? n : depth, cols = trans ? depth : n;
    struct matrices x = {.a = buf_new(k->act, MOST, depth, 2, 0),
                         .b = buf_new(k->act, rows, cols, 0, 0),
                         .blocks = random_blocks(t, rows, cols),
                         .type = t,
                         .n = n,
                         .k = depth,
                         .trans_b = trans};
    float *wide = mem_alloc(MEM_OTHER, (size_t)(rows * cols), sizeof *wide);
    buf_fill(&x.a, FILL_NORMAL, 1, 1);
    dequant_to_f32(t, x.blocks, rows * cols, wide);
    quant_from_f32(k->act, wide, rows * cols, x.b.p);
    static const int64_t m[] = {1, 2, 4, 5, 9, MOST};
    for (size_t i = 0; i < sizeof m / sizeof *m; i++)
        if (k->level != ISA_REF || m[i] < 5) compare(k, &x, m[i]);
    mem_free(wide);
    mem_free(x.blocks);
    buf_free(&x.a);
    buf_free(&x.b);
}

static void blocks_equal_the_expanded_copy(const struct kern *k, const struct kern *oracle) {
    (void)oracle;
    for (int f = 0; f < N_FORMATS; f++) {
        int64_t block = (int64_t)dtype_block_elems(formats[f]);
        shape_case(k, formats[f], 80, 3 * block, true);
        shape_case(k, formats[f], 33, 13 * block, true);
        shape_case(k, formats[f], 3 * block, 70, false);
        shape_case(k, formats[f], 5 * block, 33, false);
    }
}

static struct table_test tests[] = {
    {"blocks_equal_the_expanded_copy", blocks_equal_the_expanded_copy}};

int main(void) {
    struct CMUnitTest list[] = {table_unit_test(&tests[0])};
    return cmocka_run_group_tests_name("kern product blocks", list, NULL, NULL);
}
