/* SPDX-License-Identifier: Apache-2.0 */
/* Comparisons of a program that only pretends: killed anywhere and continued, failing, stopped, locked out.  The real
 * one is driven by tests/cli/test_compare.sh. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <time.h>

#include "compare/folder.h"
#include "compare/run.h"
#include "io/json.h"
#include "rig.h"
#include "train/run.h"

/* `fail`: lines "CODE PATTERN", the calls that end so (9: by SIGKILL); `slow`: a pattern of calls that take ten
 * seconds unless they are stopped. */
static const char program[] =
    "#!/bin/sh\n"
    "echo \"$*\" >>calls\n"
    "if [ -e fail ]; then while read -r code pattern; do case \"$*\" in *$pattern*)\n"
    "  echo 'fake: first line' >&2; echo \"fake: cannot $1\" >&2\n"
    "  [ \"$code\" = 9 ] && kill -9 $$; exit \"$code\";; esac; done <fail; fi\n"
    "if [ -e slow ]; then case \"$*\" in *$(cat slow)*)\n"
    "  trap 'echo fake: stopped >&2; echo stopped >>calls; exit 1' INT TERM; echo ready >>calls; "
    "i=0\n"
    "  while [ $i -lt 500 ]; do sleep 0.02; i=$((i + 1)); done;; esac; fi\n"
    "arg() { want=$1; shift; while [ $# -gt 0 ]; do\n"
    "  [ \"$1\" = \"$want\" ] && echo \"$2\"; shift; done; }\n"
    "case \"$*\" in *seed-2*) seed=2;; *) seed=1;; esac\n"
    "case $1 in\n"
    "train) dir=${2%/config.yaml}/train; mkdir -p $dir/checkpoint-10 $dir/runs\n"
    "  for s in 1 2 3 4 5; do echo \"{\\\"step\\\": $s, \\\"loss\\\": $((10 - s)).$seed, "
    "\\\"grad_norm\\\": 1.5, \\\"tokens\\\": 10, \\\"total_tokens\\\": $((10 * s)), "
    "\\\"tokens_per_second\\\": 100}\"; done >$dir/trainer_log.jsonl\n"
    "  echo w >$dir/adapter_model.safetensors; echo c >$dir/adapter_config.json;;\n"
    "eval) out=$(arg --out \"$@\"); samples=$(arg --samples \"$@\")\n"
    "  case \"$samples\" in *milora*) want=3;; *lora*) want=$seed;; *) want=0;; esac\n"
    "  if [ \"$(arg --task \"$@\")\" = perplexity ]; then\n"
    "    echo '{\"window\": 0, \"tokens\": 5, \"nll\": 1.0}' >$samples\n"
    "    echo '{\"metric\": \"perplexity\", \"value\": 2.5, \"std_error\": null, \"n\": 5}' "
    ">$out.t\n"
    "  else for i in 1 2 3 4; do v=wrong; [ $i -le $want ] && v=right\n"
    "    echo \"{\\\"row\\\": $i, \\\"verdict\\\": \\\"$v\\\"}\"; done >$samples\n"
    "    case $want in 0) v=0.0;; 1) v=0.25;; 2) v=0.5;; 3) v=0.75;; esac\n"
    "    echo \"{\\\"metric\\\": \\\"accuracy\\\", \\\"value\\\": $v, \\\"std_error\\\": 0.1, "
    "\\\"n\\\": 4, \\\"protocol\\\": \\\"fake\\\"}\" >$out.t; fi\n"
    "  mv $out.t $out;;\n"
    "analyze) echo \"{\\\"forgetting_loss\\\": 2.$seed, \\\"base_entropy\\\": 2.0, "
    "\\\"divergence\\\": 0.$seed, \\\"tokens\\\": 7}\";;\n"
    "esac\n";

#define PLAN RIG_HEAD "methods: [lora, {name: MiLoRA, method: milora}]\nseeds: [1, 2]\n" RIG_TASKS
enum { CALLS = 2 + 4 * 4 }; /* the base's two tasks; four cells of train, two tasks, forgetting */

static struct mil_error err;
static struct mil_compare_result result;

static size_t calls(void) {
    struct str text = {0};
    size_t n = 0;
    if (path_exists("calls")) assert_ok(file_read("calls", 1 << 20, &text, &err));
    for (const char *s = str_c(&text); *s; s++) n += *s == '\n';
    str_release(&text);
    return n;
}

static bool called(const char *part) {
    struct str text = {0};
    assert_ok(file_read("calls", 1 << 20, &text, &err));
    bool found = strstr(str_c(&text), part) != NULL;
    str_release(&text);
    return found;
}

static void on_progress(void *ctx, const struct mil_compare_progress *p) {
    const char *const *stop_at = ctx; /* "cell step", or NULL */
    char at[300];
    assert_true(p->index >= 1 && p->index <= p->total);
    snprintf(at, sizeof at, "%s %s", p->cell, p->step ? p->step : "");
    if (ctx && *stop_at && p->event == MIL_COMPARE_WAIT && strcmp(at, *stop_at) == 0 &&
        called("ready\n"))
        train_request_stop();
}

static enum mil_status compare(const char *out, const char *only, bool retry, const char *stop_at) {
    static struct compare_plan plan;
    char word[300];
    const char *words[] = {word};
    struct mil_compare_options o = {.program = "./fake", .only = only, .retry_failed = retry};
    snprintf(word, sizeof word, "output_dir=%s", out);
    memset(&err, 0, sizeof err);
    enum mil_status st = plan_read("plan.yaml", words, 1, &plan, &err);
    if (st == MIL_OK) st = plan_count(&plan, &err);
    if (st == MIL_OK)
        st = compare_run(&plan, &o, on_progress, stop_at ? &stop_at : NULL, &result, &err);
    plan_release_all(&plan);
    train_clear_stop();
    return st;
}

/* ---- what came out */

static json_t *load(const char *dir, const char *name) {
    char path[600];
    json_t *root = NULL;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_ok(json_read_file(path, &root, &err));
    return root;
}

/* What two runs may differ in. */
static void forget_times(json_t *o) {
    static const char *const names[] = {"seconds", "cpu_seconds", "peak_rss_bytes", "machine"};
    const char *key;
    json_t *value;
    size_t i;
    for (i = 0; i < 4; i++) json_object_del(o, names[i]);
    json_object_foreach(o, key, value) forget_times(value);
    json_array_foreach(o, i, value) forget_times(value);
}

static json_t *timeless(const char *dir) {
    json_t *root = load(dir, "results.json");
    forget_times(root);
    return root;
}

static double number(const json_t *o, const char *path) {
    char text[200], *at = text;
    snprintf(text, sizeof text, "%s", path);
    for (char *next; at; at = next) {
        next = strchr(at, '/');
        if (next) *next++ = 0;
        o = json_is_array(o) ? json_array_get(o, (size_t)strtoul(at, NULL, 10))
                             : json_object_get(o, at);
    }
    return json_is_number(o) ? json_number_value(o) : NAN;
}
#define assert_near(root, path, want)                                                              \
    do {                                                                                           \
        double got_ = number(root, path);                                                          \
        if (!(fabs(got_ - (want)) < 1e-12)) fail_msg("%s: %.17g, want %.17g", path, got_, (want)); \
    } while (0)

static void fresh(void) {
    static const char *const names[] = {"calls", "fail", "slow"};
    for (size_t i = 0; i < 3; i++) unlink(names[i]);
}

/* ---- tests */

static void test_whole(void **state) {
    (void)state;
    fresh();
    assert_ok(compare("whole", NULL, false, NULL));
    assert_int_equal(calls(), CALLS);
    assert_int_equal(result.done, 4);
    assert_string_equal(result.html, "whole/report.html");
    json_t *r = load("whole", "results.json");
    assert_near(r, "version", 1.0);
    assert_near(r, "base/scores/exact_match/value", 0.0);
    assert_near(r, "base/base_entropy", 2.0);
    assert_near(r, "tasks/0/n", 4.0);
    assert_near(r, "groups/1/cells/0/average", 0.75);
    assert_near(r, "groups/0/cells/1/train/steps", 5.0);
    assert_near(r, "groups/0/cells/1/train/tokens", 50.0);
    assert_near(r, "groups/0/cells/1/train/first_loss", 9.2);
    assert_near(r, "groups/0/cells/1/train/step_seconds", 0.5);
    assert_near(r, "groups/0/cells/1/curve/loss/4", 5.2);
    assert_near(r, "groups/0/summary/scores/exact_match/mean", 0.375);
    assert_near(r, "groups/0/summary/scores/exact_match/sd", sqrt(2 * 0.125 * 0.125));
    assert_near(r, "groups/0/summary/scores/ppl/mean", 2.5);
    assert_near(r, "groups/0/summary/forgetting_loss/mean", 2.15);
    assert_near(r, "groups/0/summary/cost/seconds", 1.0);
    assert_true(number(r, "groups/1/summary/cost/seconds") > 0);
    /* Seeds: 0.75 - 0.25 and 0.75 - 0.5; t of one degree 12.7062047, sd / sqrt 2 = 0.125. */
    assert_near(r, "groups/1/difference/exact_match/mean", 0.375);
    assert_near(r, "groups/1/difference/exact_match/high", 0.375 + 12.7062047 * 0.125);
    assert_near(r, "groups/1/difference/exact_match/pairs", 2.0);
    assert_near(r, "groups/1/difference/average/mean", 0.375);
    assert_near(r, "groups/1/difference/forgetting_loss/mean", 0.0);
    /* Rows over seeds: 1, 1, 1, 0 less 1, 1/2, 0, 0 = 0, 1/2, 1, 0; t of three degrees 3.1824463. */
    assert_near(r, "groups/1/difference/exact_match/rows/mean", 0.375);
    assert_near(r, "groups/1/difference/exact_match/rows/n", 4.0);
    double sd = sqrt((2 * 0.375 * 0.375 + 0.125 * 0.125 + 0.625 * 0.625) / 3);
    assert_near(r, "groups/1/difference/exact_match/rows/low", 0.375 - 3.1824463 * sd / 2);
    assert_true(json_is_null(
        json_object_get(json_array_get(json_object_get(r, "groups"), 0), "difference")));
    assert_null(json_object_get(
        json_object_get(
            json_object_get(json_array_get(json_object_get(r, "groups"), 1), "difference"), "ppl"),
        "rows"));
    json_decref(r);
    /* Nothing is left to do; the checkpoints have gone, the weights are there. */
    assert_ok(compare("whole", NULL, false, NULL));
    assert_int_equal(calls(), CALLS);
    assert_false(path_exists("whole/cells/lora/seed-1/train/checkpoint-10"));
    assert_true(path_exists("whole/cells/lora/seed-1/train/adapter_model.safetensors"));
    assert_true(
        called("eval base --adapter whole/cells/milora/seed-2/train --task exact_match --data "
               "test.jsonl --limit 4 --dtype bf16 --out "
               "whole/cells/milora/seed-2/eval-exact_match.json"));
}

/* What is taken away of a cell that is done is made again, and nothing else. */
static void test_taken_away(void **state) {
    json_t *want = timeless("whole");
    (void)state;
    fresh();
    assert_int_equal(unlink("whole/cells/lora/seed-2/eval-ppl.json"), 0);
    assert_int_equal(unlink("whole/cells/milora/seed-1/forgetting.json"), 0);
    assert_ok(compare("whole", NULL, false, NULL));
    assert_int_equal(calls(), 2);
    assert_true(called("analyze forgetting"));
    json_t *got = timeless("whole");
    assert_true(json_equal(got, want));
    json_decref(got);
    json_decref(want);
}

/* Rows graded so far are taken up by the version that graded them, and by no other. */
static void test_upgraded(void **state) {
    static const char *const programs[] = {"milora " MILORA_VERSION, "milora 0.0.1"};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        char text[200];
        fresh();
        unlink("whole/cells/lora/seed-1/eval-exact_match.json");
        snprintf(text, sizeof text, "{\"version\": 1, \"settings\": {\"program\": \"%s\"}}",
                 programs[i]);
        rig_write("whole/cells/lora/seed-1/samples-exact_match.jsonl.run.json", text);
        assert_ok(compare("whole", NULL, false, NULL));
        assert_int_equal(calls(), 1);
        assert_true(called("--resume") == (i == 0));
    }
}

static pid_t start(const char *out) {
    pid_t pid = fork();
    if (pid == 0) _exit(compare(out, NULL, false, NULL) == MIL_OK ? 0 : 1);
    return pid;
}

static void nap(double seconds) {
    struct timespec t = {0, (long)(seconds * 1e9)};
    nanosleep(&t, NULL);
}

/* SIGKILL after every other call, at whatever that one does then; what is done is not repeated. */
static void test_killed(void **state) {
    json_t *want = timeless("whole");
    size_t kills = 0;
    (void)state;
    fresh();
    for (size_t at = 1; at < CALLS; at += 2) {
        pid_t pid = start("killed");
        while (calls() < at + kills && waitpid(pid, NULL, WNOHANG) == 0) nap(0.001);
        nap(0.002 * (double)(at % 4));
        if (kill(pid, SIGKILL) == 0) kills++;
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) continue;
    }
    assert_ok(compare("killed", NULL, false, NULL));
    assert_in_range(calls(), CALLS, CALLS + kills);
    json_t *got = timeless("killed");
    assert_true(json_equal(got, want));
    json_decref(got);
    json_decref(want);
}

/* A failed cell leaves the others alone, says why, and is tried again when asked. */
static void test_failed(void **state) {
    json_t *want = timeless("whole");
    (void)state;
    fresh();
    rig_write("fail", "3 train failing/cells/milora/seed-1\n9 eval base --adapter "
                      "failing/cells/lora/seed-2/train --task perplexity\n");
    assert_ok(compare("failing", NULL, false, NULL));
    assert_true(result.done == 2 && result.failed == 2 && result.pending == 0);
    json_t *r = load("failing", "results.json");
    const json_t *failures = json_object_get(r, "failures");
    assert_int_equal(json_array_size(failures), 2);
    const json_t *first = json_array_get(failures, 0), *second = json_array_get(failures, 1);
    assert_string_equal(json_string_value(json_object_get(first, "cell")), "lora/seed-2");
    assert_string_equal(json_string_value(json_object_get(first, "step")), "eval-ppl");
    assert_non_null(strstr(json_string_value(json_object_get(first, "message")), "signal 9"));
    assert_string_equal(json_string_value(json_object_get(second, "message")),
                        "exit code 3: fake: first line | fake: cannot train");
    assert_near(r, "groups/1/summary/scores/exact_match/n", 1.0);
    assert_near(r, "groups/1/difference/exact_match/pairs", 1.0);
    assert_near(r, "groups/0/cells/1/average", 0.5); /* graded before it failed */
    json_decref(r);
    size_t before = calls();
    unlink("fail");
    assert_ok(compare("failing", NULL, false, NULL));
    assert_int_equal(calls(), before);
    assert_int_equal(result.failed, 2);
    assert_ok(compare("failing", NULL, true, NULL));
    assert_true(result.done == 4 && result.failed == 0);
    assert_int_equal(calls(), before + 4 + 2);
    json_t *got = timeless("failing");
    assert_true(json_equal(got, want));
    json_decref(got);
    json_decref(want);
}

/* Options that no task takes stop the comparison at the untouched model; the plan may then be corrected. */
static void test_base_refuses(void **state) {
    (void)state;
    fresh();
    rig_write("fail", "2 eval base --task exact_match\n");
    assert_fails(compare("refusing", NULL, false, NULL), MIL_INPUT,
                 "the untouched model cannot be graded (eval-exact_match)");
    assert_int_equal(calls(), 1);
    unlink("fail");
    rig_write("plan.yaml", PLAN "title2: x\n");
    assert_fails(compare("refusing", NULL, false, NULL), MIL_INPUT, "unknown key 'title2'");
    rig_write("plan.yaml",
              RIG_HEAD "methods: [lora]\ntasks: [{task: exact_match, data: test.jsonl}]\n");
    assert_ok(compare("refusing", NULL, false, NULL));
    rig_write("plan.yaml", PLAN);
    assert_fails(compare("refusing", NULL, false, NULL), MIL_MISMATCH,
                 "refusing/plan.yaml: another plan made this folder ('methods' differs)");
}

static void assert_text(const char *path, const char *want) {
    struct str text = {0};
    assert_ok(file_read(path, 1 << 20, &text, &err));
    assert_string_equal(str_c(&text), want);
    str_release(&text);
}

/* A folder is a comparison's by the first line of its plan.yaml; in others nothing is touched, not
 * even where a user keeps the model under a name that we use. */
static void test_foreign(void **state) {
    struct str config = {0};
    (void)state;
    fresh();
    assert_ok(file_read("base/config.json", 1 << 20, &config, &err));
    assert_fails(compare(".", NULL, false, NULL), MIL_ACCESS, "is not empty");
    assert_text("base/config.json", str_c(&config));
    assert_text("plan.yaml", PLAN);
    assert_false(path_exists(".lock"));
    assert_ok(dir_make("project/base", &err));
    rig_write("project/base/model.safetensors", "weights");
    rig_write("project/plan.yaml", "title: mine\n");
    assert_fails(compare("project", NULL, false, NULL), MIL_ACCESS, "no comparison's");
    assert_text("project/base/model.safetensors", "weights");
    assert_text("project/plan.yaml", "title: mine\n");
    assert_false(path_exists("project/.lock") || path_exists("calls"));
    /* Even below our own folder only our own files go when a plan is corrected. */
    rig_write("fail", "2 eval base --task perplexity\n");
    assert_fails(compare("own", NULL, false, NULL), MIL_INPUT, "(eval-ppl)");
    assert_true(path_exists("own/base/eval-exact_match.json"));
    rig_write("own/base/notes.txt", "mine");
    unlink("fail");
    rig_write("plan.yaml", PLAN "keep: all\n");
    assert_ok(compare("own", NULL, false, NULL));
    assert_text("own/base/notes.txt", "mine");
    rig_write("plan.yaml", PLAN);
    str_release(&config);
}

/* Options of an analysis that failed everywhere are corrected without training anew; once there is
 * an analysis by them they stay. */
static void test_corrected(void **state) {
    (void)state;
    fresh();
    rig_write("fail", "2 analyze forgetting\n");
    assert_ok(compare("corrected", NULL, false, NULL));
    assert_int_equal(result.failed, 4);
    unlink("fail");
    size_t before = calls();
    rig_write("plan.yaml",
              RIG_HEAD "methods: [lora, {name: MiLoRA, method: milora}]\nseeds: [1, 2]\n"
                       "tasks:\n  - {task: exact_match, data: test.jsonl, limit: 4}\n"
                       "  - {name: ppl, task: perplexity, data: text.txt}\n"
                       "forgetting: {data: text.txt, max_tokens: 5}\n");
    assert_ok(compare("corrected", NULL, true, NULL));
    assert_true(result.done == 4 && calls() == before + 4 && called("--max-tokens 5"));
    rig_write("plan.yaml", PLAN);
    assert_fails(compare("corrected", NULL, true, NULL), MIL_MISMATCH,
                 "another plan made this folder ('forgetting.max_tokens' differs)");
}

/* A stop reaches the step, which saves; nothing counts as failed. */
static void test_stopped(void **state) {
    json_t *want = timeless("whole");
    (void)state;
    fresh();
    rig_write("slow", "train stopped/cells/milora/seed-1");
    assert_fails(compare("stopped", NULL, false, "milora/seed-1 train"), MIL_INTERRUPTED,
                 "the same command goes on from here");
    assert_true(called("stopped\n"));
    assert_false(path_exists("stopped/cells/milora/seed-1/cell.json"));
    assert_true(path_exists("stopped/results.json"));
    unlink("slow");
    assert_ok(compare("stopped", NULL, false, NULL));
    json_t *got = timeless("stopped");
    assert_true(json_equal(got, want));
    json_decref(got);
    json_decref(want);
}

/* Two at once: the second is refused; a step that outlives its killed comparison is stopped and waited for. */
static void test_lock(void **state) {
    (void)state;
    fresh();
    rig_write("slow", "train locked/cells/lora/seed-1");
    pid_t pid = start("locked");
    while (!path_exists("calls") || !called("ready\n")) nap(0.001);
    assert_fails(compare("locked", NULL, false, NULL), MIL_ACCESS,
                 "another 'milora compare' (process ");
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    unlink("slow");
    assert_ok(compare("locked", NULL, false, NULL));
    assert_true(called("stopped\n"));
    assert_int_equal(result.done, 4);
}

/* What a killed comparison's process had used counts with what the next one uses. */
static void test_usage(void **state) {
    static struct compare_plan plan;
    struct process_result r = {.seconds = 5, .cpu_seconds = 4, .peak_rss_bytes = 1000};
    json_t *all;
    (void)state;
    assert_ok(plan_read("plan.yaml", (const char *const[]){"output_dir=used"}, 1, &plan, &err));
    assert_ok(dir_make("used/cells/lora/seed-1", &err));
    assert_ok(usage_note(&plan, 0, "train", &r, &err));
    r.seconds = 10;
    assert_ok(usage_note(&plan, 0, "train", &r, &err));
    assert_ok(usage_close(&plan, 0, &err));
    assert_ok(usage_close(&plan, 0, &err));
    r = (struct process_result){.ok = true, .seconds = 1, .cpu_seconds = 2, .peak_rss_bytes = 10};
    assert_ok(usage_note(&plan, 0, "train", &r, &err));
    assert_ok(usage_add(&plan, 0, "train", &r, &err));
    assert_ok(usage_read(&plan, 0, &all, &err));
    assert_near(all, "train/seconds", 11.0);
    assert_near(all, "train/cpu_seconds", 6.0);
    assert_near(all, "train/peak_rss_bytes", 1000.0);
    assert_near(all, "train/runs", 2.0);
    assert_null(json_object_get(all, "running"));
    assert_true(json_is_true(json_object_get(json_object_get(all, "train"), "done")));
    json_decref(all);
    plan_release_all(&plan);
}

/* A process that computes for a while is seen to. */
static void on_tick(void *ctx, const struct process_result *so_far) {
    *(struct process_result *)ctx = *so_far;
}

static void test_tick(void **state) {
    struct process_words words = {0};
    struct process_result seen = {0}, r;
    struct process_options o = {
        .log_path = "tick.log", .keep_fd = -1, .tick = on_tick, .ctx = &seen};
    (void)state;
    words_add(&words, "/bin/sh");
    words_add(&words, "-c");
    words_add(&words, "i=0; while [ $i -lt 400000 ]; do i=$((i + 1)); done; sleep 1.3");
    assert_ok(process_run(&words, &o, &r, &err));
    assert_true(r.ok && r.seconds >= seen.seconds && seen.seconds >= 1);
    assert_true(r.cpu_seconds > 0 && seen.cpu_seconds > 0);
    /* The clock ticks of /proc are hundredths, one for user and one for system time. */
    assert_true(seen.cpu_seconds <= r.cpu_seconds + 0.02);
    assert_true(seen.peak_rss_bytes > 0);
    words_release(&words);
}

static void test_only(void **state) {
    (void)state;
    fresh();
    assert_ok(compare("only", "*/seed-2", false, NULL));
    assert_true(result.done == 2 && result.pending == 2);
    assert_int_equal(calls(), 8);
    assert_ok(compare("only", "MiLoRA", false, NULL));
    assert_int_equal(result.done, 3);
    assert_fails(compare("only", "xyzzy", false, NULL), MIL_USAGE, "--only 'xyzzy'");
    json_t *r = load("only", "results.json");
    assert_near(r, "groups/0/summary/scores/exact_match/n", 1.0);
    assert_true(isnan(number(r, "groups/0/summary/scores/exact_match/sd")));
    json_decref(r);
}

static void test_keep_none(void **state) {
    (void)state;
    fresh();
    rig_write("plan.yaml", PLAN "keep: none\n");
    assert_ok(compare("thin", NULL, false, NULL));
    assert_false(path_exists("thin/cells/lora/seed-1/train/adapter_model.safetensors"));
    assert_true(path_exists("thin/cells/lora/seed-1/train/trainer_log.jsonl"));
    assert_true(path_exists("thin/cells/lora/seed-1/train/runs"));
    size_t before = calls();
    assert_ok(compare("thin", NULL, false, NULL));
    assert_int_equal(calls(), before);
    rig_write("plan.yaml", PLAN);
}

/* Folders and programs that do not serve. */
static void test_refused(void **state) {
    (void)state;
    fresh();
    assert_ok(dir_make("taken", &err));
    rig_write("taken/notes", "mine");
    assert_fails(compare("taken", NULL, false, NULL), MIL_ACCESS,
                 "taken: is not empty (it holds notes)");
    rig_write("file", "x");
    assert_fails(compare("file/out", NULL, false, NULL), MIL_ACCESS, "file");
    assert_int_equal(rename("fake", "gone"), 0);
    assert_ok(compare("without", "MiLoRA", false, NULL));
    assert_int_equal(result.failed, 2);
    assert_int_equal(rename("gone", "fake"), 0);
    rig_write("whole/cells/lora/seed-1/cell.json", "{\"status\": 3");
    assert_fails(compare("whole", NULL, false, NULL), MIL_INPUT,
                 "whole/cells/lora/seed-1/cell.json");
}

static int setup(void **state) {
    (void)state;
    rig_enter();
    rig_write("fake", program);
    rig_write("plan.yaml", PLAN);
    return chmod("fake", 0755);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),      cmocka_unit_test(test_killed),
        cmocka_unit_test(test_taken_away), cmocka_unit_test(test_upgraded),
        cmocka_unit_test(test_failed),     cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_corrected),  cmocka_unit_test(test_base_refuses),
        cmocka_unit_test(test_stopped),    cmocka_unit_test(test_lock),
        cmocka_unit_test(test_only),       cmocka_unit_test(test_keep_none),
        cmocka_unit_test(test_refused),    cmocka_unit_test(test_usage),
        cmocka_unit_test(test_tick),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
