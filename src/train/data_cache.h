/* SPDX-License-Identifier: Apache-2.0 */
/* data_cache.h - tokenised data kept between runs (docs/formats/data-cache.md).
 *
 * dataset_load through a directory of entries (data_entry.h): what comes out is the same with a
 * cache, without one, and with a broken one. Any number of processes may share a directory. */
#ifndef MIL_TRAIN_DATA_CACHE_H
#define MIL_TRAIN_DATA_CACHE_H

#include "train/data_entry.h"

/* Less data than this are tokenised as fast as they are looked up and written: `auto` leaves them. */
#define DATA_CACHE_WORTH ((uint64_t)2 << 20)
#define DATA_CACHE_LIMIT ((uint64_t)8 << 30) /* bytes of all entries */

/* setting: "auto", "off" or a directory.  keep: a result that was not there may be written.  what
 * names the data in messages. */
enum mil_status data_cache_load(const char *setting, bool keep, const char *what,
                                const struct data_request *q, struct dataset *out,
                                struct mil_error *err);

#endif
