/* SPDX-License-Identifier: Apache-2.0 */
/* The login in a Kubernetes Secret, written as YAML or JSON. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/base64.h"
#include "tools/secret.h"
#include "tools/yamltree.h"

int secret_node_value(const struct yamltree_node *root, const char *key, char **ret)
{
	const char *plain = yamltree_text(yamltree_get(yamltree_get(root, "stringData"), key));
	const char *coded = yamltree_text(yamltree_get(yamltree_get(root, "data"), key));

	if (!plain && !coded) {
		return -ENOENT;
	}
	*ret = plain ? strdup(plain) : base64_decode_text(coded);
	if (!*ret) {
		return -EINVAL;
	}
	secret_strip_newline(*ret);
	return 0;
}

/* The first of @keys that is there; *ret stays NULL when none is. */
static int read_first(const char *path, const struct yamltree_node *root, const char *const keys[2],
	char **ret, struct err *e)
{
	for (int i = 0; i < 2; i++) {
		int r = secret_node_value(root, keys[i], ret);

		if (r == 0) {
			return 0;
		}
		if (r != -ENOENT) {
			return err_set(e, -EINVAL, "%s: the value of %s is not base64 text", path,
				keys[i]);
		}
	}
	return 0;
}

int secret_node_login(
	const char *path, const struct yamltree_node *root, struct secret *ret, struct err *e)
{
	int r = read_first(path, root, secret_docker_keys, &ret->docker_config, e);

	if (r == 0) {
		r = read_first(path, root, secret_user_keys, &ret->user, e);
	}
	if (r == 0) {
		r = read_first(path, root, secret_password_keys, &ret->password, e);
	}
	return r < 0 ? r : secret_settle(path, ret, e);
}

/* The only Secret of the file. */
static int find_secret(const char *path, const struct yamltree *tree,
	const struct yamltree_node **ret, struct err *e)
{
	const struct yamltree_node *found = NULL;

	for (size_t i = 0; i < tree->count; i++) {
		const char *kind = yamltree_text(yamltree_get(tree->documents[i], "kind"));

		if (!kind || strcmp(kind, "Secret") != 0) {
			continue;
		}
		if (found) {
			return err_set(
				e, -EINVAL, "%s: more than one Secret; give a file with one", path);
		}
		found = tree->documents[i];
	}
	if (!found) {
		return err_set(
			e, -EINVAL, "%s: not a Secret: no document of kind Secret in it", path);
	}
	*ret = found;
	return 0;
}

int secret_manifest_parse(
	const char *path, const char *text, size_t len, struct secret *ret, struct err *e)
{
	const struct yamltree_node *root = NULL;
	struct yamltree tree;
	int r = yamltree_parse(path, text, len, &tree, e);

	if (r < 0) {
		return r;
	}
	r = find_secret(path, &tree, &root, e);
	if (r == 0) {
		r = secret_node_login(path, root, ret, e);
	}
	yamltree_clear(&tree);
	return r;
}
