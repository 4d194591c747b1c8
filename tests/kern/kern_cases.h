/* SPDX-License-Identifier: Apache-2.0 */
/* kern_cases.h - buffers with guard bands, fills, and comparison for test_kern.c.
 *
 * A buffer lies between two bands of 64 bytes that must come back unchanged, starts `shift`
 * elements off its alignment, has gaps between rows (guarded too), and exists twice: in the type
 * under test, and in f64 for the oracle, which is the f64 instance of the reference run on exactly
 * the same numbers. */
#ifndef MIL_TESTS_KERN_CASES_H
#define MIL_TESTS_KERN_CASES_H

#include "check.h"

#include <math.h>

#include "core/cpu.h"
#include "core/rng.h"
#include "kern/kern.h"

enum { SEED = 7041776, BAND = 64, POISON = 0xA5 };

/* rows x cols with ld >= cols. */
struct buf {
    enum dtype type;
    int64_t rows, cols, ld, shift;
    unsigned char *memory; /* band, data, band */
    size_t bytes;
    void *p;     /* element (0, 0) */
    double *f64; /* the same shape and ld, exact values */
};

enum fill { FILL_NORMAL, FILL_INTEGER, FILL_POISON };

static inline double get(enum dtype t, const void *p, int64_t i) {
    switch (t) {
    case DT_F32: return (double)((const float *)p)[i];
    case DT_BF16: return (double)bf16_to_f32(((const bf16 *)p)[i]);
    case DT_F16: return (double)f16_to_f32(((const f16 *)p)[i]);
    default: return ((const double *)p)[i];
    }
}
static inline void put(enum dtype t, void *p, int64_t i, double x) {
    switch (t) {
    case DT_F32: ((float *)p)[i] = (float)x; break;
    case DT_BF16: ((bf16 *)p)[i] = bf16_from_f32((float)x); break;
    case DT_F16: ((f16 *)p)[i] = f16_from_f32((float)x); break;
    default: ((double *)p)[i] = x; break;
    }
}
/* Unit roundoff: half a unit in the last place, relative. */
static inline double unit(enum dtype t) {
    switch (t) {
    case DT_F32: return 0x1p-24;
    case DT_BF16:
        return 0x1p-8; /* twice the half unit 2^-9: a value near a tie may go either way */
    case DT_F16: return 0x1p-11;
    default: return 0x1p-53;
    }
}

static inline struct buf buf_new(enum dtype type, int64_t rows, int64_t cols, int64_t gap,
                                 int64_t shift) {
    struct buf b = {.type = type, .rows = rows, .cols = cols, .ld = cols + gap, .shift = shift};
    size_t n = (size_t)(rows * b.ld + shift);
    b.bytes = n * dtype_size(type) + 2 * BAND;
    b.memory = mem_alloc(MEM_OTHER, b.bytes, 1);
    b.f64 = mem_calloc(MEM_OTHER, (size_t)(rows * b.ld), sizeof(double));
    memset(b.memory, POISON, b.bytes);
    b.p = b.memory + BAND + (size_t)shift * dtype_size(type);
    return b;
}
static inline void buf_free(struct buf *b) {
    mem_free(b->memory);
    mem_free(b->f64);
}
/* Values of a kind into both copies; what is stored is what the oracle gets. */
static inline void buf_fill(struct buf *b, enum fill fill, uint32_t stream, double scale) {
    for (int64_t r = 0; r < b->rows; r++)
        for (int64_t c = 0; c < b->cols; c++) {
            uint64_t e = (uint64_t)(r * b->cols + c);
            double x = fill == FILL_INTEGER ? floor(9 * rng_uniform(SEED, stream, 0, e)) - 4
                                            : scale * rng_normal(SEED, stream, 0, e);
            if (fill == FILL_POISON) x = NAN;
            put(b->type, b->p, r * b->ld + c, x);
            b->f64[r * b->ld + c] = get(b->type, b->p, r * b->ld + c);
        }
}
static inline void buf_set(struct buf *b, int64_t r, int64_t c, double x) {
    put(b->type, b->p, r * b->ld + c, x);
    b->f64[r * b->ld + c] = get(b->type, b->p, r * b->ld + c);
}

/* Everything outside the rows is as it was. */
static inline void buf_check_bands(const struct buf *b, const char *what) {
    size_t size = dtype_size(b->type), start = (size_t)((unsigned char *)b->p - b->memory);
    for (size_t i = 0; i < b->bytes; i++) {
        if (i >= start) {
            size_t e = (i - start) / size;
            bool inside = e < (size_t)(b->rows * b->ld) && e % (size_t)b->ld < (size_t)b->cols;
            if (b->ld > 0 && inside) continue;
        }
        if (b->memory[i] != POISON)
            fail_msg("%s: byte %zu outside the output was written", what, i);
    }
}

/* What a comparison needs to say. */
struct context {
    const char *op;
    const struct kern *kern;
    char shape[96];
};

/* |got - want| <= bound(r, c), NaN with NaN, infinities equal.  bound = relative |want| + absolute
 * scale, see the callers. */
static inline void buf_compare(const struct context *x, const struct buf *b, const char *name,
                               double relative, double absolute) {
    char what[192];
    snprintf(what, sizeof what, "%s %s level %s act %s %s", x->op, name, isa_name(x->kern->level),
             dtype_name(x->kern->act), x->shape);
    for (int64_t r = 0; r < b->rows; r++)
        for (int64_t c = 0; c < b->cols; c++) {
            double got = get(b->type, b->p, r * b->ld + c), want = b->f64[r * b->ld + c];
            if (isnan(want) && isnan(got)) continue;
            if (isinf(want) && got == want) continue;
            double bound = relative * fabs(want) + absolute;
            if (!(fabs(got - want) <= bound))
                fail_msg("%s: [%ld,%ld] = %.9g, want %.9g within %.3g", what, (long)r, (long)c, got,
                         want, bound);
        }
    buf_check_bands(b, what);
}

/* Unit roundoff of f32, in which kernels compute. */
#define U 0x1p-24

/* Called for every level and act; fails by cmocka. */
typedef void (*op_test)(const struct kern *k, const struct kern *oracle);

static inline void for_tables(op_test test) {
    struct kern k, oracle;
    kern_table_init(&oracle, DT_F64, ISA_REF);
    static const enum dtype acts[] = {DT_F32, DT_BF16};
    for (int level = ISA_REF; level <= (int)cpu_isa_found(); level++)
        for (int i = 0; i < 2; i++) {
            kern_table_init(&k, acts[i], (enum isa)level);
            test(&k, &oracle);
        }
}

/* One cmocka test runs `test` on all tables. */
struct table_test {
    const char *name;
    op_test test;
};
static inline void run_on_tables(void **state) {
    for_tables(((const struct table_test *)*state)->test);
}
static inline struct CMUnitTest table_unit_test(const struct table_test *t) {
    return (struct CMUnitTest){t->name, run_on_tables, NULL, NULL, (void *)(uintptr_t)t};
}

static const enum fill fills[] = {FILL_NORMAL, FILL_INTEGER};

#endif
