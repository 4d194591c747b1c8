/* SPDX-License-Identifier: Apache-2.0 */
/* test_product_few.c - few rows against stored weights take another way than many: the same rows among many must
 * have the same bits, at every level. */
#include "kern_cases.h"

enum { MANY = 60 }; /* rows: a panel's case at every level */

struct shape {
    int64_t n, k;
};

static void product_all(const struct kern *k, struct kern_product *a) {
    int64_t items = kern_product_cut(a, 2);
    for (int64_t i = 0; i < items; i++) k->product(a, i, i + 1);
}

/* Two terms, the second one masked if so: rows of x act [MANY, k] against w act [n, k]. */
struct operands {
    struct buf x, w, c;
    uint8_t *mask;
};

static void run(const struct kern *k, const struct operands *o, int64_t m, bool masked,
                struct buf *c) {
    struct kern_term t[2] = {{.a = o->x.p,
                              .b = o->w.p,
                              .trans_b = true,
                              .k = o->x.cols,
                              .lda = o->x.ld,
                              .ldb = o->w.ld}};
    t[1] = t[0];
    t[1].mask = o->mask;
    t[1].ld_mask = o->c.cols / 8 + 9;
    t[1].kept = 1.25f;
    struct kern_product a = {.terms = t,
                             .n_terms = masked ? 2 : 1,
                             .c = c->p,
                             .c_type = c->type,
                             .m = m,
                             .n = c->cols,
                             .ldc = c->ld,
                             .alpha = 1};
    product_all(k, &a);
}

static void compare(const struct kern *k, const struct operands *o, int64_t m, bool masked) {
    struct buf c = buf_new(DT_F32, m, o->c.cols, 3, 1);
    run(k, o, m, masked, &c);
    for (int64_t i = 0; i < m; i++)
        if (memcmp((float *)c.p + i * c.ld, (float *)o->c.p + i * o->c.ld,
                   (size_t)c.cols * sizeof(float)) != 0)
            fail_msg("level %s act %s: row %ld of %ld x %ld x %ld differs from the same among %d",
                     isa_name(k->level), dtype_name(k->act), (long)i, (long)m, (long)c.cols,
                     (long)o->x.cols, MANY);
    buf_check_bands(&c, "few rows");
    buf_free(&c);
}

static void few_rows_have_the_bits_of_many(const struct kern *k, const struct kern *oracle) {
    (void)oracle;
    static const struct shape shapes[] = {{16, 32},   {64, 33},   {48, 16}, {80, 97}, {192, 576},
                                          {576, 192}, {96, 7000}, {70, 64}, {64, 200}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        if (k->level == ISA_REF && s > 3) continue; /* slow, and it has one way only */
        struct operands o = {.x = buf_new(k->act, MANY, shapes[s].k, 3, 1),
                             .w = buf_new(k->act, shapes[s].n, shapes[s].k, 5, 3),
                             .c = buf_new(DT_F32, MANY, shapes[s].n, 0, 0)};
        size_t bytes = (size_t)(MANY * (shapes[s].n / 8 + 9));
        o.mask = mem_alloc(MEM_OTHER, bytes, 1);
        for (size_t i = 0; i < bytes; i++) o.mask[i] = (uint8_t)(256 * rng_uniform(SEED, 3, 0, i));
        buf_fill(&o.x, FILL_NORMAL, 1, 1);
        buf_fill(&o.w, FILL_NORMAL, 2, 1);
        for (int masked = 0; masked < 2; masked++) {
            run(k, &o, MANY, masked, &o.c);
            for (int64_t m = 1; m <= 26; m += m < 9 ? 1 : 5) compare(k, &o, m, masked);
        }
        buf_free(&o.x);
        buf_free(&o.w);
        buf_free(&o.c);
        mem_free(o.mask);
    }
}

static struct table_test tests[] = {
    {"few_rows_have_the_bits_of_many", few_rows_have_the_bits_of_many}};

int main(void) {
    struct CMUnitTest list[] = {table_unit_test(&tests[0])};
    return cmocka_run_group_tests_name("kern product few", list, NULL, NULL);
}
