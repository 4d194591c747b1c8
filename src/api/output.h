/* SPDX-License-Identifier: Apache-2.0 */
/* output.h - is there a place for an output?  Asked before hours of work; makes nothing. */
#ifndef MIL_API_OUTPUT_H
#define MIL_API_OUTPUT_H

#include "core/error.h"

/* MIL_ACCESS when path exists already, or when it cannot be made below its nearest existing
 * directory. */
enum mil_status output_probe(const char *path, struct mil_error *err);

#endif
