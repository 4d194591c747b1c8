/* SPDX-License-Identifier: Apache-2.0 */
/* test_alignment.c - what init --method all tells: for methods whose numbers are known from their definition, and against
 * the definition itself for the rest.
 *
 * Tolerances.  Factors are rounded to f32, so a basis turns by 2^-24 sqrt(r) over the spread of its vectors, and its
 * squared cosines by the square of that; shares of energy likewise.  At the bottom, where values of 1e-2 stand beside
 * 1e1, what a turned vector picks up of the top is (6e-8 * 1e3)^2: 1e-8 is far above all of it.  Norms: 1e-6. */
#include "fixture.h"

#include "adapt/alignment.h"
#include "adapt/internal.h"

static struct alignment found[16];

static struct adapter *measured(struct checkpoint *base, const char *method, int64_t r,
                                double alpha) {
    struct adapter_options o = options_of(method, r);
    o.alpha = alpha;
    struct adapter *a = make_adapter(base, &o, 0);
    assert_int_equal(a->n, 10);
    assert_ok(alignment_of_adapter(a, base, 1e-3, NULL, found, &err));
    return a;
}

static double frobenius(const float *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    return sqrt(sum);
}

static double weight_norm(const struct checkpoint *base, const struct delta *d) {
    float row[64];
    double sum = 0;
    for (int64_t i = 0; i < d->m; i++) {
        weight_row_f32(checkpoint_module(base, d->layer, d->module), i, row);
        double norm = frobenius(row, d->n);
        sum += norm * norm;
    }
    return sqrt(sum);
}

static void near(double have, double want, double bound) {
    if (!(fabs(have - want) <= bound)) fail_msg("%.12g, wanted %.12g", have, want);
}

/* The chosen end is spanned wholly, the other not at all; part^2 is the energy; s cancels. */
static void of_triplets(void **state) {
    (void)state;
    struct checkpoint *base = open_base();
    for (int k = 0; k < 4; k++) {
        bool top = k % 2;
        struct adapter *a = measured(base, top ? "pissa" : "milora", 4, k < 2 ? 4 : 10);
        for (size_t i = 0; i < a->n; i++) {
            const struct alignment *f = &found[i];
            near(f->left_top, top, 1e-8);
            near(f->right_top, top, 1e-8);
            near(f->left_bottom, !top, 1e-8);
            near(f->right_bottom, !top, 1e-8);
            near(f->energy_left, f->energy_right, 1e-8);
            near(f->part * f->part, f->energy_left, 1e-6);
            near(f->a, f->b, 1e-6 * f->a); /* balanced */
        }
        adapter_free(&a);
    }
    checkpoint_free(&base);
}

/* By the definition: ||s B0 A0||, and the first update with signs drawn. */
static void of_the_rest(void **state) {
    (void)state;
    static const char *const methods[] = {"olora", "lora", "mica", "random"};
    struct checkpoint *base = open_base();
    for (int k = 0; k < 4; k++) {
        struct adapter *a = measured(base, methods[k], 4, 6);
        for (size_t i = 0; i < a->n; i++) {
            const struct delta *d = &a->deltas[i];
            const struct alignment *f = &found[i];
            double w = weight_norm(base, d), na = d->a0 ? frobenius(d->a0, d->r * d->n) : 0,
                   nb = d->b0 ? frobenius(d->b0, d->r * d->m) : 0, part = 0;
            for (int64_t r = 0; d->a0 && d->b0 && r < d->m; r++)
                for (int64_t c = 0; c < d->n; c++) {
                    double sum = 0;
                    for (int64_t t = 0; t < d->r; t++)
                        sum += (double)d->b0[r * d->r + t] * d->a0[t * d->n + c];
                    part += sum * sum;
                }
            near(f->part, delta_scale(d) * sqrt(part) / w, 1e-6);
            near(f->a, na, 1e-6 * na);
            near(f->b, nb, 1e-6 * nb);
            double rate_b = d->form == DELTA_FIXED_B ? 0 : 1e-3,
                   moved = rate_b * rate_b * (double)d->m * na * na + 1e-6 * (double)d->n * nb * nb;
            near(f->first_step, delta_scale(d) * sqrt(moved) / w, 1e-9);
            assert_int_equal(f->left_top < 0, d->b0 == NULL);
            assert_int_equal(f->energy_right < 0, d->a0 == NULL);
        }
        adapter_free(&a);
    }
    checkpoint_free(&base);
}

/* All directions: every share of a space of full rank is 1. */
static void of_everything(void **state) {
    (void)state;
    static const char *const k_proj[] = {"k_proj"}; /* 16 x 32 */
    struct checkpoint *base = open_base();
    struct adapter_options o = {
        .method = "pissa", .r = 16, .targets = k_proj, .n_targets = 1, .seed = 42};
    struct adapter *a = make_adapter(base, &o, 0);
    assert_ok(alignment_of_adapter(a, base, 1e-3, NULL, found, &err));
    for (size_t i = 0; i < a->n; i++) {
        near(found[i].part, 1, 1e-6);
        near(found[i].energy_left, 1, 1e-8);
        near(found[i].energy_right, 1, 1e-8);
        near(found[i].left_bottom, 1, 1e-8);
        near(found[i].left_top, 1, 1e-8);
    }
    adapter_free(&a);
    checkpoint_free(&base);
}

static void without_memory(void **state) {
    (void)state;
    struct checkpoint *base = open_base();
    struct adapter_options o = options_of("olora", 3);
    struct adapter *a = make_adapter(base, &o, 0);
    enum mil_status st = MIL_NOMEM;
    for (long n = 0; n < 4000 && st != MIL_OK; n += 1 + n / 16) {
        mem_fail_after(n);
        st = alignment_of_adapter(a, base, 1e-3, NULL, found, &err);
        mem_fail_after(-1);
        assert_true(st == MIL_OK || st == MIL_NOMEM);
    }
    assert_int_equal(st, MIL_OK);
    adapter_free(&a);
    checkpoint_free(&base);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_triplets),
        cmocka_unit_test(of_the_rest),
        cmocka_unit_test(of_everything),
        cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
