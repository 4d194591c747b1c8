/* SPDX-License-Identifier: Apache-2.0 */
/* Windows by their drawing and by properties; perplexity against transformers; its errors. */
#include "support.h"

#include <math.h>

#include "eval/tasks/windows.h"

/* The drawing in windows.h. */
static void drawn(void **state) {
    (void)state;
    const struct window want[3] = {{0, 6, 1}, {3, 9, 6}, {6, 10, 9}};
    assert_int_equal(window_count(10, 6, 3), 3);
    for (int64_t i = 0; i < 3; i++) {
        struct window w = window_at(10, 6, 3, i);
        assert_memory_equal(&w, &want[i], sizeof w);
    }
}

/* Every token is scored once, in order, with a token before it in its window; none but those that
 * have no token before them are left out. */
static void properties(void **state) {
    (void)state;
    for (int64_t n = 0; n < 40; n++) {
        for (int64_t length = 2; length < 12; length++) {
            for (int64_t stride = 1; stride <= length; stride++) {
                int64_t count = window_count(n, length, stride), next = 1, left_out = 0;
                for (int64_t i = 0; i < count; i++) {
                    struct window w = window_at(n, length, stride, i);
                    assert_true(w.begin >= 0 && w.end <= n && w.end - w.begin <= length);
                    assert_true(w.first > w.begin && w.first < w.end && w.first >= next);
                    left_out += w.first - next;
                    next = w.end;
                }
                if (stride < length) assert_int_equal(left_out, 0);
                if (n >= 2 && stride < length) assert_int_equal(next, n);
                if (n >= 2 && stride == length) {
                    assert_int_equal(left_out, count - 1);
                    assert_true(next == n || next == n - 1);
                }
                if (n < 2) assert_int_equal(count, 0);
            }
        }
    }
}

static struct mil_eval_result score(struct opened *m, const char *path, int64_t window,
                                    int64_t stride) {
    struct mil_error err = {0};
    struct mil_eval_options o = {.max_length = window, .stride = stride};
    struct mil_eval_result r;
    struct task_run run = {.model = m->m,
                           .tokenizer = m->tokenizer,
                           .positions = m->positions,
                           .data_path = path,
                           .options = &o};
    assert_ok(task_evaluate(&run, "perplexity", &r, &err));
    assert_string_equal(r.grader, "none");
    return r;
}

static double value_of(const struct mil_eval_result *r, const char *name) {
    for (size_t i = 0; i < r->n_values; i++)
        if (strcmp(r->values[i].name, name) == 0) return r->values[i].value;
    fail_msg("the result has no value '%s'", name);
    return 0;
}

static void against(struct opened *m, const char *path, const json_t *recorded_scores,
                    double tolerance) {
    size_t index;
    json_t *s, *list = (json_t *)(uintptr_t)recorded_scores;
    json_array_foreach(list, index, s) {
        struct mil_eval_result r = score(m, path, json_integer_value(json_object_get(s, "window")),
                                         json_integer_value(json_object_get(s, "stride")));
        double nll = json_real_value(json_object_get(s, "nll"));
        assert_int_equal(r.n, json_integer_value(json_object_get(s, "tokens")));
        if (fabs(value_of(&r, "nll") - nll) > tolerance)
            fail_msg("case %zu: nll %.9f, recorded %.9f", index, value_of(&r, "nll"), nll);
        assert_true(fabs(r.value / exp(nll) - 1) < 2 * tolerance);
        assert_true(r.std_error > 0 && r.std_error < r.value);
    }
}

/* Recorded in f64 from the same bf16 weights.  In f32 a logit of size |z| <= 30 over some 100
 * additions of products carries at most 100 * 2^-24 * 30 = 2e-4; such errors are of both signs, and
 * the mean over some 900 tokens keeps a thirtieth of it: 1e-5 bounds it with room. */
static void taught_text(void **state) {
    (void)state;
    json_t *root = recorded("taught.json");
    struct opened m = open_model(TEST_DATA "/taught", DT_F32, 128, true);
    against(&m, TEST_DATA "/taught/text.txt", json_object_get(root, "perplexity"), 1e-5);
    struct mil_eval_result r = score(&m, TEST_DATA "/taught/text.txt", 64, 16);
    /* All but the first token are scored; that one is a byte or more. */
    double bytes = json_integer_value(json_object_get(root, "text_bytes"));
    assert_true(value_of(&r, "bytes") < bytes && value_of(&r, "bytes") > bytes - 10);
    double bits = value_of(&r, "nll") * (double)r.n / log(2) / value_of(&r, "bytes");
    assert_true(fabs(value_of(&r, "bits_per_byte") - bits) < 1e-12 * bits);
    opened_close(&m);
    json_decref(root);
}

/* A file of rows holds documents: the same text twice scores as two texts, not as one. */
static void documents(void **state) {
    (void)state;
    struct opened m = open_model(TEST_DATA "/taught", DT_F32, 128, true);
    char one[600], two[600], samples[600];
    const char *dir = test_tmp_dir();
    snprintf(one, sizeof one, "%s/one.txt", dir);
    snprintf(two, sizeof two, "%s/two.jsonl", dir);
    snprintf(samples, sizeof samples, "%s/samples.jsonl", dir);
    FILE *f = fopen(one, "w");
    fputs("Is 4 even? Add 2 and 3.", f);
    fclose(f);
    f = fopen(two, "w");
    for (int i = 0; i < 3; i++)
        fputs(i == 1 ? "{\"text\": \"\"}\n" : "{\"text\": \"Is 4 even? Add 2 and 3.\"}\n", f);
    fclose(f);
    struct mil_eval_result a = score(&m, one, 0, 0), b = score(&m, two, 0, 0);
    assert_int_equal(2 * a.n, b.n);
    assert_true(fabs(a.value - b.value) < 1e-12 * a.value); /* sums of equal halves */
    assert_true(value_of(&b, "documents") == 3 && value_of(&b, "windows") == 2);

    struct mil_error err;
    struct mil_eval_options o = {.limit = 1, .samples_path = samples, .max_length = 8};
    struct task_run run = {.model = m.m,
                           .tokenizer = m.tokenizer,
                           .positions = m.positions,
                           .data_path = two,
                           .options = &o};
    assert_ok(task_evaluate(&run, "perplexity", &a, &err));
    json_t *line = NULL;
    assert_ok(json_read_file(samples, &line, &err)); /* one line: one window */
    assert_int_equal(json_integer_value(json_object_get(line, "tokens")), 7);
    assert_true(fabs(json_real_value(json_object_get(line, "nll")) - log(a.value)) < 1e-12);
    json_decref(line);
    opened_close(&m);
}

static void errors(void **state) {
    (void)state;
    struct mil_error err;
    struct mil_eval_result r;
    struct opened m = open_model(TEST_DATA "/taught", DT_F32, 128, true);
    struct mil_eval_options o = {.max_length = 129};
    char path[600], bad[600];
    const char *dir = test_tmp_dir();
    snprintf(path, sizeof path, "%s/x.txt", dir);
    snprintf(bad, sizeof bad, "%s/x.jsonl", dir);
    struct task_run run = {.model = m.m,
                           .tokenizer = m.tokenizer,
                           .positions = m.positions,
                           .data_path = path,
                           .options = &o};
    FILE *f = fopen(path, "w");
    fputs("a", f);
    fclose(f);
    f = fopen(bad, "w");
    fputs("{\"text\": \"fine\"}\n{\"txt\": 1}\n", f);
    fclose(f);
    assert_fails(task_evaluate(&run, "perplexity", &r, &err), MIL_USAGE, "max_length is 129");
    o.max_length = 16;
    o.stride = 17;
    assert_fails(task_evaluate(&run, "perplexity", &r, &err), MIL_USAGE, "stride is 17");
    o.stride = 0;
    assert_fails(task_evaluate(&run, "perplexity", &r, &err), MIL_INPUT, "two tokens");
    run.data_path = bad;
    assert_fails(task_evaluate(&run, "perplexity", &r, &err), MIL_INPUT, "row 2");
    run.data_path = "/nonexistent/x.txt";
    assert_fails(task_evaluate(&run, "perplexity", &r, &err), MIL_ACCESS, "/nonexistent/x.txt");
    run.tokenizer = NULL;
    assert_fails(task_evaluate(&run, "perplexity", &r, &err), MIL_USAGE, "no tokenizer");
    opened_close(&m);
}

/* f32, weights dequantised from the same file: 30 layers leave some 1e-4 on a logit, of both signs.
 */
static void smollm2(void **state) {
    (void)state;
    skip_without_smollm2();
    json_t *root = recorded("generate_smollm2.json");
    char path[600];
    snprintf(path, sizeof path, "%s/text.txt", test_tmp_dir());
    FILE *f = fopen(path, "w");
    fputs(json_string_value(json_object_get(root, "text")), f);
    fclose(f);
    struct opened m = open_model(test_smollm2_path(), DT_F32, 128, true);
    against(&m, path, json_object_get(root, "perplexity"), 1e-4);
    opened_close(&m);
    json_decref(root);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(drawn),       cmocka_unit_test(properties),
                                       cmocka_unit_test(taught_text), cmocka_unit_test(documents),
                                       cmocka_unit_test(errors),      cmocka_unit_test(smollm2)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
