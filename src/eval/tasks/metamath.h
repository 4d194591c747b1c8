/* SPDX-License-Identifier: Apache-2.0 */
/* metamath.h - how the MetaMath, PiSSA and MiLoRA programs ask GSM8K's and MATH's questions:
 * Stanford Alpaca's prompt without an input, the response begun for the model, greedy, and an end
 * where the output begins another turn of that prompt.  Shared by gsm8k.c and math.c. */
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
