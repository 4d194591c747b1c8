/* SPDX-License-Identifier: Apache-2.0 */
/* Invariances of a run that must hold bit for bit, in f32 and in bf16, with dropout and shuffling
 * on: how a step is split, how many threads, interruption by request, by kill -9, resuming.  And
 * what a checkpoint is checked for. */
#include "fixture.h"

#include <signal.h>
#include <sys/wait.h>

#include "core/threads.h"

/* Dropout, shuffling, warm-up, decay: everything that has state or randomness. */
#define LIVELY                                                                                     \
    "lora_dropout=0.1", "shuffle=true", "per_device_train_batch_size=16", "num_train_epochs=3",    \
        "lr_scheduler_type=cosine", "warmup_steps=2", "weight_decay=0.01"
/* 48 rows in steps of 16: 9 steps */

static enum mil_status train(const char *out, const char *const *more, const char *resume,
                             struct mil_train_callbacks *on, struct mil_error *err) {
    struct config c;
    tiny_config(&c, out, more);
    enum mil_status st = train_run(&c, resume, on, NULL, err);
    config_release(&c);
    return st;
}

static void train_ok(const char *out, const char *const *more) {
    struct mil_error err = {0};
    assert_ok(train(out, more, NULL, NULL, &err));
}

static const char *fresh(char out[512]) {
    return strcpy(out, test_tmp_dir());
}

static void batch_and_accumulation_are_one_number(void **state) {
    (void)state;
    char a[512], b[512];
    static const char *const whole[] = {LIVELY, NULL}, *const split[] = {
                                                           LIVELY, "per_device_train_batch_size=1",
                                                           "gradient_accumulation_steps=16", NULL};
    train_ok(fresh(a), whole);
    train_ok(fresh(b), split);
    assert_same_file(a, b, "adapter_model.safetensors");
}

static void one_thread_is_two_threads(void **state) {
    (void)state;
    char a[512], b[512];
    static const char *const one[] = {LIVELY, "threads=1", NULL}, *const two[] = {
                                                                      LIVELY, "threads=2", NULL};
    train_ok(fresh(a), one);
    train_ok(fresh(b), two);
    threads_set(0);
    assert_same_file(a, b, "adapter_model.safetensors");
}

static void recompute_changes_nothing(void **state) {
    (void)state;
    char a[512], b[512];
    static const char *const stored[] = {LIVELY, "activation_recompute=false", NULL},
                             *const redone[] = {LIVELY, "activation_recompute=true", NULL};
    train_ok(fresh(a), stored);
    train_ok(fresh(b), redone);
    assert_same_file(a, b, "adapter_model.safetensors");
}

static void seeds_matter(void **state) {
    (void)state;
    char a[512], b[512];
    struct str x = {0}, y = {0};
    static const char *const one[] = {LIVELY, NULL}, *const other[] = {LIVELY, "seed=43", NULL};
    train_ok(fresh(a), one);
    train_ok(fresh(b), other);
    read_whole(a, "adapter_model.safetensors", &x);
    read_whole(b, "adapter_model.safetensors", &y);
    assert_true(x.len != y.len || memcmp(x.data, y.data, x.len) != 0);
    str_release(&x);
    str_release(&y);
}

/* ---- interruption ---- */

static void assert_same_run(const char *a, const char *b, const char *result) {
    struct str x = {0}, y = {0};
    assert_same_file(a, b, result);
    comparable_log(a, &x);
    comparable_log(b, &y);
    assert_string_equal(str_c(&x), str_c(&y));
    str_release(&x);
    str_release(&y);
}

static void stop_at_five(void *ctx, const struct mil_train_step *step, bool logged) {
    (void)ctx;
    (void)logged;
    if (step->step == 5) train_request_stop();
}

static void kill_at_six(void *ctx, const struct mil_train_step *step, bool logged) {
    (void)ctx;
    (void)logged;
    if (step->step == 6) kill(getpid(), SIGKILL);
}

static void interrupted_then_resumed(const char *const *settings, const char *result) {
    struct mil_error err = {0};
    char a[512], b[512];
    struct mil_train_callbacks on = {.on_step = stop_at_five};
    train_ok(fresh(a), settings);
    assert_fails(train(fresh(b), settings, NULL, &on, &err), MIL_INTERRUPTED, "--resume last");
    assert_non_null(strstr(err.message, "checkpoint-5"));
    /* Still asked to stop: nothing is done, nothing is lost. */
    assert_fails(train(b, settings, "last", NULL, &err), MIL_INTERRUPTED, "after step 5");
    train_clear_stop();
    assert_ok(train(b, settings, "last", NULL, &err));
    assert_same_run(a, b, result);
}

static void a_request_stops_and_resumes(void **state) {
    (void)state;
    static const char *const settings[] = {LIVELY, "eval_dataset=" TEST_DATA "/rows.jsonl",
                                           "eval_limit=5", "eval_steps=2", NULL};
    interrupted_then_resumed(settings, "adapter_model.safetensors");
}

static void plain_lora_resumes(void **state) {
    (void)state;
    static const char *const settings[] = {LIVELY, "method=lora", "learning_rate=1e-3", NULL};
    interrupted_then_resumed(settings, "adapter_model.safetensors");
}

static void bf16_resumes(void **state) {
    (void)state;
    static const char *const settings[] = {LIVELY, "compute_dtype=bf16", "method=pissa", NULL};
    interrupted_then_resumed(settings, "adapter_model.safetensors");
}

static void full_resumes(void **state) {
    (void)state;
    static const char *const settings[] = {LIVELY, "method=full", "learning_rate=1e-3",
                                           "compute_dtype=bf16", NULL};
    interrupted_then_resumed(settings, "model.safetensors");
}

/* The child is killed in step 6, the newest checkpoint is that of step 4. */
static void kill_9_loses_nothing(void **state) {
    (void)state;
    static const char *const settings[] = {LIVELY, "save_steps=2", "report_to=[jsonl, tensorboard]",
                                           NULL};
    struct mil_error err = {0};
    char a[512], b[512];
    int status;
    fresh(b);
    /* The child comes first: OpenMP's threads do not survive a fork. */
    pid_t child = fork();
    if (child == 0) {
        struct mil_train_callbacks on = {.on_step = kill_at_six};
        _exit(train(b, settings, NULL, &on, NULL) == MIL_OK ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    /* What a kill in the middle of saving leaves goes; what nobody dead has left stays. */
    static const char *const half_made[] = {"checkpoint-6", "checkpoint-8", "trainer_log.jsonl"},
                             *const others[] = {"tmp-notes-%ld", "tmp-trainer_log.jsonl-%ldx",
                                                "tmp-trainer_log.jsonl", "tmp-checkpoint-6--%ld"};
    char half[3][600], other[4][600], name[64];
    for (int i = 0; i < 3; i++) {
        snprintf(half[i], sizeof half[i], "%s/tmp-%s-%ld%s", b, half_made[i], (long)child,
                 i == 1 ? "-3" : "");
        assert_int_equal(mkdir(half[i], 0777), 0);
    }
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, others[i], (long)child);
        snprintf(other[i], sizeof other[i], "%s/%s", b, name);
        assert_int_equal(mkdir(other[i], 0777), 0);
    }
    assert_ok(train(b, settings, "last", NULL, &err));
    for (int i = 0; i < 3; i++) assert_false(path_exists(half[i]));
    for (int i = 0; i < 4; i++) assert_int_equal(rmdir(other[i]), 0);
    train_ok(fresh(a), settings);
    assert_same_run(a, b, "adapter_model.safetensors");
    assert_same_file(a, b, "checkpoint-9/optimizer.safetensors");
    assert_same_file(a, b, "checkpoint-9/rng_state.json");
}

/* ---- what resuming checks ---- */

static void another_configuration_is_refused(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"learning_rate=1e-3", "learning_rate"},
        {"r=8", "r is 8"},
        {"seed=1", "seed"},
        {"method=pissa", "method"},
        {"lora_alpha=8", "lora_alpha"},
        {"compute_dtype=bf16", "compute_dtype"},
        {"per_device_train_batch_size=8", "samples_per_step"},
        {"num_train_epochs=4", "lr_scheduler_type cosine depends on it"},
        {"tokens_per_micro_batch=99", "tokens_per_micro_batch"},
        {"dataset=[{path: " TEST_DATA "/rows.jsonl, limit: 40}]", "data is"},
        {"target_modules=[q_proj]", "target_modules"},
        {"train_on_inputs=true", "train_on_inputs"},
    };
    static const char *const base[] = {LIVELY, "save_steps=3", "max_steps=3", NULL};
    char dir[512];
    train_ok(fresh(dir), base);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *const settings[] = {LIVELY,
                                        "save_steps=3",
                                        "max_steps=3",
                                        cases[i][0],
                                        strstr(cases[i][0], "epochs") ? "max_steps=-1"
                                                                      : "max_steps=3",
                                        NULL};
        struct mil_error err = {0};
        assert_fails(train(dir, settings, "last", NULL, &err), MIL_MISMATCH, cases[i][1]);
    }
}

/* A constant rate does not depend on the length: the run may be made longer. */
static void constant_schedules_can_be_extended(void **state) {
    (void)state;
    struct mil_error err = {0};
    char a[512], b[512];
    static const char *const longer[] = {LIVELY, "lr_scheduler_type=constant_with_warmup", NULL},
                             *const shorter[] = {LIVELY, "lr_scheduler_type=constant_with_warmup",
                                                 "max_steps=4", "save_steps=4", NULL};
    train_ok(fresh(a), longer);
    train_ok(fresh(b), shorter);
    assert_ok(train(b, longer, "last", NULL, &err));
    assert_same_file(a, b, "adapter_model.safetensors");
}

static void damaged_checkpoints_are_refused(void **state) {
    (void)state;
    static const char *const settings[] = {LIVELY, "save_steps=2", NULL};
    struct mil_error err = {0};
    char dir[512], path[PATH_CAP];
    assert_fails(train(fresh(dir), settings, "last", NULL, &err), MIL_ACCESS, "no checkpoint");
    assert_fails(train(dir, settings, "/nowhere/checkpoint-1", NULL, &err), MIL_ACCESS,
                 "/nowhere/checkpoint-1");
    train_ok(dir, settings);
    snprintf(path, sizeof path, "%s/checkpoint-9/optimizer.safetensors", dir);
    assert_int_equal(truncate(path, 4096), 0);
    assert_fails(train(dir, settings, "last", NULL, &err), MIL_INPUT, "optimizer.safetensors");
    snprintf(path, sizeof path, "%s/checkpoint-8/trainer_state.json", dir);
    assert_ok(file_write(path, "{\"global_step\": 8}", 18, &err));
    snprintf(path, sizeof path, "%s/checkpoint-8", dir);
    assert_fails(train(dir, settings, path, NULL, &err), MIL_MISMATCH,
                 "no stateful_callbacks.milora");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kill_9_loses_nothing), /* first: before this process has threads */
        cmocka_unit_test(batch_and_accumulation_are_one_number),
        cmocka_unit_test(one_thread_is_two_threads),
        cmocka_unit_test(recompute_changes_nothing),
        cmocka_unit_test(seeds_matter),
        cmocka_unit_test(a_request_stops_and_resumes),
        cmocka_unit_test(plain_lora_resumes),
        cmocka_unit_test(bf16_resumes),
        cmocka_unit_test(full_resumes),
        cmocka_unit_test(another_configuration_is_refused),
        cmocka_unit_test(constant_schedules_can_be_extended),
        cmocka_unit_test(damaged_checkpoints_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
