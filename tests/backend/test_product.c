/* SPDX-License-Identifier: Apache-2.0 */
/* test_product.c - be_product at every level against a plain f64 loop, on random sums: up to PRODUCT_TERMS
 * terms of mixed transposes, masks, addend in place, bias, NaN in every gap; and its promises bit for bit:
 * a row whatever M, the threads and the columns beside it, blocks as their expanded copy.
 *
 * Bound.  A chain over K steps and T terms in f32 meets at most K + 3 T + 8 roundings (a masked term is
 * multiplied and added as a whole; alpha, beta, 1 / (1 - p) are rounded once each), u = 2^-24 (f64: 2^-53),
 * each relative to the sum of magnitudes; oneDNN adds in another order, which is within the same.  A bf16 C adds
 * 2^-8 |c|. */
#include "check.h"

#include <math.h>

#include "backend/cpu.h"
#include "core/cpu.h"
#include "core/threads.h"
#include "kern/dequant.h"

static uint64_t state_ = 88172645463325252u;
static uint64_t draw(void) {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    return state_ ^= state_ << 17;
}
static int64_t below(int64_t n) {
    return (int64_t)((draw() >> 11) % (uint64_t)n);
}

static double element(struct tensor t, int64_t i) {
    if (t.dtype == DT_F64) return ((const double *)t.data)[i];
    if (t.dtype == DT_F32) return (double)((const float *)t.data)[i];
    return (double)bf16_to_f32(((const bf16 *)t.data)[i]);
}
static void element_set(struct tensor t, int64_t i, double x) {
    if (t.dtype == DT_F64) ((double *)t.data)[i] = x;
    if (t.dtype == DT_F32) ((float *)t.data)[i] = (float)x;
    if (t.dtype == DT_BF16) ((bf16 *)t.data)[i] = bf16_from_f32((float)x);
}

/* Numbers in [-1, 1) and NaN in the gaps; without `fill` NaN everywhere. */
static struct tensor matrix(enum dtype t, int64_t rows, int64_t cols, int64_t gap, bool fill) {
    struct tensor m = {NULL, t, rows, cols, cols + gap};
    m.data = mem_alloc(MEM_OTHER, (size_t)(rows * m.ld) + 1, dtype_size(t));
    for (int64_t i = 0; i < rows * m.ld; i++) {
        double x = (double)(int64_t)(draw() >> 32) * 0x1p-31 - 1;
        element_set(m, i, fill && i % m.ld < cols ? x : (double)NAN);
    }
    return m;
}
static struct tensor copy_of(struct tensor t) {
    size_t bytes = (size_t)(t.rows * t.ld) * dtype_size(t.dtype);
    t.data = memcpy(mem_alloc(MEM_OTHER, bytes + 8, 1), t.data, bytes);
    return t;
}

struct sum {
    struct product_terms terms;
    struct tensor c, d, e;
    double alpha, beta;
};

static struct tensor random_mask(int64_t rows, int64_t cols) {
    struct tensor m = {NULL, DT_U8, rows, dropout_mask_bytes(cols),
                       dropout_mask_bytes(cols) + 8 * below(3)};
    m.data = mem_alloc(MEM_OTHER, (size_t)(rows * m.ld) + 1, 1);
    for (int64_t i = 0; i < rows * m.ld; i++) ((uint8_t *)m.data)[i] = (uint8_t)(draw() >> 40);
    return m;
}

static void term_random(struct sum *s, enum dtype act, int64_t m, int64_t n, int64_t k) {
    static const double p[] = {0.5, 0.1, 0.05, 0, 0.9};
    unsigned flags = (unsigned)below(4);
    int64_t a[2] = {m, k}, b[2] = {k, n}, ta = flags & MATMUL_TRANS_A, tb = flags / 2;
    struct product_term *t =
        product_add(&s->terms, flags, matrix(act, a[ta], a[1 - ta], below(7), true),
                    matrix(act, b[tb], b[1 - tb], below(7), true));
    if (below(3) > 0) return;
    t->mask = random_mask(m, n);
    t->p = p[below(5)];
    t->change = below(2);
}

static struct sum sum_random(enum dtype act, int64_t m, int64_t n, int64_t most_k, int n_terms) {
    static const int64_t depths[] = {0,   1,   2,   15,  17,  31,  32,  63,  64,  65,  96,   127,
                                     128, 129, 255, 256, 383, 384, 385, 831, 832, 833, 1663, 1665};
    static const double factors[] = {1, 0, -1, 0.3, 2};
    enum dtype real = act == DT_F64 ? DT_F64 : DT_F32;
    struct sum s = {.alpha = factors[below(5)], .beta = factors[below(5)]};
    if (below(2)) s.alpha = 1;
    for (int i = 0; i < n_terms; i++) {
        int64_t k = most_k;
        while (k >= most_k) k = below(2) ? depths[below(24)] : below(most_k);
        term_random(&s, act, m, n, k);
    }
    bool in_place = below(3) == 0;
    s.c = matrix(below(2) ? act : real, m, n, below(7), in_place && s.beta != 0);
    if (in_place)
        s.d = s.c;
    else if (below(2))
        s.d = matrix(below(2) ? act : real, m, n, below(7), s.beta != 0);
    if (below(2)) s.e = matrix(below(2) ? act : real, 1, n, 0, true);
    return s;
}
static void sum_free(struct sum *s) {
    for (int i = 0; i < s->terms.n; i++) {
        mem_free(s->terms.t[i].a.data), mem_free(s->terms.t[i].b.data);
        mem_free(s->terms.t[i].mask.data);
    }
    if (s->d.data != s->c.data) mem_free(s->d.data);
    mem_free(s->e.data), mem_free(s->c.data);
}
static int64_t depth_of(const struct product_term *t) {
    return t->flags & MATMUL_TRANS_A ? t->a.rows : t->a.cols;
}

/* The exact element, and the sum of magnitudes. */
static double exact(const struct sum *s, int64_t i, int64_t j, double *size) {
    double v = 0;
    *size = 0;
    for (int n = 0; n < s->terms.n && s->alpha != 0; n++) {
        const struct product_term *t = &s->terms.t[n];
        bool ta = t->flags & MATMUL_TRANS_A, tb = t->flags & MATMUL_TRANS_B;
        double own = 0, own_size = 0, f = 1;
        for (int64_t k = 0; k < depth_of(t); k++) {
            double x = element(t->a, ta ? k * t->a.ld + i : i * t->a.ld + k) *
                       element(t->b, tb ? j * t->b.ld + k : k * t->b.ld + j);
            own += x;
            own_size += fabs(x);
        }
        if (t->mask.data) {
            bool on = ((const uint8_t *)t->mask.data)[i * t->mask.ld + j / 8] >> (j % 8) & 1;
            f = (on ? 1 / (1 - t->p) : 0) - (t->change ? 1 : 0);
        }
        v += f * own;
        *size += fabs(f) * own_size;
    }
    v *= s->alpha;
    *size *= fabs(s->alpha);
    double d = s->d.data && s->beta != 0 ? s->beta * element(s->d, i * s->d.ld + j) : 0;
    double e = s->e.data ? element(s->e, j) : 0;
    *size += fabs(d) + fabs(e);
    return v + d + e;
}

/* The level's result; gaps stay NaN. */
static struct tensor run(struct backend *b, const struct sum *s) {
    struct mil_error err = {0};
    struct tensor c = copy_of(s->c), d = s->d;
    if (d.data == s->c.data) d.data = c.data;
    be_product(backend_stream(b), c, s->alpha, &s->terms, s->beta, d, s->e);
    assert_ok(stream_sync(backend_stream(b), &err));
    return c;
}

struct reference {
    double *want, *bound;
};

static struct reference reference_of(const struct sum *s, enum dtype act) {
    size_t n = (size_t)(s->c.rows * s->c.cols) + 1;
    struct reference ref = {mem_alloc(MEM_OTHER, n, sizeof(double)),
                            mem_alloc(MEM_OTHER, n, sizeof(double))};
    double roundings = 8 + 3 * s->terms.n, u = act == DT_F64 ? 0x1p-53 : 0x1p-24;
    for (int i = 0; i < s->terms.n; i++) roundings += (double)depth_of(&s->terms.t[i]);
    for (int64_t i = 0, at = 0; i < s->c.rows; i++)
        for (int64_t j = 0; j < s->c.cols; j++, at++) {
            double size, w = ref.want[at] = exact(s, i, j, &size), b = roundings * u * size;
            ref.bound[at] = s->c.dtype == DT_BF16 ? b + 0x1p-8 * (fabs(w) + b) : b;
        }
    return ref;
}

static void check_sum(const char *who, struct tensor c, const struct sum *s, struct reference ref) {
    for (int64_t i = 0; i < c.rows; i++)
        for (int64_t j = 0; j < c.ld; j++) {
            double got = element(c, i * c.ld + j);
            int64_t at = i * c.cols + j;
            if (j < c.cols ? !(fabs(got - ref.want[at]) <= ref.bound[at]) : !isnan(got))
                fail_msg("%s: %ld x %ld, %d terms, alpha %g beta %g: C[%ld, %ld] = %.9g, want %.9g",
                         who, (long)c.rows, (long)c.cols, s->terms.n, s->alpha, s->beta, (long)i,
                         (long)j, got, j < c.cols ? ref.want[at] : NAN);
        }
}

static enum isa found;
static struct backend *open_at(enum dtype act, enum isa level) {
    struct mil_error err = {0};
    struct backend *b = NULL;
    cpu_isa_limit(level);
    assert_ok(backend_open("cpu", act, &b, &err));
    cpu_isa_limit(found);
    return b;
}

static void check_levels(enum dtype act, const struct sum *s) {
    struct reference ref = reference_of(s, act);
    for (int level = ISA_REF; level <= (int)found; level++)
        for (int lib = 0; lib < 2; lib++) {
            struct backend *b = open_at(act, (enum isa)level);
            struct cpu_backend *cpu = (struct cpu_backend *)b;
            bool able = act == DT_BF16 && cpu->product.has_bf16, own = !cpu->by_library;
            cpu->by_library = !own || (lib && able);
            threads_set(1 + (int)below(4));
            struct tensor c = !lib || (able && own) ? run(b, s) : (struct tensor){0};
            check_sum(backend_describe(b), c, s, ref);
            mem_free(c.data);
            backend_free(&b);
        }
    threads_set(0);
    mem_free(ref.want), mem_free(ref.bound);
}

#ifdef NDEBUG
enum { ROUNDS = 16 };
#else
enum { ROUNDS = 4 }; /* an unoptimised build */
#endif
static const enum dtype acts[] = {DT_BF16, DT_F32, DT_F64};

static void random_sums(void **state) {
    (void)state;
    static const int64_t edges[] = {0, 1, 2, 5, 6, 7, 23, 24, 25, 31, 32, 33, 63, 64, 65, 97, 130};
    for (int n = 0; n < 15 * ROUNDS; n++) {
        int64_t m = edges[below(17)], c = edges[below(17)], most = 2000;
        if (n % 40 == 7) m = 383 + below(20);
        while (m * c * most > 600000) most /= 2;
        if (most < 2) most = 2;
        struct sum s = sum_random(acts[n % 3], m, c, most, (int)below(PRODUCT_TERMS + 1));
        check_levels(acts[n % 3], &s);
        sum_free(&s);
    }
}

static struct tensor part_of(struct tensor t, int64_t r, int64_t m, int64_t c, int64_t n) {
    return t.data ? tensor_cols(tensor_rows(t, r, m), c, n) : t;
}
/* Rows [r, r + m) and columns [c, c + n) of a sum; c is a multiple of 8. */
static struct sum sum_part(const struct sum *s, int64_t r, int64_t m, int64_t c, int64_t n) {
    struct sum p = *s;
    for (int i = 0; i < s->terms.n; i++) {
        struct product_term *t = &p.terms.t[i];
        t->a = t->flags & MATMUL_TRANS_A ? tensor_cols(t->a, r, m) : tensor_rows(t->a, r, m);
        t->b = t->flags & MATMUL_TRANS_B ? tensor_rows(t->b, c, n) : tensor_cols(t->b, c, n);
        if (t->mask.data) t->mask = part_of(t->mask, r, m, c / 8, t->mask.cols - c / 8);
    }
    p.c = part_of(s->c, r, m, c, n);
    p.d = part_of(s->d, r, m, c, n);
    if (s->e.data) p.e = tensor_cols(s->e, c, n);
    return p;
}

static void check_part(struct backend *b, const struct sum *s, struct tensor whole, int64_t r,
                       int64_t m, int64_t c, int64_t n, int threads) {
    struct mil_error err = {0};
    struct sum copy = *s;
    copy.c = copy_of(s->c);
    if (s->d.data == s->c.data) copy.d = copy.c;
    struct sum p = sum_part(&copy, r, m, c, n);
    threads_set(threads);
    be_product(backend_stream(b), p.c, p.alpha, &p.terms, p.beta, p.d, p.e);
    assert_ok(stream_sync(backend_stream(b), &err));
    for (int64_t i = 0; i < m; i++)
        if (memcmp(tensor_rows(p.c, i, 1).data, part_of(whole, r + i, 1, c, n).data,
                   (size_t)n * dtype_size(whole.dtype)) != 0)
            fail_msg("%s: row %ld of rows %ld + %ld, columns %ld + %ld, %d threads: other bits",
                     backend_describe(b), (long)(r + i), (long)r, (long)m, (long)c, (long)n,
                     threads);
    mem_free(copy.c.data);
}

static void rows_keep_their_bits(void **state) {
    (void)state;
    static const int64_t columns[] = {200, 64, 48, 97};
    for (int n = 0; n < ROUNDS; n++) {
        enum dtype act = acts[n % 2];
        int64_t m = n % 8 < 6 ? 60 : 400, cols = columns[below(4)];
        struct sum s = sum_random(act, m, cols, m > 60 ? 300 : 1700, 1 + (int)below(5));
        for (int level = ISA_REF; level <= (int)found; level++) {
            if (level == ISA_REF && n % 4) continue;
            struct backend *b = open_at(act, (enum isa)level);
            threads_set(1);
            struct tensor whole = run(b, &s);
            for (int i = 0; i < 14; i++) {
                int64_t r = below(m), rows = 1 + below(i % 2 && m - r > 24 ? 24 : m - r);
                int64_t c = i % 3 ? 0 : below(cols / 8) * 8,
                        width = i % 3 ? cols : 1 + below(cols - c);
                check_part(b, &s, whole, r, rows, c, width, 1 + i % 5);
            }
            mem_free(whole.data);
            backend_free(&b);
        }
        sum_free(&s);
    }
    threads_set(0);
}

/* A row of A that overflows leaves all others alone; where a mask drops it there is 0. */
static void infinities_stay_where_they_are(void **state) {
    (void)state;
    enum { M = 31, N = 70, K = 37, BAD = 5 };
    for (int n = 0; n < 4 * (int)(found + 1); n++) {
        struct backend *b = open_at(acts[n % 2], (enum isa)(n / 4));
        struct sum s = {.alpha = 1, .c = matrix(DT_F32, M, N, 2, false)};
        struct tensor x = matrix(acts[n % 2], M, K, 0, true), w = matrix(x.dtype, N, K, 0, true);
        for (int64_t i = 0; i < N * K; i++) element_set(w, i, 0.25 + fabs(element(w, i)));
        struct product_term *t = product_add(&s.terms, MATMUL_TRANS_B, x, w);
        t->mask = random_mask(M, N), t->p = 0.5, t->change = n / 2 % 2;
        struct tensor clean = run(b, &s);
        element_set(x, BAD * K + 3, (double)INFINITY);
        struct tensor c = run(b, &s);
        for (int64_t i = 0; i < M; i++)
            for (int64_t j = 0; j < N; j++) {
                bool on = ((const uint8_t *)t->mask.data)[i * t->mask.ld + j / 8] >> (j % 8) & 1;
                double got = element(c, i * c.ld + j), old = element(clean, i * c.ld + j);
                if (i == BAD && (on || t->change) ? isfinite(got) : got != old)
                    fail_msg("%s change %d: C[%ld, %ld] = %g, before %g", backend_describe(b),
                             t->change, (long)i, (long)j, got, old);
            }
        mem_free(c.data), mem_free(clean.data);
        backend_free(&b);
        sum_free(&s);
    }
}

static struct tensor blocks(enum dtype t, int64_t rows, int64_t cols, enum dtype act,
                            struct tensor *wide) {
    size_t elems = dtype_block_elems(t), step = dtype_block_bytes(t);
    size_t n = (size_t)(rows * cols) / elems, at = t == DT_Q6_K ? 208 : 0;
    unsigned char *p = mem_alloc(MEM_OTHER, n, step);
    for (size_t i = 0; i < n * step; i++) p[i] = (unsigned char)(draw() >> 33);
    for (size_t i = 0; i < n; i++)
        for (int f = 0; f < 2; f++) { /* factors in [-1/8, 1/8) */
            f16 h = f16_from_f32((float)below(2048) / 8192.0f - 0.125f);
            if (f == 0 || t == DT_Q4_1 || t == DT_Q5_1 || t == DT_Q4_K || t == DT_Q5_K)
                memcpy(p + i * step + at + 2 * (size_t)f, &h, sizeof h);
        }
    float *f32 = mem_alloc(MEM_OTHER, (size_t)(rows * cols), sizeof *f32);
    *wide = matrix(act, rows, cols, 0, true);
    dequant_to_f32(t, p, rows * cols, f32);
    quant_from_f32(act, f32, rows * cols, wide->data);
    mem_free(f32);
    return tensor_of(p, t, rows, cols);
}

static void block_case(struct backend *b, enum dtype t, int64_t m, bool turned, int masked) {
    enum dtype act = backend_act(b);
    int64_t block = (int64_t)dtype_block_elems(t),
            k = turned ? (1 + below(block > 32 ? 4 : 40)) * block : 1 + below(90);
    int64_t n = turned ? 16 * (1 + below(9)) + (below(2) ? below(16) : 0) : (1 + below(3)) * block;
    struct sum s = {.alpha = 0.5, .beta = 1, .c = matrix(DT_F32, m, n, 3, true)};
    s.d = s.c;
    if (below(2)) term_random(&s, act, m, n, 40);
    struct tensor wide, a = matrix(act, m, k, below(4), true);
    struct tensor w = blocks(t, turned ? n : k, turned ? k : n, act, &wide);
    struct product_term *x = product_add(&s.terms, turned ? MATMUL_TRANS_B : 0, a, w);
    if (masked) x->mask = random_mask(m, n), x->p = 0.1, x->change = masked > 1;
    term_random(&s, act, m, n, 9);
    struct tensor got = run(b, &s);
    x->b = wide;
    struct tensor want = run(b, &s);
    if (memcmp(got.data, want.data, (size_t)(m * got.ld) * sizeof(float)) != 0)
        fail_msg("%s: %s, %ld x %ld x %ld, turned %d, mask %d: other bits than expanded",
                 backend_describe(b), dtype_name(t), (long)m, (long)n, (long)k, turned, masked);
    mem_free(got.data), mem_free(want.data), mem_free(w.data);
    sum_free(&s);
}

static void blocks_are_their_expanded_copy(void **state) {
    (void)state;
    static const enum dtype formats[] = {DT_Q8_0, DT_Q4_0, DT_Q4_1, DT_Q4_K, DT_Q6_K, DT_Q5_K};
    static const int64_t rows[] = {1, 3, 24, 25, 200};
    for (int level = ISA_REF; level <= (int)found; level++)
        for (int i = 0; i < 120; i++) {
            int64_t m = rows[i / 12 % 5];
            if (level == ISA_REF && m > 3) continue;
            struct backend *b = open_at(acts[i % 2], (enum isa)level);
            threads_set(1 + i % 3);
            if (backend_takes_blocks(b, formats[i / 2 % 6]))
                block_case(b, formats[i / 2 % 6], m, i / 60, (int)below(3));
            backend_free(&b);
        }
    threads_set(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_sums),
        cmocka_unit_test(rows_keep_their_bits),
        cmocka_unit_test(infinities_stay_where_they_are),
        cmocka_unit_test(blocks_are_their_expanded_copy),
    };
    struct mil_error err = {0};
    if (cpu_isa_from_environment(&err) != MIL_OK) return 1;
    found = cpu_isa_used();
    struct backend *first = open_at(DT_F32, found); /* oneDNN's level is that of its first use */
    backend_free(&first);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
