/* SPDX-License-Identifier: MIT
 *
 * random.h - bytes that differ between devices and starts, stretched from a seed.
 *
 * The outbox makes the device's name and the epoch of them, so two devices with the same seed would
 * share an identity. The seed has to hold at least 64 bits that nobody else has: from the chip's
 * random number generator, or from its unique id together with something that no other start had.
 */
#ifndef OUTBOX_CORTEX_M_RANDOM_H
#define OUTBOX_CORTEX_M_RANDOM_H

#include <stddef.h>
#include <stdint.h>

void outbox_random_seed(const void *data,
                        size_t size); /* adds; call it as often as there is some */
void outbox_random_bytes(void *context, void *data,
                         size_t size);        /* outbox_flash_vfs_config.random */
uint32_t outbox_random_number(void *context); /* outbox_port.random */

#endif
