/* SPDX-License-Identifier: Apache-2.0 */
/* Outputs on the taught model: the same bytes for every batch, a stopped run that goes on equals one
 * that was not stopped, hostile files of samples, records of other settings, several samples a row,
 * stop strings, AlpacaEval's file. */
#include "bench.h"

#include <math.h>

#include "eval/graders/grade.h"
#include "eval/outputs.h"

static bool has(const struct mil_eval_result *r, const char *name, double *value) {
    for (size_t i = 0; i < r->n_values; i++) {
        if (strcmp(r->values[i].name, name) != 0) continue;
        *value = r->values[i].value;
        return true;
    }
    return false;
}

static double value_of(const struct mil_eval_result *r, const char *name) {
    double value = 0;
    if (!has(r, name, &value)) fail_msg("the result has no value '%s'", name);
    return value;
}

/* ---- the batch changes nothing ---- */

static void batches(void **state) {
    struct bench *b = *state;
    static char first[TEXT_CAP], again[TEXT_CAP];
    const struct mil_eval_options kinds[] = {
        {.max_new_tokens = 12},
        {.max_new_tokens = 8, .num_beams = 3, .limit = 9},
        {.max_new_tokens = 12, .temperature = 1.5, .top_p = 0.9, .seed = 7},
    };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        double value = -1;
        for (int64_t batch = 1; batch <= 64; batch = batch == 1 ? 3 : batch == 3 ? 64 : 128) {
            struct mil_error err = {0};
            struct mil_eval_result r;
            struct mil_eval_options o = kinds[k];
            o.batch_size = batch;
            o.samples_path = b->samples;
            struct task_run run = run_of(b, ROWS, &o);
            assert_ok(task_evaluate(&run, "exact_match", &r, &err));
            slurp(b->samples, batch == 1 ? first : again);
            if (batch > 1) assert_string_equal(first, again);
            if (batch > 1) assert_true(value == r.value);
            value = r.value;
        }
    }
}

/* ---- two graders ---- */

static bool truth(const struct match_rules *rules, const struct eval_row *row, struct str *out) {
    (void)rules;
    return row->truth && grade_trimmed(row->truth, out);
}

static enum verdict exact(const struct match_rules *rules, const char *output, const char *want,
                          const char *reference, struct str *extracted) {
    (void)rules;
    (void)reference;
    grade_trimmed(output, extracted);
    return strcmp(str_c(extracted), want) == 0 ? VERDICT_RIGHT : VERDICT_WRONG;
}

/* Right where it is at least as long: nonsense that differs from `exact` now and then. */
static enum verdict length(const struct match_rules *rules, const char *output, const char *want,
                           const char *reference, struct str *extracted) {
    (void)rules;
    (void)reference;
    grade_trimmed(output, extracted);
    if (extracted->len == 0) return VERDICT_UNPARSED;
    return extracted->len >= strlen(want) ? VERDICT_RIGHT : VERDICT_WRONG;
}

static const struct grader grader_exact = {"strict", "right if equal", exact};
static const struct grader grader_length = {"length", "right if as long", length};
static const struct grader *const two[] = {&grader_exact, &grader_length, NULL};
static const struct match_rules two_rules = {
    .outputs = {.template_name = "alpaca", .max_new_tokens = 12, .num_beams = 1},
    .truth = truth,
    .truth_needs = "an answer",
    .graders = two};
static const struct task two_task = {.name = "two",
                                     .metric = "accuracy",
                                     .run = match_run,
                                     .rules = &two_rules,
                                     .takes = TAKES_PROMPTS};

static enum mil_status run_two(struct bench *b, const struct mil_eval_options *o,
                               struct mil_eval_result *r, struct mil_error *err) {
    struct task_run run = run_of(b, ROWS, o);
    memset(r, 0, sizeof *r);
    run.task = &two_task;
    return match_run(&run, r, err);
}

/* Each is the other's further grader; a run judged by one is judged again by the other without a
 * token generated, and the files are those of runs of their own. */
static void graders(void **state) {
    struct bench *b = *state;
    static char strict[TEXT_CAP], again[TEXT_CAP], fresh[TEXT_CAP];
    struct mil_error err = {0};
    struct mil_eval_result s, l, direct;
    struct mil_eval_options o = {.samples_path = b->samples};
    assert_ok(run_two(b, &o, &s, &err));
    slurp(b->samples, strict);
    o.grader = "length";
    o.resume = 1;
    assert_ok(run_two(b, &o, &l, &err));
    slurp(b->samples, again);
    assert_true(value_of(&l, "resumed") == (double)l.n);
    assert_true(value_of(&l, "tokens_per_second") == 0);
    o.resume = 0;
    assert_ok(run_two(b, &o, &direct, &err));
    slurp(b->samples, fresh);
    assert_string_equal(again, fresh);
    assert_string_not_equal(again, strict);
    assert_true(l.value == direct.value && l.value > s.value);
    assert_string_equal(l.grader, "length");
    assert_non_null(strstr(l.protocol, "right if as long"));
    assert_true(value_of(&s, "correct_length") == value_of(&l, "correct"));
    assert_true(value_of(&l, "correct_strict") == value_of(&s, "correct"));
    /* what is equal is as long: the verdicts that differ are exactly the surplus */
    double surplus = value_of(&l, "correct") - value_of(&s, "correct");
    assert_true(value_of(&s, "differs_length") == surplus);
    assert_true(value_of(&l, "differs_strict") == surplus);
    assert_true(value_of(&s, "generated_tokens") == value_of(&l, "generated_tokens"));
    assert_non_null(strstr(strict, "\"verdicts\": {\"strict\": \"right\", \"length\": \"right\"}"));
    o.grader = "shape";
    assert_fails(run_two(b, &o, &l, &err), MIL_USAGE,
                 "task two has no grader 'shape'; it has: strict, length");
}

/* ---- stopping and going on ---- */

struct stopper {
    int64_t at, done;
};
static int stop_at(void *ctx, const struct mil_eval_progress *p) {
    struct stopper *s = ctx;
    s->done = p->done;
    return p->done < s->at;
}

static void same_result(const struct mil_eval_result *a, const struct mil_eval_result *b) {
    assert_true(a->value == b->value && a->n == b->n);
    assert_true(a->std_error == b->std_error || (isnan(a->std_error) && isnan(b->std_error)));
    assert_string_equal(a->protocol, b->protocol);
    for (size_t i = 0; i < a->n_values; i++) {
        const char *name = a->values[i].name;
        if (strstr(name, "second")) continue;
        if (a->values[i].value != value_of(b, name)) fail_msg("'%s' differs", name);
    }
}

/* Stopped by its receiver, then cut at odd places of the file (as a kill leaves it), then resumed. */
static void resume_equals(struct bench *b, const char *task, const char *data,
                          struct mil_eval_options o) {
    static char whole[TEXT_CAP], again[TEXT_CAP];
    struct mil_error err = {0};
    struct mil_eval_result full, r;
    struct stopper s = {.at = 3};
    o.samples_path = b->samples;
    struct task_run run = run_of(b, data, &o);
    assert_ok(task_evaluate(&run, task, &full, &err));
    size_t n = slurp(b->samples, whole);
    o.resume = 1;
    for (size_t i = 0; i <= 13; i++) { /* 0 and the whole among them */
        spill(b->samples, whole, n * i / 13);
        assert_ok(task_evaluate(&run, task, &r, &err));
        slurp(b->samples, again);
        assert_string_equal(whole, again);
        same_result(&full, &r);
        double resumed = 0, lines = 0;
        for (size_t k = 0; k < n * i / 13; k++) lines += whole[k] == '\n';
        assert_true(has(&r, "resumed", &resumed) == (lines > 0) && resumed == lines);
    }
    remove(b->samples); /* nothing there yet: begun like any other */
    assert_ok(task_evaluate(&run, task, &r, &err));
    slurp(b->samples, again);
    assert_string_equal(whole, again);
    o.resume = 0;
    o.batch_size = 1;
    run.progress = stop_at;
    run.ctx = &s;
    enum mil_status st = task_evaluate(&run, task, &r, &err);
    if (st != MIL_OK)
        assert_int_equal(st, MIL_INTERRUPTED); /* the receiver is asked now and then */
    o.resume = 1;
    run.progress = NULL;
    assert_ok(task_evaluate(&run, task, &r, &err));
    slurp(b->samples, again);
    assert_string_equal(whole, again);
    same_result(&full, &r);
}

static void resume(void **state) {
    struct bench *b = *state;
    struct mil_eval_options o = {.max_new_tokens = 12, .batch_size = 4};
    resume_equals(b, "exact_match", ROWS, o);
    o.temperature = 1.2; /* keyed by the output's number in the whole run */
    o.seed = 11;
    resume_equals(b, "exact_match", ROWS, o);
    o = (struct mil_eval_options){.max_new_tokens = 6, .num_beams = 2, .limit = 6};
    resume_equals(b, "exact_match", ROWS, o);
    o = (struct mil_eval_options){.max_length = 16, .stride = 8};
    resume_equals(b, "perplexity", TEST_DATA "/taught/text.txt", o);
}

/* The limit may grow: a longer run takes what a shorter one has. */
static void limit_grows(void **state) {
    struct bench *b = *state;
    static char whole[TEXT_CAP], again[TEXT_CAP];
    struct mil_error err = {0};
    struct mil_eval_result r;
    struct mil_eval_options o = {.max_new_tokens = 12, .samples_path = b->samples};
    struct task_run run = run_of(b, ROWS, &o);
    assert_ok(task_evaluate(&run, "exact_match", &r, &err));
    slurp(b->samples, whole);
    o.limit = 5;
    assert_ok(task_evaluate(&run, "exact_match", &r, &err));
    o.resume = 1;
    o.limit = 9;
    assert_ok(task_evaluate(&run, "exact_match", &r, &err));
    assert_true(value_of(&r, "resumed") == 5);
    o.limit = 8;
    assert_fails(task_evaluate(&run, "exact_match", &r, &err), MIL_MISMATCH, "limit 9");
    o.limit = 0;
    assert_ok(task_evaluate(&run, "exact_match", &r, &err));
    assert_true(value_of(&r, "resumed") == 9);
    slurp(b->samples, again);
    assert_string_equal(whole, again);
    o.limit = 9;
    assert_fails(task_evaluate(&run, "exact_match", &r, &err), MIL_MISMATCH, "limit 0");
}

/* ---- other settings ---- */

static void mismatches(void **state) {
    struct bench *b = *state;
    static char before[TEXT_CAP], after[TEXT_CAP], rows[TEXT_CAP];
    struct mil_error err = {0};
    struct mil_eval_result r;
    const struct mil_eval_options made = {
        .max_new_tokens = 12, .limit = 4, .seed = 3, .samples_path = b->samples};
    struct mil_eval_options o = made;
    size_t n = slurp(ROWS, rows);
    spill(b->other, rows, n);
    struct task_run run = run_of(b, b->other, &o);
    run.model_hash = "aaaa";
    assert_ok(task_evaluate(&run, "exact_match", &r, &err));
    slurp(b->samples, before);
    struct {
        struct mil_eval_options o;
        const char *part;
    } cases[] = {
        {made, "seed 3, this run has 4"},
        {made, "template \"alpaca\", this run has \"plain\""},
        {made, "max_new_tokens 12, this run has 13"},
        {made, "num_beams 1, this run has 2"},
        {made, "max_length 128, this run has 127"},
        {made, "temperature 0.0, this run has 0.5"},
    };
    cases[0].o.seed = 4;
    cases[1].o.template_name = "plain";
    cases[2].o.max_new_tokens = 13;
    cases[3].o.num_beams = 2;
    cases[4].o.max_length = 127;
    cases[5].o.temperature = 0.5;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        o = cases[i].o;
        o.resume = 1;
        assert_fails(task_evaluate(&run, "exact_match", &r, &err), MIL_MISMATCH, cases[i].part);
        assert_non_null(strstr(err.message, "leave resume out"));
    }
    o = made;
    o.resume = 1;
    run.model_hash = "bbbb";
    assert_fails(task_evaluate(&run, "exact_match", &r, &err), MIL_MISMATCH,
                 "model \"aaaa\", this run has \"bbbb\"");
    run.model_hash = "aaaa";
    run.adapter_hash = "cccc";
    assert_fails(task_evaluate(&run, "exact_match", &r, &err), MIL_MISMATCH,
                 "adapter null, this run has \"cccc\"");
    run.adapter_hash = NULL;
    rows[n] = '\n'; /* other data under the same name */
    spill(b->other, rows, n + 1);
    assert_fails(task_evaluate(&run, "exact_match", &r, &err), MIL_MISMATCH, "written with data");
    rows[n] = '\0';
    run.data_path = ROWS; /* the same data elsewhere are the same */
    assert_ok(task_evaluate(&run, "exact_match", &r, &err));
    slurp(b->samples, after);
    assert_string_equal(before, after);
}

/* ---- hostile files ---- */

static void hostile_line(struct bench *b, const char *whole, const char *line, const char *part) {
    static char text[TEXT_CAP];
    struct mil_error err;
    struct mil_eval_result r;
    struct mil_eval_options o = {
        .max_new_tokens = 12, .limit = 3, .resume = 1, .samples_path = b->samples};
    struct task_run run = run_of(b, ROWS, &o);
    const char *second = strchr(whole, '\n') + 1;
    int n = snprintf(text, sizeof text, "%.*s%s\n", (int)(second - whole), whole, line);
    spill(b->samples, text, (size_t)n);
    assert_fails(task_evaluate(&run, "exact_match", &r, &err), MIL_INPUT, "line 2: ");
    if (!strstr(err.message, part)) fail_msg("'%s' lacks '%s'", err.message, part);
    size_t left = slurp(b->samples, text); /* a refused file is left as it was */
    assert_int_equal(left, n);
}

static void hostile(void **state) {
    struct bench *b = *state;
    static char whole[TEXT_CAP], bad[TEXT_CAP];
    struct mil_error err;
    struct mil_eval_result r;
    struct mil_eval_options o = {.max_new_tokens = 12, .limit = 3, .samples_path = b->samples};
    struct task_run run = run_of(b, ROWS, &o);
    assert_ok(task_evaluate(&run, "exact_match", &r, &err));
    size_t n = slurp(b->samples, whole);
    static const char *const lines[][2] = {
        {"", "is no JSON"},
        {"{\"row\": 2", "is no JSON"},
        {"[1, 2]", "is no object"},
        {"{}", "is no sample"},
        {"{\"row\": 2, \"output\": 3, \"prompt\": \"\", \"tokens\": 1, \"ended\": true}",
         "is no sample"},
        {"{\"row\": 2, \"output\": \"\", \"prompt\": \"\", \"tokens\": -1, \"ended\": true}",
         "is no sample"},
        {"{\"row\": 2, \"output\": \"\", \"prompt\": \"\", \"tokens\": 13, \"ended\": true}",
         "is no sample"},
        {"{\"row\": 3, \"output\": \"\", \"prompt\": \"\", \"tokens\": 1, \"ended\": true}",
         "is not the sample that belongs there"},
        {"{\"row\": 2, \"output\": \"\", \"prompt\": \"x\", \"tokens\": 1, \"ended\": true}",
         "has another prompt"},
        {"{\"row\": 9223372036854775808, \"output\": \"\"}", "is no"},
        {"\xff\xfe", "is no JSON"},
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        hostile_line(b, whole, lines[i][0], lines[i][1]);
    o.resume = 1;
    memcpy(bad, whole, n); /* one line too many */
    memcpy(bad + n, whole, n);
    spill(b->samples, bad, 2 * n);
    assert_fails(task_evaluate(&run, "exact_match", &r, &err), MIL_INPUT, "more than this run");
    memset(bad, 0, 1000); /* zeros, as a crash of the system may leave, are a torn line */
    memcpy(bad, whole, n);
    spill(b->samples, bad, n + 300);
    assert_ok(task_evaluate(&run, "exact_match", &r, &err));
    /* records */
    spill(b->record, "{\"version\": 1, \"settings\": 5}", 29);
    assert_fails(task_evaluate(&run, "exact_match", &r, &err), MIL_INPUT, "`settings`");
    spill(b->record, "{\"version\": 2, \"settings\": {}}", 30);
    assert_fails(task_evaluate(&run, "exact_match", &r, &err), MIL_INPUT, "version");
    spill(b->record, "{\"version\": 1, \"sett", 20);
    assert_fails(task_evaluate(&run, "exact_match", &r, &err), MIL_INPUT, "run.json");
    spill(b->record, "{\"version\": 1, \"settings\": {}}", 30);
    assert_fails(task_evaluate(&run, "exact_match", &r, &err), MIL_MISMATCH, "unset");
    remove(b->record);
    assert_fails(task_evaluate(&run, "exact_match", &r, &err), MIL_INPUT, "is missing");
    o.resume = 0;
    assert_ok(task_evaluate(&run, "exact_match", &r, &err));
    slurp(b->samples, bad);
    assert_string_equal(whole, bad);
    o.resume = 1;
    o.samples_path = NULL;
    assert_fails(task_evaluate(&run, "exact_match", &r, &err), MIL_USAGE, "samples_path");
}

/* ---- several samples a row, stop strings, opening words ---- */

struct kept {
    char text[64][64];
    int64_t row[64], sample[64], tokens[64];
    bool ended[64];
    size_t n;
};

static enum mil_status keep_row(void *ctx, const json_t *json, struct outputs_row *out,
                                struct mil_error *err) {
    (void)ctx;
    return dataset_row_parse("alpaca", json, &out->row, err);
}

static enum mil_status keep_output(void *ctx, const struct output *o, struct sample_file *f,
                                   struct mil_error *err) {
    struct kept *k = ctx;
    (void)err;
    assert_true(k->n < 64);
    snprintf(k->text[k->n], sizeof k->text[0], "%s", o->text);
    k->row[k->n] = o->row;
    k->sample[k->n] = o->sample;
    k->tokens[k->n] = o->tokens;
    k->ended[k->n++] = o->ended;
    samples_text(f, "member", "m");
    return MIL_OK;
}

static void keep(struct bench *b, const struct outputs_rules *rules, struct mil_eval_options o,
                 struct kept *k, struct mil_eval_result *r) {
    static const struct task task = {.name = "kept", .metric = "outputs"};
    struct mil_error err = {0};
    struct outputs_facts facts;
    struct outputs_hooks hooks = {.ctx = k, .row = keep_row, .output = keep_output};
    struct task_run run = run_of(b, ROWS, &o);
    run.task = &task;
    memset(k, 0, sizeof *k);
    memset(r, 0, sizeof *r);
    assert_ok(outputs_run(&run, rules, &hooks, r, &facts, &err));
    assert_int_equal(facts.outputs, k->n);
}

static void several(void **state) {
    struct bench *b = *state;
    static char first[TEXT_CAP], again[TEXT_CAP];
    static struct kept k, one;
    struct mil_eval_result r;
    const struct outputs_rules rules = {
        .template_name = "alpaca", .max_new_tokens = 6, .samples = 3, .temperature = 2};
    struct mil_eval_options o = {
        .limit = 5, .batch_size = 4, .seed = 5, .samples_path = b->samples};
    keep(b, &rules, o, &k, &r);
    assert_int_equal(k.n, 15);
    int64_t different = 0;
    for (size_t i = 0; i < k.n; i++) {
        assert_int_equal(k.row[i], i / 3 + 1);
        assert_int_equal(k.sample[i], i % 3);
        if (i % 3) different += strcmp(k.text[i], k.text[i - 1]) != 0;
    }
    assert_true(different > 3); /* at temperature 2 */
    assert_int_equal(r.n_samples, 3);
    assert_non_null(strstr(r.protocol, "sampling at temperature 2, top_p 1, seed 5"));
    assert_non_null(strstr(r.protocol, "3 outputs a row"));
    size_t n = slurp(b->samples, first);
    o.resume = 1; /* in the middle of a row's samples */
    spill(b->samples, first, n / 2);
    keep(b, &rules, o, &one, &r);
    slurp(b->samples, again);
    assert_string_equal(first, again);
    assert_memory_equal(&k, &one, sizeof k);
}

/* The taught outputs have spaces: cut there, they end earlier and are whole up to it. */
static void stop_strings(void **state) {
    struct bench *b = *state;
    static struct kept full, cut;
    struct mil_eval_result r;
    static const char *const stops[] = {"never seen", " ", "#", NULL};
    struct outputs_rules rules = {.template_name = "alpaca", .max_new_tokens = 12};
    for (int beams = 1; beams <= 2; beams++) {
        rules.num_beams = beams;
        rules.stop_strings = NULL;
        keep(b, &rules, (struct mil_eval_options){.batch_size = 5}, &full, &r);
        rules.stop_strings = stops;
        keep(b, &rules, (struct mil_eval_options){.batch_size = 3}, &cut, &r);
        int64_t shorter = 0, fewer = 0;
        for (size_t i = 0; i < full.n; i++) {
            char *want = full.text[i];
            size_t at = strcspn(want, " #");
            shorter += want[at] != '\0';
            fewer += cut.tokens[i] < full.tokens[i];
            if (want[at]) assert_true(cut.ended[i]);
            want[at] = '\0';
            assert_string_equal(want, cut.text[i]);
        }
        assert_true(shorter > 5);
        if (beams == 1) assert_true(fewer > 0);
    }
}

static void opening(void **state) {
    struct bench *b = *state;
    static struct kept k;
    static char text[TEXT_CAP];
    struct mil_eval_result r;
    const struct outputs_rules rules = {
        .template_name = "alpaca_short", .max_new_tokens = 2, .opening = " Let's see <s>."};
    struct mil_eval_options o = {.limit = 1, .samples_path = b->samples};
    keep(b, &rules, o, &k, &r);
    slurp(b->samples, text);
    assert_non_null(strstr(text, "### Response: Let's see <s>.\""));
    assert_non_null(strstr(text, "{\"row\": 1, \"member\": \"m\", \"output\": "));
    assert_non_null(strstr(r.protocol, "alpaca_short prompt followed by ' Let's see <s>.'"));
    o.template_name = "alpaca_short"; /* chosen: the words belong to the task's own prompt */
    keep(b, &rules, o, &k, &r);
    slurp(b->samples, text);
    assert_null(strstr(text, "Let's see"));
}

/* ---- AlpacaEval, disks ---- */

static void alpaca_eval(void **state) {
    struct bench *b = *state;
    static char first[TEXT_CAP], again[TEXT_CAP];
    struct mil_error err = {0};
    struct mil_eval_result r;
    json_t *list = NULL;
    char outputs[700], data[700];
    snprintf(outputs, sizeof outputs, "%s/model_outputs.json", b->dir);
    snprintf(data, sizeof data, "%s/set.json", b->dir);
    static const char rows[] =
        "[{\"dataset\": \"helpful_base\", \"instruction\": \"is 4 even\", \"output\": \"yes\","
        " \"generator\": \"text_davinci_003\"},"
        "{\"instruction\": \"caf\\u00e9 3 + 4\", \"datasplit\": \"mine\"}]";
    spill(data, rows, strlen(rows));
    struct mil_eval_options o = {
        .max_new_tokens = 8, .outputs_path = outputs, .samples_path = b->samples};
    struct task_run run = run_of(b, data, &o);
    assert_ok(task_evaluate(&run, "alpaca_eval", &r, &err));
    assert_string_equal(r.metric, "outputs");
    assert_string_equal(r.template_name, "alpaca");
    assert_true(r.n == 2 && r.value == 2 && isnan(r.std_error));
    assert_non_null(strstr(r.protocol, "greedy decoding, at most 8 new tokens"));
    slurp(outputs, first);
    assert_ok(json_read_file(outputs, &list, &err));
    assert_int_equal(json_array_size(list), 2);
    static const char *const keys[] = {"dataset", "instruction", "output", "generator",
                                       "datasplit"};
    static const char *const want[2][5] = {
        {"helpful_base", "is 4 even", NULL, "taught", "eval"},
        {"alpaca_eval", "caf\xc3\xa9 3 + 4", NULL, "taught", "mine"}};
    for (size_t i = 0; i < 2; i++)
        for (size_t k = 0; k < 5; k++) {
            const json_t *object = json_array_get(list, i);
            const char *got = json_string_value(json_object_get(object, keys[k]));
            assert_non_null(got);
            if (want[i][k]) assert_string_equal(got, want[i][k]);
            if (*got) assert_false(got[0] == ' ' || got[strlen(got) - 1] == ' ');
            assert_int_equal(json_object_size(object), 5);
        }
    json_decref(list);
    o.resume = 1;
    remove(outputs);
    assert_ok(task_evaluate(&run, "alpaca_eval", &r, &err));
    slurp(outputs, again);
    assert_string_equal(first, again);
    char name[400]; /* as long as it is */
    snprintf(name, sizeof name, "my model %0300d", 7);
    o.generator = name;
    assert_ok(task_evaluate(&run, "alpaca_eval", &r, &err));
    slurp(outputs, again);
    assert_non_null(strstr(again, "\"generator\": \"my model 0"));
    assert_non_null(strstr(again, name));
    o.outputs_path = "/nonexistent/outputs.json";
    assert_fails(task_evaluate(&run, "alpaca_eval", &r, &err), MIL_ACCESS, "/nonexistent/");
    o.outputs_path = outputs;
    spill(data, "[{\"output\": \"x\"}]", 17);
    o.resume = 0;
    assert_fails(task_evaluate(&run, "alpaca_eval", &r, &err), MIL_INPUT, "row 1: ");
    assert_non_null(strstr(err.message, "instruction"));
}

/* No record beside a device; a full disk while lines are written again leaves the old file. */
static void disks(void **state) {
    struct bench *b = *state;
    struct mil_error err;
    struct mil_eval_result r;
    struct mil_eval_options o = {.max_new_tokens = 4, .limit = 2, .samples_path = "/dev/null"};
    struct task_run run = run_of(b, ROWS, &o);
    assert_ok(task_evaluate(&run, "exact_match", &r, &err));
    assert_int_not_equal(access("/dev/null.run.json", F_OK), 0);
    o.resume = 1;
    assert_fails(task_evaluate(&run, "exact_match", &r, &err), MIL_ACCESS, "not a regular file");
    if (access("/dev/full", W_OK) != 0) skip();
    o.resume = 0;
    o.samples_path = "/dev/full";
    assert_fails(task_evaluate(&run, "exact_match", &r, &err), MIL_IO, "/dev/full");
    assert_int_not_equal(access("/dev/full.run.json", F_OK), 0);
}

/* A clean error for every allocation that fails, and a file of samples that can still be resumed. */
static void out_of_memory(void **state) {
    struct bench *b = *state;
    static char whole[TEXT_CAP], again[TEXT_CAP];
    struct mil_error err;
    struct mil_eval_result r;
    char outputs[700];
    snprintf(outputs, sizeof outputs, "%s/oom.json", b->dir);
    struct mil_eval_options o = {.max_new_tokens = 4, .limit = 4, .samples_path = b->samples};
    struct task_run run = run_of(b, ROWS, &o);
    o.outputs_path = outputs;
    assert_ok(task_evaluate(&run, "alpaca_eval", &r, &err));
    size_t n = slurp(b->samples, whole);
    spill(b->samples, whole, n / 2);
    o.resume = 1;
    enum mil_status st = MIL_NOMEM;
    long at = 0;
    for (; st != MIL_OK; at += 1 + at / 16) {
        mem_fail_after(at);
        st = task_evaluate(&run, "alpaca_eval", &r, &err);
        mem_fail_after(-1);
        if (st != MIL_OK && st != MIL_NOMEM)
            fail_msg("allocation %ld: %s: %s", at, mil_status_name(st), err.message);
    }
    assert_true(at > 20);
    slurp(b->samples, again);
    assert_string_equal(whole, again);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches),    cmocka_unit_test(graders),
        cmocka_unit_test(resume),     cmocka_unit_test(limit_grows),
        cmocka_unit_test(mismatches), cmocka_unit_test(hostile),
        cmocka_unit_test(several),    cmocka_unit_test(stop_strings),
        cmocka_unit_test(opening),    cmocka_unit_test(alpaca_eval),
        cmocka_unit_test(disks),      cmocka_unit_test(out_of_memory)};
    return cmocka_run_group_tests(tests, bench_open, bench_close);
}
