/* SPDX-License-Identifier: MIT
 *
 * always.h - conditions of which only one side can happen, and that are looked at all the same.
 *
 * Each use says why. What another connection, a damaged file, a VFS, an authorizer or a lack of
 * memory can bring about can happen: it has a test instead. While debugging the other side is an
 * assertion that fails; in a release it is handled; where branches are measured it does not count
 * as one, so the condition must have no effect beside its value.
 */
#ifndef OB_ALWAYS_H
#define OB_ALWAYS_H

#include <assert.h>
#include <stdbool.h>

#if defined(OB_MEASURE_BRANCHES)
#define OB_ALWAYS(condition) 1
#define OB_NEVER(condition) 0
#elif defined(NDEBUG)
#define OB_ALWAYS(condition) (condition)
#define OB_NEVER(condition) (condition)
#else
static inline bool ob_expect(bool as_always)
{
    assert(as_always);
    return as_always;
}
#define OB_ALWAYS(condition) ob_expect(condition)
#define OB_NEVER(condition) (!ob_expect(!(condition)))
#endif

#endif
