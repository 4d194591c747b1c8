/* SPDX-License-Identifier: Apache-2.0 */
/* resident.h - what of this process's memory is resident, for predictions of its peak. */
#ifndef MIL_CORE_RESIDENT_H
#define MIL_CORE_RESIDENT_H

#include <stddef.h>

/* Give freed heap memory back to the system where the C library can.  Reading data leaves tens of MiB
 * behind that would otherwise stay resident beside what a run takes in larger blocks. */
void resident_trim(void);
/* Resident bytes that belong to no file: heap, stacks, data; 0 where the system does not say. */
size_t resident_anonymous(void);

#endif
