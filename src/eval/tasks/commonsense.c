/* SPDX-License-Identifier: Apache-2.0 */
/* commonsense.c - the eight commonsense tasks as LLM-Adapters scores them (Hu et al.,
 * "LLM-Adapters: an adapter family for parameter-efficient fine-tuning of large language models";
 * MiLoRA's Table 1): the answer is generated, not ranked by likelihood; beam search with 4 beams,
 * 32 new tokens; the first answer word in the output counts, case-sensitive.
 *
 * Scores of likelihood protocols (lm-eval) are different quantities.  Of the original two accidents
 * are left out: 16 spaces of indentation in its prompt, and fp16 with left padding. */
#include <string.h>

#include "eval/graders/grade.h"
#include "eval/tasks/task.h"

static bool truth(const struct match_rules *rules, const struct eval_row *row, struct str *out) {
    if (!row->truth) return false;
    grade_trimmed(row->truth, out);
    for (size_t i = 0; rules->choices[i]; i++)
        if (strcmp(str_c(out), rules->choices[i]) == 0) return true;
    return false;
}

static enum verdict grade(const struct match_rules *rules, const char *output, const char *want,
                          const char *reference, struct str *extracted) {
    (void)reference;
    if (!grade_first_choice(output, rules->choices, extracted)) return VERDICT_UNPARSED;
    return verdict_of(strcmp(str_c(extracted), want) == 0);
}

static const char *const booleans[] = {"true", "false", NULL};
static const char *const solutions[] = {"solution1", "solution2", NULL};
static const char *const answers[] = {"answer1", "answer2", "answer3", "answer4", "answer5", NULL};
static const char *const endings[] = {"ending1", "ending2", "ending3", "ending4", NULL};
static const char *const options[] = {"option1", "option2", NULL};

static const struct grader first_choice = {.name = "strict",
                                           .counts =
                                               "LLM-Adapters' generation protocol; right if the "
                                               "first of the task's answer words in the output "
                                               "(case-sensitive) is the row's `answer`",
                                           .grade = grade};
static const struct grader *const graders[] = {&first_choice, NULL};

#define COMMONSENSE(words, list)                                                                   \
    {                                                                                              \
        .outputs = {.template_name = "alpaca", .max_new_tokens = 32, .num_beams = 4},              \
        .choices = words, .truth = truth, .truth_needs = "`answer` that is one of " list,          \
        .graders = graders                                                                         \
    }

const struct match_rules boolq_rules = COMMONSENSE(booleans, "true/false");
const struct match_rules piqa_rules = COMMONSENSE(solutions, "solution1/solution2");
const struct match_rules answer_rules = COMMONSENSE(answers, "answer1/../answer5");
const struct match_rules hellaswag_rules = COMMONSENSE(endings, "ending1/../ending4");
const struct match_rules winogrande_rules = COMMONSENSE(options, "option1/option2");
