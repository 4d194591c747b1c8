/* SPDX-License-Identifier: Apache-2.0 */
/* Graders of GSM8K and MATH against the verdicts of the official programs, recorded by
 * tools/golden/record_graders.py: every case gives the same extraction and the same verdict, or
 * stands below with its reason.  And any bytes: no crash, no long run. */
#include <time.h>

#include "check.h"

#include "core/mem.h"
#include "core/rng.h"
#include "eval/tasks/task.h"
#include "io/file.h"
#include "io/json.h"

/* Cases where ours differs: what milora-latex does not evaluate, SymPy does. */
static const struct exception {
    const char *grader, *truth, *output, *reason;
} exceptions[] = {
    {"milora-latex", "\\frac{d}{dx}x^2", "The answer is: 2x", "a derivative"},
    {"milora-latex", "\\int_0^1 x dx", "The answer is: \\frac{1}{2}", "an integral"},
    {"milora-latex", "\\sum_{i=1}^{3} i", "The answer is: 6", "a sum"},
    {"milora-latex", "\\lim_{x\\to 0} x", "The answer is: 0", "a limit"},
};

static bool excepted(const char *grader, const char *truth, const char *output, bool used[]) {
    for (size_t i = 0; i < sizeof exceptions / sizeof *exceptions; i++) {
        const struct exception *x = &exceptions[i];
        if (strcmp(x->grader, grader) != 0 || strcmp(x->truth, truth) != 0) continue;
        if (strcmp(x->output, output) == 0) return used[i] = true;
    }
    return false;
}

static const struct grader *find_grader(const struct match_rules *rules, const char *name) {
    for (size_t i = 0; rules->graders[i]; i++)
        if (strcmp(rules->graders[i]->name, name) == 0) return rules->graders[i];
    return NULL;
}

struct tally {
    int compared, differ;
    bool used[sizeof exceptions / sizeof *exceptions];
};

static void compare(const char *task, const char *truth, const char *output, const char *name,
                    const json_t *recorded, struct tally *t) {
    const struct match_rules *rules = strcmp(task, "gsm8k") == 0 ? &gsm8k_rules : &math_rules;
    const struct grader *grader = find_grader(rules, name);
    struct str extracted = {0};
    if (!grader && strcmp(name, "milora-latex") == 0) return; /* the same as milora on GSM8K */
    if (!grader) fail_msg("task %s has no grader %s", task, name);
    const char *verdict = json_string_value(json_array_get(recorded, 0));
    const char *text = json_string_value(json_array_get(recorded, 1));
    enum verdict want = *verdict == 'r'   ? VERDICT_RIGHT
                        : *verdict == 'w' ? VERDICT_WRONG
                                          : VERDICT_UNPARSED; /* x: the program raised */
    enum verdict got = grader->grade(rules, output, truth, NULL, &extracted);
    bool same = got == want && (got == VERDICT_UNPARSED || strcmp(text, str_c(&extracted)) == 0);
    t->compared++;
    if (!same && !excepted(name, truth, output, t->used)) {
        t->differ++;
        print_error("%s, %s, truth '%s', output '%s': %s '%s', recorded %s '%s'\n", task, name,
                    truth, output, verdict_name(got), str_c(&extracted), verdict_name(want), text);
    }
    str_release(&extracted);
}

static const char *golden_path(void) {
    const char *given = getenv("MILORA_GRADERS"); /* a larger recording than the tree's */
    return given && *given ? given : TEST_DATA "/graders.json";
}

static void official_verdicts(void **state) {
    (void)state;
    struct mil_error err;
    struct tally t = {.compared = 0};
    json_t *cases = NULL, *row, *recorded;
    size_t i;
    const char *name;
    assert_ok(json_read_file(golden_path(), &cases, &err));
    json_array_foreach(cases, i, row) {
        const char *task = json_string_value(json_array_get(row, 0));
        const char *truth = json_string_value(json_array_get(row, 1));
        const char *output = json_string_value(json_array_get(row, 2));
        json_object_foreach(json_array_get(row, 3), name, recorded)
            compare(task, truth, output, name, recorded, &t);
    }
    print_message("%zu cases, %d verdicts compared, %d differ\n", i, t.compared, t.differ);
    if (i < 400 || t.differ) fail_msg("%zu cases, %d differ", i, t.differ);
    for (size_t x = 0; x < sizeof exceptions / sizeof *exceptions; x++)
        if (!t.used[x] && !getenv("MILORA_GRADERS"))
            fail_msg("the exception for %s of '%s' has nothing to except", exceptions[x].reason,
                     exceptions[x].output);
    json_decref(cases);
}

/* ---- the examples of docs/graders.md ---- */

enum { CELLS = 8 };

/* "| a | `b` | **c** |": what is between the bars, without blanks and marks at its ends. */
static size_t split(char *line, char *cells[CELLS]) {
    size_t n = 0;
    for (char *cell = strtok(line, "|"); cell && n < CELLS; cell = strtok(NULL, "|")) {
        cell += strspn(cell, " `*");
        for (size_t at = strlen(cell); at > 0 && strchr(" `*", cell[at - 1]); at--)
            cell[at - 1] = '\0';
        cells[n++] = cell;
    }
    return n;
}

/* A row of a table whose first row names the graders; "right (0.5 alone)" says right. */
static void check_example(const struct match_rules *rules, char *const head[], char *const row[],
                          size_t n) {
    struct str output = {0}, extracted = {0};
    str_addf(&output, "%s%s", rules == &math_rules ? "The answer is: " : "", row[1]);
    for (size_t i = 2; i < n; i++) {
        bool flexible = strcmp(head[i], "flexible") == 0;
        const struct grader *g = find_grader(rules, flexible ? "lm-eval-flexible" : head[i]);
        assert_non_null(g);
        str_reset(&extracted);
        enum verdict v = g->grade(rules, str_c(&output), row[0], NULL, &extracted);
        if (!str_starts(row[i], verdict_name(v)))
            fail_msg("'%s' for '%s': %s says %s, the page %s", row[1], row[0], head[i],
                     verdict_name(v), row[i]);
    }
    str_release(&output);
    str_release(&extracted);
}

static void examples(void **state) {
    (void)state;
    struct mil_error err;
    struct line_reader page;
    const struct match_rules *rules = NULL;
    static char head_line[512], line[512];
    char *head[CELLS], *row[CELLS];
    const char *text;
    size_t n, n_head = 0, checked = 0;
    assert_ok(lines_open(&page, TEST_ROOT "/docs/graders.md", &err));
    for (;;) {
        assert_ok(lines_next(&page, &text, &n, &err));
        if (!text) break;
        if (str_starts(text, "## ")) rules = strstr(text, "gsm8k") ? &gsm8k_rules : &math_rules;
        if (text[0] != '|') n_head = 0;
        if (str_starts(text, "| reference |")) {
            snprintf(head_line, sizeof head_line, "%s", text);
            n_head = split(head_line, head);
        } else if (n_head > 0 && !str_starts(text, "|--")) {
            snprintf(line, sizeof line, "%s", text);
            assert_int_equal(split(line, row), n_head);
            check_example(rules, head, row, n_head);
            checked++;
        }
    }
    lines_close(&page);
    assert_true(checked >= 30);
}

/* ---- our own grader of MATH ---- */

static void strict_math(void **state) {
    (void)state;
    static const struct {
        const char *truth, *output;
        enum verdict want;
    } table[] = {
        {"5", "We get $\\boxed{5}$.", VERDICT_RIGHT},
        {"5", "\\boxed{4}, no: \\boxed{5}", VERDICT_RIGHT},
        {"5", "\\boxed{5} and then \\boxed{6}", VERDICT_WRONG}, /* the last box counts */
        {"5", "The answer is: 5", VERDICT_RIGHT},
        {"5", "The answer is 5.", VERDICT_RIGHT},
        {"5", "The answer is: $5$.\nGood.", VERDICT_RIGHT},
        {"5", "The answer is: 4. \\boxed{5}", VERDICT_RIGHT}, /* a box before words */
        {"5", "5", VERDICT_UNPARSED},
        {"5", "The answer is: ", VERDICT_UNPARSED},
        {"5", "\\boxed{5", VERDICT_UNPARSED},
        {"5", "\\boxed{}", VERDICT_WRONG},
        {"5", "\\fbox{5}", VERDICT_RIGHT},
        {"5", "\\boxed{500}", VERDICT_WRONG},
        {"5", "\\boxed{0.05}", VERDICT_WRONG},
        {"5", "\\boxed{x=5}", VERDICT_RIGHT},
        {"x=5", "\\boxed{5}", VERDICT_RIGHT},
        {"\\theta = 5", "\\boxed{5}", VERDICT_RIGHT},
        {"5", "\\boxed{2x=5}", VERDICT_WRONG},
        {"5", "\\boxed{5\\text{ cm}}", VERDICT_RIGHT},
        {"5", "\\boxed{5 \\text{ cm}^2}", VERDICT_RIGHT},
        {"5\\text{ cm}", "\\boxed{5\\mathrm{m}}", VERDICT_RIGHT}, /* units are left out */
        {"5", "\\boxed{5\\%}", VERDICT_RIGHT},
        {"5", "\\boxed{\\$5}", VERDICT_RIGHT},
        {"5", "\\boxed{5.00}", VERDICT_RIGHT},
        {"5", "\\boxed{05}", VERDICT_RIGHT},
        {"-5",
         "\\boxed{\xe2\x88\x92"
         "5}",
         VERDICT_RIGHT},
        {"0", "\\boxed{-0.0}", VERDICT_RIGHT},
        {"90^\\circ", "\\boxed{90}", VERDICT_RIGHT},
        {"90", "\\boxed{90^{\\circ}}", VERDICT_RIGHT},
        {"1,234", "\\boxed{1234}", VERDICT_RIGHT},
        {"1{,}234", "\\boxed{1,\\!234}", VERDICT_RIGHT},
        {"1234567.5", "\\boxed{1,234,567.50}", VERDICT_RIGHT},
        {"1234", "\\boxed{12,34}", VERDICT_WRONG},
        {"1,2", "\\boxed{1, 2}", VERDICT_RIGHT},
        {"1,2", "\\boxed{2,1}", VERDICT_WRONG},
        {"(1,234)", "\\boxed{(1,\\,234)}", VERDICT_RIGHT},
        {"(1,234)", "\\boxed{1234}", VERDICT_WRONG},
        {"\\frac{1}{2}", "\\boxed{\\dfrac12}", VERDICT_RIGHT},
        {"\\frac{1}{2}", "\\boxed{1/2}", VERDICT_RIGHT},
        {"\\frac{1}{2}", "\\boxed{0.5}", VERDICT_WRONG}, /* a decimal is no fraction */
        {"\\frac{1}{2}", "\\boxed{2/4}", VERDICT_WRONG},
        {"-\\frac{1}{2}", "\\boxed{\\frac{-1}{2}}", VERDICT_RIGHT},
        {"-\\frac{1}{2}", "\\boxed{-1/2}", VERDICT_RIGHT},
        {"\\frac{-1}{2}+x", "\\boxed{-\\frac{1}{2}+x}", VERDICT_WRONG},
        {"\\frac{\\sqrt{2}}{3}", "\\boxed{\\frac{\\sqrt2}3}", VERDICT_RIGHT},
        {"\\frac{\\frac{1}{2}}{3}", "\\boxed{\\frac{\\frac12}3}", VERDICT_RIGHT},
        {"\\frac{a}{b}", "\\boxed{\\frac ab}", VERDICT_RIGHT},
        {"2\\pi r", "\\boxed{2 \\pi  r}", VERDICT_RIGHT},
        {"\\sqrt[3]{2}", "\\boxed{\\sqrt[3]{2}}", VERDICT_RIGHT},
        {"3\\frac{1}{2}", "\\boxed{3\\frac12}", VERDICT_RIGHT},
        {"3\\frac{1}{2}", "\\boxed{\\frac{7}{2}}", VERDICT_WRONG},
        {".5", "\\boxed{0.50}", VERDICT_RIGHT},
        {"x^{2}", "\\boxed{x^2}", VERDICT_RIGHT},
        {"x^{10}", "\\boxed{x^10}", VERDICT_WRONG},
        {"x^2+1", "\\boxed{1+x^2}", VERDICT_WRONG},
        {"\\left( 3, \\frac{\\pi}{2} \\right)", "\\boxed{(3,\\tfrac{\\pi}{2})}", VERDICT_RIGHT},
        {"[1,2)", "\\boxed{[1,2]}", VERDICT_WRONG},
        {"x \\le 5", "\\boxed{x\\leq5}", VERDICT_RIGHT},
        {"\\text{east}", "\\boxed{east}", VERDICT_RIGHT},
        {"\\text{east}", "\\boxed{seat}", VERDICT_WRONG},
        {"\\text{(A)}", "\\boxed{\\textbf{(A)}}", VERDICT_RIGHT},
        {"1 \\text{ or } 2", "\\boxed{1\\text{ or }2}", VERDICT_RIGHT},
    };
    struct str extracted = {0};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        enum verdict got =
            find_grader(&math_rules, "strict")
                ->grade(&math_rules, table[i].output, table[i].truth, NULL, &extracted);
        if (got != table[i].want)
            fail_msg("'%s' for '%s': %s (%s), want %s", table[i].output, table[i].truth,
                     verdict_name(got), str_c(&extracted), verdict_name(table[i].want));
    }
    str_release(&extracted);
}

static void check_truth(const char *truth, const char *output, const char *want) {
    struct eval_row row = {.truth = truth, .output = output};
    struct str out = {0};
    bool found = math_rules.truth(&math_rules, &row, &out);
    if (found != (want != NULL) || (found && strcmp(str_c(&out), want) != 0))
        fail_msg("'%s' / '%s': got '%s'", truth ? truth : "-", output ? output : "-", str_c(&out));
    str_release(&out);
}

static void truths(void **state) {
    (void)state;
    const char *solution = "a \\boxed{1} b $\\boxed{\\frac{1}{2}}$.";
    check_truth(solution, solution, "\\frac{1}{2}");
    check_truth(" 0.5 ", solution, "0.5"); /* `answer` */
    check_truth("see \\fbox{7}", NULL, "7");
    check_truth("thus $\\boxed 3$.", NULL, "3");
    check_truth("no box", "no box", NULL);
    check_truth("\\boxed{1", "\\boxed{1", NULL);
    check_truth(" ", NULL, NULL);
    check_truth(NULL, NULL, NULL);
    check_truth(NULL, "\\boxed{4}", "4");
}

/* The official programs find no reference in a solution whose box has no braces. */
static void references(void **state) {
    (void)state;
    struct str extracted = {0};
    for (size_t i = 0; math_rules.graders[i]; i++) {
        const struct grader *g = math_rules.graders[i];
        bool official = strcmp(g->name, "pissa") == 0 || strncmp(g->name, "milora", 6) == 0;
        const char *output = strcmp(g->name, "lm-eval") ? "The answer is: 3" : "3";
        assert_int_equal(g->grade(&math_rules, output, "3", "$\\boxed{3}$", &extracted),
                         VERDICT_RIGHT);
        assert_int_equal(g->grade(&math_rules, output, "3", "$\\boxed 3$", &extracted),
                         official ? VERDICT_WRONG : VERDICT_RIGHT);
    }
    str_release(&extracted);
}

/* ---- any bytes ---- */

static void all_graders(const char *output, const char *truth, struct str *extracted) {
    static const struct match_rules *const tasks[] = {&gsm8k_rules, &math_rules};
    for (size_t t = 0; t < 2; t++)
        for (size_t i = 0; tasks[t]->graders[i]; i++)
            tasks[t]->graders[i]->grade(tasks[t], output, truth, truth, extracted);
}

static double seconds_of(const char *output, const char *truth) {
    struct str extracted = {0};
    clock_t begin = clock();
    all_graders(output, truth, &extracted);
    str_release(&extracted);
    return (double)(clock() - begin) / CLOCKS_PER_SEC;
}

#define MARKER "The answer is: "

static void fill(char *text, size_t size, const char *unit) {
    size_t n = strlen(MARKER), step = strlen(unit);
    memcpy(text, MARKER, n);
    for (; n + step < size; n += step) memcpy(text + n, unit, step);
    text[n] = '\0';
}

/* Up to a megabyte of one thing, as output and as the truth, in the worst places: linear work is
 * tens of milliseconds, quadratic work would be minutes. */
static void long_answers(void **state) {
    (void)state;
    static const char *const units[] = {"{",
                                        "}",
                                        "(",
                                        "[",
                                        "((1,",
                                        "\\frac",
                                        "\\frac{",
                                        "\\frac1",
                                        "\\sqrt",
                                        "\\sqrt{",
                                        "\\text{",
                                        "\\text{ ",
                                        "\\left(",
                                        "\\boxed{",
                                        "\\boxed ",
                                        "1",
                                        "1,",
                                        "1,234",
                                        "9.",
                                        "/",
                                        "1/",
                                        "-",
                                        "+",
                                        "|",
                                        "||x",
                                        "f(",
                                        "x_",
                                        "x_{",
                                        "x^",
                                        "x^{",
                                        "\\sin",
                                        "\\log_2",
                                        "!",
                                        "'",
                                        "=",
                                        "$",
                                        "#### ",
                                        "####$",
                                        "The answer is: ",
                                        "The answer is",
                                        ".\n",
                                        " ",
                                        "\t",
                                        "\xc2\xa0",
                                        "\xef\xbc\x91",
                                        "\xff",
                                        "dx",
                                        "\\\\",
                                        "&",
                                        "2*",
                                        "2**",
                                        "2^",
                                        "(2)",
                                        "f(x)",
                                        "1_",
                                        "^\\circ",
                                        "{,}",
                                        "\\,"};
    char *text = malloc((1 << 20) + 64);
    assert_non_null(text);
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        /* the last size is one that the readers of expressions still take */
        size_t sizes[] = {u < 6 ? 1 << 20 : 1 << 17, 4000};
        for (size_t i = 0; i < 2; i++) {
            fill(text, sizes[i], units[u]);
            double t = seconds_of(text, "1") + seconds_of(text, text + strlen(MARKER));
            if (t > 3) fail_msg("%zu bytes of '%s' take %.1f s", sizes[i], units[u], t);
        }
    }
    free(text);
}

/* Reproducible (splitmix64). */
static uint64_t draw(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void mutate(struct str *s, uint64_t *random) {
    static const char *const pieces[] = {"\\frac",   "{",      "}",       "\\sqrt", "(",
                                         ")",        "[",      "]",       ",",      "/",
                                         "^",        "_",      "-",       "|",      "=",
                                         "\\text{ ", "\\left", "1",       "0.",     "x",
                                         "\\",       "'",      "!",       "&",      "\xe2\x88\x92",
                                         "\xff",     "$",      "%",       "e9",     "**",
                                         "\\log_",   "\\sin",  "\\binom", "_{",     "1e999",
                                         "\n",       ".",      "inf"};
    struct str out = {0};
    size_t edits = 1 + draw(random) % 4;
    for (size_t k = 0; k < edits; k++) {
        size_t at = draw(random) % (s->len + 1), cut = draw(random) % 3;
        if (at + cut > s->len) cut = s->len - at;
        str_reset(&out);
        str_addn(&out, str_c(s), at);
        str_add(&out, pieces[draw(random) % (sizeof pieces / sizeof *pieces)]);
        str_addn(&out, str_c(s) + at + cut, s->len - at - cut);
        str_reset(s);
        str_addn(s, str_c(&out), out.len);
    }
    str_release(&out);
}

/* Mutations of the recorded cases: for the sanitizers, and no mutation takes long. */
static void mutations(void **state) {
    (void)state;
    struct mil_error err;
    struct str output = {0}, truth = {0}, extracted = {0};
    uint64_t random = 20240606;
    json_t *cases = NULL;
    assert_ok(json_read_file(TEST_DATA "/graders.json", &cases, &err));
    for (int i = 0; i < 8000; i++) {
        const json_t *row = json_array_get(cases, draw(&random) % json_array_size(cases));
        str_reset(&truth);
        str_reset(&output);
        str_add(&truth, json_string_value(json_array_get(row, 1)));
        str_add(&output, json_string_value(json_array_get(row, 2)));
        mutate(&output, &random);
        if (i % 3 == 0) mutate(&truth, &random);
        clock_t begin = clock();
        all_graders(str_c(&output), str_c(&truth), &extracted);
        double t = (double)(clock() - begin) / CLOCKS_PER_SEC;
        if (t > 1) fail_msg("'%s' for '%s' takes %.1f s", str_c(&output), str_c(&truth), t);
    }
    json_decref(cases);
    str_release(&output);
    str_release(&truth);
    str_release(&extracted);
}

/* Without memory a grader gives some verdict, marks its text as failed, and leaks nothing. */
static void out_of_memory(void **state) {
    (void)state;
    static const char *const outputs[] = {
        "The answer is: \\frac{1}2 + \\sqrt3 x_1(2)", "The answer is: (1,234, 0.5)",
        "The answer is: 7/2 #### 1,234.50", "\\boxed{x=\\frac12\\text{ cm}}"};
    for (size_t i = 0; i < sizeof outputs / sizeof *outputs; i++) {
        for (long n = 0; n < 40; n++) {
            struct str extracted = {0};
            mem_fail_after(n);
            all_graders(outputs[i], "(1,\\frac{3}{4})", &extracted);
            mem_fail_after(-1);
            str_release(&extracted);
        }
    }
    struct str extracted = {0};
    mem_fail_after(0);
    find_grader(&math_rules, "milora")->grade(&math_rules, outputs[0], "1", NULL, &extracted);
    mem_fail_after(-1);
    assert_true(extracted.failed);
    str_release(&extracted);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(official_verdicts), cmocka_unit_test(examples),
        cmocka_unit_test(strict_math),       cmocka_unit_test(truths),
        cmocka_unit_test(references),        cmocka_unit_test(long_answers),
        cmocka_unit_test(mutations),         cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
