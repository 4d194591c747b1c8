/* SPDX-License-Identifier: Apache-2.0 */
/* metamath.h - how GSM8K's and MATH's questions are asked: Stanford Alpaca's prompt without an input,
 * the response begun for the model, greedy, as MetaMath's, PiSSA's and MiLoRA's programs do; limits
 * and stop strings are MiLoRA's (docs/graders.md says how the others differ).  Shared by gsm8k.c and
 * math.c. */
#ifndef MIL_EVAL_TASKS_METAMATH_H
#define MIL_EVAL_TASKS_METAMATH_H

/* A struct outputs_rules at file scope; the two tasks differ in the length of their answers. */
#define METAMATH_OUTPUTS(tokens)                                                                   \
    {                                                                                              \
        .template_name = "alpaca_short", .opening = " Let's think step by step.",                  \
        .max_new_tokens = tokens, .num_beams = 1, .stop_strings = (const char *const[]) {          \
            "Instruction:", "Instruction", "Response:", "Response", NULL                           \
        }                                                                                          \
    }

#endif
