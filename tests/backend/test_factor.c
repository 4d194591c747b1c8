/* SPDX-License-Identifier: Apache-2.0 */
/* test_factor.c - factors of columns through the backend, at every level, by our kernels and by the library: sums of products
 * with a factor against a plain f64 loop; a factor of 1 changes no bit; the operations of DoRA have the same
 * bits on any number of threads.  (Their arithmetic: tests/kern/test_factor.c.)
 *
 * Bound.  As test_product.c derives: K + 3 T + 8 roundings over K steps and T terms, one more for the factor, relative to
 * the sum of magnitudes; oneDNN adds in another order within the same; a bf16 C adds 2^-8 |c|. */
#include "check.h"

#include <math.h>

#include "backend/cpu.h"
#include "core/cpu.h"
#include "core/rng.h"
#include "core/threads.h"

static struct mil_error err;
static enum isa found;
static uint32_t stream_;

static double value_of(struct tensor t, int64_t r, int64_t c) {
    int64_t i = r * t.ld + c;
    if (t.dtype == DT_F64) return ((const double *)t.data)[i];
    if (t.dtype == DT_F32) return (double)((const float *)t.data)[i];
    return (double)bf16_to_f32(((const bf16 *)t.data)[i]);
}

/* Normal numbers, NaN in the gaps (mem_free its data). */
static struct tensor matrix(enum dtype t, int64_t rows, int64_t cols, int64_t gap) {
    struct tensor m = {NULL, t, rows, cols, cols + gap};
    m.data = mem_alloc(MEM_OTHER, (size_t)(rows * m.ld) + 1, dtype_size(t));
    stream_++;
    for (int64_t i = 0; i < rows * m.ld; i++) {
        double x = i % m.ld < cols ? rng_normal(3, rng_stream(RNG_TEST, stream_), 0, (uint64_t)i)
                                   : (double)NAN;
        if (t == DT_F64) ((double *)m.data)[i] = x;
        if (t == DT_F32) ((float *)m.data)[i] = (float)x;
        if (t == DT_BF16) ((bf16 *)m.data)[i] = bf16_from_f32((float)x);
    }
    return m;
}
static struct tensor copy_of(struct tensor t) {
    size_t bytes = (size_t)(t.rows * t.ld) * dtype_size(t.dtype);
    t.data = memcpy(mem_alloc(MEM_OTHER, bytes + 8, 1), t.data, bytes);
    return t;
}

/* by: 0 our kernels (f64: as it is), 1 the library, where it multiplies bf16 well. */
static struct backend *open_at(enum dtype act, enum isa level, int by) {
    struct backend *b = NULL;
    cpu_isa_limit(level);
    assert_ok(backend_open("cpu", act, &b, &err));
    cpu_isa_limit(found);
    struct cpu_backend *cpu = (struct cpu_backend *)b;
    if (by == 1 && !(act == DT_BF16 && cpu->product.has_bf16)) backend_free(&b);
    if (b) cpu->by_library = by == 1;
    return b;
}

/* ---- products ---- */

struct shape {
    int64_t m, n, k[3];
    int terms;       /* the last is masked where there are three */
    int addend;      /* 0 none, 1 of its own, 2 C itself */
    bool bias, wide; /* wide: C in real */
};

static struct product_sum sum_new(const struct shape *x, enum dtype act) {
    enum dtype real = act == DT_F64 ? DT_F64 : DT_F32, type = x->wide ? real : act;
    struct product_sum s = {.alpha = x->addend == 1 ? -0.5 : 1, .beta = x->addend == 1 ? 0.25 : 1};
    for (int i = 0; i < x->terms; i++) {
        struct product_term *t = product_add(
            &s.terms, MATMUL_TRANS_B, matrix(act, x->m, x->k[i], i), matrix(act, x->n, x->k[i], 0));
        if (i < 2) continue;
        t->p = 0.25;
        t->mask = tensor_of(NULL, DT_U8, x->m, dropout_mask_bytes(x->n));
        t->mask.data = mem_calloc(MEM_OTHER, (size_t)(x->m * t->mask.cols), 1);
        for (int64_t b = 0; b < x->m * t->mask.cols; b++)
            ((uint8_t *)t->mask.data)[b] = (uint8_t)(b * 37 + 11);
    }
    s.c = matrix(type, x->m, x->n, 3);
    if (x->addend == 1) s.d = matrix(real, x->m, x->n, 1);
    if (x->addend == 2) s.d = s.c;
    if (x->bias) s.e = matrix(real, 1, x->n, 0);
    s.f = matrix(real, 1, x->n, 0);
    return s;
}
static void sum_free(struct product_sum *s) {
    for (int i = 0; i < s->terms.n; i++) {
        mem_free(s->terms.t[i].a.data);
        mem_free(s->terms.t[i].b.data);
        mem_free(s->terms.t[i].mask.data);
    }
    if (s->d.data != s->c.data) mem_free(s->d.data);
    mem_free(s->c.data), mem_free(s->e.data), mem_free(s->f.data);
}

static double exact(const struct product_sum *s, int64_t i, int64_t j, double *size) {
    double v = 0, f = value_of(s->f, 0, j), d = 0, e = 0;
    *size = 0;
    for (int n = 0; n < s->terms.n; n++) {
        const struct product_term *t = &s->terms.t[n];
        double own = 0, own_size = 0, kept = 1;
        for (int64_t k = 0; k < t->a.cols; k++) {
            double x = value_of(t->a, i, k) * value_of(t->b, j, k);
            own += x;
            own_size += fabs(x);
        }
        if (t->mask.data) {
            bool on = ((const uint8_t *)t->mask.data)[i * t->mask.ld + j / 8] >> (j % 8) & 1;
            kept = on ? 1 / (1 - t->p) : 0;
        }
        v += kept * own;
        *size += kept * own_size;
    }
    if (s->d.data) d = s->beta * value_of(s->d, i, j);
    if (s->e.data) e = value_of(s->e, 0, j);
    *size = *size * fabs(f * s->alpha) + fabs(d) + fabs(e);
    return f * s->alpha * v + d + e;
}

static struct tensor run(struct backend *b, const struct product_sum *s) {
    struct product_sum used = *s;
    used.c = copy_of(s->c);
    if (s->d.data == s->c.data) used.d = used.c;
    be_products(backend_stream(b), &used, 1);
    assert_ok(stream_sync(backend_stream(b), &err));
    return used.c;
}

static void check_sum(struct backend *b, const struct product_sum *s, struct tensor c) {
    double u = backend_act(b) == DT_F64 ? 0x1p-53 : 0x1p-24, roundings = 9 + 3 * s->terms.n;
    for (int i = 0; i < s->terms.n; i++) roundings += (double)s->terms.t[i].a.cols;
    for (int64_t i = 0; i < c.rows; i++)
        for (int64_t j = 0; j < c.ld; j++) {
            double got = value_of(c, i, j), size;
            if (j >= c.cols) {
                assert_true(isnan(got));
                continue;
            }
            double want = exact(s, i, j, &size), bound = roundings * u * size;
            if (c.dtype == DT_BF16) bound += 0x1p-8 * (fabs(want) + bound);
            if (!(fabs(got - want) <= bound))
                fail_msg("%s: %ld x %ld, %d terms: C[%ld, %ld] = %.9g, want %.9g within %.3g",
                         backend_describe(b), (long)c.rows, (long)c.cols, s->terms.n, (long)i,
                         (long)j, got, want, bound);
        }
}

static const struct shape shapes[] = {
    {1, 64, {40}, 1, 0, false, false},         {5, 130, {64, 8}, 2, 1, true, false},
    {23, 65, {97, 16}, 2, 2, false, true},     {24, 63, {33, 8, 20}, 3, 1, true, true},
    {25, 16, {576, 64}, 2, 0, true, false},    {97, 200, {64, 32, 32}, 3, 2, true, true},
    {400, 70, {100, 16}, 2, 1, false, true},   {400, 130, {65, 64}, 2, 0, false, false},
    {300, 64, {48, 8, 8}, 3, 0, false, false}, {7, 1, {3}, 1, 2, true, true},
    {33, 40, {0}, 0, 1, true, false},          {290, 96, {64}, 1, 0, false, false},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };
static const enum dtype acts[] = {DT_BF16, DT_F32, DT_F64};

/* The bits of a sum without the factor. */
static void check_one(struct backend *b, const struct product_sum *s) {
    struct product_sum plain = *s, one = *s;
    struct tensor none = {0};
    plain.f = none;
    one.f = copy_of(s->f);
    for (int64_t j = 0; j < one.f.cols; j++) {
        if (one.f.dtype == DT_F64)
            ((double *)one.f.data)[j] = 1;
        else
            ((float *)one.f.data)[j] = 1;
    }
    struct tensor x = run(b, &plain), y = run(b, &one);
    for (int64_t i = 0; i < x.rows; i++)
        if (memcmp(tensor_rows(x, i, 1).data, tensor_rows(y, i, 1).data,
                   (size_t)x.cols * dtype_size(x.dtype)) != 0)
            fail_msg("%s: a factor of 1 changes bits of row %ld", backend_describe(b), (long)i);
    mem_free(x.data);
    mem_free(y.data);
    mem_free(one.f.data);
}

static void products_with_a_factor(void **state) {
    (void)state;
    for (int i = 0; i < SHAPES; i++)
        for (int a = 0; a < 3; a++) {
            struct product_sum s = sum_new(&shapes[i], acts[a]);
            for (int level = ISA_REF; level <= (int)found; level++)
                for (int by = 0; by < 2; by++) {
                    struct backend *b = open_at(acts[a], (enum isa)level, by);
                    if (!b || (acts[a] == DT_F64 && level > ISA_REF)) {
                        backend_free(&b);
                        continue;
                    }
                    threads_set(1 + (i + level) % 3);
                    struct tensor c = run(b, &s);
                    check_sum(b, &s, c);
                    /* by BLAS or the library, terms are added to D in another order than beside it */
                    if (by == 0 && acts[a] != DT_F64) check_one(b, &s);
                    mem_free(c.data);
                    backend_free(&b);
                }
            sum_free(&s);
        }
    threads_set(0);
}

/* What the decoder's modules are - no addend, or the residual stream with weights of a term - keeps its bits by the
 * library, too. */
static void library_without_change(void **state) {
    (void)state;
    static const struct shape modules[] = {{300, 96, {64, 16}, 2, 0, false, false},
                                           {300, 96, {64}, 1, 1, false, true},
                                           {40, 64, {96}, 1, 0, false, false}};
    for (int i = 0; i < 3; i++) {
        struct product_sum s = sum_new(&modules[i], DT_BF16);
        struct backend *b = open_at(DT_BF16, found, 1);
        s.alpha = s.beta = 1;
        if (b) check_one(b, &s);
        backend_free(&b);
        sum_free(&s);
    }
}

/* ---- the operations ---- */

struct outcome {
    struct tensor dy, dm, scaled, dots, f, w;
};

static struct outcome operations(struct backend *b, int64_t rows, int64_t cols) {
    enum { K = 24 };
    struct stream *s = backend_stream(b);
    enum dtype act = backend_act(b), real = backend_real(b);
    stream_ = 500; /* the same numbers every time */
    struct outcome o = {.dy = matrix(act, rows, cols, 8), .dm = matrix(real, 1, cols, 0)};
    o.scaled = matrix(act, rows, cols, 0), o.dots = matrix(real, 1, cols, 0);
    o.f = matrix(real, 1, cols, 0), o.w = matrix(real, 1, cols, 0);
    struct tensor y = matrix(real, rows, cols, 0), d = matrix(real, rows, cols, 4),
                  e = matrix(real, 1, cols, 0), squares = matrix(real, 1, cols, 0),
                  v = matrix(real, K, cols, 0), low = matrix(act, cols, K, 0);
    be_scale_copy(s, v, v, 1e-3);
    for (int64_t j = 0; j < cols; j++)
        if (real == DT_F32) ((float *)squares.data)[j] = 2;
    be_scale_cols(s, o.scaled, o.dy, e);
    be_col_dots(s, o.dots, -2, o.scaled, y);
    be_factor_bwd(s, &(struct factor_grad){o.dm, o.dy, y, d, e, o.f, o.w});
    be_norm_factor(s, &(struct norm_factor){o.f, o.w, o.dots, squares, v, low});
    assert_ok(stream_sync(s, &err));
    struct tensor *own[] = {&y, &d, &e, &squares, &v, &low};
    for (int i = 0; i < 6; i++) mem_free(own[i]->data);
    return o;
}

static void threads_change_nothing(void **state) {
    (void)state;
    for (int level = ISA_REF; level <= (int)found; level++)
        for (int a = 0; a < 2; a++) {
            struct backend *b = open_at(acts[a], (enum isa)level, 0);
            struct outcome one, more;
            threads_set(1);
            one = operations(b, 331, 700);
            for (int threads = 2; threads <= 4; threads++) {
                threads_set(threads);
                more = operations(b, 331, 700);
                struct tensor *x[] = {&one.dy, &one.dm, &one.scaled, &one.dots, &one.f, &one.w},
                              *y[] = {&more.dy,   &more.dm, &more.scaled,
                                      &more.dots, &more.f,  &more.w};
                for (int i = 0; i < 6; i++) {
                    size_t bytes = (size_t)(x[i]->rows * x[i]->ld) * dtype_size(x[i]->dtype);
                    if (memcmp(x[i]->data, y[i]->data, bytes) != 0)
                        fail_msg("%s, output %d: %d threads change bits", backend_describe(b), i,
                                 threads);
                    mem_free(y[i]->data);
                }
            }
            struct tensor *x[] = {&one.dy, &one.dm, &one.scaled, &one.dots, &one.f, &one.w};
            for (int i = 0; i < 6; i++) mem_free(x[i]->data);
            backend_free(&b);
        }
    threads_set(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_with_a_factor),
        cmocka_unit_test(library_without_change),
        cmocka_unit_test(threads_change_nothing),
    };
    if (cpu_isa_from_environment(&err) != MIL_OK) return 1;
    found = cpu_isa_used();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
