/* SPDX-License-Identifier: Apache-2.0 */
/* What a run tells and refuses: output directories, checkpoint rotation, full disks, gradients that
 * do not arrive, losses that are not finite, evaluation, plans. */
#include "fixture.h"

#include <math.h>
#include <signal.h>
#include <sys/resource.h>

#include "io/safetensors.h"
#include "train/plan.h"

static enum mil_status train(const char *out, const char *const *more, const char *resume,
                             struct mil_train_callbacks *on, struct mil_train_result *result,
                             struct mil_error *err) {
    struct config c;
    tiny_config(&c, out, more);
    enum mil_status st = train_run(&c, resume, on, result, err);
    config_release(&c);
    return st;
}

static void copy_into(const char *dir, const char *name) {
    char from[PATH_CAP], to[PATH_CAP];
    struct mil_error err = {0};
    assert_ok(path_join(from, TEST_DATA "/tiny", name, &err));
    assert_ok(path_join(to, dir, name, &err));
    assert_ok(file_copy(from, to, &err));
}

static bool holds(const char *dir, const char *name) {
    char path[PATH_CAP];
    struct mil_error err = {0};
    assert_ok(path_join(path, dir, name, &err));
    return path_exists(path);
}

/* ---- what is written ---- */

static void the_files_of_a_run(void **state) {
    (void)state;
    static const char *const more[] = {"save_steps=2", "save_total_limit=2",
                                       "report_to=[jsonl, tensorboard]", NULL};
    static const char
        *const result[] = {"adapter_model.safetensors", "adapter_config.json", "milora.json",
                           "train_config.yaml",         "trainer_log.jsonl",   "runs"},
               *const checkpoint[] = {"adapter_config.json", "adapter_model.safetensors",
                                      "milora.json",         "optimizer.safetensors",
                                      "trainer_state.json",  "rng_state.json"};
    struct mil_error err = {0};
    struct mil_train_result out;
    const char *dir = test_tmp_dir();
    assert_ok(train(dir, more, NULL, NULL, &out, &err));
    for (size_t i = 0; i < sizeof result / sizeof *result; i++)
        if (!holds(dir, result[i])) fail_msg("no %s", result[i]);
    assert_false(holds(dir, "checkpoint-2")); /* the limit keeps the newest two */
    assert_true(holds(dir, "checkpoint-4"));
    assert_true(holds(dir, "checkpoint-6"));
    for (size_t i = 0; i < sizeof checkpoint / sizeof *checkpoint; i++) {
        char name[128];
        snprintf(name, sizeof name, "checkpoint-6/%s", checkpoint[i]);
        if (!holds(dir, name)) fail_msg("no %s", name);
    }
    assert_int_equal(out.steps, 6);
    assert_true(out.last_loss < out.first_loss);
    assert_true(isnan(out.eval_loss));
    assert_string_equal(path_base(out.checkpoint), "checkpoint-6");
    /* The configuration that lies beside it is one, and the same. */
    struct config c, again;
    char path[PATH_CAP];
    tiny_config(&c, dir, more);
    assert_ok(config_assign(&c, "tokens_per_micro_batch=1024", &err));
    assert_ok(path_join(path, dir, "train_config.yaml", &err));
    assert_ok(config_init(&again, &err));
    assert_ok(config_read(&again, path, &err));
    json_object_set_new(c.values, "lora_alpha", json_real(4));
    assert_true(json_equal(c.values, again.values));
    config_release(&c);
    config_release(&again);
}

static void checkpoints_have_hugging_face_keys(void **state) {
    (void)state;
    static const char *const more[] = {"save_steps=4", "logging_steps=2", NULL};
    /* The fields of transformers.TrainerState: its loader fails on any other. */
    static const char *const keys[] = {"best_metric",
                                       "best_model_checkpoint",
                                       "epoch",
                                       "eval_steps",
                                       "global_step",
                                       "is_hyper_param_search",
                                       "log_history",
                                       "is_local_process_zero",
                                       "is_world_process_zero",
                                       "logging_steps",
                                       "max_steps",
                                       "num_input_tokens_seen",
                                       "num_train_epochs",
                                       "save_steps",
                                       "stateful_callbacks",
                                       "total_flos",
                                       "train_batch_size",
                                       "trial_name",
                                       "trial_params"};
    struct mil_error err = {0};
    const char *dir = test_tmp_dir();
    json_t *root = NULL;
    char path[PATH_CAP];
    assert_ok(train(dir, more, NULL, NULL, NULL, &err));
    assert_ok(path_join(path, dir, "checkpoint-4/trainer_state.json", &err));
    assert_ok(json_read_file(path, &root, &err));
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!json_object_get(root, keys[i])) fail_msg("no %s", keys[i]);
    assert_int_equal(json_object_size(root), sizeof keys / sizeof *keys);
    const json_t *history = json_object_get(root, "log_history");
    assert_int_equal(json_array_size(history), 2); /* steps 2 and 4 */
    assert_int_equal(json_integer_value(json_object_get(json_array_get(history, 1), "step")), 4);
    json_decref(root);
}

/* Random weights from config.json and a tokenizer, f32, 40 steps: the loss falls, and the result is a
 * model directory that can be the base of the next run. */
static void a_model_from_scratch(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct mil_train_result result;
    char model[700], out[600], again[600];
    const char *dir = test_tmp_dir();
    copy_into(dir, "config.json");
    copy_into(dir, "tokenizer.json");
    copy_into(dir, "tokenizer_config.json");
    snprintf(model, sizeof model, "model_name_or_path=%s", dir);
    snprintf(out, sizeof out, "%s/out", dir);
    const char *const fresh[] = {model, "method=full", "from_scratch=true", "max_steps=40", NULL};
    assert_ok(train(out, fresh, NULL, NULL, &result, &err));
    assert_true(result.last_loss < 0.6 * result.first_loss);
    /* A fresh model knows nothing: its loss is that of guessing among 400 tokens. */
    assert_true(fabs(result.first_loss - log(400)) < 0.5);
    snprintf(model, sizeof model, "model_name_or_path=%s", out);
    snprintf(again, sizeof again, "%s/again", dir);
    const char *const next[] = {model, "method=milora", "max_steps=1", "learning_rate=0", NULL};
    assert_ok(train(again, next, NULL, NULL, &result, &err));
    assert_true(result.first_loss < 0.6 * log(400));
}

/* ---- directories ---- */

static void a_used_directory_is_not_overwritten(void **state) {
    (void)state;
    static const char *const more[] = {"max_steps=1", NULL}, *const over[] = {
                                                                 "max_steps=1",
                                                                 "overwrite_output_dir=true", NULL};
    struct mil_error err = {0};
    const char *dir = test_tmp_dir();
    char path[PATH_CAP];
    assert_ok(path_join(path, dir, "run.log", &err)); /* the shell's own log is no obstacle */
    assert_ok(file_write(path, "x", 1, &err));
    assert_ok(train(dir, more, NULL, NULL, NULL, &err));
    assert_fails(train(dir, more, NULL, NULL, NULL, &err), MIL_ACCESS, "not empty");
    assert_null(strstr(err.message, "--resume last")); /* from what? */
    assert_non_null(strstr(err.message, "overwrite_output_dir=true"));
    assert_ok(path_join(path, dir, "checkpoint-77", &err));
    assert_ok(dir_make(path, &err));
    assert_fails(train(dir, more, NULL, NULL, NULL, &err), MIL_ACCESS, "--resume last");
    assert_ok(path_join(path, dir, "mine.txt", &err));
    assert_ok(file_write(path, "x", 1, &err));
    assert_ok(train(dir, over, NULL, NULL, NULL, &err));
    assert_false(holds(dir, "checkpoint-77"));
    assert_true(holds(dir, "mine.txt")); /* what a run does not make it does not remove */
    assert_true(holds(dir, "run.log"));
}

/* The names of a run are also those of models and results that nobody wants to lose. */
static void only_a_run_is_overwritten(void **state) {
    (void)state;
    static const char *const over[] = {"max_steps=1", "overwrite_output_dir=true", NULL};
    static const char *const names[] = {"model.safetensors", "runs/first/results.json",
                                        "checkpoint-7/notes.txt"};
    struct mil_error err = {0};
    char path[PATH_CAP], file[PATH_CAP], *slash;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%zu", test_tmp_dir(), i);
        assert_ok(path_join(file, path, names[i], &err));
        slash = strrchr(file, '/');
        *slash = 0;
        assert_ok(dir_make(file, &err));
        *slash = '/';
        assert_ok(file_write(file, "mine", 4, &err));
        assert_fails(train(path, over, NULL, NULL, NULL, &err), MIL_ACCESS, "train_config.yaml");
        assert_true(path_exists(file));
    }
    /* A run beside a comparison's folder: its own events go, the folder stays. */
    const char *dir = test_tmp_dir();
    assert_ok(train(dir, over, NULL, NULL, NULL, &err));
    assert_ok(path_join(path, dir, "runs/first", &err));
    assert_ok(dir_make(path, &err));
    assert_ok(train(dir, over, NULL, NULL, NULL, &err));
    assert_true(path_is_dir(path));
}

static void unwritable_directories(void **state) {
    (void)state;
    static const char *const more[] = {"max_steps=1", NULL}, *const model[] = {
                                                                 "max_steps=1",
                                                                 "overwrite_output_dir=true",
                                                                 "output_dir=" TEST_DATA "/tiny",
                                                                 NULL};
    struct mil_error err = {0};
    char path[PATH_CAP];
    const char *dir = test_tmp_dir();
    assert_ok(path_join(path, dir, "file", &err));
    assert_ok(file_write(path, "x", 1, &err));
    assert_ok(path_join(path, dir, "file/out", &err));
    assert_fails(train(path, more, NULL, NULL, NULL, &err), MIL_ACCESS, "file");
    assert_fails(train("/proc/nothing/here", more, NULL, NULL, NULL, &err), MIL_ACCESS, "/proc/");
    assert_fails(train(dir, model, NULL, NULL, NULL, &err), MIL_USAGE, "are the same");
    assert_true(path_exists(TEST_DATA "/tiny/model.safetensors"));
}

/* No file may grow past 40,000 bytes: the adapter (20 KiB) still fits, optimizer.safetensors (six
 * times 10 KiB) does not. */
static void a_full_disk_leaves_no_half_checkpoint(void **state) {
    (void)state;
    static const char *const more[] = {"save_steps=2", NULL};
    struct mil_error err = {0};
    struct rlimit before, small;
    const char *dir = test_tmp_dir();
    getrlimit(RLIMIT_FSIZE, &before);
    small = before;
    small.rlim_cur = 40000;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    enum mil_status st = train(dir, more, NULL, NULL, NULL, &err);
    setrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, handler);
    assert_int_equal(st, MIL_IO);
    assert_non_null(strstr(err.message, "checkpoint-2 was not saved"));
    char **names;
    size_t n;
    assert_ok(dir_list(dir, &names, &n, &err));
    for (size_t i = 0; i < n; i++)
        if (strstr(names[i], "checkpoint") || strstr(names[i], "tmp-"))
            fail_msg("%s was left", names[i]);
    dir_list_free(names, n);
}

/* ---- bad data ---- */

static void bad_data_are_refused_before_anything_is_written(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"dataset=/nowhere.jsonl", "/nowhere.jsonl"},
        {"dataset=" TEST_DATA, "without train.jsonl"},
        {"dataset=[{path: " TEST_DATA "/rows.jsonl, format: sharegpt}]", "rows.jsonl"},
        {"dataset=[{path: " TEST_DATA "/rows.jsonl, skip: 48}]", ""},
        {"model_name_or_path=/nowhere", "/nowhere"},
        {"target_modules=[q_prj]", "q_prj"},
        {"r=17", "at most 16"},
        {"template=auto", "template"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *const more[] = {cases[i][0], NULL};
        struct mil_error err = {0};
        char out[600];
        snprintf(out, sizeof out, "%s/out", test_tmp_dir());
        enum mil_status st = train(out, more, NULL, NULL, NULL, &err);
        if (mil_status_exit_code(st) != 2)
            fail_msg("%s: %s (%s)", cases[i][0], mil_status_name(st), err.message);
        if (!strstr(err.message, cases[i][1]))
            fail_msg("'%s' lacks '%s'", err.message, cases[i][1]);
        assert_false(path_exists(out));
    }
}

/* ---- gradients ---- */

static void a_dead_gradient_is_reported_by_name(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct config c;
    struct mil_train_step row;
    struct run *r = calloc(1, sizeof *r);
    assert_non_null(r);
    tiny_config(&c, test_tmp_dir(), NULL);
    assert_ok(run_open(r, &c, NULL, NULL, &err));
    /* B0 = 0 of one module: with dB = 0 nothing reaches its dA. */
    memset(r->adapter->deltas[3].b0, 0,
           (size_t)(r->adapter->deltas[3].m * r->adapter->deltas[3].r) * sizeof(float));
    assert_ok(adapter_push(r->runtime, &err));
    listen_to_notices();
    assert_ok(run_update(r, &row, &err));
    assert_non_null(strstr(notices, "the gradient of 1 trainable tensors is exactly zero"));
    assert_non_null(strstr(notices, "model.layers.0.mlp.up_proj.delta_A"));
    run_release(r);
    free(r);
    config_release(&c);
}

/* LoRA's dA has no gradient before dB moved; with warm-up from 0 that is after step 2. */
static void plain_lora_is_not_reported(void **state) {
    (void)state;
    static const char *const more[] = {"method=lora", "lr_scheduler_type=linear", "warmup_steps=2",
                                       "max_steps=5", NULL};
    struct mil_error err = {0};
    listen_to_notices();
    assert_ok(train(test_tmp_dir(), more, NULL, NULL, NULL, &err));
    assert_null(strstr(notices, "exactly zero"));
}

static void a_loss_that_is_not_finite_stops(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct config c;
    struct mil_train_step row;
    struct run *r = calloc(1, sizeof *r);
    const char *dir = test_tmp_dir();
    assert_non_null(r);
    tiny_config(&c, dir, NULL);
    assert_ok(run_open(r, &c, NULL, NULL, &err));
    assert_ok(run_update(r, &row, &err));
    assert_ok(run_update(r, &row, &err));
    /* Not a state that training reached: only this step sees it. */
    struct param *p = &r->trainable->params[0];
    float good, bad = NAN;
    backend_download(r->backend, &good, p->value.data, sizeof good);
    backend_upload(r->backend, p->value.data, &bad, sizeof bad);
    r->trainable->refresh(r->trainable->owner, backend_stream(r->backend));
    assert_fails(run_update(r, &row, &err), MIL_NUMERIC, "step 3: the loss is not finite");
    const char *samples = strstr(err.message, "(nan; samples ");
    assert_non_null(samples); /* by falling length, in one micro-batch */
    for (int i = 16; i < 24; i++) {
        char number[8];
        snprintf(number, sizeof number, " %d", i);
        if (!strstr(samples, number)) fail_msg("no%s in %s", number, err.message);
    }
    assert_non_null(strstr(err.message, "the state of step 2 is in"));
    assert_true(holds(dir, "checkpoint-2"));
    assert_int_equal(r->progress.step, 2);
    run_release(r);
    free(r);
    config_release(&c);
}

/* ---- evaluation ---- */

struct seen {
    int evaluations, steps, logged, checkpoints, started;
    double eval_loss, first_loss;
    int64_t supervised;
};

static void on_eval(void *ctx, const struct mil_eval_row *row) {
    struct seen *s = ctx;
    if (s->evaluations++ == 0) s->eval_loss = row->eval_loss;
    s->supervised = row->supervised_tokens;
}
static void on_step(void *ctx, const struct mil_train_step *row, bool logged) {
    struct seen *s = ctx;
    if (s->steps++ == 0) s->first_loss = row->loss;
    s->logged += logged;
}
static void on_checkpoint(void *ctx, int64_t step, const char *path) {
    struct seen *s = ctx;
    assert_true(path_is_dir(path));
    assert_true(step > 0);
    s->checkpoints++;
}
static void on_start(void *ctx, const struct mil_train_facts *f) {
    struct seen *s = ctx;
    s->started++;
    assert_int_equal(f->total_steps, 6);
    assert_int_equal(f->data.samples, 48);
    assert_int_equal(f->eval.samples, 8);
    assert_string_equal(f->family, "llama");
    assert_non_null(strstr(f->preview, "[["));
    /* r (m + n) of q, k, v, up, down of 2 layers of width 32, 16 for k and v, 48 in the MLP */
    assert_int_equal(f->trainable, 2 * 4 * (64 + 48 + 48 + 80 + 80));
    assert_int_equal(f->adapted_modules, 10);
}

/* With a rate of 0 nothing changes, so the loss of the first step is that of evaluating its samples. */
static void evaluation_is_the_mean_over_supervised_tokens(void **state) {
    (void)state;
    static const char *const more[] = {"eval_dataset=" TEST_DATA "/rows.jsonl",
                                       "eval_limit=8",
                                       "eval_steps=2",
                                       "learning_rate=0",
                                       "logging_steps=4",
                                       "lora_dropout=0.5",
                                       "save_steps=3",
                                       NULL},
                             *const no_dropout[] = {"learning_rate=0", "max_steps=1", NULL};
    struct mil_error err = {0};
    struct seen seen = {0}, plain = {0};
    struct mil_train_result result;
    struct mil_train_callbacks on = {.ctx = &seen,
                                     .on_start = on_start,
                                     .on_step = on_step,
                                     .on_eval = on_eval,
                                     .on_checkpoint = on_checkpoint},
                               only_step = {.ctx = &plain, .on_step = on_step};
    assert_ok(train(test_tmp_dir(), more, NULL, &on, &result, &err));
    assert_int_equal(seen.started, 1);
    assert_int_equal(seen.evaluations, 3);
    assert_int_equal(seen.steps, 6);
    assert_int_equal(seen.logged, 2); /* 4, and the last one */
    assert_int_equal(seen.checkpoints, 2);
    assert_true(result.eval_loss == seen.eval_loss);
    assert_ok(train(test_tmp_dir(), no_dropout, NULL, &only_step, NULL, &err));
    assert_true(fabs(plain.first_loss - seen.eval_loss) < 1e-6);
    /* At step 0 the adapter changes nothing, so dropout on it changes nothing either, except that
     * B0 A0 (x' - x) does not vanish: the dropped loss differs. */
    assert_true(fabs(seen.first_loss - seen.eval_loss) > 1e-6);
}

/* ---- plans ---- */

static size_t plan_peak(const char *const *more, bool *recompute, size_t *step_bytes) {
    struct mil_error err = {0};
    struct config c;
    struct session s;
    struct memory_plan plan;
    struct backend *b = NULL;
    tiny_config(&c, "/nowhere", more);
    assert_ok(backend_open("cpu", DT_F32, &b, &err));
    assert_ok(session_open(&s, &c, SESSION_PLAN, &err));
    assert_ok(plan_choose(&s, b, &plan, &err));
    size_t peak = plan.peak - plan.baseline;
    *recompute = s.recompute;
    *step_bytes = plan_bytes(&plan.plan, PLAN_STEP);
    memory_plan_release(&plan);
    session_release(&s);
    backend_free(&b);
    config_release(&c);
    return peak;
}

static void plans_need_config_json_alone(void **state) {
    (void)state;
    char model[600];
    const char *dir = test_tmp_dir();
    bool recompute;
    size_t step_off, step_on;
    copy_into(dir, "config.json");
    snprintf(model, sizeof model, "model_name_or_path=%s", dir);
    const char *const off[] = {model, "dataset=/nowhere.json", "max_length=128", NULL},
                      *const on[] = {model, "dataset=/nowhere.json", "max_length=128",
                                     "activation_recompute=true", NULL},
                      *const full[] = {model, "method=full", "dataset=/nowhere.json",
                                       "max_length=128", NULL};
    listen_to_notices();
    size_t peak = plan_peak(off, &recompute, &step_off);
    assert_non_null(strstr(notices, "the data were not counted"));
    assert_false(recompute);
    assert_true(peak > step_off);
    plan_peak(on, &recompute, &step_on);
    assert_true(recompute);
    assert_true(step_on < step_off);
    assert_true(plan_peak(full, &recompute, &step_on) > 0);
}

/* The plan of a run and what it then reserves: activations come from an arena of exactly the planned
 * size (beside it: the rows' losses on the host), the adapter's and the optimiser's arrays are booked
 * up to padding to cache lines and the bookkeeping of a param (names, tensors: below 1 KiB). */
static void the_plan_is_what_is_reserved(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct config c;
    struct memory_plan plan;
    struct run *r = calloc(1, sizeof *r);
    assert_non_null(r);
    tiny_config(&c, test_tmp_dir(), NULL);
    size_t before = mem_stats(MEM_STEP).now, adapter_before = mem_stats(MEM_ADAPTER).now;
    assert_ok(run_open(r, &c, NULL, NULL, &err));
    assert_ok(plan_choose(&r->session, r->backend, &plan, &err));
    size_t got = mem_stats(MEM_STEP).now - before, want = plan_bytes(&plan.plan, PLAN_STEP);
    if (got > want + 4096 || got + 4096 < want) fail_msg("step: %zu, planned %zu", got, want);
    size_t adapter = 0;
    for (size_t i = 0; i < plan.plan.n; i++) {
        const struct plan_entry *e = &plan.plan.entries[i];
        if (strstr(e->name, "adapter") && e->lifetime == PLAN_SESSION) adapter += e->bytes;
        if (strstr(e->name, "optimiser")) adapter += e->bytes;
    }
    got = mem_stats(MEM_ADAPTER).now - adapter_before;
    size_t slack = r->trainable->n * 1024;
    if (got > adapter + slack || adapter > got + slack)
        fail_msg("adapter and optimiser: %zu, planned %zu", got, adapter);
    memory_plan_release(&plan);
    run_release(r);
    free(r);
    config_release(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_files_of_a_run),
        cmocka_unit_test(checkpoints_have_hugging_face_keys),
        cmocka_unit_test(a_model_from_scratch),
        cmocka_unit_test(a_used_directory_is_not_overwritten),
        cmocka_unit_test(only_a_run_is_overwritten),
        cmocka_unit_test(unwritable_directories),
        cmocka_unit_test(a_full_disk_leaves_no_half_checkpoint),
        cmocka_unit_test(bad_data_are_refused_before_anything_is_written),
        cmocka_unit_test(a_dead_gradient_is_reported_by_name),
        cmocka_unit_test(plain_lora_is_not_reported),
        cmocka_unit_test(a_loss_that_is_not_finite_stops),
        cmocka_unit_test(evaluation_is_the_mean_over_supervised_tokens),
        cmocka_unit_test(plans_need_config_json_alone),
        cmocka_unit_test(the_plan_is_what_is_reserved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
