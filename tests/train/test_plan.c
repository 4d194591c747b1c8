/* SPDX-License-Identifier: Apache-2.0 */
/* The predicted peak of the resident set against the one that the system then measures.
 *
 * Prediction and run are processes of their own, forked from one that has done nothing yet: a peak
 * never falls, and a heap remembers.
 *
 * Tolerance.  SmolLM2: the 5 % that `--dry-run` promises.  The share of program and libraries is a
 * constant in plan.c (about 20 MiB); which of their pages a run touches and what malloc's arenas hold
 * depends on the machine's libraries, page sizes and threads, so half of that is allowed beside a small
 * model: 10 MiB.  A tiny model's run may touch next to none of it: 20 MiB. */
#include "fixture.h"

#include <sys/resource.h>
#include <sys/wait.h>

#include "train/plan.h"

#if defined(__SANITIZE_ADDRESS__)
#define INSTRUMENTED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define INSTRUMENTED 1
#endif
#endif
#ifndef INSTRUMENTED
#define INSTRUMENTED 0
#endif

static const double mib = 1024.0 * 1024.0;

/* What a child tells; its peak comes from the system. */
struct told {
    enum mil_status status;
    struct mil_error err;
    size_t predicted;
    int64_t max_tokens;
};
typedef void (*child_fn)(const struct config *c, struct told *out);

static void predict(const struct config *c, struct told *out) {
    struct session s;
    struct backend *b = NULL;
    struct memory_plan plan = {0};
    bool f32 = !strcmp(c->compute_dtype, "f32");
    memset(&s, 0, sizeof s);
    out->status = backend_open("cpu", f32 ? DT_F32 : DT_BF16, &b, &out->err);
    if (out->status == MIL_OK) out->status = session_open(&s, c, SESSION_PLAN, &out->err);
    if (out->status == MIL_OK) out->status = plan_choose(&s, b, &plan, &out->err);
    out->predicted = plan.peak;
    out->max_tokens = s.max_tokens;
}

static void train(const struct config *c, struct told *out) {
    out->status = train_run(c, NULL, NULL, NULL, &out->err);
}

/* Run fn in a child; returns its peak of the resident set in bytes. */
static size_t in_child(child_fn fn, const struct config *c, struct told *out) {
    int ends[2], status;
    struct rusage used;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        static struct told told;
        fn(c, &told);
        _exit(write(ends[1], &told, sizeof told) == (ssize_t)sizeof told ? 0 : 1);
    }
    close(ends[1]);
    assert_int_equal(read(ends[0], out, sizeof *out), sizeof *out);
    close(ends[0]);
    assert_int_equal(wait4(pid, &status, 0, &used), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    if (out->status != MIL_OK) fail_msg("%s", out->err.message);
    return (size_t)used.ru_maxrss * 1024;
}

static void compare(const char *const *more, double part, double absolute) {
    struct config c;
    static struct told plan, run;
    if (INSTRUMENTED) skip(); /* shadow memory counts as resident */
    tiny_config(&c, test_tmp_dir(), more);
    in_child(predict, &c, &plan);
    double measured = (double)in_child(train, &c, &run), predicted = (double)plan.predicted;
    config_release(&c);
    print_message("predicted %.1f MiB, measured %.1f MiB: %+.1f %%\n", predicted / mib,
                  measured / mib, 100 * (predicted / measured - 1));
    double difference = predicted > measured ? predicted - measured : measured - predicted;
    if (difference > part * measured + absolute)
        fail_msg("predicted %.1f MiB, measured %.1f MiB", predicted / mib, measured / mib);
}

static void copy_into(const char *dir, const char *name) {
    char from[PATH_CAP], to[PATH_CAP];
    struct mil_error err = {0};
    assert_ok(path_join(from, TEST_DATA "/tiny", name, &err));
    assert_ok(path_join(to, dir, name, &err));
    assert_ok(file_copy(from, to, &err));
}

/* Nine million parameters: the tiny model's config.json with other sizes, to be trained from scratch. */
static void make_model(const char *dir) {
    static const struct {
        const char *key;
        int64_t value;
    } sizes[] = {{"hidden_size", 512}, {"intermediate_size", 1024}, {"num_hidden_layers", 4},
                 {"head_dim", 64},     {"num_attention_heads", 8},  {"num_key_value_heads", 4}};
    struct mil_error err = {0};
    json_t *root = NULL;
    char path[PATH_CAP];
    assert_ok(json_read_file(TEST_DATA "/tiny/config.json", &root, &err));
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        json_object_set_new(root, sizes[i].key, json_integer(sizes[i].value));
    assert_ok(path_join(path, dir, "config.json", &err));
    assert_ok(json_write_file(path, root, &err));
    json_decref(root);
    copy_into(dir, "tokenizer.json");
    copy_into(dir, "tokenizer_config.json");
}

static void a_small_model(void **state) {
    (void)state;
    char model[700];
    const char *dir = test_tmp_dir();
    snprintf(model, sizeof model, "model_name_or_path=%s", dir);
#define RUN model, "from_scratch=true", "method=full", "max_steps=1"
    const char *const f32[] = {RUN, NULL},
                      *const half[] = {RUN, "compute_dtype=bf16", "tokens_per_micro_batch=200",
                                       NULL},
                      *const redone[] = {RUN, "activation_recompute=true", NULL};
#undef RUN
    make_model(dir);
    compare(f32, 0, 10 * mib);
    compare(half, 0, 10 * mib);
    compare(redone, 0, 10 * mib);
}

/* Of the tiny model's adapters only the program remains: a bound from both sides. */
static void a_tiny_model(void **state) {
    (void)state;
    static const char *const milora[] = {"max_steps=2", NULL}, *const lora_ga[] = {"method=lora_ga",
                                                                                   "max_steps=2",
                                                                                   NULL};
    compare(milora, 0, 20 * mib);
    compare(lora_ga, 0, 20 * mib);
}

/* Tokens of the largest micro-batch, by packing every step and the evaluation's seven samples. */
static int64_t largest_of(const struct config *c, int64_t limit) {
    static const int64_t evaluated[] = {0, 1, 2, 3, 4, 5, 6};
    struct mil_error err = {0};
    struct session s;
    struct loader l;
    int64_t most = 0, n = 7;
    assert_ok(session_open(&s, c, SESSION_DATA, &err));
    assert_ok(loader_init(&l, &s.data, 5, true, (uint64_t)c->seed, &err));
    assert_int_equal(s.total_steps, 20);
    for (int64_t step = 0; step <= s.total_steps; step++) {
        const int64_t *samples = step ? loader_step(&l, step, &n) : evaluated;
        const struct dataset *d = step ? &s.data : &s.eval;
        packing_fill(&l.packing, d, samples, n, limit);
        for (int64_t i = 0; i < l.packing.n; i++) {
            int64_t tokens = packing_tokens(&l.packing, d, i);
            if (tokens > most) most = tokens;
        }
    }
    loader_release(&l);
    session_release(&s);
    return most;
}

/* The plan knows the largest micro-batch: buffers have room for it, and for no more. */
static void the_largest_micro_batch_is_known(void **state) {
    (void)state;
    static const char *const limits[] = {"tokens_per_micro_batch=50", "tokens_per_micro_batch=150",
                                         "tokens_per_micro_batch=100000"};
    static const int64_t limit[] = {50, 150, 100000};
    static struct told plan[3];
    struct config c[3];
    for (int i = 0; i < 3; i++) {
        const char *const more[] = {limits[i],
                                    "per_device_train_batch_size=5",
                                    "shuffle=true",
                                    "num_train_epochs=2",
                                    "eval_dataset=" TEST_DATA "/rows.jsonl",
                                    "eval_limit=7",
                                    NULL};
        tiny_config(&c[i], test_tmp_dir(), more);
        in_child(predict, &c[i], &plan[i]);
    }
    for (int i = 0; i < 3; i++) { /* no child any more: threads do not survive a fork */
        assert_int_equal(plan[i].max_tokens, largest_of(&c[i], limit[i]));
        config_release(&c[i]);
    }
}

static void smollm2(void **state) {
    (void)state;
    char model[PATH_CAP], data[PATH_CAP];
    skip_without_smollm2();
    skip_without_data();
    if (!getenv("MILORA_SLOW")) {
        fprintf(stderr, "SKIP %s: takes a minute, needs MILORA_SLOW=1\n", __func__);
        skip();
    }
    snprintf(model, sizeof model, "model_name_or_path=%s", test_smollm2_path());
    snprintf(data, sizeof data,
             "dataset=[{path: %s/math/gsm8k/train.jsonl, format: query_response}]",
             test_data_dir());
#define RUN model, data, "r=32", "max_steps=1", "warmup_steps=0"
    const char *const milora[] = {RUN, "compute_dtype=bf16", "lora_dropout=0.05", NULL},
                      *const f32[] = {RUN, "method=lora", NULL},
                      *const redone[] = {RUN, "method=lora", "compute_dtype=bf16",
                                         "activation_recompute=true", NULL},
                      *const lora_ga[] = {RUN, "method=lora_ga", "compute_dtype=bf16",
                                          "lora_ga_batches=1", NULL},
                      *const full[] = {RUN, "method=full", "compute_dtype=bf16",
                                       "per_device_train_batch_size=2", NULL};
#undef RUN
    compare(milora, 0.05, 0);
    compare(f32, 0.05, 0);
    compare(redone, 0.05, 0);
    compare(lora_ga, 0.05, 0);
    compare(full, 0.05, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_small_model), cmocka_unit_test(a_tiny_model), cmocka_unit_test(smollm2),
        cmocka_unit_test(the_largest_micro_batch_is_known), /* last: it works in this process */
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
