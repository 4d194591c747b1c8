/* SPDX-License-Identifier: Apache-2.0 */
/* Every method, interrupted and resumed, gives the bits of a run that was not: a row of the table each, with the steps
 * after which it is stopped (AdaLoRA: in each of its phases). */
#include "fixture.h"

#include "core/threads.h"

/* Dropout, shuffling, decay: everything that has state or randomness; 48 rows in steps of 16: 9 steps. */
#define LIVELY                                                                                     \
    "lora_dropout=0.1", "shuffle=true", "per_device_train_batch_size=16", "num_train_epochs=3",    \
        "lr_scheduler_type=cosine", "weight_decay=0.01"

struct row {
    const char *name;
    const char *settings[8];
    int64_t stops[4]; /* ends with 0 */
};
static const struct row rows[] = {
    /* masks after steps 3, 5, 6; from 7 on they hold */
    {"adalora",
     {"method=adalora", "tinit=2", "tfinal=3", "deltaT=2", "learning_rate=5e-2"},
     {2, 4, 7}},
    {"adalora, bf16, a mask after the last step",
     {"method=adalora", "tinit=1", "tfinal=0", "deltaT=3", "compute_dtype=bf16"},
     {1, 8}},
    {"rslora", {"method=rslora"}, {4}},
    {"lora_plus", {"method=lora_plus"}, {5}},
    {"olora", {"method=olora"}, {3}},
    {"mica", {"method=mica"}, {2, 7}},
    {"mica, bf16", {"method=mica", "compute_dtype=bf16", "use_rslora=true"}, {6}},
    {"lora_ga", {"method=lora_ga", "lora_ga_batches=2"}, {3}},
    {"lora_ga at PEFT's scale, bf16",
     {"method=lora_ga", "lora_ga_scale=stable", "use_rslora=true", "compute_dtype=bf16"},
     {1, 5}},
    {"dora", {"method=dora"}, {1, 5}},
    {"milora, dora, bf16, all modules",
     {"method=milora", "use_dora=true", "compute_dtype=bf16", "target_modules=all-linear",
      "loraplus_lr_ratio=4"},
     {4}},
    {"pissa, rslora, lora+", {"method=pissa", "use_rslora=true", "loraplus_lr_ratio=4"}, {3}},
    {"milora of some layers and ranks",
     {"method=milora", "layers_to_transform=[1]", "rank_pattern={q_proj: 2, up_proj: 3}",
      "alpha_pattern={q_proj: 3}", "exclude_modules=[v_proj]"},
     {4}},
};
enum { ROWS = sizeof rows / sizeof *rows };

static struct mil_error err;
static int64_t stop_after;

static void stop(void *ctx, const struct mil_train_step *step, bool logged) {
    (void)ctx;
    (void)logged;
    if (step->step == stop_after) train_request_stop();
}

static enum mil_status train(const struct row *row, const char *out, const char *resume,
                             bool stopping) {
    static const char *const lively[] = {LIVELY, NULL};
    const struct mil_train_callbacks on = {.on_step = stopping ? stop : NULL};
    struct config c;
    tiny_config(&c, out, lively);
    for (size_t i = 0; row->settings[i]; i++) assert_ok(config_assign(&c, row->settings[i], &err));
    enum mil_status st = train_run(&c, resume, &on, NULL, &err);
    config_release(&c);
    return st;
}

/* The method of the row is known to this program. */
static bool known(const struct row *row) {
    const struct method *method;
    const char *name = strchr(row->settings[0], '=') + 1;
    return method_find(name, &method, NULL) == MIL_OK;
}

static void resumes(void **state) {
    const struct row *row = *state;
    char whole[512], parts[512];
    if (!known(row)) skip();
    strcpy(whole, test_tmp_dir());
    assert_ok(train(row, whole, NULL, false));
    for (size_t i = 0; row->stops[i]; i++) {
        strcpy(parts, test_tmp_dir());
        stop_after = row->stops[i];
        assert_fails(train(row, parts, NULL, true), MIL_INTERRUPTED, "--resume last");
        train_clear_stop();
        assert_ok(train(row, parts, "last", false));
        assert_same_file(whole, parts, "adapter_model.safetensors");
    }
    /* and all stops in one run */
    strcpy(parts, test_tmp_dir());
    for (size_t i = 0; row->stops[i]; i++) {
        stop_after = row->stops[i];
        assert_fails(train(row, parts, i ? "last" : NULL, true), MIL_INTERRUPTED, "resume");
        train_clear_stop();
    }
    assert_ok(train(row, parts, "last", false));
    assert_same_file(whole, parts, "adapter_model.safetensors");
    assert_same_file(whole, parts, "milora.json");
}

int main(void) {
    struct CMUnitTest tests[ROWS];
    for (size_t i = 0; i < ROWS; i++)
        tests[i] = (struct CMUnitTest){
            .name = rows[i].name, .test_func = resumes, .initial_state = (void *)&rows[i]};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
