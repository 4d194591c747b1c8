/* SPDX-License-Identifier: Apache-2.0 */
/* What a run is told and what it reads, before anything is generated: options that a task has not,
 * names that results cannot hold, where data lie, what is in them, and their hash in the result. */
#include "bench.h"

#include <math.h>

#include "io/hash.h"

/* ---- the data ---- */

/* A result names its data by their bytes: under another name the same, one byte more another. */
static void data_hash(void **state) {
    struct bench *b = *state;
    static char rows[TEXT_CAP];
    struct mil_error err = {0};
    struct mil_eval_result first, again;
    char hash[HASH_HEX];
    struct mil_eval_options o = {.max_new_tokens = 1, .limit = 1};
    struct task_run run = run_of(b, ROWS, &o);
    assert_ok(hash_file(ROWS, hash, &err));
    assert_ok(task_evaluate(&run, "exact_match", &first, &err));
    assert_string_equal(first.data_hash, hash);
    size_t n = slurp(ROWS, rows);
    run.data_path = b->other;
    spill(b->other, rows, n);
    assert_ok(task_evaluate(&run, "exact_match", &again, &err));
    assert_string_equal(again.data_hash, hash);
    rows[n] = '\n';
    spill(b->other, rows, n + 1);
    assert_ok(task_evaluate(&run, "exact_match", &again, &err));
    assert_string_not_equal(again.data_hash, hash);
    assert_int_equal(strlen(again.data_hash), strlen(hash));
}

/* All that read rows read them alike: none at all, and one that lacks something. */
static void rows(void **state) {
    struct bench *b = *state;
    struct mil_error err;
    struct mil_eval_result r;
    char data[600];
    snprintf(data, sizeof data, "%s/rows.json", b->dir);
    const struct {
        const char *task, *scoring, *lacks;
    } cases[] = {{"exact_match", NULL, "row 2: "},
                 {"arc_easy", "likelihood", "row 1: "},
                 {"perplexity", NULL, "row 2: the row: key 'text' is missing"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mil_eval_options o = {.scoring = cases[i].scoring};
        struct task_run run = run_of(b, data, &o);
        spill(data, "[ ]", 3);
        assert_fails(task_evaluate(&run, cases[i].task, &r, &err), MIL_INPUT,
                     "rows.json: holds no rows");
        static const char bad[] =
            "[{\"instruction\": \"a\", \"output\": \"b\", \"text\": \"c\"}, {\"instruction\": 1}]";
        spill(data, bad, strlen(bad));
        assert_fails(task_evaluate(&run, cases[i].task, &r, &err), MIL_INPUT, cases[i].lacks);
        assert_non_null(strstr(err.message, "rows.json: row "));
    }
}

/* ---- options and places ---- */

static void refused(void **state) {
    (void)state;
    struct mil_error err;
    const struct {
        const char *task;
        struct mil_eval_options o;
        const char *part;
    } cases[] = {
        {"boolq", {.n_samples = 2}, "has no option n_samples"},
        {"boolq", {.stride = 2}, "has no option stride"},
        {"boolq", {.outputs_path = "x"}, "has no option outputs_path"},
        {"gsm8k", {.generator = "x"}, "has no option generator"},
        {"boolq", {.scoring = "guess"}, "scoring is 'guess'"},
        {"gsm8k", {.scoring = "likelihood"}, "gsm8k has no scoring by likelihood"},
        {"boolq",
         {.scoring = "likelihood", .num_beams = 2},
         "by likelihood has no option num_beams"},
        {"boolq", {.scoring = "likelihood", .template_name = "raw"}, "template_name"},
        {"boolq", {.scoring = "likelihood", .grader = "strict"}, "has no graders"},
        {"perplexity", {.max_new_tokens = 4}, "has no option max_new_tokens"},
        {"perplexity", {.grader = "strict"}, "has no graders"},
        {"boolq", {.grader = "llama"}, "it has: strict"},
        {"humaneval", {.limit = 1}, "--allow-code-execution"},
        {"boolq", {.temperature = -1}, "temperature is -1"},
        {"boolq", {.temperature = INFINITY}, "temperature is inf"},
        {"boolq", {.top_p = 1.5}, "top_p is 1.5"},
        {"boolq", {.resume = 1}, "samples_path"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct task_run run = {.data_path = ROWS, .options = &cases[i].o};
        assert_fails(task_check(&run, cases[i].task, &err), MIL_USAGE, cases[i].part);
    }
}

/* JSON holds nothing else: refused before a model is loaded, or at least before it runs. */
static void no_utf8(void **state) {
    struct bench *b = *state;
    struct mil_error err;
    char data[600];
    struct mil_eval_options o = {.generator = "caf\xe9"};
    struct task_run run = {.data_path = ROWS, .options = &o};
    assert_fails(task_check(&run, "alpaca_eval", &err), MIL_USAGE,
                 "generator (--generator) is no UTF-8 (byte 4)");
    o.generator = "caf\xc3\xa9";
    assert_ok(task_check(&run, "alpaca_eval", &err));
    snprintf(data, sizeof data, "%s/\xff.jsonl", b->dir);
    spill(data, "{}", 2);
    run.data_path = data;
    o.generator = NULL;
    assert_fails(task_check(&run, "exact_match", &err), MIL_USAGE, "(--data) is no UTF-8");
    struct model model = *b->m.m;
    struct checkpoint checkpoint = *model.checkpoint;
    snprintf(checkpoint.path, sizeof checkpoint.path, "m\xff");
    model.checkpoint = &checkpoint;
    run.model = &model;
    run.data_path = ROWS;
    assert_fails(task_check(&run, "exact_match", &err), MIL_USAGE,
                 "the path of the model is no UTF-8 (byte 2)");
}

static void write_at(const struct bench *b, const char *folder, const char *name,
                     const char *text) {
    char path[700];
    snprintf(path, sizeof path, "%s/%s", b->dir, folder);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/%s/%s", b->dir, folder, name);
    spill(path, text, strlen(text));
}

static void directories(void **state) {
    static const struct task nameless = {.name = "two", .metric = "accuracy"};
    struct bench *b = *state;
    struct mil_error err;
    char path[PATH_CAP], want[700];
    size_t n;
    const struct task *t = task_table(&n), *boolq = NULL, *alpaca = NULL, *human = NULL;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(t[i].name, "boolq") == 0) boolq = &t[i];
        if (strcmp(t[i].name, "alpaca_eval") == 0) alpaca = &t[i];
        if (strcmp(t[i].name, "humaneval") == 0) human = &t[i];
    }
    assert_fails(task_locate(boolq, b->dir, path, &err), MIL_INPUT, "looked for boolq/test.json");
    assert_non_null(strstr(err.message, "commonsense/, math/"));
    assert_fails(task_locate(&nameless, b->dir, path, &err), MIL_INPUT, "give the file");
    write_at(b, "commonsense", "note", "");
    write_at(b, "commonsense/boolq", "test.json", "[]");
    assert_ok(task_locate(boolq, b->dir, path, &err));
    snprintf(want, sizeof want, "%s/commonsense/boolq/test.json", b->dir);
    assert_string_equal(path, want);
    write_at(b, "boolq", "test.json", "[]"); /* nearer */
    assert_ok(task_locate(boolq, b->dir, path, &err));
    snprintf(want, sizeof want, "%s/boolq/test.json", b->dir);
    assert_string_equal(path, want);
    assert_ok(task_locate(boolq, want, path, &err)); /* a file is itself */
    assert_string_equal(path, want);
    write_at(b, "instruct", "alpaca_eval_text_davinci_003.json", "[]");
    assert_ok(task_locate(alpaca, b->dir, path, &err));
    assert_non_null(strstr(path, "instruct/alpaca_eval_text_davinci_003.json"));
    write_at(b, "instruct", "alpaca_eval_gpt4.json", "[]");
    assert_fails(task_locate(alpaca, b->dir, path, &err), MIL_INPUT, "2 files are named like");
    write_at(b, "instruct", "alpaca_eval.json", "[]");
    assert_ok(task_locate(alpaca, b->dir, path, &err));
    write_at(b, "code", "HumanEval.jsonl.gz", "x");
    struct mil_eval_options o = {.allow_code_execution = 1};
    struct task_run run = {.data_path = b->dir, .options = &o};
    assert_fails(task_check(&run, "humaneval", &err), MIL_INPUT, "gunzip");
    write_at(b, "code", "HumanEval.jsonl", "x");
    assert_ok(task_locate(human, b->dir, path, &err));
    assert_non_null(strstr(path, "code/HumanEval.jsonl"));
    run.data_path = "/nonexistent";
    assert_fails(task_check(&run, "humaneval", &err), MIL_ACCESS, "/nonexistent");
}

/* Every task finds its file in the folder of data sets that development has. */
static void shared_data(void **state) {
    (void)state;
    skip_without_data();
    struct mil_error err = {0};
    char path[PATH_CAP];
    size_t n;
    const struct task *t = task_table(&n);
    for (size_t i = 0; i < n; i++)
        if (t[i].files) assert_ok(task_locate(&t[i], test_data_dir(), path, &err));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_hash), cmocka_unit_test(rows),        cmocka_unit_test(refused),
        cmocka_unit_test(no_utf8),   cmocka_unit_test(directories), cmocka_unit_test(shared_data)};
    return cmocka_run_group_tests(tests, bench_open, bench_close);
}
