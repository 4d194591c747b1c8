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

#include "core/cpu.h"

static const double U = 0x1p-24;

/* Lengths around vectors of 8 and 16, tiles of 64, and long ones. */
static const int64_t lengths[] = {0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 576, 1000};
enum { N_LENGTHS = sizeof lengths / sizeof *lengths };
static const enum fill fills[] = {FILL_NORMAL, FILL_INTEGER};

/* Called for every level and act; fails by cmocka. */
typedef void (*op_test)(const struct kern *k, const struct kern *oracle);

static void for_tables(op_test test) {
    struct kern k, oracle;
    kern_table_init(&oracle, DT_F64, ISA_REF);
    static const enum dtype acts[] = {DT_F32, DT_BF16};
    for (int level = ISA_REF; level <= (int)cpu_isa_found(); level++)
        for (int i = 0; i < 2; i++) {
            kern_table_init(&k, acts[i], (enum isa)level);
            test(&k, &oracle);
        }
}

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

static void dropout_case(const struct kern *k, const struct kern *ref, enum dtype from,
                         enum dtype to, int64_t n, uint64_t first, bool difference,
                         bool accumulate) {
    struct context x = {.op = "dropout", .kern = k};
    snprintf(x.shape, sizeof x.shape, "%s->%s n %ld first %lu", dtype_name(from), dtype_name(to),
             (long)n, (unsigned long)first);
    struct buf in = buf_new(from, 1, n, 0, 1), out = buf_new(to, 1, n, 0, 1);
    buf_fill(&in, FILL_INTEGER, 1, 1);
    buf_fill(&out, accumulate ? FILL_INTEGER : FILL_POISON, 2, 1);
    struct kern_dropout a = {.y = out.p,
                             .x = in.p,
                             .y_type = to,
                             .x_type = from,
                             .seed = 0x123456789abcdefu,
                             .first = first,
                             .stream = 77,
                             .step = 3,
                             .threshold = 1u << 23,
                             .inv_keep = 2.0,
                             .difference = difference,
                             .accumulate = accumulate};
    k->dropout(&a, 0, n);
    a.x = in.f64;
    a.y = out.f64;
    a.x_type = a.y_type = DT_F64;
    ref->dropout(&a, 0, n);
    buf_compare(&x, &out, "y", 0, 0); /* integers: every mask bit must agree */
    buf_free(&in);
    buf_free(&out);
}

static void dropout_table(const struct kern *k, const struct kern *oracle) {
    static const uint64_t firsts[] = {
        0, 1, 2, 3, 4, 63, 0xfffffffdu, 0x3fffffffeu, 0xffffffffffffff00u};
    static const enum dtype types[] = {DT_F32, DT_BF16};
    for (size_t f = 0; f < sizeof firsts / sizeof *firsts; f++)
        for (int l = 0; l < N_LENGTHS; l++)
            for (int c = 0; c < 4; c++)
                dropout_case(k, oracle, types[c & 1], types[c >> 1], lengths[l], firsts[f], c & 1,
                             c >> 1);
}

/* A cut of the range changes no bit; a dropped infinity is 0. */
static void dropout_cuts(const struct kern *k, const struct kern *oracle) {
    (void)oracle;
    enum { N = 300 };
    float in[N], whole[N], cut[N];
    for (int i = 0; i < N; i++) in[i] = i % 7 ? (float)i : INFINITY;
    struct kern_dropout a = {.y = whole,
                             .x = in,
                             .y_type = DT_F32,
                             .x_type = DT_F32,
                             .seed = 5,
                             .first = 6,
                             .threshold = 0xe00000,
                             .inv_keep = 8};
    k->dropout(&a, 0, N);
    a.y = cut;
    for (int i = 0; i < N; i += 37) k->dropout(&a, i, i + 37 < N ? i + 37 : N);
    assert_memory_equal(whole, cut, sizeof whole);
    int zeros = 0;
    for (int i = 0; i < N; i++) {
        assert_false(isnan(whole[i]));
        zeros += whole[i] == 0.0f;
    }
    assert_true(zeros > N / 2 && zeros < N);
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

/* ---- adamw ---- */

static void adamw_case(const struct kern *k, const struct kern *oracle, int64_t n, bool with_base) {
    struct context x = {.op = "adamw", .kern = k};
    snprintf(x.shape, sizeof x.shape, "n %ld base %d", (long)n, with_base);
    struct buf b[5];
    for (uint32_t i = 0; i < 5; i++) {
        b[i] = buf_new(DT_F32, 1, n, 0, 1);
        buf_fill(&b[i], FILL_NORMAL, i, 1);
    }
    for (int64_t i = 0; i < n; i++) buf_set(&b[2], 0, i, fabs(b[2].f64[i])); /* v >= 0 */
    struct kern_adamw a = {.p = b[0].p,
                           .m = b[1].p,
                           .v = b[2].p,
                           .g = b[3].p,
                           .base = with_base ? b[4].p : NULL,
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
    for (int i = 0; i < 5; i++) buf_free(&b[i]);
}

static void adamw_table(const struct kern *k, const struct kern *oracle) {
    for (int l = 0; l < N_LENGTHS; l++)
        for (int base = 0; base < 2; base++) adamw_case(k, oracle, lengths[l], base);
}

/* ---- product ---- */

static void product_case(const struct kern *k, const struct kern *oracle, int64_t m, int64_t n,
                         int64_t depth, int mode, enum fill fill) {
    struct context x = {.op = "product", .kern = k};
    bool ta = mode & 1, tb = mode & 2;
    snprintf(x.shape, sizeof x.shape, "%ldx%ldx%ld mode %d", (long)m, (long)n, (long)depth, mode);
    struct buf a = buf_new(k->act, ta ? depth : m, ta ? m : depth, 3, 1);
    struct buf b = buf_new(k->act, tb ? n : depth, tb ? depth : n, 1, 3);
    struct buf c = buf_new(mode & 4 ? k->act : DT_F32, m, n, 2, 1);
    buf_fill(&a, fill, 1, 1);
    buf_fill(&b, fill, 2, 1);
    double beta = mode & 8 ? 2.0 : 0.0;
    buf_fill(&c, mode & 8 ? fill : FILL_POISON, 3, 1);
    struct kern_product p = {a.p,  b.p,  c.p,  k->act, c.type, m,  n,   depth,
                             a.ld, b.ld, c.ld, ta,     tb,     -1, beta};
    struct kern_product e = p;
    e.a = a.f64, e.b = b.f64, e.c = c.f64, e.in_type = e.c_type = DT_F64;
    k->product(&p, 0, kern_product_tiles(m, n));
    oracle->product(&e, 0, kern_product_tiles(m, n));
    /* K products of numbers below 6 in one chain, and beta c; typically |sum| < 6 sqrt(K). */
    double bound = ((double)depth + 4) * U * (6 * sqrt((double)depth) + 12);
    bool exact = fill == FILL_INTEGER && c.type == DT_F32;
    buf_compare(&x, &c, "c", c.type == k->act ? unit(k->act) : 0, exact ? 0 : bound);
    buf_free(&a);
    buf_free(&b);
    buf_free(&c);
}

static void product_table(const struct kern *k, const struct kern *oracle) {
    static const int64_t shapes[][3] = {{0, 3, 3},  {1, 1, 1},    {1, 65, 300},  {2, 17, 0},
                                        {5, 64, 7}, {7, 15, 257}, {193, 66, 40}, {64, 130, 256}};
    for (int i = 0; i < 8; i++)
        for (int mode = 0; mode < 16; mode++)
            for (int f = 0; f < 2; f++)
                product_case(k, oracle, shapes[i][0], shapes[i][1], shapes[i][2], mode, fills[f]);
}

/* ---- attention ---- */

struct attention_case {
    int64_t n_q, n_kv, dim, window, group;
    double spread;
};

static const struct attention_case attentions[] = {
    {1, 1, 2, 0, 1, 1},      {1, 17, 8, 0, 1, 1},      {1, 130, 64, 0, 2, 1},
    {5, 5, 16, 0, 1, 1},     {64, 64, 16, 0, 1, 1},    {65, 65, 24, 0, 3, 1},
    {63, 127, 30, 0, 1, 1},  {100, 200, 64, 0, 2, 3},  {70, 70, 8, 1, 1, 1},
    {70, 70, 8, 5, 2, 1},    {150, 150, 16, 64, 1, 1}, {150, 300, 16, 100, 2, 1},
    {130, 130, 9, 65, 1, 1}, {3, 200, 17, 10, 1, 1},   {20, 20, 256, 0, 1, 1},
    {200, 200, 16, 0, 1, 30}};

enum { A_Q, A_K, A_V, A_DO, A_O, A_DQ, A_DK, A_DV, A_LSE, A_DELTA, A_BUFFERS };

static void attention_buffers(const struct attention_case *c, enum dtype act, struct buf *b) {
    int64_t qc = c->dim * c->group;
    for (int i = 0; i < A_BUFFERS; i++) {
        bool key = i == A_K || i == A_V || i == A_DK || i == A_DV, stat = i >= A_LSE;
        b[i] = buf_new(stat ? DT_F32 : act, key ? c->n_kv : c->n_q,
                       stat  ? c->group
                       : key ? c->dim
                             : qc,
                       i % 4, i % 3);
        buf_fill(&b[i], i <= A_DO ? FILL_NORMAL : FILL_POISON, (uint32_t)i,
                 i <= A_K ? c->spread : 1);
    }
}

static struct kern_attention attention_args(const struct attention_case *c, struct buf *b,
                                            int64_t head, bool f64) {
    void *p[A_BUFFERS];
    for (int i = 0; i < A_BUFFERS; i++) {
        bool key = i == A_K || i == A_V || i == A_DK || i == A_DV;
        int64_t at = key ? 0 : i >= A_LSE ? head : head * c->dim;
        p[i] = f64 ? (void *)(b[i].f64 + at)
                   : (void *)((char *)b[i].p + at * (int64_t)dtype_size(b[i].type));
    }
    return (struct kern_attention){.q = p[A_Q],
                                   .k = p[A_K],
                                   .v = p[A_V],
                                   .d_o = p[A_DO],
                                   .o = p[A_O],
                                   .dq = p[A_DQ],
                                   .dk = p[A_DK],
                                   .dv = p[A_DV],
                                   .lse = p[A_LSE],
                                   .delta = p[A_DELTA],
                                   .ldq = b[A_Q].ld,
                                   .ldk = b[A_K].ld,
                                   .ldv = b[A_V].ld,
                                   .ldo = b[A_O].ld,
                                   .ld_do = b[A_DO].ld,
                                   .ld_lse = b[A_LSE].ld,
                                   .ld_delta = b[A_DELTA].ld,
                                   .ld_dq = b[A_DQ].ld,
                                   .ld_dk = b[A_DK].ld,
                                   .ld_dv = b[A_DV].ld,
                                   .n_q = c->n_q,
                                   .n_kv = c->n_kv,
                                   .head_dim = c->dim,
                                   .window = c->window,
                                   .group = c->group,
                                   .scale = 1 / sqrt((double)c->dim)};
}

/* The f64 copies take over what the kernel under test made: each step is checked on its own. */
static void take_over(struct buf *b) {
    for (int64_t r = 0; r < b->rows; r++)
        for (int64_t c = 0; c < b->cols; c++)
            b->f64[r * b->ld + c] = get(b->type, b->p, r * b->ld + c);
}

static void attention_check(const struct kern *k, const struct kern *oracle,
                            const struct attention_case *c) {
    struct context x = {.op = "attention", .kern = k};
    snprintf(x.shape, sizeof x.shape, "q %ld kv %ld dim %ld window %ld group %ld", (long)c->n_q,
             (long)c->n_kv, (long)c->dim, (long)c->window, (long)c->group);
    struct buf b[A_BUFFERS];
    attention_buffers(c, k->act, b);
    for (int64_t h = 0; h < c->group; h++) {
        struct kern_attention a = attention_args(c, b, h, false), e = attention_args(c, b, h, true);
        k->attention_fwd(&a, 0, c->n_q);
        oracle->attention_fwd(&e, 0, c->n_q);
    }
    /* A score is scale times D products of numbers below 5 spread and 5 spread: error (D + 3) u S,
     * S = scale D 25 spread^2 at the very worst, in practice a few standard deviations of the sum
     * of D products, 6 sqrt(D) spread^2 scale = 6 spread^2; the worst case of the rounding is
     * likewise not met. P errs relatively by that plus 6 u; sums of n terms add n u. */
    double score = ((double)c->dim + 3) * U * 6 * c->spread * c->spread;
    double p = score + (double)(c->n_kv + 10) * U;
    buf_compare(&x, &b[A_LSE], "lse", 2 * U, p);
    buf_compare(&x, &b[A_O], "o", unit(k->act), 2 * p * 5);
    take_over(&b[A_O]);
    take_over(&b[A_LSE]);
    for (int64_t h = 0; h < c->group; h++) {
        struct kern_attention a = attention_args(c, b, h, false), e = attention_args(c, b, h, true);
        k->attention_delta(&a, 0, c->n_q);
        oracle->attention_delta(&e, 0, c->n_q);
    }
    double dots = 5 * 5 * sqrt((double)c->dim); /* |d_o . v|, |delta| */
    buf_compare(&x, &b[A_DELTA], "delta", 2 * U, ((double)c->dim + 2) * U * dots);
    take_over(&b[A_DELTA]);
    for (int64_t h = 0; h < c->group; h++) {
        struct kern_attention a = attention_args(c, b, h, false), e = attention_args(c, b, h, true);
        k->attention_bwd_q(&a, 0, c->n_q);
        oracle->attention_bwd_q(&e, 0, c->n_q);
    }
    struct kern_attention a = attention_args(c, b, 0, false), e = attention_args(c, b, 0, true);
    k->attention_bwd_kv(&a, 0, c->n_kv);
    oracle->attention_bwd_kv(&e, 0, c->n_kv);
    /* dS = P (dP - delta) errs by |dP - delta| p + P (D + 3) u dots; rows of P sum to 1, columns to
     * at most the number of queries (times the group). */
    double ds = 2 * dots * p + ((double)c->dim + 3) * U * dots, scale = 1 / sqrt((double)c->dim);
    double columns = (double)(c->n_q * c->group);
    buf_compare(&x, &b[A_DQ], "dq", unit(k->act), scale * ds * 5 * c->spread);
    buf_compare(&x, &b[A_DK], "dk", unit(k->act), scale * ds * 5 * c->spread * columns);
    buf_compare(&x, &b[A_DV], "dv", unit(k->act), 2 * p * 5 * columns);
    for (int i = 0; i < A_BUFFERS; i++) buf_free(&b[i]);
}

static void attention_table(const struct kern *k, const struct kern *oracle) {
    for (size_t i = 0; i < sizeof attentions / sizeof *attentions; i++)
        attention_check(k, oracle, &attentions[i]);
}

/* A row's bits do not depend on where the range is cut. */
static void attention_cuts(const struct kern *k, const struct kern *oracle) {
    (void)oracle;
    static const struct attention_case c = {150, 213, 24, 90, 2, 1};
    struct buf whole[A_BUFFERS], cut[A_BUFFERS];
    attention_buffers(&c, k->act, whole);
    attention_buffers(&c, k->act, cut);
    for (int pass = 0; pass < 2; pass++) {
        struct buf *b = pass ? cut : whole;
        int64_t step = pass ? 7 : 1000;
        for (int64_t h = 0; h < c.group; h++) {
            struct kern_attention a = attention_args(&c, b, h, false);
            for (int64_t i = 0; i < c.n_q; i += step) {
                int64_t end = i + step < c.n_q ? i + step : c.n_q;
                k->attention_fwd(&a, i, end);
                k->attention_delta(&a, i, end);
                k->attention_bwd_q(&a, i, end);
            }
        }
        struct kern_attention a = attention_args(&c, b, 0, false);
        for (int64_t j = 0; j < c.n_kv; j += step)
            k->attention_bwd_kv(&a, j, j + step < c.n_kv ? j + step : c.n_kv);
    }
    for (int i = A_O; i < A_BUFFERS; i++)
        if (memcmp(whole[i].memory, cut[i].memory, whole[i].bytes) != 0)
            fail_msg("attention buffer %d differs when the range is cut, level %s act %s", i,
                     isa_name(k->level), dtype_name(k->act));
    for (int i = 0; i < A_BUFFERS; i++) {
        buf_free(&whole[i]);
        buf_free(&cut[i]);
    }
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

/* One cmocka test runs one of these on all tables. */
static const struct {
    const char *name;
    op_test test;
} tests[] = {
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
    {"adamw_table", adamw_table},
    {"product_table", product_table},
    {"attention_table", attention_table},
    {"attention_cuts", attention_cuts},
    {"exponential", exponential},
};
enum { N_TESTS = sizeof tests / sizeof *tests };

static void run_on_tables(void **state) {
    for_tables(*(const op_test *)*state);
}

int main(void) {
    printf("seed %d, levels up to %s\n", SEED, isa_name(cpu_isa_found()));
    struct CMUnitTest list[N_TESTS + 1] = {cmocka_unit_test(levels_are_entered)};
    for (int i = 0; i < N_TESTS; i++)
        list[i + 1] = (struct CMUnitTest){tests[i].name, run_on_tables, NULL, NULL,
                                          (void *)(uintptr_t)&tests[i].test};
    return cmocka_run_group_tests(list, NULL, NULL);
}
