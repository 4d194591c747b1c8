/* SPDX-License-Identifier: Apache-2.0 */
/* math.c - competition mathematics (Hendrycks et al., "Measuring mathematical problem solving with
 * the MATH dataset"), prompted as the official MiLoRA, PiSSA and MetaMath programs do and judged by
 * each of the programs in use (docs/graders.md).
 *
 * The reference is `answer` where a row has one that is no solution, else the content of the last
 * \boxed{..} or \fbox{..} of the solution. */
#include <string.h>

#include "eval/graders/grade_hendrycks.h"
#include "eval/graders/math_equal.h"
#include "eval/graders/math_normal.h"
#include "eval/tasks/metamath.h"
#include "eval/tasks/task.h"

static bool add_trimmed(struct view v, struct str *out) {
    v = py_strip(v);
    str_addn(out, v.s, v.n);
    return v.n > 0;
}

/* "\boxed 5" holds what comes before the end of its formula. */
static bool boxed(const char *text, struct view *out) {
    struct view v;
    if (view_after_last(view_of(text), "\\boxed ", &v)) {
        size_t end = view_find(v, "$");
        *out = end == SIZE_MAX ? v : view_upto(v, end);
        return true;
    }
    return hendrycks_boxed(view_of(text), out);
}

static bool truth(const struct match_rules *rules, const struct eval_row *row, struct str *out) {
    struct view v;
    (void)rules;
    str_reset(out);
    if (row->truth && boxed(row->truth, &v)) return add_trimmed(v, out);
    bool solution = row->truth && row->output && strcmp(row->truth, row->output) == 0;
    if (row->truth && !solution) return add_trimmed(view_of(row->truth), out);
    return row->output && boxed(row->output, &v) && add_trimmed(v, out);
}

/* The last box, else what follows the last "The answer is" on its line. */
static bool strict_answer(const char *output, struct view *out) {
    if (boxed(output, out)) return true;
    if (!view_after_last(view_of(output), "The answer is", out)) return false;
    size_t end = view_find(*out, "\n");
    if (end != SIZE_MAX) out->n = end;
    if (out->n > 0 && out->s[0] == ':') *out = view_from(*out, 1);
    *out = py_strip(*out);
    return out->n > 0;
}

static enum verdict grade_strict(const struct match_rules *rules, const char *output,
                                 const char *want, const char *reference, struct str *extracted) {
    struct str normal = {0};
    struct view answer;
    (void)rules;
    (void)reference;
    str_reset(extracted);
    if (!strict_answer(output, &answer)) return VERDICT_UNPARSED;
    math_normal(answer, extracted);
    math_normal(view_of(want), &normal);
    bool right = extracted->len > 0 && view_equal(view_str(extracted), view_str(&normal));
    extracted->failed |= normal.failed;
    str_release(&normal);
    return verdict_of(right);
}

/* Both normal forms; false: the official function raises. */
static bool normal_forms(struct view answer, const char *want, struct str *a, struct str *b) {
    return hendrycks_normal(answer, a) && hendrycks_normal(view_of(want), b);
}

/* Equal normal forms; the same text where there is none. */
static bool equivalent(struct view answer, const char *want, struct str *extracted) {
    struct str a = {0}, b = {0};
    bool same = normal_forms(answer, want, &a, &b) ? view_equal(view_str(&a), view_str(&b))
                                                   : view_is(answer, want);
    extracted->failed |= a.failed || b.failed;
    str_release(&a);
    str_release(&b);
    return same;
}

/* What the official programs extract; *known: whether their reference is one they can read. */
static bool marked(const char *output, const char *reference, struct str *extracted,
                   struct view *answer, bool *known) {
    str_reset(extracted);
    if (!hendrycks_marked_answer(output, answer)) return false;
    str_addn(extracted, answer->s, answer->n);
    bool box = reference && (strstr(reference, "\\boxed") || strstr(reference, "\\fbox"));
    *known = !box || hendrycks_has_reference(reference);
    return true;
}

static enum verdict grade_pissa(const struct match_rules *rules, const char *output,
                                const char *want, const char *reference, struct str *extracted) {
    struct view answer;
    bool known;
    (void)rules;
    if (!marked(output, reference, extracted, &answer, &known)) return VERDICT_UNPARSED;
    return verdict_of(known && equivalent(answer, want, extracted));
}

/* Where the normal form raises, the official program compares the answer with itself: right, unless
 * it is empty or not a number. */
static bool milora_equal(struct view answer, const char *want, bool latex, struct str *extracted) {
    struct math_equal_rules rules = {.latex = latex};
    struct str a = {0}, b = {0};
    bool right = normal_forms(answer, want, &a, &b)
                     ? math_equal(&rules, view_str(&a), view_str(&b)) ||
                           view_equal(view_str(&a), view_str(&b))
                     : math_equal(&rules, answer, answer) || view_is(answer, want);
    extracted->failed |= a.failed || b.failed || rules.nomem;
    str_release(&a);
    str_release(&b);
    return right;
}

static enum verdict grade_math_equal(const char *output, const char *want, const char *reference,
                                     bool latex, struct str *extracted) {
    struct view answer;
    bool known;
    if (!marked(output, reference, extracted, &answer, &known)) return VERDICT_UNPARSED;
    return verdict_of(known && milora_equal(answer, want, latex, extracted));
}
static enum verdict grade_milora(const struct match_rules *rules, const char *output,
                                 const char *want, const char *reference, struct str *extracted) {
    (void)rules;
    return grade_math_equal(output, want, reference, false, extracted);
}
static enum verdict grade_milora_latex(const struct match_rules *rules, const char *output,
                                       const char *want, const char *reference,
                                       struct str *extracted) {
    (void)rules;
    return grade_math_equal(output, want, reference, true, extracted);
}

/* lm-eval's hendrycks_math: what stands between the first '$' and the last, else the whole output.
 */
static enum verdict grade_lm_eval(const struct match_rules *rules, const char *output,
                                  const char *want, const char *reference, struct str *extracted) {
    (void)rules;
    (void)reference;
    struct view answer = view_of(output);
    size_t first = view_find(answer, "$"), last = view_rfind(answer, "$");
    if (first != last) answer = (struct view){output + first + 1, last - first - 1};
    str_reset(extracted);
    str_addn(extracted, answer.s, answer.n);
    return verdict_of(equivalent(answer, want, extracted));
}

static const struct grader strict = {
    .name = "strict",
    .counts = "zero-shot; right if the last \\boxed{..} of the output, else what follows its last "
              "'The answer is', equals the reference in a normal form of LaTeX (docs/graders.md)",
    .grade = grade_strict};
static const struct grader pissa = {
    .name = "pissa",
    .counts = "zero-shot; right as MetaMath's and PiSSA's programs have it: what follows the last "
              "'The answer is: ' equals the reference in Hendrycks' normal form",
    .grade = grade_pissa};
static const struct grader milora = {
    .name = "milora",
    .counts = "zero-shot; right as MiLoRA's official program has it with the packages it names: "
              "numbers to 1e-4, 100 times or a hundredth of the reference, plain expressions of "
              "equal value; LaTeX as text",
    .grade = grade_milora};
static const struct grader milora_latex = {
    .name = "milora-latex",
    .counts = "zero-shot; right as MiLoRA's official program has it where SymPy reads LaTeX (with "
              "antlr4): numbers to 1e-4, 100 times or a hundredth of the reference, expressions of "
              "equal value",
    .grade = grade_milora_latex};
static const struct grader lm_eval = {
    .name = "lm-eval",
    .counts = "zero-shot; right as lm-eval's hendrycks_math has it: what stands between the first "
              "'$' and the last, else the whole output, equals the reference in Hendrycks' normal "
              "form",
    .grade = grade_lm_eval};
static const struct grader *const graders[] = {&strict,       &pissa,   &milora,
                                               &milora_latex, &lm_eval, NULL};

const struct match_rules math_rules = {.outputs = METAMATH_OUTPUTS(2048),
                                       .truth = truth,
                                       .truth_needs =
                                           "`solution` with a \\boxed{answer}, or `answer`",
                                       .graders = graders};
