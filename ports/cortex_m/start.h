/* SPDX-License-Identifier: MIT
 *
 * start.h - what the start-up code knows afterwards.
 */
#ifndef OUTBOX_CORTEX_M_START_H
#define OUTBOX_CORTEX_M_START_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of stack that were ever used since the reset, by the paint that is gone. */
size_t outbox_stack_used(void);

/* Called on a fault, and when main() returns; a board resets itself here. */
void outbox_board_fault(void);

#endif
