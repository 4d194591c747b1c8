/* SPDX-License-Identifier: Apache-2.0 */
/* What a profiled run tells: the work of its products is what the shapes say, its times add up, and
 * training is not changed by it. */
#include "fixture.h"

#include <math.h>

#include "core/profile.h"

struct heard {
    int calls;
    struct mil_train_profile profile;
    struct mil_profile_row rows[PROFILE_ROWS_MOST];
};

static void on_profile(void *ctx, const struct mil_train_profile *p) {
    struct heard *h = ctx;
    h->calls++;
    h->profile = *p;
    assert_true(p->n <= PROFILE_ROWS_MOST);
    memcpy(h->rows, p->rows, p->n * sizeof *p->rows);
}

static void run(const char *dir, const char *const *more, struct heard *h) {
    struct mil_error err = {0};
    struct config c;
    const struct mil_train_callbacks on = {.ctx = h, .on_profile = on_profile};
    tiny_config(&c, dir, more);
    assert_ok(train_run(&c, NULL, h ? &on : NULL, NULL, &err));
    config_release(&c);
}

static const struct mil_profile_row *find(const struct heard *h, const char *phase,
                                          const char *operation) {
    for (size_t i = 0; i < h->profile.n; i++)
        if (!strcmp(h->rows[i].phase, phase) && !strcmp(h->rows[i].operation, operation))
            return &h->rows[i];
    fail_msg("no row %s: %s", phase, operation);
    return NULL;
}

/* Full fine-tuning has no adapter beside the weights: a token costs 2 FLOP a matrix weight forward, 2
 * backward to the input, 2 for the weight's gradient.  The head runs on supervised tokens only. */
static void the_work_is_what_the_shapes_say(void **state) {
    (void)state;
    static const char *const more[] = {"method=full", "max_steps=1", "tokens_per_micro_batch=100",
                                       "activation_recompute=false", NULL};
    static struct heard h;
    struct mil_error err = {0};
    struct checkpoint *base = NULL;
    const char *dir = test_tmp_dir();
    h = (struct heard){0};
    run(dir, more, &h);
    assert_int_equal(h.calls, 1);
    assert_ok(checkpoint_open(TEST_DATA "/tiny", CHECKPOINT_CONFIG_ONLY, &base, &err));
    const struct model_config *c = &base->config;
    double weights = 0, tokens = (double)h.profile.tokens, want;
    for (int i = 0; i < MODULES; i++)
        weights +=
            (double)(c->layers * module_rows(c, (enum module)i) * module_cols(c, (enum module)i));
    want = 2 * weights * tokens;
    assert_true(find(&h, "forward", "product: weight, forward")->work == want);
    assert_true(find(&h, "backward", "product: weight, backward")->work == want);
    assert_true(find(&h, "backward", "product: weight gradient")->work == want);
    double head = find(&h, "head", "product: head")->work;
    double row = 6.0 * (double)c->width * (double)c->vocab;
    assert_true(head > 0 && head < row * tokens && fmod(head, row) == 0);
    checkpoint_free(&base);
}

static void times_add_up(void **state) {
    (void)state;
    static const char *const more[] = {"max_steps=4", "lora_dropout=0.1", NULL};
    static struct heard h;
    const char *dir = test_tmp_dir();
    h = (struct heard){0};
    run(dir, more, &h);
    const struct mil_train_profile *p = &h.profile;
    double seconds = p->outside, flops = 0;
    assert_int_equal(p->steps, 3); /* the first is left out */
    for (size_t i = 0; i < p->n; i++) {
        assert_true(h.rows[i].calls > 0 && h.rows[i].seconds > 0 && h.rows[i].work > 0);
        seconds += h.rows[i].seconds;
        if (h.rows[i].work_is_flops) flops += h.rows[i].work;
    }
    /* Operations do not overlap, so their sum is within the wall; rounding: one part in 2^52 a row. */
    assert_true(p->outside >= 0);
    assert_true(fabs(seconds - p->seconds) <= (double)p->n * p->seconds * 0x1p-52);
    assert_true(flops == p->flops);
    assert_true(p->product_rate > 0);
    find(&h, "forward", "product: adapter");
    find(&h, "backward", "dropout");
    find(&h, "optimiser", "AdamW");
    find(&h, "data", "micro-batch arrays");
    json_t *root = NULL;
    char path[PATH_CAP];
    struct mil_error err = {0};
    assert_ok(path_join(path, dir, "profile.json", &err));
    assert_ok(json_read_file(path, &root, &err));
    assert_int_equal(json_array_size(json_object_get(root, "rows")), p->n);
    assert_int_equal(json_integer_value(json_object_get(root, "steps")), 3);
    assert_true(json_real_value(json_object_get(root, "share_of_product_rate")) > 0);
    json_decref(root);
}

/* With recomputation the forward pass inside the backward one counts there. */
static void recomputation_is_backward(void **state) {
    (void)state;
    static const char *const more[] = {"method=full", "max_steps=1", "activation_recompute=true",
                                       NULL};
    static struct heard h;
    h = (struct heard){0};
    run(test_tmp_dir(), more, &h);
    double once = find(&h, "forward", "product: weight, forward")->work;
    double again = find(&h, "backward", "product: weight, forward")->work;
    assert_true(again > 0 && again <= once); /* the top layer's may still be there */
}

static void a_profile_changes_nothing(void **state) {
    (void)state;
    static const char *const more[] = {"max_steps=3", "lora_dropout=0.1", NULL};
    static struct heard h;
    char plain[600];
    struct mil_error err = {0};
    h = (struct heard){0};
    snprintf(plain, sizeof plain, "%s", test_tmp_dir());
    run(plain, more, NULL);
    const char *profiled = test_tmp_dir();
    run(profiled, more, &h);
    assert_same_file(plain, profiled, "adapter_model.safetensors");
    char path[PATH_CAP];
    assert_ok(path_join(path, plain, "profile.json", &err));
    assert_false(path_exists(path));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_work_is_what_the_shapes_say),
        cmocka_unit_test(times_add_up),
        cmocka_unit_test(recomputation_is_backward),
        cmocka_unit_test(a_profile_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
