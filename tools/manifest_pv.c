/* SPDX-License-Identifier: Apache-2.0 */
/* PersistentVolumes and those who claim them. */
#include "tools/manifest_pv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/quantity.h"

/* What a claim among the manifests names is not for anybody else. */
static void give_to_claims(const struct manifest *m, struct manifest_pvs *pvs)
{
	for (size_t i = 0; i < m->count; i++) {
		const struct manifest_object *o = &m->objects[i];
		struct manifest_claim claim;

		if (o->kind != MANIFEST_PVC || manifest_claim_read(o, &claim, NULL) < 0 ||
			!claim.volume_name) {
			continue;
		}
		for (size_t j = 0; j < pvs->count; j++) {
			if (strcmp(pvs->list[j].object->name, claim.volume_name) == 0) {
				pvs->takers[j] = o;
			}
		}
	}
}

int manifest_pvs_load(const struct manifest *m, struct manifest_pvs *ret, struct err *e)
{
	struct manifest_pvs pvs = { 0 };
	int r = 0;

	pvs.list = calloc(m->count + 1, sizeof(*pvs.list));
	pvs.takers = calloc(m->count + 1, sizeof(*pvs.takers));
	if (!pvs.list || !pvs.takers) {
		r = err_set(e, -ENOMEM, "out of memory");
	}
	for (size_t i = 0; r == 0 && i < m->count; i++) {
		if (m->objects[i].kind == MANIFEST_PV) {
			r = manifest_pv_read(&m->objects[i], &pvs.list[pvs.count++], e);
		}
	}
	if (r < 0) {
		manifest_pvs_clear(&pvs);
		return r;
	}
	give_to_claims(m, &pvs);
	*ret = pvs;
	return 0;
}

void manifest_pvs_clear(struct manifest_pvs *pvs)
{
	free(pvs->list);
	free(pvs->takers);
	*pvs = (struct manifest_pvs){ 0 };
}

static bool is_claimed_by(const struct manifest_pv *pv, const char *ns, const char *name)
{
	return pv->claim_name && strcmp(pv->claim_name, name) == 0 && strcmp(pv->claim_ns, ns) == 0;
}

/* Why @pv cannot serve @claim; NULL: it can. */
static const char *unfit(const struct manifest_pv *pv, const struct manifest_claim *claim)
{
	if (!pv->path) {
		return "has neither local.path nor hostPath.path";
	}
	if (pv->block != claim->block) {
		return pv->block ? "has volumeMode Block" : "does not have volumeMode Block";
	}
	return pv->capacity < claim->size ? "is too small" : NULL;
}

static int take(struct manifest_pvs *pvs, size_t i, const struct manifest_object *taker,
	const struct manifest_claim *claim, const struct manifest_pv **ret, struct err *e)
{
	const struct manifest_pv *pv = &pvs->list[i];
	const char *why = unfit(pv, claim);
	char size[QUANTITY_MAX];

	if (why) {
		return manifest_error(e, -EINVAL, taker, claim->node, NULL,
			"PersistentVolume %s (%s:%u, %s) %s", pv->object->name, pv->object->file,
			pv->object->line, quantity_format(pv->capacity, size), why);
	}
	if (pvs->takers[i] && (strcmp(pvs->takers[i]->ns, taker->ns) != 0 ||
				      strcmp(pvs->takers[i]->name, taker->name) != 0)) {
		return manifest_error(e, -EINVAL, taker, claim->node, NULL,
			"PersistentVolume %s is taken by %s/%s", pv->object->name,
			pvs->takers[i]->ns, pvs->takers[i]->name);
	}
	pvs->takers[i] = taker;
	*ret = pv;
	return 0;
}

int manifest_pvs_reserve(struct manifest_pvs *pvs, const struct manifest_object *taker,
	const struct manifest_claim *claim, const struct manifest_pv **ret, struct err *e)
{
	const char *wish = claim->volume_name;

	*ret = NULL;
	for (size_t i = 0; i < pvs->count; i++) {
		const struct manifest_pv *pv = &pvs->list[i];
		bool mine = is_claimed_by(pv, taker->ns, taker->name);

		if (wish ? strcmp(pv->object->name, wish) != 0 : !mine) {
			continue;
		}
		if (pv->claim_name && !mine) {
			return manifest_error(e, -EINVAL, taker, claim->node, NULL,
				"PersistentVolume %s is for %s/%s, says its claimRef", wish,
				pv->claim_ns, pv->claim_name);
		}
		return take(pvs, i, taker, claim, ret, e);
	}
	if (wish) {
		return manifest_error(e, -EINVAL, taker, claim->node, NULL,
			"volumeName: there is no PersistentVolume %s among the manifests", wish);
	}
	return 0;
}

void manifest_pvs_keep(struct manifest_pvs *pvs, const struct manifest_object *taker,
	const struct manifest_claim *claim, const char *name, const struct manifest_pv **ret)
{
	*ret = NULL;
	for (size_t i = 0; i < pvs->count; i++) {
		const struct manifest_pv *pv = &pvs->list[i];

		if (strcmp(pv->object->name, name) == 0 && !pv->claim_name && !pvs->takers[i] &&
			!unfit(pv, claim)) {
			pvs->takers[i] = taker;
			*ret = pv;
		}
	}
}

/* No class at all takes what there is: which class is the default, a cluster would say. */
static bool is_of_class(const struct manifest_pv *pv, const char *class)
{
	return !class || strcmp(pv->storage_class ? pv->storage_class : "", class) == 0;
}

static int nothing_fits(const struct manifest_pvs *pvs, const struct manifest_object *taker,
	const struct manifest_claim *claim, struct err *e)
{
	const char *class = claim->storage_class;
	const struct manifest_pv *largest = NULL;
	char size[QUANTITY_MAX];
	char other[QUANTITY_MAX];

	for (size_t i = 0; i < pvs->count; i++) {
		const struct manifest_pv *pv = &pvs->list[i];

		if (!pvs->takers[i] && !pv->claim_name && pv->block == claim->block &&
			is_of_class(pv, class) && (!largest || pv->capacity > largest->capacity)) {
			largest = pv;
		}
	}
	quantity_format(claim->size, size);
	if (largest) {
		return manifest_error(e, -EINVAL, taker, claim->node, NULL,
			"no PersistentVolume is large enough: %s are asked for, the largest that "
			"is free is %s with %s",
			size, largest->object->name, quantity_format(largest->capacity, other));
	}
	return manifest_error(e, -EINVAL, taker, claim->node, NULL,
		"no PersistentVolume of volumeMode %s%s%s is free among the manifests",
		claim->block ? "Block" : "Filesystem",
		class && *class ? " and storageClassName " : "", class ? class : "");
}

int manifest_pvs_match(struct manifest_pvs *pvs, const struct manifest_object *taker,
	const struct manifest_claim *claim, const struct manifest_pv **ret, struct err *e)
{
	size_t best = pvs->count;

	for (size_t i = 0; i < pvs->count; i++) {
		const struct manifest_pv *pv = &pvs->list[i];

		if (!pvs->takers[i] && !pv->claim_name && !unfit(pv, claim) &&
			is_of_class(pv, claim->storage_class) &&
			(best == pvs->count || pv->capacity < pvs->list[best].capacity)) {
			best = i;
		}
	}
	return best < pvs->count ? take(pvs, best, taker, claim, ret, e)
				 : nothing_fits(pvs, taker, claim, e);
}

/* What the claim itself says, when it is among the manifests. */
static const char *named_by_claim(const struct manifest *m, const char *ns, const char *name)
{
	const struct manifest_object *o = manifest_find(m, MANIFEST_PVC, ns, name);
	struct manifest_claim claim;

	return o && manifest_claim_read(o, &claim, NULL) == 0 ? claim.volume_name : NULL;
}

const struct manifest_pv *manifest_pvs_find(
	const struct manifest_pvs *pvs, const struct manifest *m, const char *ns, const char *name)
{
	const char *volume_name = named_by_claim(m, ns, name);

	for (size_t i = 0; i < pvs->count; i++) {
		const struct manifest_object *taker = pvs->takers[i];
		const struct manifest_pv *pv = &pvs->list[i];

		if ((taker && strcmp(taker->ns, ns) == 0 && strcmp(taker->name, name) == 0) ||
			is_claimed_by(pv, ns, name) ||
			(volume_name && strcmp(pv->object->name, volume_name) == 0)) {
			return pv;
		}
	}
	return NULL;
}
