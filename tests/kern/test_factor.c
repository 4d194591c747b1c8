/* SPDX-License-Identifier: Apache-2.0 */
/* test_factor.c - the kernels of factors of columns (times, col_dots, factor_bwd, norm_factor) at every level, for f32, bf16
 * and f64, against plain loops in f64, on shapes around the vector widths, with gaps and off their alignment; that an
 * output's bits do not depend on the cut; and that a factor is exactly 1 where magnitude and norm agree.
 *
 * Bounds.  u is 2^-24, or 2^-53 for the f64 instance.  A product is rounded once: u |want|.  A sum over rows is a chain
 * of fused multiply-adds of at most 64 rows (blocks are joined in double), the weight and the old value are added in
 * double and rounded once: 64 u S + u |want|, S the sum of magnitudes; y - d - e are two more roundings relative
 * to |y| + |d| + |e|.  An output in bf16 adds its own rounding. */
#include "kern_cases.h"

static const int64_t widths[] = {1, 7, 16, 17, 64, 65, 530};
static const int64_t heights[] = {0, 1, 64, 65, 130};
enum { WIDTHS = sizeof widths / sizeof *widths, HEIGHTS = sizeof heights / sizeof *heights };

/* Wide ones at one height alone: time. */
static bool left_out(int64_t rows, int64_t cols) {
    return cols > 100 && rows != 65;
}
static double round_of(const struct kern *k) {
    return k->act == DT_F64 ? 0x1p-53 : U;
}
static double at(const struct buf *b, int64_t r, int64_t c) {
    return b->f64[r * b->ld + c];
}

/* All tables, the f64 instance last. */
static void for_all_tables(void (*test)(const struct kern *k)) {
    static const enum dtype acts[] = {DT_F32, DT_BF16};
    struct kern k;
    for (int level = ISA_REF; level <= (int)cpu_isa_found(); level++)
        for (int i = 0; i < 2; i++) {
            kern_table_init(&k, acts[i], (enum isa)level);
            test(&k);
        }
    kern_table_init(&k, DT_F64, ISA_REF);
    test(&k);
}

/* |got - want| within bound[i], row by row; bands untouched. */
static void compare(const struct context *x, const struct buf *b, const double *bound) {
    for (int64_t r = 0; r < b->rows; r++)
        for (int64_t c = 0; c < b->cols; c++) {
            double got = get(b->type, b->p, r * b->ld + c), want = at(b, r, c);
            if (!(fabs(got - want) <= bound[r * b->cols + c]))
                fail_msg("%s level %s act %s %s: [%ld,%ld] = %.9g, want %.9g within %.3g", x->op,
                         isa_name(x->kern->level), dtype_name(x->kern->act), x->shape, (long)r,
                         (long)c, got, want, bound[r * b->cols + c]);
        }
    buf_check_bands(b, x->op);
}
static double *bounds_new(const struct buf *b) {
    return mem_calloc(MEM_OTHER, (size_t)(b->rows * b->cols) + 1, sizeof(double));
}

/* ---- times ---- */

static void times_case(const struct kern *k, enum dtype to, enum dtype from, int64_t n, bool same) {
    struct context x = {.op = "times", .kern = k};
    snprintf(x.shape, sizeof x.shape, "%s->%s n %ld", dtype_name(from), dtype_name(to), (long)n);
    struct buf in = buf_new(from, 1, n, 0, 1), f = buf_new(k->real, 1, n, 0, 2),
               out = buf_new(to, 1, n, 0, 3);
    struct buf *y = same ? &in : &out;
    buf_fill(&in, FILL_NORMAL, 1, 1);
    buf_fill(&f, FILL_NORMAL, 2, 2);
    double *bound = bounds_new(y);
    for (int64_t i = 0; i < n; i++) {
        double want = in.f64[i] * f.f64[i];
        bound[i] = (round_of(k) + unit(to)) * fabs(want) * 1.01;
        y->f64[i] = want;
    }
    int64_t cut = n / 3;
    k->times(&(struct kern_times){y->p, in.p, f.p, to, from}, cut, n);
    k->times(&(struct kern_times){y->p, in.p, f.p, to, from}, 0, cut);
    compare(&x, y, bound);
    mem_free(bound);
    buf_free(&in);
    buf_free(&f);
    buf_free(&out);
}

static void times_table(const struct kern *k) {
    const enum dtype types[] = {k->act, k->real};
    for (int i = 0; i < 4; i++)
        for (int w = 0; w < WIDTHS; w++)
            times_case(k, types[i / 2], types[i % 2], widths[w], false);
    for (int w = 0; w < WIDTHS; w++) times_case(k, k->act, k->act, widths[w], true);
}
static void test_times(void **state) {
    (void)state;
    for_all_tables(times_table);
}

/* ---- col_dots ---- */

static void col_dots_case(const struct kern *k, enum dtype a_type, enum dtype b_type, int64_t rows,
                          int64_t cols) {
    struct context x = {.op = "col_dots", .kern = k};
    snprintf(x.shape, sizeof x.shape, "%s %s %ld x %ld", dtype_name(a_type), dtype_name(b_type),
             (long)rows, (long)cols);
    struct buf a = buf_new(a_type, rows, cols, 3, 1), b = buf_new(b_type, rows, cols, 0, 2),
               out = buf_new(k->real, 1, cols, 0, 1), cut = buf_new(k->real, 1, cols, 0, 1);
    buf_fill(&a, FILL_NORMAL, 1, 1);
    buf_fill(&b, FILL_NORMAL, 2, 1);
    buf_fill(&out, FILL_NORMAL, 3, 1);
    buf_fill(&cut, FILL_NORMAL, 3, 1);
    double *bound = bounds_new(&out), scale = -0.75;
    for (int64_t c = 0; c < cols; c++) {
        double sum = 0, size = 0;
        for (int64_t t = 0; t < rows; t++) {
            sum += at(&a, t, c) * at(&b, t, c);
            size += fabs(at(&a, t, c) * at(&b, t, c));
        }
        out.f64[c] += scale * sum;
        bound[c] = round_of(k) * (64 * fabs(scale) * size + 2 * fabs(out.f64[c])) +
                   (double)rows * 0x1p-53 * size;
    }
    struct kern_col_dots args = {out.p, a.p, b.p, a_type, b_type, rows, a.ld, b.ld, scale};
    k->col_dots(&args, 0, cols);
    compare(&x, &out, bound);
    args.out = cut.p;
    k->col_dots(&args, cols / 3, cols);
    k->col_dots(&args, 0, cols / 3);
    assert_memory_equal(out.p, cut.p, (size_t)cols * dtype_size(k->real));
    mem_free(bound);
    buf_free(&a);
    buf_free(&b);
    buf_free(&out);
    buf_free(&cut);
}

static void col_dots_table(const struct kern *k) {
    const enum dtype types[] = {k->act, k->real};
    for (int i = 0; i < 4; i++)
        for (int w = 0; w < WIDTHS; w++)
            for (int h = 0; h < HEIGHTS; h++)
                if (!left_out(heights[h], widths[w]))
                    col_dots_case(k, types[i / 2], types[i % 2], heights[h], widths[w]);
}
static void test_col_dots(void **state) {
    (void)state;
    for_all_tables(col_dots_table);
}

/* ---- factor_bwd ---- */

/* Which operands there are, and their types. */
struct back_kind {
    bool sums, d, e, y_real, d_real, e_real;
};
struct back {
    struct buf out, g, y, d, e, f, w;
};
static struct back back_new(const struct kern *k, struct back_kind kind, int64_t rows,
                            int64_t cols) {
    const enum dtype types[] = {k->act, k->real};
    struct back b = {.out = buf_new(k->real, 1, cols, 0, 1),
                     .g = buf_new(k->act, rows, cols, 5, 3),
                     .y = buf_new(types[kind.y_real], rows, cols, 2, 1),
                     .d = buf_new(types[kind.d_real], rows, cols, 0, 1),
                     .e = buf_new(types[kind.e_real], 1, cols, 0, 1),
                     .f = buf_new(k->real, 1, cols, 0, 1),
                     .w = buf_new(k->real, 1, cols, 0, 0)};
    struct buf *all[] = {&b.out, &b.g, &b.y, &b.d, &b.e, &b.f, &b.w};
    for (uint32_t i = 0; i < 7; i++) buf_fill(all[i], FILL_NORMAL, i, 1);
    return b;
}
static void back_free(struct back *b) {
    struct buf *all[] = {&b->out, &b->g, &b->y, &b->d, &b->e, &b->f, &b->w};
    for (int i = 0; i < 7; i++) buf_free(all[i]);
}
static void back_run(const struct kern *k, struct back_kind kind, struct back *b, int64_t begin,
                     int64_t end) {
    k->factor_bwd(&(struct kern_factor_bwd){.out = kind.sums ? b->out.p : NULL,
                                            .g = b->g.p,
                                            .y = b->y.p,
                                            .d = kind.d ? b->d.p : NULL,
                                            .e = kind.e ? b->e.p : NULL,
                                            .f = b->f.p,
                                            .w = b->w.p,
                                            .y_type = b->y.type,
                                            .d_type = b->d.type,
                                            .e_type = b->e.type,
                                            .rows = b->g.rows,
                                            .ld_g = b->g.ld,
                                            .ld_y = b->y.ld,
                                            .ld_d = b->d.ld},
                  begin, end);
}

static void back_case(const struct kern *k, struct back_kind kind, int64_t rows, int64_t cols) {
    struct context x = {.op = "factor_bwd", .kern = k};
    snprintf(x.shape, sizeof x.shape, "%ld x %ld, sums %d d %d e %d real %d %d %d", (long)rows,
             (long)cols, kind.sums, kind.d, kind.e, kind.y_real, kind.d_real, kind.e_real);
    struct back b = back_new(k, kind, rows, cols), cut = back_new(k, kind, rows, cols);
    double *bound = bounds_new(&b.out), *bound_g = bounds_new(&b.g), u = round_of(k);
    for (int64_t c = 0; c < cols; c++) {
        double sum = 0, size = 0;
        for (int64_t t = 0; t < rows; t++) {
            double g = at(&b.g, t, c), y = at(&b.y, t, c), d = kind.d ? at(&b.d, t, c) : 0,
                   e = kind.e ? at(&b.e, 0, c) : 0;
            sum += g * (y - d - e);
            size += fabs(g) * (fabs(y) + fabs(d) + fabs(e));
            b.g.f64[t * b.g.ld + c] = g * b.f.f64[c];
            bound_g[t * cols + c] = (u + unit(k->act)) * fabs(g * b.f.f64[c]) * 1.01;
        }
        if (kind.sums) b.out.f64[c] += b.w.f64[c] * sum;
        bound[c] = u * (66 * fabs(b.w.f64[c]) * size + 2 * fabs(b.out.f64[c])) +
                   (double)rows * 0x1p-52 * size;
        if (!kind.sums) bound[c] = 0;
    }
    back_run(k, kind, &b, 0, cols);
    compare(&x, &b.out, bound);
    compare(&x, &b.g, bound_g);
    back_run(k, kind, &cut, cols / 3, cols);
    back_run(k, kind, &cut, 0, cols / 3);
    assert_memory_equal(b.out.memory, cut.out.memory, b.out.bytes);
    assert_memory_equal(b.g.memory, cut.g.memory, b.g.bytes);
    mem_free(bound);
    mem_free(bound_g);
    back_free(&b);
    back_free(&cut);
}

static void back_table(const struct kern *k) {
    static const struct back_kind kinds[] = {
        {.sums = true}, /* as v, gate, up */
        {.sums = true, .d = true, .y_real = true, .d_real = true},
        {.sums = false},
        {.sums = true, .e = true},
        {.sums = true, .e = true, .e_real = true},
        {true, true, true, true, false, true},
        {true, true, true, false, true, false}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        for (int w = 0; w < WIDTHS; w++)
            for (int h = 0; h < HEIGHTS; h++)
                if (!left_out(heights[h], widths[w])) back_case(k, kinds[i], heights[h], widths[w]);
}
static void test_factor_bwd(void **state) {
    (void)state;
    for_all_tables(back_table);
}

/* ---- norm_factor ---- */

struct norm {
    struct buf f, w, magnitude, squares, v, b;
};
static struct norm norm_new(const struct kern *k, int64_t depth, int64_t cols) {
    struct norm n = {buf_new(k->real, 1, cols, 0, 1),     buf_new(k->real, 1, cols, 0, 2),
                     buf_new(k->real, 1, cols, 0, 1),     buf_new(k->real, 1, cols, 0, 3),
                     buf_new(k->real, depth, cols, 3, 1), buf_new(k->act, cols, depth, 2, 1)};
    buf_fill(&n.f, FILL_POISON, 0, 1);
    buf_fill(&n.w, FILL_POISON, 0, 1);
    buf_fill(&n.magnitude, FILL_NORMAL, 1, 1);
    buf_fill(&n.v, FILL_NORMAL, 3, 0.1);
    buf_fill(&n.b, FILL_NORMAL, 4, 0.1);
    for (int64_t j = 0; j < cols; j++) buf_set(&n.squares, 0, j, 2 + 0.1 * (double)(j % 13));
    return n;
}
static void norm_free(struct norm *n) {
    struct buf *all[] = {&n->f, &n->w, &n->magnitude, &n->squares, &n->v, &n->b};
    for (int i = 0; i < 6; i++) buf_free(all[i]);
}
static void norm_run(const struct kern *k, struct norm *n, int64_t begin, int64_t end) {
    k->norm_factor(&(struct kern_norm_factor){n->f.p, n->w.p, n->magnitude.p, n->squares.p, n->v.p,
                                              n->b.p, n->v.rows, n->v.ld, n->b.ld},
                   begin, end);
}

/* Depth k: k + 1 roundings relative to the sum of magnitudes S, which become half as much relative to the square of the
 * norm after the root; root, division and the square itself are rounded once each. */
static void norm_case(const struct kern *k, int64_t depth, int64_t cols) {
    struct context x = {.op = "norm_factor", .kern = k};
    snprintf(x.shape, sizeof x.shape, "depth %ld, %ld columns", (long)depth, (long)cols);
    struct norm n = norm_new(k, depth, cols), cut = norm_new(k, depth, cols);
    double *bound = bounds_new(&n.f), *bound_w = bounds_new(&n.w), u = round_of(k);
    for (int64_t j = 0; j < cols; j++) {
        double sum = 0, size = 0, m = n.magnitude.f64[j];
        for (int64_t i = 0; i < depth; i++) {
            sum += at(&n.v, i, j) * at(&n.b, j, i);
            size += fabs(at(&n.v, i, j) * at(&n.b, j, i));
        }
        double square = n.squares.f64[j] + 2 * sum;
        assert_true(square > 0.5);
        n.f.f64[j] = m / sqrt(square);
        n.w.f64[j] = 1 / m;
        bound[j] = u * fabs(n.f.f64[j]) * (4 + ((double)depth + 1) * size / square);
        bound_w[j] = u * fabs(n.w.f64[j]) * 1.01;
    }
    norm_run(k, &n, 0, cols);
    compare(&x, &n.f, bound);
    compare(&x, &n.w, bound_w);
    norm_run(k, &cut, cols / 3, cols);
    norm_run(k, &cut, 0, cols / 3);
    assert_memory_equal(n.f.memory, cut.f.memory, n.f.bytes);
    mem_free(bound);
    mem_free(bound_w);
    norm_free(&n);
    norm_free(&cut);
}

/* No change and the magnitude that norm: 1 to the bit.  Nothing at all: 1.  A row that cancels: the floor. */
static void norm_specials(const struct kern *k) {
    struct norm n = norm_new(k, 9, 40);
    for (int64_t j = 0; j < 40; j++) {
        for (int64_t i = 0; i < 9; i++) buf_set(&n.b, j, i, j % 2 ? 0.0 : -0.0);
        buf_set(&n.squares, 0, j, 1e-3 + 0.37 * (double)j);
        double s = n.squares.f64[j];
        buf_set(&n.magnitude, 0, j, k->real == DT_F64 ? sqrt(s) : (double)sqrtf((float)s));
    }
    buf_set(&n.squares, 0, 3, 0);
    buf_set(&n.magnitude, 0, 3, 0);
    buf_set(&n.squares, 0, 4, 1);
    buf_set(&n.magnitude, 0, 4, 3);
    for (int64_t i = 0; i < 9; i++) {
        buf_set(&n.v, i, 4, -1);
        buf_set(&n.b, 4, i, 1);
    }
    norm_run(k, &n, 0, 40);
    for (int64_t j = 0; j < 40; j++) {
        double f = get(n.f.type, n.f.p, j);
        if (f != (j == 4 ? 3 * 0x1p11 : 1.0))
            fail_msg("level %s act %s: f[%ld] = %.17g", isa_name(k->level), dtype_name(k->act),
                     (long)j, f);
    }
    assert_true(get(n.w.type, n.w.p, 3) == 0);
    norm_free(&n);
}

static void norm_table(const struct kern *k) {
    static const int64_t depths[] = {0, 1, 8, 15, 16, 33, 64};
    for (int d = 0; d < 7; d++)
        for (int w = 0; w < WIDTHS; w++) norm_case(k, depths[d], widths[w]);
    norm_specials(k);
}
static void test_norm_factor(void **state) {
    (void)state;
    for_all_tables(norm_table);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_col_dots),
        cmocka_unit_test(test_factor_bwd),
        cmocka_unit_test(test_norm_factor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
