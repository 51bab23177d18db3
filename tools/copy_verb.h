/* SPDX-License-Identifier: Apache-2.0 */
/* What the verbs that copy share: options become a job, a result becomes a line. */
#ifndef TOOLS_COPY_VERB_H
#define TOOLS_COPY_VERB_H

#include "core/err.h"
#include "tools/copy.h"
#include "tools/options.h"

/* All but source and target. @o is borrowed. -EINVAL: the command line is wrong. */
int copy_verb_job(const struct options *o, struct copy_job *ret, struct err *e);

/* Says on stderr how much was copied, where that is wanted. */
void copy_verb_summarise(const struct copy_job *job, const struct copy_result *result);

#endif
