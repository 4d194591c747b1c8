/* SPDX-License-Identifier: Apache-2.0 */
/* recipes.h - the table that cmake/recipes.cmake writes from recipes/<name>.yaml. */
#ifndef MILORA_CLI_RECIPES_H
#define MILORA_CLI_RECIPES_H

#include <stddef.h>

struct recipe {
    const char *name, *text; /* text: NUL-terminated */
    size_t bytes;
};
extern const struct recipe recipes[]; /* ends with a row without a name */

#endif
