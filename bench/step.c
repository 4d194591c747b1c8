/* SPDX-License-Identifier: Apache-2.0 */
/* step.c - an optimiser step as a user runs it: tokens per second, share of the machine's product
 * rate, memory.
 *
 *     bench_step --model M [--method lora|milora|full] [--seq 512] [--batch 4] [--steps 3]
 *                [--dtype bf16|f32] [--rank 32] [--micro TOKENS] [--threads N] [--profile] [--dry-run]
 *
 * Every row is the same long text cut at `seq` tokens (max_length), all of them supervised
 * (train_on_inputs), so a step is batch x seq tokens without padding.  The product rate is the one of
 * `milora train --profile`.  Without --threads it runs with 1 and with all threads and prints the
 * ratio; each in a process of its own, so that the peak of the resident set is that run's.  The first
 * step prepares (kernels, pages) and is told apart. */
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "milora/milora.h"

struct settings {
    const char *model, *method, *dtype, *rank, *micro;
    long seq, batch, steps, threads;
    bool profile, dry_run;
};
/* What one run measured; goes through a pipe. */
struct measured {
    int failed;
    long threads;
    double first, seconds, rate, flops; /* first step; mean of the others; products'; achieved */
    int64_t tokens;
    uint64_t peak, predicted;
};
struct watch {
    struct measured *m;
    bool print;
};

static void on_step(void *ctx, const struct mil_train_step *step, bool logged) {
    struct watch *w = ctx;
    (void)logged;
    if (step->step == 1) w->m->first = (double)step->tokens / step->tokens_per_second;
    w->m->tokens = step->tokens;
}

static void on_profile(void *ctx, const struct mil_train_profile *p) {
    struct watch *w = ctx;
    w->m->seconds = p->seconds / (double)p->steps;
    w->m->rate = p->product_rate;
    w->m->flops = p->flops / p->seconds;
    if (!w->print) return;
    for (size_t i = 0; i < p->n; i++)
        printf("%-10s %-28s %8" PRId64 " %10.1f ms %5.1f %% %8.1f %s\n", p->rows[i].phase,
               p->rows[i].operation, p->rows[i].calls, 1e3 * p->rows[i].seconds,
               100 * p->rows[i].seconds / p->seconds, 1e-9 * p->rows[i].work / p->rows[i].seconds,
               p->rows[i].work_is_flops ? "GF/s" : "GB/s");
    printf("%-10s %-28s %8s %10.1f ms %5.1f %%\n", "", "outside operations", "", 1e3 * p->outside,
           100 * p->outside / p->seconds);
}

/* ---- the data: rows of running words, longer than seq tokens ---- */

static bool write_rows(const char *path, const struct settings *s) {
    static const char *const words[] = {"the ",   "river ", "turns ", "a ",     "wheel ",  "of ",
                                        "stone ", "and ",   "grain ", "falls ", "slowly ", "down "};
    FILE *f = fopen(path, "w");
    uint32_t x = 1;
    if (!f) return false;
    for (long row = 0; row < s->batch * s->steps; row++) {
        fputs("{\"text\": \"", f);
        for (long i = 0; i < s->seq + 8; i++) { /* a word is at least a token */
            x = x * 1664525u + 1013904223u;
            fputs(words[(x >> 16) % (sizeof words / sizeof *words)], f);
        }
        fputs("\"}\n", f);
    }
    return fclose(f) == 0;
}

static enum mil_status set(mil_config *c, const char *key, const char *value,
                           struct mil_error *err) {
    char word[4400];
    snprintf(word, sizeof word, "%s=%s", key, value);
    return mil_config_set(c, word, err);
}

static enum mil_status configure(const struct settings *s, long threads, const char *dir,
                                 mil_config **c, struct mil_error *err) {
    char seq[32], batch[32], steps[32], count[32], data[4200], out[4200];
    snprintf(seq, sizeof seq, "%ld", s->seq);
    snprintf(batch, sizeof batch, "%ld", s->batch);
    snprintf(steps, sizeof steps, "%ld", s->steps);
    snprintf(count, sizeof count, "%ld", threads);
    snprintf(data, sizeof data, "[{path: %s/rows.jsonl, format: text}]", dir);
    snprintf(out, sizeof out, "%s/out", dir);
    const char *const pairs[][2] = {{"model_name_or_path", s->model},
                                    {"method", s->method},
                                    {"r", s->rank},
                                    {"compute_dtype", s->dtype},
                                    {"dataset", data},
                                    {"template", "plain"},
                                    {"train_on_inputs", "true"},
                                    {"max_length", seq},
                                    {"per_device_train_batch_size", batch},
                                    {"max_steps", steps},
                                    {"warmup_steps", "0"},
                                    {"save_steps", "0"},
                                    {"report_to", "none"},
                                    {"output_dir", out},
                                    {"overwrite_output_dir", "true"}};
    enum mil_status st = mil_config_open(NULL, c, err);
    for (size_t i = 0; st == MIL_OK && i < sizeof pairs / sizeof *pairs; i++)
        st = set(*c, pairs[i][0], pairs[i][1], err);
    if (st == MIL_OK && s->micro) st = set(*c, "tokens_per_micro_batch", s->micro, err);
    if (st == MIL_OK && threads > 0) st = set(*c, "threads", count, err);
    return st;
}

static enum mil_status measure(const struct settings *s, long threads, const char *dir,
                               struct measured *m, struct mil_error *err) {
    mil_config *c = NULL;
    struct mil_train_plan plan = {0};
    struct mil_train_result result;
    struct watch w = {m, s->profile};
    const struct mil_train_callbacks on = {.ctx = &w, .on_step = on_step, .on_profile = on_profile};
    enum mil_status st = configure(s, threads, dir, &c, err);
    if (st == MIL_OK) st = mil_train_plan(c, &plan, err);
    m->predicted = plan.predicted_peak;
    mil_train_plan_release(&plan);
    if (st == MIL_OK && !s->dry_run) st = mil_train_run(c, NULL, &on, &result, err);
    if (st == MIL_OK && !s->dry_run) m->peak = result.peak_rss_bytes;
    mil_config_free(&c);
    return st;
}

/* In a child: threads and the peak of memory are a process's. */
static struct measured in_child(const struct settings *s, long threads, const char *dir) {
    struct measured m = {.failed = 1, .threads = threads};
    int ends[2];
    fflush(stdout);
    if (pipe(ends) != 0) return m;
    pid_t pid = fork();
    if (pid == 0) {
        struct mil_error err = {0};
        enum mil_status st = mil_init(0, &err);
        if (st == MIL_OK) st = measure(s, threads, dir, &m, &err);
        if (st != MIL_OK) fprintf(stderr, "%s: %s\n", mil_status_name(st), err.message);
        m.failed = st != MIL_OK;
        fflush(stdout);
        _exit(write(ends[1], &m, sizeof m) != (ssize_t)sizeof m);
    }
    close(ends[1]);
    if (pid < 0 || read(ends[0], &m, sizeof m) != (ssize_t)sizeof m) m.failed = 1;
    close(ends[0]);
    if (pid > 0) waitpid(pid, NULL, 0);
    return m;
}

static void print_row(const struct settings *s, const struct measured *m) {
    const double mib = 1024.0 * 1024.0;
    char threads[24] = "all";
    if (m->threads > 0) snprintf(threads, sizeof threads, "%ld", m->threads);
    if (s->dry_run) {
        printf("%7s predicted peak %.0f MiB\n", threads, (double)m->predicted / mib);
        return;
    }
    printf("%7s %8" PRId64 " %10.1f %10.1f %9.1f %9.1f %9.1f %7.1f %% %9.0f %9.0f\n", threads,
           m->tokens, 1e3 * m->first, 1e3 * m->seconds, (double)m->tokens / m->seconds,
           1e-9 * m->flops, 1e-9 * m->rate, 100 * m->flops / m->rate, (double)m->peak / mib,
           (double)m->predicted / mib);
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where) {
    (void)info;
    (void)kind;
    (void)where;
    return remove(path);
}

/* One thread and all of them, or the number that was asked for. */
static int run_all(const struct settings *s, const char *dir) {
    const long counts[] = {s->threads ? s->threads : 1, 0};
    struct measured m[2];
    printf("%s, %s, %s, r %s, %ld x %ld tokens, all supervised\n", s->model, s->method, s->dtype,
           s->rank, s->batch, s->seq);
    if (!s->dry_run)
        printf("%7s %8s %10s %10s %9s %9s %9s %9s %9s %9s\n", "threads", "tokens", "first ms", "ms",
               "tok/s", "GF/s", "products", "share", "peak MiB", "planned");
    for (int i = 0; i < (s->threads ? 1 : 2); i++) {
        m[i] = in_child(s, counts[i], dir);
        if (m[i].failed) return 1;
        print_row(s, &m[i]);
    }
    if (!s->threads && !s->dry_run)
        printf("1 -> all threads: %.2f x\n", m[0].seconds / m[1].seconds);
    return 0;
}

/* ---- arguments ---- */

static int usage(void) {
    fprintf(stderr, "usage: bench_step --model M [--method lora|milora|full] [--seq N] [--batch N] "
                    "[--steps N]\n                  [--dtype bf16|f32] [--rank N] [--micro TOKENS] "
                    "[--threads N] [--profile] [--dry-run]\n");
    return 2;
}

static bool parse(int argc, char **argv, struct settings *s) {
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        const struct {
            const char *name;
            const char **text;
            long *number;
            bool *flag;
        } options[] = {
            {"--model", &s->model, NULL, NULL},     {"--method", &s->method, NULL, NULL},
            {"--dtype", &s->dtype, NULL, NULL},     {"--rank", &s->rank, NULL, NULL},
            {"--micro", &s->micro, NULL, NULL},     {"--seq", NULL, &s->seq, NULL},
            {"--batch", NULL, &s->batch, NULL},     {"--steps", NULL, &s->steps, NULL},
            {"--threads", NULL, &s->threads, NULL}, {"--profile", NULL, NULL, &s->profile},
            {"--dry-run", NULL, NULL, &s->dry_run}};
        size_t n = sizeof options / sizeof *options, k = 0;
        while (k < n && strcmp(argv[i], options[k].name) != 0) k++;
        if (k == n || (!options[k].flag && !value)) return false;
        if (options[k].flag) *options[k].flag = true;
        if (options[k].text) *options[k].text = value;
        if (options[k].number) *options[k].number = strtol(value, NULL, 10);
        i += !options[k].flag;
    }
    return s->model && s->seq > 1 && s->batch > 0 && s->steps > 1 && s->threads >= 0;
}

int main(int argc, char **argv) {
    struct settings s = {
        .method = "lora", .dtype = "bf16", .rank = "32", .seq = 512, .batch = 4, .steps = 3};
    const char *base = getenv("TMPDIR");
    char dir[4096], rows[4200];
    /* As the program does: the OpenMP runtime reads this when it is loaded. */
    if (!getenv("OMP_WAIT_POLICY") && setenv("OMP_WAIT_POLICY", "passive", 1) == 0)
        execv("/proc/self/exe", argv);
    if (!parse(argc, argv, &s)) return usage();
    snprintf(dir, sizeof dir, "%s/bench_step_XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(dir)) {
        perror(dir);
        return 1;
    }
    snprintf(rows, sizeof rows, "%s/rows.jsonl", dir);
    int rc = write_rows(rows, &s) ? run_all(&s, dir) : 1;
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    return rc;
}
