/* SPDX-License-Identifier: Apache-2.0 */
/* test_kern.c - every kernel, at every level this machine has, for f32 and bf16, on shapes around
 * the vector widths, with gaps and off their alignment, against the f64 instance of the reference.
 *
 * Bounds are of the form c u S: u the unit roundoff of the arithmetic (f32: 2^-24) and S the sum of
 * the magnitudes that are added; an output in bf16 adds its own rounding, u_out |want|.  Beside
 * each check stands how c and S come about.  u_exp: the vector exponential errs by 2 units in the
 * last place, that is 4 u.  Where inputs are small integers and every intermediate result is an
 * integer below 2^24, the bound is zero. */
#include "kern_cases.h"

/* Lengths around vectors of 8 and 16, tiles of 64, and long ones. */
static const int64_t lengths[] = {0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 576, 1000};
enum { N_LENGTHS = sizeof lengths / sizeof *lengths };

/* ---- map ---- */

static const enum dtype plain[] = {DT_F32, DT_BF16, DT_F16, DT_F64};

static void map_case(const struct kern *k, const struct kern *oracle, enum dtype from,
                     enum dtype to, int64_t n, enum fill fill, double scale, bool accumulate) {
    struct context x = {.op = "map", .kern = k};
    snprintf(x.shape, sizeof x.shape, "%s->%s n %ld scale %g acc %d", dtype_name(from),
             dtype_name(to), (long)n, scale, accumulate);
    struct buf in = buf_new(from, 1, n, 0, 1), out = buf_new(to, 1, n, 0, 3);
    buf_fill(&in, fill, 1, 1);
    buf_fill(&out, accumulate ? fill : FILL_POISON, 2, 1);
    k->map(&(struct kern_map){out.p, in.p, to, from, scale, accumulate}, 0, n);
    oracle->map(&(struct kern_map){out.f64, in.f64, DT_F64, DT_F64, scale, accumulate}, 0, n);
    /* scale is rounded to f32, the product and the sum once each, in f32: 3 u (|y| + |scale x|);
     * inputs are below 6 in magnitude, scale at most 2.  Then the output's own rounding.  Without a
     * product or sum only that remains. */
    bool converts = !accumulate && scale == 1.0;
    double relative = unit(to), absolute = converts ? 0 : 3 * U * 18;
    if (to == DT_F16) absolute += 0x1p-25; /* half the smallest subnormal */
    if (fill == FILL_INTEGER && scale == 2.0) relative = absolute = 0;
    buf_compare(&x, &out, "y", relative, absolute);
    buf_free(&in);
    buf_free(&out);
}

static void map_table(const struct kern *k, const struct kern *oracle) {
    for (int from = 0; from < 4; from++)
        for (int to = 0; to < 4; to++)
            for (int l = 0; l < N_LENGTHS; l++)
                for (int f = 0; f < 2; f++) {
                    map_case(k, oracle, plain[from], plain[to], lengths[l], fills[f], 1.0, false);
                    map_case(k, oracle, plain[from], plain[to], lengths[l], fills[f], 2.0, true);
                    map_case(k, oracle, plain[from], plain[to], lengths[l], fills[f], 0.3, false);
                }
}

/* Conversions of every special number have the bits of the scalar definition. */
static void map_specials(const struct kern *k, const struct kern *oracle) {
    (void)oracle;
    static const uint32_t bits[] = {0x00000000, 0x80000000, 0x00000001, 0x807fffff, 0x00800000,
                                    0x00008000, 0x00018000, 0x3f808000, 0x3f818000, 0x3f808001,
                                    0x3f807fff, 0x7f7fffff, 0x7f7f8000, 0x7f7f7fff, 0x7f800000,
                                    0xff800000, 0x7fc00000, 0x7f800001, 0xffffffff, 0x33000000,
                                    0x477fefff, 0x477ff000};
    enum { N = sizeof bits / sizeof *bits };
    float in[N];
    bf16 out[N];
    f16 half[N];
    memcpy(in, bits, sizeof in);
    k->map(&(struct kern_map){out, in, DT_BF16, DT_F32, 1.0, false}, 0, N);
    k->map(&(struct kern_map){half, in, DT_F16, DT_F32, 1.0, false}, 0, N);
    for (int i = 0; i < N; i++) {
        assert_int_equal(out[i], bf16_from_f32(in[i]));
        if (isnan(in[i]))
            assert_true(isnan(f16_to_f32(half[i])));
        else
            assert_int_equal(half[i], f16_from_f32(in[i]));
    }
    /* f64 -> bf16 rounds once: just above a tie in f64, a tie in f32. */
    double above = 1.0 + 0x1p-8 + 0x1p-40, below = 1.0 + 0x1p-7 + 0x1p-8 - 0x1p-40;
    double pair[2] = {above, below};
    bf16 rounded[2];
    k->map(&(struct kern_map){rounded, pair, DT_BF16, DT_F64, 1.0, false}, 0, 2);
    assert_int_equal(rounded[0], 0x3f81);
    assert_int_equal(rounded[1], 0x3f81);
}

/* ---- dropout ---- */

/* The definition: element e is kept where its word of Philox reaches the threshold. */
static bool keeps(const struct kern_dropout_mask *a, int64_t col) {
    uint64_t e = a->first + (uint64_t)col;
    return rng_words(a->seed, a->stream, a->step, e / 4).w[e % 4] >> 8 >= a->threshold;
}
enum { MASK_MOST = 1000, MASK_BYTES = (MASK_MOST + 63) / 64 * 8 };

/* Every bit is the definition's, at every level; past cols they are 0, and no byte beyond is touched.  Groups
 * made one by one are the same. */
static void mask_case(const struct kern *k, int64_t cols, uint64_t first, uint32_t threshold) {
    uint8_t mask[MASK_BYTES + 1], again[MASK_BYTES];
    int64_t groups = (cols + 63) / 64;
    memset(mask, POISON, sizeof mask);
    struct kern_dropout_mask a = {mask, cols, 0xfedcba987654321u, first, 77, 3, threshold};
    k->dropout_mask(&a, 0, groups);
    a.mask = again;
    for (int64_t g = 0; g < groups; g++) k->dropout_mask(&a, g, g + 1);
    for (int64_t c = 0; c < 64 * groups; c++) {
        int want = c < cols && keeps(&a, c);
        if ((mask[c / 8] >> (c % 8) & 1) != want)
            fail_msg("mask: bit %ld of %ld from %lu, threshold %x, level %s", (long)c, (long)cols,
                     (unsigned long)first, threshold, isa_name(k->level));
    }
    assert_memory_equal(mask, again, (size_t)(8 * groups));
    assert_int_equal(mask[8 * groups], POISON);
}

/* Mask and application together: the kept are x / (1 - p), the dropped are 0 even where x is infinite, and a
 * cut of either changes no bit. */
static void dropout_cuts(const struct kern *k, const struct kern *oracle) {
    (void)oracle;
    enum { N = 300, GROUPS = (N + 63) / 64, CUT = 128 };
    float in[N], whole[N], cut[N];
    uint8_t mask[8 * GROUPS], again[8 * GROUPS];
    for (int i = 0; i < N; i++) in[i] = i % 7 ? (float)i + 1 : INFINITY;
    struct kern_dropout_mask m = {mask, N, 5, 6, 0, 0, 0xe00000};
    k->dropout_mask(&m, 0, GROUPS);
    m.mask = again;
    k->dropout_mask(&m, 3, GROUPS);
    k->dropout_mask(&m, 0, 3);
    assert_memory_equal(mask, again, sizeof mask);
    struct kern_dropout_apply a = {
        .kept = whole, .x = in, .mask = mask, .kept_type = DT_F32, .x_type = DT_F32, .inv_keep = 8};
    k->dropout_apply(&a, 0, N);
    a.kept = cut;
    for (int i = 0; i < N; i += CUT) k->dropout_apply(&a, i, i + CUT < N ? i + CUT : N);
    assert_memory_equal(whole, cut, sizeof whole);
    int zeros = 0, dropped_infinities = 0;
    for (int i = 0; i < N; i++) {
        assert_true(whole[i] == (keeps(&m, i) ? 8 * in[i] : 0.0f)); /* exact: a power of two */
        zeros += whole[i] == 0.0f;
        dropped_infinities += isinf(in[i]) && whole[i] == 0.0f;
    }
    assert_true(zeros > N / 2 && zeros < N && dropped_infinities > 0);
}

/* kept = x m / (1 - p), change = kept - x: with integers and 1 / (1 - p) = 2 exactly. */
static void apply_case(const struct kern *k, int64_t n, int types) {
    struct context x = {.op = "dropout_apply", .kern = k};
    snprintf(x.shape, sizeof x.shape, "n %ld types %d", (long)n, types);
    enum dtype type[3];
    for (int i = 0; i < 3; i++) type[i] = types >> i & 1 ? DT_BF16 : DT_F32;
    struct buf in = buf_new(type[0], 1, n, 0, 1), kept = buf_new(type[1], 1, n, 0, 3);
    struct buf change = buf_new(type[2], 1, n, 0, 1);
    uint8_t mask[128];
    for (int i = 0; i < 128; i++) mask[i] = (uint8_t)rng_words(SEED, 9, 0, (uint64_t)i).w[0];
    buf_fill(&in, FILL_INTEGER, 1, 1);
    if (n > 5) buf_set(&in, 0, 5, INFINITY);
    struct kern_dropout_apply a = {.kept = kept.p,
                                   .change = change.p,
                                   .x = in.p,
                                   .mask = mask,
                                   .kept_type = type[1],
                                   .change_type = type[2],
                                   .x_type = type[0],
                                   .inv_keep = 2.0};
    for (int64_t i = 0; i < n; i++) {
        kept.f64[i] = mask[i / 8] >> (i % 8) & 1 ? 2 * in.f64[i] : 0;
        change.f64[i] = kept.f64[i] - in.f64[i];
    }
    k->dropout_apply(&a, 0, n);
    buf_compare(&x, &kept, "kept", 0, 0);
    buf_compare(&x, &change, "change", 0, 0);
    if (type[0] == type[1]) { /* in place, without the change, in two pieces */
        a.kept = in.p;
        a.change = NULL;
        k->dropout_apply(&a, 0, n < 64 ? n : 64);
        if (n > 64) k->dropout_apply(&a, 64, n);
        memcpy(in.f64, kept.f64, (size_t)n * sizeof *in.f64);
        buf_compare(&x, &in, "in place", 0, 0);
    }
    buf_free(&in);
    buf_free(&kept);
    buf_free(&change);
}

static void dropout_table(const struct kern *k, const struct kern *oracle) {
    (void)oracle;
    /* Row starts around 4, and where the counter's lower half or the element's number ends within a row. */
    static const uint64_t firsts[] = {0,
                                      1,
                                      2,
                                      3,
                                      4,
                                      6,
                                      63,
                                      67,
                                      576 * 3 + 3,
                                      0xfffffffdu,
                                      0x3fffffff0u,
                                      0x3fffffe01u,
                                      0x3fffffffeu,
                                      0xffffffffffffff00u};
    static const uint32_t thresholds[] = {0, 0xccccd, 1u << 23, 1u << 24};
    for (int l = 0; l < N_LENGTHS; l++) {
        for (size_t f = 0; f < sizeof firsts / sizeof *firsts; f++)
            for (int t = 0; t < 4; t++) mask_case(k, lengths[l], firsts[f], thresholds[t]);
        for (int types = 0; types < 8; types++) apply_case(k, lengths[l], types);
    }
}

/* ---- rmsnorm ---- */

static void rmsnorm_case(const struct kern *k, const struct kern *oracle, int64_t rows,
                         int64_t cols, enum dtype dy_type) {
    struct context x = {.op = "rmsnorm", .kern = k};
    snprintf(x.shape, sizeof x.shape, "%ldx%ld dy %s", (long)rows, (long)cols, dtype_name(dy_type));
    struct buf in = buf_new(DT_F32, rows, cols, 3, 1), w = buf_new(DT_F32, 1, cols, 0, 1);
    struct buf y = buf_new(k->act, rows, cols, 5, 1), rstd = buf_new(DT_F32, rows, 1, 2, 0);
    struct buf dy = buf_new(dy_type, rows, cols, 1, 3), dx = buf_new(DT_F32, rows, cols, 2, 1);
    struct buf dw = buf_new(DT_F32, 1, cols, 0, 2);
    buf_fill(&in, FILL_NORMAL, 1, 3);
    buf_fill(&w, FILL_NORMAL, 2, 1);
    buf_fill(&dy, FILL_NORMAL, 3, 1);
    buf_fill(&dx, FILL_NORMAL, 4, 1);
    buf_fill(&dw, FILL_NORMAL, 5, 1);
    buf_fill(&y, FILL_POISON, 0, 0);
    buf_fill(&rstd, FILL_POISON, 0, 0);
    struct kern_rmsnorm a = {.x = in.p,
                             .w = w.p,
                             .y = y.p,
                             .rstd = rstd.p,
                             .dy = dy.p,
                             .dx = dx.p,
                             .dw = dw.p,
                             .dy_type = dy_type,
                             .rows = rows,
                             .cols = cols,
                             .ldx = in.ld,
                             .ldy = y.ld,
                             .ld_rstd = rstd.ld,
                             .ld_dy = dy.ld,
                             .ld_dx = dx.ld,
                             .eps = 1e-5};
    struct kern_rmsnorm e = a;
    e.x = in.f64, e.w = w.f64, e.y = y.f64, e.rstd = rstd.f64, e.dy = dy.f64, e.dx = dx.f64;
    e.dw = dw.f64, e.dy_type = DT_F64;
    k->rmsnorm_fwd(&a, 0, rows);
    oracle->rmsnorm_fwd(&e, 0, rows);
    /* The sum of C squares errs by (C + 2) u relatively at worst, rstd by half of that; the lanes
     * bring C down to C / VL + log, but the bound holds for any order. */
    double sum = (double)(cols + 2) * U;
    buf_compare(&x, &rstd, "rstd", sum / 2 + U, 0);
    buf_compare(&x, &y, "y", sum / 2 + 4 * U + unit(k->act), 0);
    k->rmsnorm_bwd(&a, 0, rows);
    oracle->rmsnorm_bwd(&e, 0, rows);
    /* |w dy x| sums to at most C 6^3 3: the mean errs by (C + 4) u 648 at worst, times |x| rstd^3
     * <= 6 * rstd; typical magnitudes are a tenth of it.  rstd of a short row may be large: it is
     * bounded by the data here (rows of one element near 0 reach 300). */
    double top = 0;
    for (int64_t r = 0; r < rows; r++) top = fmax(top, rstd.f64[r * rstd.ld]);
    double grow = fmax(1, top) * fmax(1, top);
    buf_compare(&x, &dx, "dx", 2 * U, (double)(cols + 8) * U * 36 * grow);
    k->rmsnorm_bwd_w(&a, 0, cols);
    oracle->rmsnorm_bwd_w(&e, 0, cols);
    /* T terms |dy x rstd| <= 6 sqrt(C) each, x rstd being at most sqrt(C). */
    buf_compare(&x, &dw, "dw", 2 * U,
                (double)(rows + 4) * U * 6 * sqrt((double)cols) * (double)rows);
    struct buf *all[] = {&in, &w, &y, &rstd, &dy, &dx, &dw};
    for (int i = 0; i < 7; i++) buf_free(all[i]);
}

static void rmsnorm_table(const struct kern *k, const struct kern *oracle) {
    static const int64_t rows[] = {0, 1, 3, 70};
    for (int r = 0; r < 4; r++)
        for (int l = 1; l < N_LENGTHS; l++) {
            rmsnorm_case(k, oracle, rows[r], lengths[l], DT_F32);
            rmsnorm_case(k, oracle, rows[r], lengths[l], k->act);
        }
}

/* ---- rope ---- */

static void rope_case(const struct kern *k, const struct kern *oracle, int64_t heads, int64_t dim,
                      bool inverse) {
    enum { ROWS = 5, POSITIONS = 9 };
    struct context x = {.op = "rope", .kern = k};
    snprintf(x.shape, sizeof x.shape, "heads %ld dim %ld inverse %d", (long)heads, (long)dim,
             inverse);
    static const int32_t position[ROWS] = {8, 0, 3, 3, 1};
    struct buf v = buf_new(k->act, ROWS, heads * dim, 3, 1);
    struct buf table = buf_new(DT_F32, POSITIONS, dim, 1, 1);
    buf_fill(&v, FILL_NORMAL, 1, 1);
    for (int64_t p = 0; p < POSITIONS; p++)
        for (int64_t i = 0; i < dim / 2; i++) {
            double angle = (double)p * pow(100.0, -2.0 * (double)i / (double)dim);
            buf_set(&table, p, i, cos(angle));
            buf_set(&table, p, i + dim / 2, sin(angle));
        }
    struct kern_rope a = {v.p, table.p, position, v.ld, table.ld, heads, dim, inverse};
    struct kern_rope e = {v.f64, table.f64, position, v.ld, table.ld, heads, dim, inverse};
    k->rope(&a, 0, ROWS);
    oracle->rope(&e, 0, ROWS);
    /* Two products and a sum of numbers below 6: 3 u (|u| + |v|). */
    buf_compare(&x, &v, "x", unit(k->act), 3 * U * 12);
    buf_free(&v);
    buf_free(&table);
}

static void rope_table(const struct kern *k, const struct kern *oracle) {
    static const int64_t dims[] = {2, 4, 16, 30, 32, 34, 64, 128};
    for (int d = 0; d < 8; d++)
        for (int64_t heads = 0; heads <= 3; heads += 1)
            for (int inverse = 0; inverse < 2; inverse++)
                rope_case(k, oracle, heads, dims[d], inverse);
}

/* ---- swiglu ---- */

static void swiglu_case(const struct kern *k, const struct kern *oracle, int64_t n, double scale) {
    struct context x = {.op = "swiglu", .kern = k};
    snprintf(x.shape, sizeof x.shape, "n %ld scale %g", (long)n, scale);
    struct buf g = buf_new(k->act, 1, n, 0, 1), u = buf_new(k->act, 1, n, 0, 3);
    struct buf dh = buf_new(k->act, 1, n, 0, 1), h = buf_new(k->act, 1, n, 0, 1);
    buf_fill(&g, FILL_NORMAL, 1, scale);
    buf_fill(&u, FILL_NORMAL, 2, 1);
    buf_fill(&dh, FILL_NORMAL, 3, 1);
    buf_fill(&h, FILL_POISON, 0, 0);
    k->swiglu_fwd(&(struct kern_swiglu){.h = h.p, .g = g.p, .u = u.p}, 0, n);
    oracle->swiglu_fwd(&(struct kern_swiglu){.h = h.f64, .g = g.f64, .u = u.f64}, 0, n);
    /* sigmoid: exp 4 u, sum, quotient; two products: 8 u relative; the smallest subnormal where
     * exp overflows or the result underflows (g at most 500 here, u below 6). */
    buf_compare(&x, &h, "h", 8 * U + unit(k->act), 0x1p-120);
    /* In place: dg over g, du over u. */
    k->swiglu_bwd(&(struct kern_swiglu){.dg = g.p, .du = u.p, .dh = dh.p, .g = g.p, .u = u.p}, 0,
                  n);
    oracle->swiglu_bwd(
        &(struct kern_swiglu){.dg = g.f64, .du = u.f64, .dh = dh.f64, .g = g.f64, .u = u.f64}, 0,
        n);
    /* 1 + g (1 - s) cancels near g = -1.28: absolute error 8 u (1 + |g| (1 - s)) |dh u| s, and
     * |g| (1 - s) s < 0.3, |dh u| <= 36. */
    buf_compare(&x, &g, "dg", 8 * U + unit(k->act), 12 * U * 36);
    buf_compare(&x, &u, "du", 8 * U + unit(k->act), 0x1p-120);
    buf_free(&g);
    buf_free(&u);
    buf_free(&dh);
    buf_free(&h);
}

static void swiglu_table(const struct kern *k, const struct kern *oracle) {
    for (int l = 0; l < N_LENGTHS; l++) {
        swiglu_case(k, oracle, lengths[l], 1);
        swiglu_case(k, oracle, lengths[l], 100);
    }
}

/* ---- bias gradient, sum of squares ---- */

static void reduce_case(const struct kern *k, const struct kern *oracle, int64_t rows, int64_t cols,
                        enum fill fill) {
    struct context x = {.op = "bias_grad", .kern = k};
    snprintf(x.shape, sizeof x.shape, "%ldx%ld", (long)rows, (long)cols);
    struct buf dy = buf_new(k->act, rows, cols, 3, 1), db = buf_new(DT_F32, 1, cols, 0, 1);
    buf_fill(&dy, fill, 1, 1);
    buf_fill(&db, fill, 2, 1);
    struct kern_bias_grad a = {db.p, dy.p, k->act, rows, dy.ld};
    struct kern_bias_grad e = {db.f64, dy.f64, DT_F64, rows, dy.ld};
    k->bias_grad(&a, 0, cols);
    oracle->bias_grad(&e, 0, cols);
    double bound = fill == FILL_INTEGER ? 0 : (double)(rows + 2) * U * 6 * (double)(rows + 1);
    buf_compare(&x, &db, "db", 0, bound);
    for (int64_t r = 0; r < rows; r++) {
        double got = NAN, want = NAN;
        char *row = (char *)dy.p + r * dy.ld * (int64_t)dtype_size(k->act);
        k->sum_squares(&(struct kern_sum_squares){row, k->act, &got}, 0, cols);
        oracle->sum_squares(&(struct kern_sum_squares){dy.f64 + r * dy.ld, DT_F64, &want}, 0, cols);
        /* Squares of f32 are exact in double; C additions. */
        double close = fill == FILL_INTEGER ? 0 : (double)cols * 0x1p-53 * want;
        if (!(fabs(got - want) <= close))
            fail_msg("sum_squares %s: %.17g, want %.17g", x.shape, got, want);
    }
    buf_free(&dy);
    buf_free(&db);
}

static void reduce_table(const struct kern *k, const struct kern *oracle) {
    static const int64_t rows[] = {0, 1, 2, 63, 64, 65, 200};
    for (int r = 0; r < 7; r++)
        for (int l = 0; l < N_LENGTHS; l++)
            for (int f = 0; f < 2; f++) reduce_case(k, oracle, rows[r], lengths[l], fills[f]);
}

/* ---- cross entropy ---- */

static void cross_entropy_case(const struct kern *k, const struct kern *oracle, int64_t cols,
                               double spread) {
    enum { ROWS = 3 };
    struct context x = {.op = "cross_entropy", .kern = k};
    snprintf(x.shape, sizeof x.shape, "cols %ld spread %g", (long)cols, spread);
    struct buf z = buf_new(DT_F32, ROWS, cols, 3, 1), loss = buf_new(DT_F32, ROWS, 1, 1, 0);
    struct buf d = buf_new(k->act, ROWS, cols, 1, 1), loss2 = buf_new(DT_F32, ROWS, 1, 0, 0);
    buf_fill(&z, FILL_NORMAL, (uint32_t)cols, spread);
    buf_fill(&loss, FILL_POISON, 0, 0);
    buf_fill(&loss2, FILL_POISON, 0, 0);
    buf_fill(&d, FILL_POISON, 0, 0);
    int32_t label[ROWS] = {0, (int32_t)(cols - 1), (int32_t)(cols / 2)};
    struct kern_cross_entropy a = {z.p, loss.p, d.p, label, cols, z.ld, loss.ld, d.ld, 0.25};
    struct kern_cross_entropy e = {z.f64, loss.f64, d.f64, label, cols, z.ld, loss.ld, d.ld, 0.25};
    k->cross_entropy(&a, 0, ROWS);
    oracle->cross_entropy(&e, 0, ROWS);
    double top = 0;
    for (int64_t i = 0; i < ROWS * z.ld; i++) top = fmax(top, fabs(z.f64[i]));
    /* The exponent z - max is rounded once: u 2 top, exp 4 u, sums in blocks of 64 vectors + lanes:
     * 80 u; the reference's z - lse likewise.  loss = log of that plus an exact gap, rounded. */
    double exponent = (2 * top + 10) * U, sum = 84 * U + exponent;
    buf_compare(&x, &loss, "loss", U, sum);
    for (int64_t r = 0; r < ROWS; r++) { /* the label's entry is p - 1: absolute */
        int64_t at = r * d.ld + label[r];
        double bound = unit(k->act) * fabs(d.f64[at]) + 0.25 * 2 * sum;
        if (!(fabs(get(k->act, d.p, at) - d.f64[at]) <= bound))
            fail_msg("%s: label's entry", x.shape);
        buf_set(&d, r, label[r], 0);
    }
    buf_compare(&x, &d, "dlogits", unit(k->act) + 2 * sum, 0x1p-120);
    a.dlogits = NULL;
    a.loss = loss2.p;
    a.ld_loss = loss2.ld;
    k->cross_entropy(&a, 0, ROWS);
    for (int64_t r = 0; r < ROWS; r++) /* the loss alone has the same bits */
        assert_true(((float *)loss2.p)[r] == ((float *)loss.p)[r * loss.ld]);
    buf_free(&z);
    buf_free(&loss);
    buf_free(&loss2);
    buf_free(&d);
}

static void cross_entropy_table(const struct kern *k, const struct kern *oracle) {
    static const double spreads[] = {0, 1, 30, 1000};
    for (int l = 1; l < N_LENGTHS; l++)
        for (int s = 0; s < 4; s++) cross_entropy_case(k, oracle, lengths[l], spreads[s]);
    cross_entropy_case(k, oracle, 49152, 4);
}

static void cross_entropy_specials(const struct kern *k, const struct kern *oracle) {
    (void)oracle;
    enum { N = 40 };
    float z[3][N], loss[3];
    double d[3 * N]; /* room for any act */
    int32_t label[3] = {20, 20, 20};
    for (int r = 0; r < 3; r++)
        for (int c = 0; c < N; c++) z[r][c] = (float)c * 0.1f;
    z[0][3] = NAN;        /* poisons its row */
    z[1][20] = -INFINITY; /* an impossible label */
    z[2][39] = -INFINITY; /* an impossible other: fine */
    struct kern_cross_entropy a = {z, loss, d, label, N, N, 1, N, 1.0};
    k->cross_entropy(&a, 0, 3);
    assert_true(isnan(loss[0]));
    assert_true(isinf(loss[1]) && loss[1] > 0);
    assert_true(isfinite(loss[2]));
    assert_true(get(k->act, d, 2 * N + 39) == 0.0);
}

/* Rows longer than what is summed at once: nothing but -infinity at first, then ever greater numbers;
 * a NaN among the -infinities; nothing else at all. */
static void cross_entropy_long(const struct kern *k, const struct kern *oracle) {
    enum { N = 5000, NONE = 2100 };
    static float z[N], loss[1];
    static double z64[N], loss64[1];
    int32_t label = N - 7;
    for (int c = 0; c < N; c++) {
        z[c] = c < NONE ? -INFINITY : (float)c * 0x1p-6f;
        z64[c] = (double)z[c];
    }
    struct kern_cross_entropy a = {z, loss, NULL, &label, N, N, 1, N, 1.0};
    struct kern_cross_entropy e = {z64, loss64, NULL, &label, N, N, 1, N, 1.0};
    k->cross_entropy(&a, 0, 1);
    oracle->cross_entropy(&e, 0, 1);
    /* Exponents are exact here (multiples of 2^-6 below 2^7); the rest as in cross_entropy_case. */
    assert_true(fabs((double)loss[0] - loss64[0]) <= 84 * U + U * fabs(loss64[0]));
    z[3] = NAN;
    k->cross_entropy(&a, 0, 1);
    assert_true(isnan(loss[0]));
    for (int c = 0; c < N; c++) z[c] = -INFINITY;
    k->cross_entropy(&a, 0, 1);
    assert_true(isnan(loss[0]));
}

/* ---- adamw ---- */

static void adamw_case(const struct kern *k, const struct kern *oracle, int64_t n, bool with_base) {
    struct context x = {.op = "adamw", .kern = k};
    snprintf(x.shape, sizeof x.shape, "n %ld base %d", (long)n, with_base);
    struct buf b[5];
    for (uint32_t i = 0; i < 5; i++) {
        b[i] = buf_new(DT_F32, 1, n, 0, 1);
        buf_fill(&b[i], FILL_NORMAL, i, 1);
    }
    struct buf copy = buf_new(k->act, 1, n, 0, 1);
    buf_fill(&copy, FILL_POISON, 0, 0);
    for (int64_t i = 0; i < n; i++) buf_set(&b[2], 0, i, fabs(b[2].f64[i])); /* v >= 0 */
    struct kern_adamw a = {.p = b[0].p,
                           .m = b[1].p,
                           .v = b[2].p,
                           .g = b[3].p,
                           .base = with_base ? b[4].p : NULL,
                           .copy = with_base ? NULL : copy.p,
                           .lr = 0x1p-7,
                           .beta1 = 0.875,
                           .beta2 = 0.96875,
                           .eps = 0x1p-20,
                           .weight_decay = 0.125,
                           .bias1 = 0.5,
                           .bias2 = 0.25,
                           .grad_scale = 0.5};
    struct kern_adamw e =
        a; /* the constants are exact in f32: only the data's arithmetic differs */
    e.p = b[0].f64, e.m = b[1].f64, e.v = b[2].f64, e.g = b[3].f64;
    e.base = with_base ? b[4].f64 : NULL;
    e.copy = NULL;
    k->adamw(&a, 0, n);
    oracle->adamw(&e, 0, n);
    /* Each moment is two products and a sum of numbers below 6 and 36. The step m / bias1 /
     * (sqrt(v / bias2) + eps): relative 6 u of v, 3 u of m absolute 6 u 6, over sqrt(v / bias2)
     * that is at least sqrt(beta2 v); v near 0 magnifies: bounded by lr |step| with |step| < 2^14
     * here. */
    buf_compare(&x, &b[1], "m", 3 * U, 3 * U * 6);
    buf_compare(&x, &b[2], "v", 4 * U, 0);
    double least_v = 1;
    for (int64_t i = 0; i < n; i++) least_v = fmin(least_v, b[2].f64[i]);
    double step_error = 40 * U * 6 / sqrt(fmax(least_v, 1e-12));
    buf_compare(&x, &b[0], "p", 2 * U, 0x1p-7 * (step_error + 6 * U));
    for (int64_t i = 0; i < n && a.copy; i++) { /* the rounding of what p now is */
        float p = ((float *)b[0].p)[i];
        copy.f64[i] = k->act == DT_BF16 ? (double)bf16_to_f32(bf16_from_f32(p)) : (double)p;
    }
    if (a.copy) buf_compare(&x, &copy, "copy", 0, 0);
    buf_free(&copy);
    for (int i = 0; i < 5; i++) buf_free(&b[i]);
}

static void adamw_table(const struct kern *k, const struct kern *oracle) {
    for (int l = 0; l < N_LENGTHS; l++)
        for (int base = 0; base < 2; base++) adamw_case(k, oracle, lengths[l], base);
}

/* ---- the vector exponential, through swiglu: h = g / (1 + exp(-g)) with u = 1 ---- */

static void exponential(const struct kern *k, const struct kern *oracle) {
    if (k->act != DT_F32) return;
    enum { N = 4096 };
    static float g[N], u[N], h[N];
    static double g64[N], u64[N], h64[N];
    for (int i = 0; i < N; i++) {
        g[i] = (float)(-110.0 + 220.0 * i / N);
        g64[i] = (double)g[i];
        u[i] = 1.0f, u64[i] = 1.0;
    }
    k->swiglu_fwd(&(struct kern_swiglu){.h = h, .g = g, .u = u}, 0, N);
    oracle->swiglu_fwd(&(struct kern_swiglu){.h = h64, .g = g64, .u = u64}, 0, N);
    for (int i = 0; i < N; i++) /* beyond exp's range sigmoid is below 2^-126 */
        if (!(fabs((double)h[i] - h64[i]) <= 8 * U * fabs(h64[i]) + 110 * 0x1p-127))
            fail_msg("silu(%g) = %.9g, want %.9g at level %s", (double)g[i], (double)h[i], h64[i],
                     isa_name(k->level));
    float special[4] = {INFINITY, -INFINITY, NAN, 0.0f}, one[4] = {1, 1, 1, 1}, out[4];
    k->swiglu_fwd(&(struct kern_swiglu){.h = out, .g = special, .u = one}, 0, 4);
    assert_true(isinf(out[0]) && isnan(out[1]) && isnan(out[2]) && out[3] == 0.0f);
}

/* ---- dispatch ---- */

static void levels_are_entered(void **state) {
    (void)state;
    struct kern k;
    kern_table_init(&k, DT_F64, ISA_AMX);
    assert_int_equal(k.from.map, ISA_REF);
    kern_table_init(&k, DT_BF16, ISA_REF);
    assert_int_equal(k.from.attention_fwd, ISA_REF);
    if (cpu_isa_found() >= ISA_AVX2) {
        kern_table_init(&k, DT_BF16, ISA_AVX2);
        assert_int_equal(k.from.attention_fwd, ISA_AVX2);
    }
}

static const struct table_test tests[] = {
    {"map_table", map_table},
    {"map_specials", map_specials},
    {"dropout_table", dropout_table},
    {"dropout_cuts", dropout_cuts},
    {"rmsnorm_table", rmsnorm_table},
    {"rope_table", rope_table},
    {"swiglu_table", swiglu_table},
    {"reduce_table", reduce_table},
    {"cross_entropy_table", cross_entropy_table},
    {"cross_entropy_specials", cross_entropy_specials},
    {"cross_entropy_long", cross_entropy_long},
    {"adamw_table", adamw_table},
    {"exponential", exponential},
};
enum { N_TESTS = sizeof tests / sizeof *tests };

int main(void) {
    printf("seed %d, levels up to %s\n", SEED, isa_name(cpu_isa_found()));
    struct CMUnitTest list[N_TESTS + 1] = {cmocka_unit_test(levels_are_entered)};
    for (int i = 0; i < N_TESTS; i++) list[i + 1] = table_unit_test(&tests[i]);
    return cmocka_run_group_tests(list, NULL, NULL);
}
