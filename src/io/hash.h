/* SPDX-License-Identifier: Apache-2.0 */
/* hash.h - content hashes (XXH3, 128 bits) as 32 lower-case hexadecimal digits. Not cryptographic:
 * they tell a wrong file from the right one, they do not defend against forgery. */
#ifndef MIL_IO_HASH_H
#define MIL_IO_HASH_H

#include <stddef.h>

#include "core/error.h"

#define HASH_HEX 33 /* with the NUL */

struct hash;
/* NULL without memory. */
struct hash *hash_new(void);
void hash_add(struct hash *h, const void *bytes, size_t n);
void hash_hex(const struct hash *h, char out[HASH_HEX]);
void hash_free(struct hash **h);
/* Of a whole file's bytes.  The statuses of file_map (io/file.h), or MIL_NOMEM. */
enum mil_status hash_file(const char *path, char out[HASH_HEX], struct mil_error *err);

#endif
