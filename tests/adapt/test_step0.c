/* SPDX-License-Identifier: Apache-2.0 */
/* test_step0.c - an SVD-initialised adapter before the first step, on the demonstration's model and
 * on the tiny random one, every kind of module, every method, s = alpha / r other than 1: not a bit of the
 * output changes, s B0 A0 is the asked part of W, and the factors are balanced.  The truth is
 * LAPACK's full decomposition (../linalg/judge.h).
 *
 * With u = 2^-24 and sigma_1 the largest of the r chosen values:
 *   - B0 = fl(U sqrt(S/s)), A0 = fl(sqrt(S/s) V^T): each entry is off by at most u of itself, so
 *     each entry of s B0^T B0 and s A0 A0^T by (2 u + u^2) sqrt(sigma_i sigma_j) from diag(sigma);
 *   - || s B0 A0 - U S V^T ||_F <= s (|dB| |A0|_2 + |B0|_2 |dA|) <= (2 u + u^2) sqrt(sigma_1 sum
 *     sigma), norms of dB, dA in Frobenius;
 *   - U S V^T itself: W V V^T up to the residuals, and V V^T is off by sqrt(2) sin(theta), sin
 *     <= sqrt(2 r) rho s_0 / gap (judge.h), so s_0 (2 sqrt(r) rho s_0 / gap + sqrt(r) rho) in all,
 *     rho the reported residual plus k eps for the reference's;
 *   - W - (W - P) - P in f64 with P = s B0 A0 given: two roundings, eps (|W - P| + |W|) an entry;
 *     with W - P stored in f32, as the paper's layout has it: u |W - P| an entry besides. */
#include "apply.h"
#include "fixture.h"

#include "adapt/delta.h"
#include "adapt/internal.h"
#include "linalg/judge.h"

static const double u = 0x1p-24;
static const char *const methods[] = {"milora", "pissa", "mid", "random"};
static const enum svd_end ends[] = {SVD_BOTTOM, SVD_TOP, SVD_MIDDLE, SVD_RANDOM};
enum { METHODS = 4, TOKENS = 7, MODULES_MAX = 2 * MODULES };

/* One base, one method. */
struct start {
    struct checkpoint *base;
    struct adapter *adapter;
    enum svd_end end;
    double residual[MODULES_MAX];
    struct {
        double part, gram, f64, f32;
    } worst; /* relative to their bounds */
};

static void keep_residual(void *ctx, const struct adapter_init_event *e) {
    struct start *s = ctx;
    assert_true(e->index < MODULES_MAX);
    assert_true(e->init->residual <= 1e-12);
    s->residual[e->index] = e->init->residual;
}

static void start_init(struct start *s, const char *model, int method, int64_t r) {
    static const char *const some[] = {".*layers\\.(0|3)\\..*"}; /* time: not 1 and 2 */
    struct adapter_options o = {.method = methods[method],
                                .r = r,
                                .alpha = 0.75 * (double)r,
                                .targets = some,
                                .n_targets = 1,
                                .targets_regex = true,
                                .seed = 42};
    memset(s, 0, sizeof *s);
    s->end = ends[method];
    assert_ok(checkpoint_open(model, CHECKPOINT_WEIGHTS, &s->base, &err));
    assert_ok(adapter_init(s->base, &o, keep_residual, s, &s->adapter, &err));
    assert_int_equal(s->adapter->n, (s->base->config.layers > 3 ? 2 : 1) * MODULES);
}

static void start_release(struct start *s) {
    adapter_free(&s->adapter);
    checkpoint_free(&s->base);
}

/* ---- the factors ---- */

/* P = s B0 A0, [m, n] in f64. */
static double *initial_part(const struct delta *d) {
    double *p = reals(d->m * d->n), s = delta_scale(d);
    for (int64_t i = 0; i < d->m; i++)
        for (int64_t t = 0; t < d->r; t++)
            for (int64_t j = 0; j < d->n; j++)
                p[i * d->n + j] += s * (double)d->b0[i * d->r + t] * (double)d->a0[t * d->n + j];
    return p;
}

/* The asked part of the reference, [m, n]. */
static double *reference_part(const struct reference *f, const int64_t *index, int64_t r) {
    double *p = reals(f->m * f->n);
    for (int64_t t = 0; t < r; t++)
        for (int64_t i = 0; i < f->m; i++)
            for (int64_t j = 0; j < f->n; j++)
                p[i * f->n + j] += f->s[index[t]] / f->scale * f->u[index[t] * f->m + i] *
                                   f->v[index[t] * f->n + j];
    return p;
}

/* Smallest distance between a chosen value and one that is not. */
static double gap_of(const struct reference *f, const int64_t *index, int64_t r) {
    double gap = INFINITY;
    bool *chosen = mem_calloc(MEM_OTHER, (size_t)f->k, sizeof *chosen);
    for (int64_t t = 0; t < r; t++) chosen[index[t]] = true;
    for (int64_t i = 1; i < f->k; i++)
        if (chosen[i] != chosen[i - 1]) gap = fmin(gap, f->s[i - 1] - f->s[i]);
    mem_free(chosen);
    return gap / f->scale;
}

static double at_most(double *worst, double value, double bound, const char *what) {
    if (!(value <= bound)) fail_msg("%s: %.3g, the bound is %.3g", what, value, bound);
    *worst = fmax(*worst, value / bound);
    return value;
}

static void check_part(struct start *s, const struct delta *d, double rho,
                       const struct reference *f, const int64_t *index) {
    double *p = initial_part(d), *want = reference_part(f, index, d->r), off = 0, sum = 0,
           s0 = f->s[0] / f->scale, r = (double)d->r, gap = gap_of(f, index, d->r);
    for (int64_t t = 0; t < d->r; t++) sum += f->s[index[t]] / f->scale;
    for (int64_t i = 0; i < d->m * d->n; i++) off += (p[i] - want[i]) * (p[i] - want[i]);
    rho += (double)f->k * DBL_EPSILON;
    at_most(&s->worst.part, sqrt(off),
            (2 * u + u * u) * sqrt(f->s[index[0]] / f->scale * sum) +
                s0 * (2 * sqrt(r) * rho * s0 / gap + sqrt(r) * rho),
            "s B0 A0 against the part of W");
    mem_free(want);
    mem_free(p);
}

/* s B0^T B0 = s A0 A0^T = diag(sigma). */
static void check_gram(struct start *s, const struct delta *d, double rho,
                       const struct reference *f, const int64_t *index) {
    double slack = f->s[0] / f->scale * (sqrt((double)d->r) * rho + (double)f->k * DBL_EPSILON);
    for (int64_t i = 0; i < d->r; i++)
        for (int64_t j = 0; j < d->r; j++) {
            double bb = 0, aa = 0, si = f->s[index[i]] / f->scale, sj = f->s[index[j]] / f->scale;
            for (int64_t t = 0; t < d->m; t++)
                bb += (double)d->b0[t * d->r + i] * (double)d->b0[t * d->r + j];
            for (int64_t t = 0; t < d->n; t++)
                aa += (double)d->a0[i * d->n + t] * (double)d->a0[j * d->n + t];
            double want = i == j ? si : 0, bound = (2 * u + u * u) * sqrt(si * sj) + slack;
            at_most(&s->worst.gram, fabs(delta_scale(d) * bb - want), bound, "s B0^T B0");
            at_most(&s->worst.gram, fabs(delta_scale(d) * aa - want), bound, "s A0 A0^T");
        }
}

/* W - (W - P) - P, in f64 and with the difference stored in f32. */
static void check_residual_model(struct start *s, const struct delta *d, const float *w) {
    double *p = initial_part(d), f64 = 0, f32 = 0, bound64 = 0, bound32 = 0, bb = 0, aa = 0;
    float *rest = mem_alloc(MEM_OTHER, (size_t)(d->m * d->n), sizeof *rest);
    memcpy(rest, w, (size_t)(d->m * d->n) * sizeof *rest);
    assert_ok(low_rank_add(rest, d->m, d->n, d->r, -delta_scale(d), d->b0, d->a0, &err));
    for (int64_t i = 0; i < d->m * d->n; i++) {
        double wi = w[i], kept = wi - p[i], e = wi - kept - p[i], g = wi - (double)rest[i] - p[i],
               rounding = DBL_EPSILON * (fabs(kept) + fabs(wi));
        f64 += e * e;
        f32 += g * g;
        bound64 += rounding * rounding;
        bound32 += u * (double)rest[i] * u * (double)rest[i];
    }
    for (int64_t t = 0; t < d->m * d->r; t++) bb += (double)d->b0[t] * (double)d->b0[t];
    for (int64_t t = 0; t < d->r * d->n; t++) aa += (double)d->a0[t] * (double)d->a0[t];
    /* P summed here and there in another order: r terms, || |B0| |A0| || <= |B0| |A0| */
    double product = 2 * (double)d->r * DBL_EPSILON * delta_scale(d) * sqrt(aa * bb);
    at_most(&s->worst.f64, sqrt(f64), sqrt(bound64), "W - (W - P) - P");
    at_most(&s->worst.f32, sqrt(f32), sqrt(bound32) + sqrt(bound64) + product,
            "W - f32(W - P) - P");
    mem_free(rest);
    mem_free(p);
}

static void check_module(struct start *s, size_t i) {
    const struct delta *d = &s->adapter->deltas[i];
    float *w = mem_alloc(MEM_OTHER, (size_t)(d->m * d->n), sizeof *w);
    int64_t *index = mem_alloc(MEM_OTHER, (size_t)d->r, sizeof *index);
    struct reference f;
    struct svd_request q = {.end = s->end,
                            .rank = d->r,
                            .seed = 42,
                            .stream = (uint32_t)module_number(d->layer, d->module)};
    weight_to_f32(checkpoint_module(s->base, d->layer, d->module), w);
    reference_init(&f, &(struct svd_matrix){w, DT_F32, d->m, d->n});
    assert_ok(svd_indices(&q, d->m, d->n, index, &err));
    check_part(s, d, s->residual[i], &f, index);
    check_gram(s, d, s->residual[i], &f, index);
    check_residual_model(s, d, w);
    for (int64_t t = 0; t < d->r * d->n; t++) assert_true(d->da[t] == 0);
    for (int64_t t = 0; t < d->m * d->r; t++) assert_true(d->db[t] == 0);
    reference_release(&f);
    mem_free(index);
    mem_free(w);
}

/* ---- the function ---- */

/* n values as the type t (mem_free). */
static void *random_values(int64_t n, enum dtype t, uint32_t stream, double size) {
    void *out = mem_alloc(MEM_OTHER, (size_t)n, sizeof(double));
    for (int64_t i = 0; i < n; i++) {
        double x = size * normal(stream, i);
        if (t == DT_F64) ((double *)out)[i] = x;
        if (t == DT_F32) ((float *)out)[i] = (float)x;
        if (t == DT_BF16) ((bf16 *)out)[i] = bf16_from_f32((float)x);
    }
    return out;
}

/* y += contribution leaves y as it was. */
static void check_silent(const struct linear_adapter *l, const struct delta *d, struct backend *b,
                         enum dtype act, bool training) {
    struct arena step, call;
    struct adapter_saved saved;
    static const uint64_t keys[TOKENS] = {1, 2, 3, 4, 5, 6, 7};
    enum dtype real = act == DT_F64 ? DT_F64 : DT_F32;
    size_t bytes = (size_t)(TOKENS * d->m) * dtype_size(real);
    void *x = random_values(TOKENS * d->n, act, 90, 10),
         *y = random_values(TOKENS * d->m, real, 91, 1),
         *before = random_values(TOKENS * d->m, real, 91, 1);
    assert_non_null(l);
    assert_ok(arena_init(&step, MEM_STEP, 1 << 18, &err));
    assert_ok(arena_init(&call, MEM_SCRATCH, 1 << 20, &err));
    l->ops->layout(l, &step, &call, TOKENS, &saved);
    arena_reset(&call);
    struct adapter_context ctx = {.stream = backend_stream(b),
                                  .call = &call,
                                  .training = training,
                                  .seed = 3,
                                  .row_key = keys};
    apply_forward(l, &ctx, tensor_of(x, act, TOKENS, d->n), tensor_of(y, real, TOKENS, d->m),
                  &saved);
    assert_ok(stream_sync(ctx.stream, &err));
    assert_memory_equal(y, before, bytes);
    arena_release(&step);
    arena_release(&call);
    mem_free(before);
    mem_free(y);
    mem_free(x);
}

static void check_attached(struct start *s, enum dtype act, bool training) {
    struct backend *b;
    struct adapter_runtime *rt;
    assert_ok(backend_open("cpu", act, &b, &err));
    struct model m = {.config = s->base->config, .backend = b};
    m.layers = mem_calloc(MEM_OTHER, (size_t)m.config.layers, sizeof *m.layers);
    s->adapter->options.dropout = training ? 0 : 0.3;
    assert_ok(adapter_attach(s->adapter, &m, training, &rt, &err));
    for (size_t i = 0; i < s->adapter->n; i++) {
        const struct delta *d = &s->adapter->deltas[i];
        check_silent(m.layers[d->layer].linear[d->module].adapter, d, b, act, training);
    }
    adapter_detach(&rt);
    mem_free(m.layers);
    backend_free(&b);
}

/* In training without dropout, and in evaluation with it configured. */
static void check_function(struct start *s) {
    static const enum dtype types[] = {DT_BF16, DT_F32, DT_F64};
    for (int c = 0; c < 6; c++) check_attached(s, types[c / 2], c % 2 == 0);
}

/* ---- all of it, for one model ---- */

static void check_model(const char *model, int64_t r) {
    for (int method = 0; method < METHODS; method++) {
        struct start s;
        start_init(&s, model, method, r);
        for (size_t i = 0; i < s.adapter->n; i++) check_module(&s, i);
        check_function(&s);
        printf(
            "r %lld %s: part %.2g, factors %.2g, W - (W - P) - P %.2g, in f32 %.2g of the bound\n",
            (long long)r, methods[method], s.worst.part, s.worst.gram, s.worst.f64, s.worst.f32);
        start_release(&s);
    }
}

static void test_demo(void **state) {
    (void)state;
    check_model(TEST_ROOT "/share/demo/model", 12);
}

static void test_tiny(void **state) {
    (void)state;
    check_model(TEST_DATA "/base", 5);
    check_model(TEST_DATA "/base", 1);
    check_model(TEST_DATA "/base", 16); /* all of k and v */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_demo),
        cmocka_unit_test(test_tiny),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
