/* SPDX-License-Identifier: Apache-2.0 */
/* `lazydisk copy -f MANIFEST... --volumes DIR`: fills every DataVolume of the manifests, in order.
 */
#ifndef TOOLS_COPY_MANIFEST_H
#define TOOLS_COPY_MANIFEST_H

#include "tools/copy.h"
#include "tools/options.h"

/* @job says how every volume is filled; its source, target, access and size are each volume's own.
 * Returns an exit code: of the first volume that failed. Everything has been reported by then. */
int copy_manifest_run(const struct options *o, const struct copy_job *job);

#endif
