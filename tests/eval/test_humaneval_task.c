/* SPDX-License-Identifier: Apache-2.0 */
/* The task humaneval from rows to results, on the taught model, which knows no Python: its own
 * outputs fail, and those that matter are put into the file of samples, which is then resumed, as
 * outputs made elsewhere would be.  Hostile ones leave no trace but their verdict. */
#include "support.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "core/str.h"
#include "eval/sandbox/sandbox_python.h"
#include "io/file.h"

static struct opened model;
static char dir[512], rows[600], samples[600], victim[600];
static bool have_python;

static int begin(void **state) {
    (void)state;
    struct python python = {.text = NULL};
    struct mil_error err;
    have_python = python_find(&python, &err) == MIL_OK;
    python_release(&python);
    if (!have_python) fprintf(stderr, "no programs are run: %s\n", err.message);
    model = open_model(TEST_DATA "/taught", DT_F32, 256, true);
    snprintf(dir, sizeof dir, "%s", test_tmp_dir());
    snprintf(rows, sizeof rows, "%s/rows.jsonl", dir);
    snprintf(samples, sizeof samples, "%s/samples.jsonl", dir);
    snprintf(victim, sizeof victim, "%s/victim", dir);
    return 0;
}
static int end(void **state) {
    (void)state;
    opened_close(&model);
    return dir_remove(dir, NULL) == MIL_OK ? 0 : -1;
}
#define skip_without_python() skip_unless(have_python, "no python3")

/* n rows of one easy problem. */
static void write_rows(size_t n) {
    static const char row[] = "{\"task_id\": \"T/%zu\", \"prompt\": \"def f():\\n    'One.'\\n\", "
                              "\"entry_point\": \"f\", "
                              "\"test\": \"def check(g):\\n    assert g() == 1\\n\"}\n";
    FILE *f = fopen(rows, "w");
    assert_non_null(f);
    for (size_t i = 0; i < n; i++) fprintf(f, row, i);
    fclose(f);
}

static enum mil_status evaluate(const struct mil_eval_options *o, const char *data,
                                struct mil_eval_result *r, struct mil_error *err) {
    struct task_run run = {.model = model.m,
                           .tokenizer = model.tokenizer,
                           .positions = model.positions,
                           .data_path = data,
                           .options = o};
    return task_evaluate(&run, "humaneval", r, err);
}

static double value_of(const struct mil_eval_result *r, const char *name) {
    for (size_t i = 0; i < r->n_values; i++)
        if (strcmp(r->values[i].name, name) == 0) return r->values[i].value;
    fail_msg("no value '%s'", name);
    return 0;
}

/* Every line of the file of samples with another output. */
static void replace_outputs(const char *const *outputs, size_t n) {
    struct line_reader lines;
    struct str all = {0};
    struct mil_error err;
    const char *line;
    size_t bytes, i = 0;
    assert_ok(lines_open(&lines, samples, &err));
    for (;; i++) {
        json_t *sample;
        assert_ok(lines_next(&lines, &line, &bytes, &err));
        if (!line) break;
        assert_true(i < n);
        assert_ok(json_read_text(line, bytes, "sample", &sample, &err));
        json_object_set_new(sample, "output", json_string(outputs[i]));
        json_append(sample, -1, &all);
        str_addc(&all, '\n');
        json_decref(sample);
    }
    lines_close(&lines);
    assert_int_equal(i, n);
    assert_ok(file_write(samples, str_c(&all), all.len, &err));
    str_release(&all);
}

/* Member `key` of line i (from 0), or "" where it is null; freed by the caller. */
static char *sample_member(size_t i, const char *key) {
    struct line_reader lines;
    struct mil_error err;
    const char *line, *text;
    size_t bytes;
    json_t *sample;
    assert_ok(lines_open(&lines, samples, &err));
    do {
        assert_ok(lines_next(&lines, &line, &bytes, &err));
        assert_non_null(line);
    } while (i-- > 0);
    assert_ok(json_read_text(line, bytes, "sample", &sample, &err));
    lines_close(&lines);
    text = json_string_value(json_object_get(sample, key));
    char *copy = mem_strdup(MEM_TEXT, text ? text : "");
    json_decref(sample);
    assert_non_null(copy);
    return copy;
}

/* ---- refusals ---- */

static void nothing_runs_unless_allowed(void **state) {
    (void)state;
    struct mil_eval_options o = {.samples_path = samples, .max_new_tokens = 2};
    struct mil_eval_result r;
    struct mil_error err;
    write_rows(1);
    assert_fails(evaluate(&o, rows, &r, &err), MIL_USAGE, "--allow-code-execution");
    assert_false(path_exists(samples));
}

static void compressed_data_are_told_from_broken_ones(void **state) {
    (void)state;
    skip_without_python();
    struct mil_eval_options o = {.allow_code_execution = 1, .max_new_tokens = 2};
    struct mil_eval_result r;
    struct mil_error err;
    assert_ok(file_write(rows, "\x1f\x8b\x08", 3, &err));
    assert_fails(evaluate(&o, rows, &r, &err), MIL_INPUT, "gunzip");
    assert_ok(file_write(rows, "{\"task_id\": \"T\"}\n", 17, &err));
    assert_fails(evaluate(&o, rows, &r, &err), MIL_INPUT, "row 1: ");
    assert_fails(evaluate(&o, rows, &r, &err), MIL_INPUT, "prompt");
}

/* ---- results ---- */

static void own_outputs_are_run(void **state) {
    (void)state;
    skip_without_python();
    struct mil_eval_options o = {
        .samples_path = samples, .max_new_tokens = 4, .allow_code_execution = 1};
    struct mil_eval_result r;
    struct mil_error err;
    write_rows(3);
    assert_ok(evaluate(&o, rows, &r, &err));
    assert_int_equal(r.n, 3);
    assert_true(r.value == 0 && r.std_error == 0);
    assert_true(value_of(&r, "failed") == 3 && value_of(&r, "passed") == 0);
    assert_non_null(strstr(r.protocol, "raw prompt; greedy"));
    assert_non_null(strstr(r.protocol, "sandboxed (seccomp"));
    char *verdict = sample_member(2, "verdict"), *id = sample_member(2, "task_id"),
         *reason = sample_member(2, "reason");
    assert_string_equal(verdict, "failed");
    assert_string_equal(id, "T/2");
    assert_true(strlen(reason) > 0);
    mem_free(verdict);
    mem_free(id);
    mem_free(reason);
}

static void pass_at_k_is_averaged_over_problems(void **state) {
    (void)state;
    skip_without_python();
    enum { EACH = 10 };
    const char *outputs[2 * EACH];
    struct mil_eval_options o = {
        .samples_path = samples, .max_new_tokens = 2, .n_samples = EACH, .allow_code_execution = 1};
    struct mil_eval_result r;
    struct mil_error err;
    write_rows(2);
    assert_ok(evaluate(&o, rows, &r, &err));
    assert_non_null(strstr(r.protocol, "temperature 0.2, top_p 0.95"));
    /* 10 of 10, and 3 of 10 */
    for (size_t i = 0; i < 2 * EACH; i++) outputs[i] = i < 13 ? "    return 1" : "    return 2";
    replace_outputs(outputs, 2 * EACH);
    o.resume = 1;
    assert_ok(evaluate(&o, rows, &r, &err));
    assert_int_equal(r.n, 2);
    assert_true(fabs(r.value - 0.65) < 1e-12); /* (1 + 0.3) / 2, of which few roundings */
    assert_true(fabs(r.std_error - 0.35 / sqrt(2)) < 1e-12);
    assert_true(fabs(value_of(&r, "pass@10") - 1) < 1e-12);
    assert_true(value_of(&r, "pass@1_std_error") == r.std_error);
    assert_true(value_of(&r, "pass@10_std_error") < 1e-7); /* the root of a rounding */
    assert_true(value_of(&r, "passed") == 13 && value_of(&r, "failed") == 7);
}

/* ---- what the issue asks for ---- */

static int listener(int *port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, n), 0);
    assert_int_equal(listen(fd, 4), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

static void hostile_samples_leave_their_verdict_only(void **state) {
    (void)state;
    skip_without_python();
    char removal[800], network[800], home[1400];
    int port, fd = listener(&port);
    struct mil_error err;
    snprintf(removal, sizeof removal, "    import os\n    os.remove('%s')\n    return 1", victim);
    snprintf(network, sizeof network,
             "    import socket\n    socket.create_connection(('127.0.0.1', %d))\n    return 1",
             port);
    snprintf(home, sizeof home,
             "    import shutil\n    shutil.rmtree('%s', ignore_errors=True)\n"
             "    open('%s', 'w').write('mine')\n    return 1",
             dir, victim);
    const struct {
        const char *output, *verdict, *reason;
    } cases[] = {
        {"    return 1", "passed", ""},
        {"    import os\n    while True: os.fork()", "failed", "PermissionError"},
        {"    while True: pass", "timeout", "3 s"},
        {"    return len(bytearray(10 * 10**9)) and 1", "failed", "MemoryError"},
        {removal, "failed", "PermissionError"},
        {home, "failed", "PermissionError"},
        {network, "failed", "PermissionError"},
        {"    import os\n    os.kill(os.getppid(), 9)\n    return 1", "failed", "PermissionError"},
        {"    import os\n    os._exit(0)", "failed", "exit code 0"},
        {"    import sys\n    sys.exit()", "failed", "SystemExit"},
    };
    enum { N = sizeof cases / sizeof *cases };
    const char *outputs[N];
    struct mil_eval_options o = {
        .samples_path = samples, .max_new_tokens = 2, .allow_code_execution = 1};
    struct mil_eval_result r;
    write_rows(N);
    assert_ok(file_write(victim, "keep me", 7, &err));
    assert_ok(evaluate(&o, rows, &r, &err));
    for (size_t i = 0; i < N; i++) outputs[i] = cases[i].output;
    replace_outputs(outputs, N);
    o.resume = 1;
    assert_ok(evaluate(&o, rows, &r, &err));
    for (size_t i = 0; i < N; i++) {
        char *verdict = sample_member(i, "verdict"), *reason = sample_member(i, "reason");
        if (strcmp(verdict, cases[i].verdict) != 0 || !strstr(reason, cases[i].reason))
            fail_msg("%s: %s, '%s'", cases[i].output, verdict, reason);
        mem_free(verdict);
        mem_free(reason);
    }
    assert_true(value_of(&r, "passed") == 1 && value_of(&r, "timeout") == 1);
    struct str kept = {0};
    assert_ok(file_read(victim, 100, &kept, &err));
    assert_string_equal(str_c(&kept), "keep me");
    str_release(&kept);
    char **names;
    size_t n;
    assert_ok(dir_list(dir, &names, &n, &err));
    assert_int_equal(n, 4); /* rows, samples, their record, victim */
    dir_list_free(names, n);
    assert_int_equal(accept(fd, NULL, NULL), -1);
    assert_int_equal(errno, EAGAIN);
    close(fd);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

/* A conversation's prompt, and the first code block of what came back. */
static void answers_of_chat_models_are_unwrapped(void **state) {
    (void)state;
    skip_without_python();
    const char *outputs[] = {"Here it is:\n```python\ndef f():\n    return 1\n```\nIt returns 1.",
                             "I cannot do that."};
    struct mil_eval_options o = {.samples_path = samples,
                                 .max_new_tokens = 2,
                                 .template_name = "chatml",
                                 .allow_code_execution = 1};
    struct mil_eval_result r;
    struct mil_error err;
    write_rows(2);
    assert_ok(evaluate(&o, rows, &r, &err));
    char *prompt = sample_member(0, "prompt");
    assert_non_null(strstr(prompt, "Create a Python script for this problem:\ndef f():\n"));
    mem_free(prompt);
    replace_outputs(outputs, 2);
    o.resume = 1;
    assert_ok(evaluate(&o, rows, &r, &err));
    assert_true(r.value == 0.5);
    assert_non_null(strstr(r.protocol, "first code block"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_runs_unless_allowed),
        cmocka_unit_test(compressed_data_are_told_from_broken_ones),
        cmocka_unit_test(own_outputs_are_run),
        cmocka_unit_test(pass_at_k_is_averaged_over_problems),
        cmocka_unit_test(hostile_samples_leave_their_verdict_only),
        cmocka_unit_test(answers_of_chat_models_are_unwrapped),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
