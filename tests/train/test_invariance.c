/* SPDX-License-Identifier: Apache-2.0 */
/* test_invariance.c - gradients of one optimiser step, dropout on, for lora, milora and full, and DoRA around the first
 * two, in f32 and bf16: the same bits for any number of threads and with recomputation; the same losses and, but
 * for the order of sums, the same gradients however the samples are packed into micro-batches; and a packed run
 * resumes bit for bit. */
#include "fixture.h"

#include <math.h>

#include "core/cpu.h"
#include "core/rng.h"
#include "core/threads.h"

enum { SAMPLES = 40, SEED = 11 };

struct way {
    const char *method, *compute;
    const char *more; /* NULL: nothing */
};
static const struct way ways[] = {{"method=lora", "compute_dtype=f32", NULL},
                                  {"method=milora", "compute_dtype=bf16", NULL},
                                  {"method=full", "compute_dtype=bf16", NULL},
                                  {"method=milora", "compute_dtype=f32", NULL},
                                  {"method=lora", "compute_dtype=bf16", NULL},
                                  {"method=full", "compute_dtype=f32", NULL},
                                  {"method=dora", "compute_dtype=f32", "target_modules=all-linear"},
                                  {"method=milora", "compute_dtype=bf16", "use_dora=true"}};
enum { WAYS = sizeof ways / sizeof *ways };
static bool is_full(const struct way *way) {
    return strstr(way->method, "full") != NULL;
}

/* All gradients, one after another, and the loss; every number in f32. */
struct outcome {
    double loss;
    int64_t rows, n;
    float *grad;
    int64_t params, begin[512];
};
static void outcome_release(struct outcome *o) {
    mem_free(o->grad);
}

/* Adapters leave their start at zero, where half of the gradients vanish. */
static void stir(struct run *r) {
    struct trainable *t = r->trainable;
    for (size_t p = 0; p < t->n && !r->full; p++) {
        struct tensor v = t->params[p].value;
        for (int64_t i = 0; i < v.rows * v.cols; i++)
            ((float *)v.data)[i] =
                (float)(0.05 * rng_normal(SEED, rng_stream(RNG_TEST, (uint32_t)p), 0, (uint64_t)i));
    }
    t->refresh(t->owner, backend_stream(r->backend));
}

static struct outcome step_of(const struct way *way, const char *limit, const char *recompute,
                              int threads, const char *dropout) {
    const char *const more[] = {way->method, way->compute, limit,
                                recompute,   dropout,      "per_device_train_batch_size=40",
                                way->more,   NULL};
    struct mil_error err = {0};
    struct config c;
    struct run *r = calloc(1, sizeof *r);
    struct outcome o = {0};
    struct step_sums sums;
    int64_t samples[SAMPLES];
    tiny_config(&c, test_tmp_dir(), more);
    threads_set(threads);
    assert_non_null(r);
    assert_ok(run_open(r, &c, NULL, NULL, &err));
    stir(r);
    for (int64_t i = 0; i < SAMPLES; i++) samples[i] = (i * 7) % SAMPLES;
    for (size_t p = 0; p < r->trainable->n; p++)
        be_zero(backend_stream(r->backend), r->trainable->params[p].grad);
    assert_ok(run_gradients(r, samples, SAMPLES, 3, &sums, &err));
    o.loss = sums.loss;
    o.rows = sums.rows;
    for (size_t p = 0; p < r->trainable->n; p++) {
        struct tensor g = r->trainable->params[p].grad;
        assert_int_equal(g.dtype, DT_F32);
        assert_true(g.rows < 2 || g.ld == g.cols);
        o.grad = mem_realloc(MEM_OTHER, o.grad, (size_t)(o.n + g.rows * g.cols), sizeof *o.grad);
        memcpy(o.grad + o.n, g.data, (size_t)(g.rows * g.cols) * sizeof *o.grad);
        o.begin[o.params++] = o.n;
        o.n += g.rows * g.cols;
    }
    o.begin[o.params] = o.n;
    run_release(r);
    free(r);
    config_release(&c);
    threads_set(0);
    return o;
}

static const char *const often = "lora_dropout=0.3";

static void assert_same(const struct way *way, const char *what, const struct outcome *a,
                        const struct outcome *b) {
    assert_int_equal(a->n, b->n);
    if (a->loss != b->loss || memcmp(a->grad, b->grad, (size_t)a->n * sizeof *a->grad) != 0)
        fail_msg("%s %s: %s changes bits; losses %.17g, %.17g", way->method, way->compute, what,
                 a->loss, b->loss);
}

static void threads_and_recompute_change_nothing(void **state) {
    (void)state;
    for (int w = 0; w < WAYS; w++) {
        const struct way *way = &ways[w];
        struct outcome one =
            step_of(way, "tokens_per_micro_batch=500", "activation_recompute=false", 1, often);
        for (int threads = 2; threads <= 4; threads++) {
            struct outcome more =
                step_of(way, "tokens_per_micro_batch=500",
                        threads % 2 ? "activation_recompute=true" : "activation_recompute=false",
                        threads, often);
            assert_same(way, threads % 2 ? "threads and recomputing" : "threads", &one, &more);
            outcome_release(&more);
        }
        outcome_release(&one);
    }
}

/* A gradient is a sum over T tokens (at most 4,000) in another order: roundings of random sign,
 * sqrt(T) 2^-24 of the partial sums, which exceed the largest entry by less than 10: 4e-5. Losses of rows are
 * equal; their sum in f64 is not rounded to more than T 2^-53. */
static void packing_changes_orders_only(void **state) {
    (void)state;
    static const char *const limits[] = {"tokens_per_micro_batch=1", "tokens_per_micro_batch=90",
                                         "tokens_per_micro_batch=333"};
    for (int w = 0; w < WAYS; w++) {
        struct outcome whole = step_of(&ways[w], "tokens_per_micro_batch=8000",
                                       "activation_recompute=false", 2, often);
        struct outcome none = step_of(&ways[w], "tokens_per_micro_batch=8000",
                                      "activation_recompute=false", 2, "lora_dropout=0");
        assert_true(is_full(&ways[w]) || whole.loss != none.loss); /* dropout was on */
        for (int i = 0; i < 3; i++) {
            struct outcome cut =
                step_of(&ways[w], limits[i], "activation_recompute=false", 2, often);
            double worst = 0;
            assert_int_equal(cut.rows, whole.rows);
            if (!(fabs(cut.loss - whole.loss) <= 1e-12 * whole.loss))
                fail_msg("%s %s, %s: loss %.17g, whole %.17g", ways[w].method, ways[w].compute,
                         limits[i], cut.loss, whole.loss);
            for (int64_t p = 0; p < whole.params; p++) {
                double scale = 0, off = 0;
                for (int64_t k = whole.begin[p]; k < whole.begin[p + 1]; k++) {
                    scale = fmax(scale, fabs((double)whole.grad[k]));
                    off = fmax(off, fabs((double)whole.grad[k] - (double)cut.grad[k]));
                }
                worst = fmax(worst, scale > 0 ? off / scale : off);
            }
            if (getenv("MILORA_VERBOSE"))
                print_message("%s %s %s: %.2g\n", ways[w].method, ways[w].compute, limits[i],
                              worst);
            if (!(worst <= 4e-5))
                fail_msg("%s %s, %s: gradients differ by %.2g of their largest entry",
                         ways[w].method, ways[w].compute, limits[i], worst);
            outcome_release(&cut);
        }
        outcome_release(&whole);
        outcome_release(&none);
    }
}

/* ---- resuming ---- */

static void stop_at_three(void *ctx, const struct mil_train_step *step, bool logged) {
    (void)ctx;
    (void)logged;
    if (step->step == 3) train_request_stop();
}

static void packed_runs_resume(void **state) {
    (void)state;
    for (int w = 0; w < WAYS; w++) {
        const char *const settings[] = {ways[w].method,
                                        ways[w].compute,
                                        "tokens_per_micro_batch=150",
                                        "lora_dropout=0.2",
                                        "shuffle=true",
                                        "max_steps=7",
                                        "save_steps=7",
                                        "num_train_epochs=2",
                                        "learning_rate=1e-3",
                                        "weight_decay=0.1",
                                        w % 2 ? "activation_recompute=true" : "report_to=jsonl",
                                        ways[w].more,
                                        NULL};
        struct mil_train_callbacks on = {.on_step = stop_at_three};
        struct mil_error err = {0};
        struct config c;
        char dirs[2][512];
        for (int i = 0; i < 2; i++) {
            strcpy(dirs[i], test_tmp_dir());
            tiny_config(&c, dirs[i], settings);
            threads_set(1 + i);
            if (i == 0) {
                assert_ok(train_run(&c, NULL, NULL, NULL, &err));
            } else {
                assert_fails(train_run(&c, NULL, &on, NULL, &err), MIL_INTERRUPTED, "--resume");
                train_clear_stop();
                threads_set(3);
                assert_ok(train_run(&c, "last", NULL, NULL, &err));
            }
            config_release(&c);
        }
        threads_set(0);
        assert_same_file(dirs[0], dirs[1],
                         is_full(&ways[w]) ? "model.safetensors" : "adapter_model.safetensors");
        assert_same_file(dirs[0], dirs[1], "checkpoint-7/optimizer.safetensors");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_and_recompute_change_nothing),
        cmocka_unit_test(packing_changes_orders_only),
        cmocka_unit_test(packed_runs_resume),
    };
    struct mil_error err = {0};
    if (cpu_isa_from_environment(&err) != MIL_OK) return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
